r"""Are two answers the same? Two texts go in, an outcome and its reason come out.

First harmless differences of form are removed; equal forms are correct. Then, where both sides are exact rational
numbers, their values decide. Everything else is undecided: training acts on "incorrect", so it is said only of two
sides that are both understood exactly. No text is ever executed.
"""

import re
from dataclasses import dataclass

from .arithmetic import DIGITS, NotArithmeticError, Number, TooLargeError, evaluate
from .verdict import Outcome, Reason


MAX_CHARACTERS = 10_000
"""Longer answers are compared as they stand."""

Form = tuple[str, ...]
"""A normal form: TeX tokens, that is commands, escaped characters and single characters, digits included."""

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\s+|.", re.DOTALL)
_EXPLICIT_SEPARATOR = re.compile(r"(?<=[0-9])(?:,\s*\\!|\{,\})\s*(?=[0-9]{3})")
_WITH_COMMAS = re.compile(r"[^0-9,()\[\]]*[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9])[^,()\[\]]*")
_SYNONYMS = {
    "\\dfrac": "\\frac",
    "\\tfrac": "\\frac",
    "\\cfrac": "\\frac",
    "\\leq": "\\le",
    "\\geq": "\\ge",
    "\\neq": "\\ne",
    "\u2212": "-",
    "%": "\\%",
    "°": "\\degree",
}
_SPACES = {"\\,", "\\;", "\\:", "\\ ", "~", "\\quad", "\\qquad"}
_INVISIBLE = {"$", "\\!", "\\(", "\\)", "\\[", "\\]", "\\left", "\\right", "\\displaystyle"}
_FONTS = {"\\text", "\\textbf", "\\textit", "\\textrm", "\\mbox", "\\mathrm", "\\mathbf", "\\mathit"}
_UNITS: tuple[Form, ...] = (("\\%",), ("\\degree",), ("^", "\\circ"))


def compare(answer: str, gold: str) -> tuple[Outcome, Reason]:
    r"""
    Compares two bare answers.

    Args:
        answer (`str`):
            Answer of the model.
        gold (`str`):
            Reference answer.

    Returns:
        `tuple[Outcome, Reason]`

    Example:
    ```python
    >>> compare(r"x = \frac12", "0.5")
    (<Outcome.CORRECT: 'correct'>, <Reason.NUMBER: 'number'>)
    ```
    """
    answer, gold = answer.strip(), gold.strip()
    if max(len(answer), len(gold)) > MAX_CHARACTERS:
        same = answer == gold
        return (Outcome.CORRECT, Reason.STRING) if same else (Outcome.UNDECIDED, Reason.TOO_LARGE)
    answer_variable, answer_form = _split_variable(normalize(answer))
    gold_variable, gold_form = _split_variable(normalize(gold))
    if not gold_form:
        return Outcome.UNDECIDED, Reason.GOLD_UNPARSABLE
    if answer_variable and gold_variable and answer_variable != gold_variable:
        return Outcome.UNDECIDED, Reason.NOT_COMPARABLE
    if answer_form == gold_form:
        return Outcome.CORRECT, Reason.STRING
    try:
        return _compare_quantities(_read_quantity(answer, answer_form), _read_quantity(gold, gold_form))
    except NotArithmeticError:
        return Outcome.UNDECIDED, Reason.NOT_COMPARABLE
    except TooLargeError:
        return Outcome.UNDECIDED, Reason.TOO_LARGE


def normalize(text: str) -> Form:
    r"""
    Normal form of an answer: what is left once harmless differences of form are gone.

    Dropped are dollar signs and other math delimiters, spaces (but `2 3` is not `23`), fonts such as `\text{}`, sizes
    such as `\left`, braces around a single token or the whole, `{,}` and `,\!` between digits, and a final full stop.
    """
    tokens: list[str] = []
    open_groups: list[int | None] = []  # where the brace stands in `tokens`; None for a dropped one
    whole_ends, after_font, is_apart = -1, False, False

    def put(token: str) -> None:
        # digits that were apart stay apart, except the two of \frac 1 2
        if is_apart and token in DIGITS and tokens and tokens[-1] in DIGITS and tokens[-2:-1] != ["\\frac"]:
            tokens.append(" ")
        tokens.append(token)

    for token in _TOKEN.findall(_EXPLICIT_SEPARATOR.sub("", text)):
        token = _SYNONYMS.get(token, token)
        if token in _SPACES or token.isspace():
            is_apart = True
        elif token in _FONTS:
            after_font = True
        elif token == "{":
            open_groups.append(None if after_font else len(tokens))
            if not after_font:
                tokens.append(token)
            after_font, is_apart = False, True
        elif token == "}" and open_groups:
            start, is_apart = open_groups.pop(), True
            if start is not None and len(tokens) == start + 2:
                del tokens[start]
                put(tokens.pop())
            elif start is not None:
                tokens.append(token)
                whole_ends = len(tokens) if start == 0 else whole_ends
        elif token not in _INVISIBLE:
            put(token)
            after_font = is_apart = False
    if tokens and whole_ends == len(tokens):
        tokens = tokens[1:-1]
    if tokens[-1:] == ["."] and tokens[-2:-1] != ["."]:
        tokens.pop()
    return tuple(tokens)


def _split_variable(form: Form) -> tuple[Form, Form]:
    """Splits `x = 5` into `x` and `5`; an answer of any other shape has no variable."""
    if form.count("=") == 1:
        equals = form.index("=")
        is_variable = equals == 1 or (equals == 3 and form[1] == "_")
        if is_variable and form[0].lstrip("\\").isalpha():
            return form[:equals], form[equals + 1 :]
    return (), form


@dataclass(frozen=True, slots=True)
class _Quantity:
    number: Number
    unit: str
    has_commas: bool  # read as thousands separators


def _read_quantity(text: str, form: Form) -> _Quantity:
    unit, has_commas = "", _WITH_COMMAS.fullmatch(text) is not None
    if form[:1] == ("\\$",):
        unit, form = "\\$", form[1:]
    for suffix in _UNITS:
        if not unit and form[-len(suffix) :] == suffix:
            unit, form = suffix[-1], form[: -len(suffix)]
    return _Quantity(evaluate([token for token in form if token != "," or not has_commas]), unit, has_commas)


def _compare_quantities(answer: _Quantity, gold: _Quantity) -> tuple[Outcome, Reason]:
    contested = (Outcome.UNDECIDED, Reason.CONTESTED)
    if answer.number.value == gold.number.value:
        is_percentage_dropped = answer.unit != gold.unit and "\\%" in (answer.unit, gold.unit)
        is_work_left = gold.number.is_literal and not answer.number.is_literal
        return contested if is_percentage_dropped or is_work_left else (Outcome.CORRECT, Reason.NUMBER)
    # 5 and 500 may be dollars and cents; 120,240 and 240,120 may be one list
    if answer.unit != gold.unit or (answer.has_commas and gold.has_commas):
        return contested
    return contested if _may_be_rounding(answer.number, gold.number) else (Outcome.INCORRECT, Reason.NUMBER)


def _may_be_rounding(answer: Number, gold: Number) -> bool:
    """Whether one is the other to as many places as are written, or as many as a float holds."""
    difference = abs(answer.value - gold.value)
    if difference.denominator == 1 and answer.resolution == gold.resolution == 0:
        return False
    return difference < max(answer.resolution, gold.resolution, abs(gold.value) / 10**6)
