"""The door of the verifier: a response and its reference go in, a verdict comes out.

A batch is decided in two stages. Its distinct (answer, reference) pairs are compared here, which decides most of them
in about 0.1 ms each; what only computer algebra may decide goes to the workers of the sandbox, all pairs in one go.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

from .equivalence import Decision, compare
from .extract import extract_answer, extract_gold
from .guards import refusal
from .paper import verify_paper
from .sandbox import CPU_SECONDS, Sandbox
from .verdict import Outcome, Reason, Verdict


GRADERS = ("default", "paper", "paper-competition")
"""Sets of rules by which a response may be judged."""

CACHE_ENTRIES = 2**14
"""Decisions that are remembered, the most recently used ones."""
MAX_CACHED_CHARACTERS = 1_000
"""Longer pairs are not remembered, which bounds the memory."""

_WARM_UP = [
    (r"\frac{\sqrt{2}+x}{3}", r"x^2-\log_2(5)"),
    (r"\sec^2(x)", r"\tan^2(x)+1"),
    (r"2\sin 2x\cos x", r"3\sin 3x\cos x"),
    (r"\sqrt{4-\sqrt{15}}+\sqrt{\sqrt{15}+4}", r"\sqrt{10}"),
    (r"e^{i\pi/3}-|y|", r"\frac13\arccos(\frac{2\sqrt[3]{7}}{9})"),
    (r"\sum_{j=1}^{n+1} a_j b_{n-j}", r"\sum_{j=0}^{n} a_j b_{n-j}"),
]
"""What a worker computes before its first pair, so that no pair pays for what is loaded on first use."""


def verify(
    response: str,
    gold: str | int | float | None,
    *,
    grader: str = "default",
    fallbacks: Sequence[str] = (),
    parser: str = "latex2sympy2_extended",
    cpu_seconds: int = CPU_SECONDS,
) -> Verdict:
    r"""
    Judges one response. Never raises, whatever the text.

    Args:
        response (`str`):
            Response of the model, with its answer in the last `\boxed{}`.
        gold (`str`, `int`, `float` or `None`):
            Reference: a bare answer, or a solution that holds it in a `\boxed{}`. Numbers are read as written, and
            `None` is a missing reference.
        grader (`str`, *optional*, defaults to `"default"`):
            The rules. `"paper"` are those of the paper's code, for parity with its numbers: it reads guesses where
            there is no box, is loose about size and brackets, and calls incorrect what it cannot read.
            `"paper-competition"` are those it has for AIME and AMC, where strings must be equal.
        fallbacks (`Sequence[str]`, *optional*, defaults to `()`):
            What to read from a response without a box, of `"answer is"` and `"last number"`. Guesses: not for
            training.
        parser (`str`, *optional*, defaults to `"latex2sympy2_extended"`):
            LaTeX parser of the workers; `"latex2sympy2"` where that is installed.
        cpu_seconds (`int`, *optional*, defaults to `1`):
            Whole seconds of CPU time after which a pair is given up as undecided.

    Returns:
        [`Verdict`]

    Raises:
        ValueError: If the grader or a fall-back is unknown.
        WorkerStartError: If a pair needs a worker and none can start, as without sympy.

    Example:
    ```python
    >>> from nsr_trl import verify

    >>> verify(r"So the probability is $\boxed{\dfrac12}$.", "0.5")
    Verdict(outcome=<Outcome.CORRECT: 'correct'>, answer='\\dfrac12', reason=<Reason.NUMBER: 'number'>)
    ```
    """
    return verify_batch(
        [response], [gold], grader=grader, fallbacks=fallbacks, parser=parser, cpu_seconds=cpu_seconds
    )[0]


def verify_batch(
    responses: Sequence[str],
    golds: Sequence[str | int | float | None],
    *,
    grader: str = "default",
    fallbacks: Sequence[str] = (),
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
        golds (`Sequence[str | int | float | None]`):
            References, one per response.
        grader (`str`, *optional*, defaults to `"default"`):
            As in [`verify`].
        fallbacks (`Sequence[str]`, *optional*, defaults to `()`):
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
        ValueError: If the numbers of responses and references differ, or the grader or a fall-back is unknown.
        WorkerStartError: If a pair needs a worker and none can start, as without sympy.
    """
    if len(responses) != len(golds):
        raise ValueError(
            f"Every response needs its own reference; got {len(responses)} responses and {len(golds)} references. "
            "Repeat each reference once per response."
        )
    if grader not in GRADERS:
        raise ValueError(f"The grader must be one of {', '.join(GRADERS)}; got {grader!r}. Choose one of them.")
    rows = zip(responses, golds, strict=True)
    if grader != "default":
        is_competition = grader == "paper-competition"
        return [verify_paper(response, extract_gold(gold), is_competition) for response, gold in rows]
    rules = _Rules(parser, cpu_seconds)
    readings = [_read(response, gold, fallbacks) for response, gold in rows]
    pairs = list(dict.fromkeys(reading for reading in readings if not isinstance(reading, Verdict)))
    with _progress_line(len(pairs), show_progress) as on_decision:
        decisions = _decide(pairs, rules, num_workers, on_decision)
    return [reading if isinstance(reading, Verdict) else _verdict(reading, decisions[reading]) for reading in readings]


class _Rules(NamedTuple):
    """All that a decision depends on besides the pair."""

    parser: str
    cpu_seconds: int


Pair = tuple[str, str]
"""The answer of a response and its reference."""


def _read(response: str, gold: str | int | float | None, fallbacks: Sequence[str]) -> Verdict | Pair:
    """Returns the pair to compare, or the verdict where a side is missing."""
    if not isinstance(response, str):
        return Verdict(Outcome.UNDECIDED, None, Reason.NOT_TEXT)
    answer = extract_answer(response, fallbacks)
    gold_answer = extract_gold(gold)
    if not gold_answer:
        return Verdict(Outcome.UNDECIDED, answer, Reason.GOLD_UNPARSABLE)
    if answer is None:
        return Verdict(Outcome.INCORRECT, None, Reason.NO_ANSWER)
    return answer, gold_answer


def _verdict(pair: Pair, decision: Decision) -> Verdict:
    return Verdict(decision[0], pair[0], decision[1])


def _decide(
    pairs: Sequence[Pair], rules: _Rules, num_workers: int | None, on_decision: Callable[[], object]
) -> dict[Pair, Decision]:
    decisions: dict[Pair, Decision] = {}
    left: list[Pair] = []
    for pair in pairs:
        known = _memory(pair, rules)
        decisions[pair], is_open = (known[0], False) if known else _compare_here(pair)
        if is_open:
            left.append(pair)
        else:
            known[:] = [decisions[pair]]
            on_decision()
    if left:
        tasks = [(*pair, rules.parser) for pair in left]
        replies = _sandbox(rules.parser).run(tasks, rules.cpu_seconds, num_workers, on_decision)
        for pair, reply in zip(left, replies, strict=True):
            if isinstance(reply, Reason):
                decisions[pair] = Outcome.UNDECIDED, reply
            else:
                decisions[pair] = Outcome(reply[0]), Reason(reply[1])
            if reply is not Reason.WORKER_DIED:  # an accident; a time-out is a property of the pair
                _memory(pair, rules)[:] = [decisions[pair]]
    return decisions


def _compare_here(pair: Pair) -> tuple[Decision, bool]:
    """Returns what can be said without computer algebra, and whether that may say more."""
    is_open = False

    def try_leaf(answer: str, gold: str) -> Decision:
        nonlocal is_open
        reason = refusal(answer) or refusal(gold)
        is_open |= reason is None
        return Outcome.UNDECIDED, reason or Reason.NOT_COMPARABLE

    outcome, reason = compare(*pair, try_leaf)
    return (outcome, reason), is_open and outcome is Outcome.UNDECIDED and reason is not Reason.CONTESTED


def _memory(pair: Pair, rules: _Rules) -> list[Decision]:
    """Returns where the decision on a pair is kept: empty, or with the one decision."""
    return _slot(pair, rules) if len(pair[0]) + len(pair[1]) <= MAX_CACHED_CHARACTERS else []


@lru_cache(CACHE_ENTRIES)  # a bounded cache that threads may share and a fork cannot leave locked
def _slot(pair: Pair, rules: _Rules) -> list[Decision]:
    return []


def forget_decisions() -> None:
    """Empties the cache, to measure what a batch costs without it."""
    _slot.cache_clear()


@lru_cache
def _sandbox(parser: str) -> Sandbox:
    """Returns the sandbox of a parser; it starts no worker before it has a task."""
    return Sandbox("nsr_trl.verifier.symbolic:compare_symbolic", [(*pair, parser) for pair in _WARM_UP])


@contextmanager
def _progress_line(total: int, is_shown: bool) -> Iterator[Callable[[], object]]:
    """Yields what to call after each decision."""
    if not is_shown:
        yield lambda: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, unit="pair", desc="verify") as progress:
        yield progress.update
