"""The door of the verifier: a response and its reference go in, a verdict comes out.

A batch is decided in two stages. Its distinct pairs of answer and reference are compared here, which decides most of
them in about 0.1 ms each; what only computer algebra may decide goes to the workers of the sandbox, all in one go. The
workers start while the rest of the batch is being read.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

from ..choices import GRADERS
from .equivalence import compare
from .extract import reader_of
from .guards import has_operator, refusal
from .paper import verify_paper
from .question import Pair, Question, read_row
from .reference import read_reference
from .sandbox import CPU_SECONDS, Sandbox
from .terms import Term
from .verdict import RULES, Reason, Rule, Verdict


logger = logging.getLogger(__name__)

PARSERS = ("latex2sympy2_extended", "latex2sympy2")
"""LaTeX parsers that may be asked for what our own reader leaves to them."""

CACHE_ENTRIES = 2**14
"""Rules that are remembered, the most recent ones."""
MAX_CACHED_CHARACTERS = 1_000
"""Longer pairs are not remembered, which bounds the memory."""

_WARM_UP = [
    (r"\sqrt{4-\sqrt{15}}+\sqrt{\sqrt{15}+4}", r"\sqrt{10}"),
    (r"\arctan 2 + \arctan 3 + \ln(x^2)", r"\frac{3\pi}{4} + 2\ln x"),
    (r"\frac{\sqrt{x+1}}{x+1}", r"\frac{1}{\sqrt{x+1}}"),
]
"""What a worker computes before its first pair, so that no pair pays for what is loaded on first use."""
_WARM_UP_OF_PARSER = [(r"\sum_{k=1}^{n} k", r"\frac{n(n+1)}{2}")]


def verify(
    response: str,
    gold: Any,
    *,
    grader: str = "default",
    answer_format: str = "boxed",
    parser: str = "latex2sympy2_extended",
    cpu_seconds: int = CPU_SECONDS,
) -> Verdict:
    r"""
    Judges one response. Never raises, whatever the text.

    Args:
        response (`str`):
            Response of the model, with its answer in the last `\boxed{}`.
        gold (`Any`):
            Reference, of any shape that [`~reference.read_reference`] reads: a bare answer, a solution that holds it
            in a `\boxed{}` or behind `####`, a number, a list. `None` and NaN are a missing reference.
        grader (`str`, *optional*, defaults to `"default"`):
            The rules. `"paper"` are those of the paper's code, for parity with its numbers: it reads guesses where
            there is no box, is loose about size and brackets, and calls incorrect what it cannot read.
            `"paper-competition"` are those it has for AIME and AMC, where strings must be equal.
        answer_format (`str`, *optional*, defaults to `"boxed"`):
            Where the answer is in the response: `"boxed"`; `"gsm8k"`, behind the last `####`; `"xml"`, between the
            last pair of tags; `"last"`, in what the last sentence states; `"auto"`, in the first of these that is
            there; or a regular expression with a group for it. A response without is incorrect, whatever else it
            says; under `"auto"` what a last sentence states may be correct, and is undecided if not.
        parser (`str`, *optional*, defaults to `"latex2sympy2_extended"`):
            LaTeX parser of the workers, for answers with sums, integrals and the like; `"latex2sympy2"` where that is
            installed.
        cpu_seconds (`int`, *optional*, defaults to `1`):
            Whole seconds of CPU time after which a pair is given up as undecided.

    Returns:
        [`Verdict`]

    Raises:
        ValueError: If the grader, the answer format or the parser is unknown.
        ImportError: If the parser is not installed.
        WorkerStartError: If a pair needs a worker and none can start, as without sympy.

    Example:
    ```python
    >>> from nsr_trl import verify

    >>> verdict = verify(r"So the probability is $\boxed{\dfrac12}$.", "0.5")
    >>> str(verdict.outcome), verdict.answer, str(verdict.rule)
    ('correct', '\\dfrac12', 'number.same')
    ```
    """
    return verify_batch(
        [response], [gold], grader=grader, answer_format=answer_format, parser=parser, cpu_seconds=cpu_seconds
    )[0]


def verify_batch(
    responses: Sequence[str],
    golds: Sequence[Any],
    *,
    grader: str = "default",
    answer_format: str = "boxed",
    parser: str = "latex2sympy2_extended",
    cpu_seconds: int = CPU_SECONDS,
    num_workers: int | None = None,
    show_progress: bool = False,
) -> list[Verdict]:
    """
    Judges a batch of responses, each against the reference at the same place.

    The verdicts are those of [`verify`], whatever else is in the batch and however many workers there are. May be
    called from any thread, for one beside generation.

    Args:
        responses (`Sequence[str]`):
            Responses of the model.
        golds (`Sequence[Any]`):
            References, one per response.
        grader (`str`, *optional*, defaults to `"default"`):
            As in [`verify`].
        answer_format (`str`, *optional*, defaults to `"boxed"`):
            As in [`verify`].
        parser (`str`, *optional*, defaults to `"latex2sympy2_extended"`):
            As in [`verify`].
        cpu_seconds (`int`, *optional*, defaults to `1`):
            As in [`verify`].
        num_workers (`int`, *optional*):
            Most worker processes to use at a time. Defaults to this process's share of the cores, 8 at most.
        show_progress (`bool`, *optional*, defaults to `False`):
            Show a progress line over the distinct pairs.

    Returns:
        `list[Verdict]`

    Raises:
        ValueError: If the numbers of responses and references differ, there is less than one worker, or the grader,
            the answer format or the parser is unknown.
        ImportError: If the parser is not installed.
        WorkerStartError: If a pair needs a worker and none can start, as without sympy.
    """
    if len(responses) != len(golds):
        raise ValueError(
            f"Every response needs its own reference; got {len(responses)} responses and {len(golds)} references. "
            "Repeat each reference once per response."
        )
    _check(grader, parser, num_workers)
    reader_of(answer_format)  # an error before any work, and in an empty batch
    rows = list(zip(responses, golds, strict=True))
    if grader != "default":
        is_competition = grader == "paper-competition"
        return [verify_paper(response, read_reference(gold).text, is_competition) for response, gold in rows]
    found = [_read(response, gold, answer_format) for response, gold in rows]
    pairs = list(dict.fromkeys(pair for row in found if isinstance(row, Question) for pair in row.pairs))
    with _progress_line(len(pairs), show_progress) as on_decision:
        rules = _decide(pairs, _Settings(parser, cpu_seconds), num_workers, on_decision)
    return [row.verdict(rules) if isinstance(row, Question) else row for row in found]


def _check(grader: str, parser: str, num_workers: int | None) -> None:
    for role, value, known in (("grader", grader, GRADERS), ("parser", parser, PARSERS)):
        if value not in known:
            raise ValueError(f"The {role} must be one of {', '.join(known)}; got {value!r}. Choose one of them.")
    _check_installed(parser)
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"There must be 1 worker or more; got num_workers={num_workers}. Leave it out for a default.")


@lru_cache  # to look for a package takes as long as to compare a pair; an error is not remembered
def _check_installed(parser: str) -> None:
    if find_spec(parser) is None:
        message = f"The parser must be installed; {parser!r} is not. Run: pip install {parser}"
        raise ImportError(message, name=parser)


def _read(response: Any, gold: Any, answer_format: str) -> Verdict | Question:
    try:
        return read_row(response, gold, answer_format)
    except Exception:  # a fault of ours must not end a training run
        logger.exception(_FAULT, response, gold)
        return Verdict.by(Rule.FAULT, None)


_FAULT = "A verifier must not fail; %.500r against %.500r did, and is left undecided. Please report both texts."


class _Settings(NamedTuple):
    """All that a decision depends on besides the pair."""

    parser: str
    cpu_seconds: int


def _decide(
    pairs: Sequence[Pair], settings: _Settings, num_workers: int | None, on_decision: Callable[[], object]
) -> dict[Pair, Rule]:
    rules: dict[Pair, Rule] = {}
    left: dict[str, list[Pair]] = {}  # by the parser that the workers need, which is mostly none
    for pair in pairs:
        known = _memory.get((pair, settings))
        if known is None:
            known, need = _compare_here(pair, settings.parser)
            if need is not None:
                _sandbox(need).start()
                left.setdefault(need, []).append(pair)
                continue
            _remember(pair, settings, known)
        rules[pair] = known
        on_decision()
    for parser, open_pairs in left.items():
        tasks = [(*pair, parser) for pair in open_pairs]
        replies = _sandbox(parser).run(tasks, settings.cpu_seconds, num_workers, on_decision)
        for pair, reply in zip(open_pairs, replies, strict=True):
            rules[pair] = _RULE_OF_FAILURE[reply] if isinstance(reply, Reason) else RULES[reply]
            if reply is not Reason.WORKER_DIED:  # an accident; a time-out is a property of the pair
                _remember(pair, settings, rules[pair])
    return rules


_RULE_OF_FAILURE = {
    Reason.TIME_OUT: Rule.TIME_OUT,
    Reason.WORKER_DIED: Rule.WORKER_DIED,
    Reason.TOO_LARGE: Rule.TOO_LARGE,
}


class _OpenTerms:
    """Notes that two terms were left open, and whether a parser is needed for them."""

    def __init__(self) -> None:
        self.are_met = self.need_parser = False

    def __call__(self, left: Term, right: Term) -> Rule:
        refused = refusal(left) or refusal(right)
        if refused is None:
            self.are_met = True
            self.need_parser |= has_operator(left) or has_operator(right)
        return refused or Rule.EXPRESSION_OPEN


def _compare_here(pair: Pair, parser: str) -> tuple[Rule, str | None]:
    """What can be said without computer algebra, and which parser it needs if it may say more."""
    terms = _OpenTerms()
    try:
        rule = compare(*pair, terms).rule
    except Exception:  # as above
        logger.exception(_FAULT, *pair)
        return Rule.FAULT, None
    if not terms.are_met or rule.reason is not Reason.NOT_COMPARABLE:
        return rule, None
    return rule, parser if terms.need_parser else ""


_memory: dict[tuple[Pair, _Settings], Rule] = {}
"""Rules of pairs. Every use of it is one operation of a dictionary, so that threads may share it."""


def _remember(pair: Pair, settings: _Settings, rule: Rule) -> None:
    if len(pair[0]) + len(pair[1]) > MAX_CACHED_CHARACTERS:
        return
    if len(_memory) >= CACHE_ENTRIES:
        for old in list(_memory)[: CACHE_ENTRIES // 4]:
            _memory.pop(old, None)
    _memory[pair, settings] = rule


def forget_decisions() -> None:
    """Empties the memory, to measure what a batch costs without it."""
    _memory.clear()


@lru_cache
def _sandbox(parser: str) -> Sandbox:
    """The sandbox of the workers with a parser, or with none; it starts no worker before it has a task."""
    warm_up = [(*pair, parser) for pair in (_WARM_UP_OF_PARSER if parser else _WARM_UP)]
    return Sandbox("nsr_trl.verifier.symbolic:compare_symbolic", warm_up)


@contextmanager
def _progress_line(total: int, is_shown: bool) -> Iterator[Callable[[], object]]:
    """Yields what to call after each decision."""
    if not is_shown:
        yield lambda: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, unit="pair", desc="verify") as progress:
        yield progress.update
