r"""The answer in a response, in the format that was asked for. Text goes in, text comes out.

A format is where a model was told to put its answer: into `\boxed{}`, behind `####`, between tags. What stands there
is the answer, and a response with nothing there has none. Reading it elsewhere would be a guess, and a guess graded as
wrong trains the policy against a response that may be right.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from ..choices import ANSWER_FORMATS


# A box command before its brace or before bare content, any other escaped character (so `\{` is no brace), a brace.
# `\\boxed` is how a box reads in text that was escaped twice. `\s*+` does not backtrack, which keeps the scan linear;
# alternatives that begin with a literal let `re` skip plain text ten times as fast.
_TOKEN = re.compile(
    r"\\(?:\\?(?:boxed|fbox)(?![A-Za-z])\s*+(?:(?P<box>\{)|(?P<bare>(?=[^$}])))|.)|\{\{*|\}",
    re.DOTALL,
)
_END_OF_BARE_BOX = re.compile(r"[$\n]|\\[)\]]|\Z")
_MAX_CONNECTIVE = 60
_CONNECTIVE_NOISE = re.compile(r"\\(?:quad|qquad|text|mbox|[,;:() ])|[\s${}]")
_CONNECTIVES = frozenset([",", ";", "and", "or", ",and", ",or"])
_NAME_BEFORE = re.compile(r"([A-Za-z](?:_\{?[A-Za-z0-9]{1,3}\}?)?)\s*=\s*$")
_MAX_BOXES = 32
_BOX_COMMANDS = ("\\boxed", "\\fbox")

_HASHES = re.compile(r"(?<!#)#{4,}+[^\S\n]*([^\n]+)")
_ANSWER_TAGS = ("answer", "final_answer", "solution", "result")
_CLOSING_TAG = re.compile(r"</([A-Za-z_][\w-]{0,40})>")
_UNREAD_TAGS = frozenset("think thinking reasoning thought scratchpad analysis b i u em strong p br code pre".split())
_MAX_TAGS = 20

_BOILERPLATE = re.compile(
    r"(?:\s*I hope (?:it|this)(?: is correct| helps)[.!]?|\s*(?:Let me know|Feel free) [^\n.!?]{0,100}[.!]"
    r"|\s*<\|[^|>]{1,40}\|>\s*(?:user|assistant)?)+\s*\Z"
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+|(?<=[。！？])")
_STATED = re.compile(
    r"(?:\b(?:answer|result|solution|total|value|option|choice|réponse|respuesta|antwort)\b[^\n.:=]{0,80}?(?:\bis|\bare|[:=])"
    r"|^\W*A(?=:)|答案[是为]?)\s*[:：]?\s*(?P<stated>[^\n]+)",
    re.IGNORECASE,
)
_MATH = re.compile(r"\$\$?([^$\n]+)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]")
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
_NUMBER = re.compile(r"-?\$?(?:[0-9][0-9,.]*[0-9]|[0-9])(?:/[0-9]+)?%?")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}|[^\W\d_a-zA-Z]{2,}")
_MAX_SHORT = 200
"""Shorter responses are not cut off, whatever their last sentence ends in."""
_MAX_WORDS_OF_GUESS = 8
"""Longer sentences without a number state nothing that is looked for."""
_MAX_TAIL = 2_000
"""Characters at the end of a response in which its last sentence is looked for."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """
    What was found in a response.

    Attributes:
        answer (`str` or `None`):
            The answer; `None` if there is none.
        parts (`tuple[str, ...]`):
            The contents of all boxes where there are several, with the names that stand before them; or all that a
            last sentence sets apart.
        alternatives (`tuple[str, ...]`):
            What else a last sentence may state.
        is_guess (`bool`):
            Read from a last sentence rather than from where an answer was asked for.
        is_elsewhere (`bool`):
            There is no answer in the format asked for, but one in another.
    """

    answer: str | None
    parts: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    is_guess: bool = False
    is_elsewhere: bool = False


def extract(text: str, answer_format: str = "boxed") -> Extracted:
    r"""
    Finds the answer in a response, in time linear in the text. What comes before the last `</think>` is not read.

    Args:
        text (`str`):
            Response of a model.
        answer_format (`str`, *optional*, defaults to `"boxed"`):
            Where the answer is: in a `"boxed"` (see [`extract_answer`]); behind the last `####` (`"gsm8k"`); between
            the last pair of tags, `<answer>` or any other (`"xml"`); in what the `"last"` sentence states; in the
            first of these that is there (`"auto"`); or where a regular expression matches last, in its first group if
            it has one.

    Returns:
        [`Extracted`]

    Raises:
        ValueError: If the format is neither the name of one nor a regular expression that has a special character.
    """
    read = reader_of(answer_format)
    text = text.rpartition("</think>")[2]
    found = read(text)
    if found.answer is not None:
        return found
    other = _first_found(text, tuple(reader for reader in _ELSEWHERE if reader is not read))
    is_elsewhere = other.answer is not None and (not other.is_guess or _states_something(text))
    return Extracted(None, is_elsewhere=is_elsewhere)


Reader = Callable[[str], Extracted]
"""Reads a format: the response, without its thoughts, goes in."""


@lru_cache(maxsize=64)
def reader_of(answer_format: str) -> Reader:
    """
    The function that reads a format.

    Args:
        answer_format (`str`):
            As in [`extract`].

    Returns:
        `Callable[[str], Extracted]`

    Raises:
        ValueError: If the format is neither the name of one nor a regular expression that has a special character.
    """
    if answer_format in _READERS:
        return _READERS[answer_format]
    if not isinstance(answer_format, str) or re.fullmatch(r"[\w\s-]*", answer_format):  # a name, misspelt
        raise ValueError(
            f"The answer format must be one of {', '.join(ANSWER_FORMATS)} or a regular expression; got "
            f"{answer_format!r}. Choose one of them, or write the text around the answer with a group for it."
        )
    try:
        pattern = re.compile(answer_format, re.DOTALL)
    except re.error as error:
        raise ValueError(
            f"The answer format must be a regular expression if it is no name of one; {answer_format!r} is none "
            f"({error}). Correct it, or choose one of {', '.join(ANSWER_FORMATS)}."
        ) from error
    return lambda text: _read_pattern(text, pattern)


def extract_answer(text: str) -> str | None:
    r"""
    Content of the last balanced `\boxed{}` or `\fbox{}` after the last `</think>`, in time linear in the text.

    Boxes may nest (the inner one counts), span lines and hold escaped braces. An empty box holds no answer and is
    passed over, as is an unclosed one. A box without braces, as in `$\boxed 5$`, is read up to the next `$`, `\)`,
    `\]` or line break, and only where no box has braces. Boxes joined by a comma, `and` or `or` alone are one answer:
    `\boxed{1}, \boxed{2}` is the list `1, 2`.

    Args:
        text (`str`):
            Response of a model, or a reference solution.

    Returns:
        `str` or `None`:
            The answer, stripped, or `None` if there is none.
    """
    return _read_boxes(text.rpartition("</think>")[2]).answer


# --- Boxes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Box:
    start: int
    end: int
    content: str


def _read_boxes(text: str) -> Extracted:
    places = _box_places(text)
    boxes, bare_start = _boxes(text, places[-_MAX_BOXES - 1 :])
    if not boxes and len(places) > _MAX_BOXES:
        boxes, bare_start = _boxes(text, places)
    if boxes:
        last = len(boxes) - 1
        while last and _is_connective(text, boxes[last - 1].end, boxes[last].start):
            last -= 1
        answer = ", ".join(dict.fromkeys(box.content for box in boxes[last:]))
        return Extracted(answer, _parts(text, boxes))
    if bare_start >= 0:
        end = _END_OF_BARE_BOX.search(text, bare_start)
        assert end is not None  # the end of the text matches
        return Extracted(text[bare_start : end.start()].strip() or None)
    return Extracted(None)


def _box_places(text: str) -> list[int]:
    """Where boxes may begin. What stands before the first one, most of a response, decides nothing."""
    places = []
    for command in _BOX_COMMANDS:
        place = text.find(command)
        while place >= 0:
            places.append(place)
            place = text.find(command, place + 1)
    return sorted(places)


def _boxes(text: str, places: list[int]) -> tuple[list[_Box], int]:
    """Boxes that hold something, the inner ones of nested ones; and where the last one without braces begins."""
    boxes: list[_Box] = []
    bare_start = last_start = -1
    empty: list[tuple[int, int]] = []  # boxes that hold nothing, or nothing but such boxes: where they start and end
    open_groups: list[tuple[int, int] | None] = []  # where a box and its content start; None for any other brace
    start = places[0] if places else len(text)
    while start and text[start - 1] == "\\":  # from within a run of backslashes it would be read differently
        start -= 1
    for token in _TOKEN.finditer(text, start):
        kind = token.lastgroup or token[0]
        if kind == "box":
            open_groups.append((token.start(), token.end()))
        elif kind[0] == "{":
            open_groups.extend([None] * len(kind))
        elif kind == "bare":
            bare_start = token.end()
        elif kind == "}" and open_groups:
            group = open_groups.pop()
            # inner boxes close first; skipping those around them also keeps deep nesting linear
            if group is None or group[1] <= last_start:
                continue
            end, held = token.start(), ""
            while empty and empty[-1][0] >= group[1]:  # those within it
                begin_of_inner, end_of_inner = empty.pop()
                held += text[end_of_inner:end]
                end = begin_of_inner
            if not (text[group[1] : end] + held).strip():
                empty.append((group[0], token.end()))
            else:
                last_start = group[1]
                boxes.append(_Box(group[0], token.end(), text[group[1] : token.start()].strip()))
    return boxes, bare_start


def _is_connective(text: str, start: int, end: int) -> bool:
    if not 0 < end - start <= _MAX_CONNECTIVE:
        return False
    return _CONNECTIVE_NOISE.sub("", text[start:end]) in _CONNECTIVES


def _parts(text: str, boxes: list[_Box]) -> tuple[str, ...]:
    """The contents of distinct boxes, if there are several, with the names before them: `x = 3`."""
    if not 1 < len(boxes) <= _MAX_BOXES:
        return ()
    parts = []
    for box in boxes:
        name = _NAME_BEFORE.search(text, max(0, box.start - 12), box.start)
        parts.append(f"{name[1]} = {box.content}" if name else box.content)
    distinct = tuple(dict.fromkeys(parts))
    return distinct if len(distinct) > 1 else ()


# --- Other formats ---------------------------------------------------------------------------------------------------


def _read_hashes(text: str) -> Extracted:
    found = _HASHES.findall(text) if "####" in text else []
    return Extracted(found[-1].strip() or None if found else None)


def _read_answer_tags(text: str) -> Extracted:
    """What stands between the last tags that are named after an answer."""
    lower = text.lower() if "</" in text else ""
    ends = [(lower.rfind(f"</{name}>"), name) for name in _ANSWER_TAGS]
    end, name = max(ends)
    return Extracted(_between(lower, text, name, end) if end >= 0 else None)


def _read_tags(text: str) -> Extracted:
    """The same, or else what stands between the last tags of any name but a thought's."""
    found = _read_answer_tags(text)
    if found.answer is not None:
        return found
    for match in list(_CLOSING_TAG.finditer(text))[-_MAX_TAGS:][::-1]:
        if match[1].lower() not in _UNREAD_TAGS and (answer := _between(text, text, match[1], match.start())):
            return Extracted(answer)
    return Extracted(None)


def _between(searched: str, text: str, name: str, end: int) -> str | None:
    start = searched.rfind(f"<{name}>", 0, end)
    return text[start + len(name) + 2 : end].strip() or None if start >= 0 else None


def _stated_in(sentence: str) -> Extracted:
    """What a sentence says to be the answer, or sets as mathematics or in bold."""
    stated = _STATED.search(sentence)
    if stated is not None:
        rest = stated["stated"].lstrip()
        marked = next((pattern for pattern in (_MATH, _BOLD) if pattern.match(rest)), None)
        return Extracted(_plain(rest)) if marked is None else _one_of(map(_inside, marked.finditer(rest)), 0)
    for pattern in (_BOLD, _MATH):
        found = _one_of(map(_inside, pattern.finditer(sentence)), -1)
        if found.answer is not None:
            numbers = tuple(_NUMBER.findall(pattern.sub(" ", sentence)))
            return replace(found, alternatives=found.alternatives + numbers)
    return Extracted(None)


def _one_of(texts: Iterable[str], place: int) -> Extracted:
    """One of the things that a sentence sets apart; all of them may be the answer, or another."""
    answers = tuple(dict.fromkeys(filter(None, map(_plain, texts))))
    if not answers:
        return Extracted(None)
    others = tuple(answer for answer in answers if answer != answers[place])
    return Extracted(answers[place], answers if others else (), others)


def _read_last(text: str) -> Extracted:
    return _said_in(_last_sentence(text))


def _said_in(sentence: str) -> Extracted:
    """The same, or all of a sentence without words, or the last number in it, or else all of it."""
    found = _stated_in(sentence)
    if found.answer is not None:
        return found
    if _WORD.search(sentence) and (numbers := _NUMBER.findall(sentence)):
        return _one_of(numbers, -1)
    return Extracted(_plain(sentence))


def _guess(text: str) -> Extracted:
    """The same, of a last sentence that is not cut off; a long one has to state something."""
    sentence = _last_sentence(text)
    found = _stated_in(sentence)
    if found.answer is None and (sentence[-1:] in (".", "!", "。") or len(text) <= _MAX_SHORT):
        is_short = len(sentence.split()) <= _MAX_WORDS_OF_GUESS
        found = _said_in(sentence) if is_short or _NUMBER.search(sentence) else found
    return replace(found, is_guess=True)


def _states_something(text: str) -> bool:
    """Whether a last sentence is more than words: `I give up.` is not."""
    sentence = _last_sentence(text)
    return _stated_in(sentence).answer is not None or _NUMBER.search(sentence) is not None


def _last_sentence(text: str) -> str:
    tail = _BOILERPLATE.sub("", text[-_MAX_TAIL:])
    sentences = [sentence for sentence in _SENTENCE_END.split(tail) if sentence.strip()]
    return sentences[-1].strip() if sentences else ""


def _inside(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group is not None)


def _plain(text: str) -> str | None:
    return text.strip().strip("*$").rstrip(".").strip("*$ ") or None


def _read_pattern(text: str, pattern: re.Pattern[str]) -> Extracted:
    matches = list(pattern.finditer(text))
    if not matches:
        return Extracted(None)
    group = next((group for group in matches[-1].groups() if group is not None), matches[-1][0])
    return Extracted(group.strip() or None)


def _first_found(text: str, readers: tuple[Reader, ...]) -> Extracted:
    for read in readers:
        found = read(text)
        if found.answer is not None:
            return found
    return Extracted(None)


_ELSEWHERE: tuple[Reader, ...] = (_read_boxes, _read_hashes, _read_answer_tags, _guess)
"""Where an answer is looked for in any case, the surest place first."""
_READERS: dict[str, Reader] = {
    "boxed": _read_boxes,
    "gsm8k": _read_hashes,
    "xml": _read_tags,
    "last": _read_last,
    "auto": lambda text: _first_found(text, _ELSEWHERE),
}
