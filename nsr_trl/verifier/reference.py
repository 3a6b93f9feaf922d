r"""References as datasets have them: a text, a number, a list, a solution goes in, and the answer in it comes out.

A reference that is not understood leaves every response undecided, or worse: so each is said to be understood, as a
value of which kind, or why it is not; and a near miss of it is there to check that a wrong answer is told.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

from . import words
from .algebra import value_of
from .equivalence import readings_of_text
from .expressions import TooLargeError
from .extract import extract
from .nodes import (
    Based,
    Chain,
    Clock,
    Collection,
    Conditioned,
    Difference,
    Equation,
    Inequality,
    Infinite,
    Intersection,
    Matrix,
    Modular,
    Named,
    Node,
    Numbers,
    Option,
    Ratio,
    Scalar,
    Union,
    Words,
    is_whole,
)
from .normal_form import is_word, normalize
from .terms import Number, Sum, Symbol, letters
from .writing import kind_of, write


MAX_WORDS = 12
"""Longer texts without a number are sentences, and no answer."""


@dataclass(frozen=True, slots=True)
class Reference:
    """
    A reference, read.

    Attributes:
        answer (`str`):
            The bare answer; empty if there is none. Reading it again gives the same.
        choices (`tuple[str, ...]`):
            The parts of a list of several: whether all of them are asked for, or any, is not told.
        together (`str`):
            All boxes of a solution that has several, as a list; the answer is in the last one, as far as is known.
        missing (`str`):
            Why there is no answer; empty if there is one.
    """

    answer: str
    choices: tuple[str, ...] = ()
    together: str = ""
    missing: str = ""

    @property
    def kind(self) -> str:
        """What the answer is: `"number"`, `"expression"`, `"interval"`, `"words"`, ...; empty if not understood."""
        return "" if self.missing else _understand(self.text)[0]

    @property
    def problem(self) -> str:
        """Why the answer is not understood; empty if it is a value that is read as a whole."""
        return self.missing or _understand(self.text)[1]

    @property
    def text(self) -> str:
        """The answer as a response would have it."""
        return ", ".join(self.choices) or self.answer


def read_reference(reference: Any) -> Reference:
    r"""
    Reads a reference of any shape that a dataset has.

    Args:
        reference (`Any`):
            A bare answer as text; a solution with its answer in a `\boxed{}` or behind `####`, as GSM8K has it; a
            number; a list of answers, or its text; `None` or NaN, which is a missing reference.

    Returns:
        [`Reference`]

    Example:
    ```python
    >>> read_reference("Natalia sold 48 / 2 = 24 clips in May.\n#### 72").answer
    '72'
    ```
    """
    if isinstance(reference, str):
        return _read_text(reference)
    if reference is None or (isinstance(reference, float) and math.isnan(reference)):
        return Reference("", missing="it is missing")
    if isinstance(reference, Fraction | int):  # a bool, too
        return _read_text(str(reference))
    if isinstance(reference, float | Decimal):
        return _read_text(_write_number(reference))
    return _read_object(reference)


def _write_number(number: float | Decimal) -> str:
    if math.isinf(number):
        return "\\infty" if number > 0 else "-\\infty"
    return format(Decimal(repr(float(number))) if isinstance(number, float) else number, "f")


def _read_object(reference: Any) -> Reference:
    """A list, an array or a number of another library; anything else is not understood."""
    if hasattr(reference, "tolist"):  # an array or a number of numpy, a tensor
        return read_reference(reference.tolist())
    if isinstance(reference, Mapping):
        found = next((reference[key] for key in _KEYS if key in reference), None)
        return read_reference(found)
    if isinstance(reference, Iterable) and not isinstance(reference, bytes):
        return _read_list(list(reference))
    return Reference("", missing=f"it is of type {type(reference).__name__}")


_KEYS = ("answer", "ground_truth", "target", "value", "final_answer", "solution")
"""Where a mapping has its reference."""


def _read_list(items: list[Any]) -> Reference:
    answers = tuple(read_reference(item).answer for item in items)
    if not answers or not all(answers):
        return Reference("", missing="a part of the list is missing" if answers else "it is an empty list")
    if len(answers) == 1:
        return _read_text(answers[0])
    return Reference(json.dumps(answers, ensure_ascii=False), answers)


def _read_text(text: str) -> Reference:
    text = text.strip()
    if (items := _list_in_text(text)) is not None:
        return _read_list(items)
    if "boxed" in text or "fbox" in text:
        found = extract(text)
        missing = "" if found.answer else "its box is empty or does not close"
        return Reference(found.answer or "", together=", ".join(found.parts), missing=missing)
    answer = text.rpartition("####")[2].strip()
    is_missing = answer.lower() in ("", "nan", "null", "n/a", "$$")
    return Reference("", missing="it is missing") if is_missing else Reference(answer)


def _list_in_text(text: str) -> list[str] | None:
    """The items of `["3", "4"]` or `['3']`: the text of a list of texts."""
    if text[:2] not in ('["', "['") or text[-2:] not in ('"]', "']"):
        return None
    try:
        items = json.loads(text if text[1] == '"' else text.replace('"', '\\"').replace("'", '"'))
    except ValueError:
        return None
    return items if isinstance(items, list) and all(isinstance(item, str) for item in items) else None


@lru_cache(maxsize=4_096)
def _understand(answer: str) -> tuple[str, str]:
    """What an answer is, or why it is not understood."""
    readings = readings_of_text(answer)
    if not readings:
        return "", "it is too large"
    node = readings[0].node
    num_words = sum(map(is_word, normalize(answer)))
    if is_whole(node) or (isinstance(node, Words) and num_words <= MAX_WORDS):
        return kind_of(node), ""
    return "", f"it is a text of {num_words} words" if num_words > MAX_WORDS else "it is not understood as a whole"


def near_miss(reference: Reference) -> str | None:
    """
    A wrong answer that is close to a reference.

    Args:
        reference ([`Reference`]):
            A reference.

    Returns:
        `str` or `None`:
            The wrong answer; `None` if the reference is not understood, is too large a number, or is of words of
            which it is not known what excludes them.
    """
    if reference.problem:
        return None
    try:
        missed = _missed(readings_of_text(reference.text)[0].node)
    except TooLargeError:
        return None
    return None if missed is None else write(missed)


def _missed(node: Node) -> Node | None:
    """A node with one thing changed in it."""
    match node:
        case Scalar(tokens=(letter,)) if letter.isupper():
            return Scalar((), Symbol("A" if letter != "A" else "B"))
        case Scalar():
            value = value_of(node.term)
            return replace(node, term=Sum((node.term, _ONE.term)) if value is None else Number(value + 1))
        case Infinite():
            return replace(node, sign=-node.sign)
        case Words():
            opposite = words.opposite_of(node.phrase)
            return Words((), opposite) if opposite else None
        case Numbers():
            return _ONE
        case Based():
            return replace(node, digits=node.digits + "1")
        case Clock():
            return replace(node, minutes=(node.minutes + 1) % 720 + 720 * (node.half == "pm"))
        case Option():
            return Option((), "A" if node.letter != "A" else "B")
    return _missed_part(node)


def _missed_part(node: Node) -> Node | None:
    """A node with one of its parts changed."""
    match node:
        case Named(value=inner) | Conditioned(value=inner) | Modular(value=inner):
            return _missed(inner)
        case Chain():
            return _missed((*node.sides, *node.roundings)[-1])
        case Collection() | Ratio():
            return _with_missed(node, "items", -1) if node.items else _ONE
        case Union() | Intersection():
            return node.items[0]
        case Difference():
            return node.whole
        case Inequality():
            place = 0 if isinstance(node.sides[0], Scalar) and not letters(node.sides[0].term) else -1
            return _with_missed(node, "sides", place)
        case Equation():
            right = _missed(node.right)
            return None if right is None else replace(node, right=right)
        case Matrix():
            first = _missed(node.rows[0][0])
            return None if first is None else replace(node, rows=((first, *node.rows[0][1:]), *node.rows[1:]))
    return None


def _with_missed(node: Node, field: str, place: int) -> Node | None:
    parts = list(getattr(node, field))
    missed = _missed(parts[place])
    if missed is None:
        return None
    parts[place] = missed
    return replace(node, **{field: tuple(parts)})


_ONE = Scalar((), Number(Fraction(1)))
