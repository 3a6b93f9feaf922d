r"""The answer in a response: its last `\boxed{...}`. Text goes in, text comes out.

A last number or a last formula would be a guess, and a guess graded as wrong trains the policy against a response
that may be right. Such fall-backs exist for evaluation, and are off unless asked for.
"""

import re
from collections.abc import Sequence


# A box command before its brace or before bare content, any other escaped character (so `\{` is no brace), a brace.
# `\\boxed` is how a box reads in text that was escaped twice. `\s*+` does not backtrack, which keeps the scan linear;
# alternatives that begin with a literal let `re` skip plain text ten times as fast.
_TOKEN = re.compile(
    r"\\(?:\\?(?:boxed|fbox)(?![A-Za-z])\s*+(?:(?P<box>\{)|(?P<bare>(?=[^$}])))|.)|\{|\}",
    re.DOTALL,
)
_END_OF_BARE_BOX = re.compile(r"[$\n]|\\[)\]]|\Z")


FALLBACKS = ("answer is", "last number")
"""What may be read from a response without a box, where asked for; training reads boxes only."""

_ANSWER_IS = re.compile(r"[Aa]nswer (?:is|=)\s*:?\s*([^\n]{1,500})")
_NUMBER = re.compile(r"-?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?")
_MAX_CONNECTIVE = 60
_CONNECTIVE_NOISE = re.compile(r"\\(?:quad|qquad|text|mbox|[,;:() ])|[\s${}]")
_CONNECTIVES = frozenset([",", ";", "and", "or", ",and", ",or"])


def extract_answer(text: str, fallbacks: Sequence[str] = ()) -> str | None:
    r"""
    Content of the last balanced `\boxed{}` or `\fbox{}` after the last `</think>`, in time linear in the text.

    Boxes may nest (the inner one counts), span lines and hold escaped braces. An empty box holds no answer and is
    passed over, as is an unclosed one. A box without braces, as in `$\boxed 5$`, is read up to the next `$`, `\)`,
    `\]` or line break, and only where no box has braces. Boxes joined by a comma, `and` or `or` alone are one answer:
    `\boxed{1}, \boxed{2}` is the list `1, 2`.

    Args:
        text (`str`):
            Response of a model, or a reference solution.
        fallbacks (`Sequence[str]`, *optional*, defaults to `()`):
            What to try in this order if there is no box: `"answer is"` reads the line after the last "answer is",
            `"last number"` the last number of the text. Both are guesses: a response that was cut off gets an answer.

    Returns:
        `str` or `None`:
            The answer, stripped, or `None` if there is none.

    Raises:
        ValueError: If a fall-back is unknown.
    """
    if unknown := [name for name in fallbacks if name not in FALLBACKS]:
        raise ValueError(f"Fall-backs must be among {', '.join(FALLBACKS)}; got {unknown[0]!r}. Leave it out.")
    text = text.rpartition("</think>")[2]
    open_groups: list[tuple[int, int] | None] = []  # where a box and its content start; None for any other brace
    answers: list[str] = []
    answer_start = answer_end = bare_start = -1
    for token in _TOKEN.finditer(text, _first_box(text)):
        kind = token.lastgroup or token[0]
        if kind == "box":
            open_groups.append((token.start(), token.end()))
        elif kind == "{":
            open_groups.append(None)
        elif kind == "bare":
            bare_start = token.end()
        elif kind == "}" and open_groups:
            group = open_groups.pop()
            # inner boxes close first; skipping those around them also keeps deep nesting linear
            if group is not None and group[1] > answer_start and (content := text[group[1] : token.start()].strip()):
                if not (answers and _is_connective(text, answer_end, group[0])):
                    answers = []
                answers.append(content)
                answer_start, answer_end = group[1], token.end()
    if answers:
        return ", ".join(dict.fromkeys(answers))
    if bare_start >= 0:
        end = _END_OF_BARE_BOX.search(text, bare_start)
        assert end is not None  # the end of the text matches
        return text[bare_start : end.start()].strip() or None
    for name in fallbacks:
        if found := _read_answer_is(text) if name == "answer is" else _read_last_number(text):
            return found
    return None


def _first_box(text: str) -> int:
    """Where the first box may start: what stands before it, most of a response, decides nothing."""
    starts = [start for command in ("\\boxed", "\\fbox") if (start := text.find(command)) >= 0]
    start = min(starts, default=len(text))
    while start and text[start - 1] == "\\":  # from within a run of backslashes it would be read differently
        start -= 1
    return start


def _is_connective(text: str, start: int, end: int) -> bool:
    if not 0 < end - start <= _MAX_CONNECTIVE:
        return False
    return _CONNECTIVE_NOISE.sub("", text[start:end]) in _CONNECTIVES


def _read_answer_is(text: str) -> str:
    matches = _ANSWER_IS.findall(text)
    return matches[-1].strip().strip("*$").rstrip(".").strip("*$ ") if matches else ""


def _read_last_number(text: str) -> str:
    matches = _NUMBER.findall(text)
    return matches[-1] if matches else ""


def extract_gold(gold: str | int | float | None) -> str:
    r"""
    The bare reference answer in a reference: the content of its last box or boxes if it mentions one, else all of it.

    Args:
        gold (`str`, `int`, `float` or `None`):
            A bare answer, or a solution that holds it in a box. `None` is a missing reference.

    Returns:
        `str`:
            The reference answer, stripped; empty if there is none.
    """
    text = "" if gold is None else str(gold)
    return (extract_answer(text) or "") if "boxed" in text or "fbox" in text else text.strip()
