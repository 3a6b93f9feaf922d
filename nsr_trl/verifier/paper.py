r"""The grader that the paper's released code trains with, for parity with its numbers.

A response and its reference go in, a verdict comes out. Re-implemented from its description, quirks included; never
the default. It says correct or incorrect and nothing else:

- an answer is read after the last "boxed", else after "he answer is", else it is the last number of the text, so that
  a response that was cut off can score;
- numbers are equal within a relative 1e-4, and so are a hundredth and the hundredfold of the reference;
- brackets around and within answers are interchangeable, lists are ordered, `3\frac{1}{2}` is a product;
- what cannot be read is incorrect, which for NSR is a gradient against it;
- AIME and AMC are compared as strings.

Where the original calls sympy and `eval` with a limit of one second of wall-clock time, expressions are evaluated by
`algebra` here. An empty reference, to which the original lets an empty answer be equal, is refused.
"""

import math
import re

from . import numeric
from .algebra import are_equal
from .expressions import NotUnderstoodError, TooLargeError, parse
from .normal_form import normalize
from .terms import letters
from .verdict import Rule, Verdict


RELATIVE_TOLERANCE = 1e-4
MAX_CHARACTERS = 10_000
"""Longer answers are equal only as strings."""
MAX_DEPTH = 5
"""Deepest nesting of brackets that are compared part by part."""

_NUMBER = re.compile(r"-?\d*\.?\d+")
_FRACTION = re.compile(r"\\[dt]frac")
_TRAILING_TEXT = re.compile(r"\\text\{.*?\}$")
_TRAILING_ZEROS = re.compile(r"(\d+)\.0+(?![0-9])")
_BARE_ARGUMENT = re.compile(r"\\sqrt\s*([0-9A-Za-z])")
_SHORT_FRACTION = re.compile(r"\\frac\s*([0-9])\s*([0-9])")
_HALF_SHORT_FRACTION = re.compile(r"\\frac\s*([0-9])\s*\{")
_REMOVED = (
    "\n",
    "\\!",
    "\\ ",
    "\\left",
    "\\right",
    "^{\\circ}",
    "^\\circ",
    "\\$",
    "$",
    "\\%",
    "%",
    "\\,",
    "\\;",
    "\\quad",
)
_MIXED = re.compile(r"(?<=[0-9])\\frac")
_MATRIX = re.compile(r"\\begin\{[pb]matrix\}(.*)\\end\{[pb]matrix\}", re.DOTALL)


def verify_paper(response: str, gold: str | int | float | None, is_competition: bool = False) -> Verdict:
    r"""
    Judges one response as the paper's released code does.

    Args:
        response (`str`):
            Response of the model.
        gold (`str`, `int`, `float` or `None`):
            Bare reference answer.
        is_competition (`bool`, *optional*, defaults to `False`):
            The problem is of AIME or AMC: compare strings, as the original does during training.

    Returns:
        [`Verdict`]

    Example:
    ```python
    >>> verify_paper(r"\boxed{50}", "0.5").outcome  # a factor of 100
    <Outcome.CORRECT: 'correct'>
    ```
    """
    if not isinstance(response, str):
        return Verdict.by(Rule.NOT_TEXT, None)
    reference = _strip("" if gold is None else str(gold))
    answer = extract_answer(response)
    if not reference:
        return Verdict.by(Rule.REFERENCE_MISSING, answer or None)
    if not answer:
        return Verdict.by(Rule.NO_ANSWER, None)
    is_equal = answer == reference if is_competition else _are_equal(answer, reference)
    if answer == reference:
        return Verdict.by(Rule.TEXT_SAME, answer)
    return Verdict.by(Rule.PAPER_SAME if is_equal else Rule.PAPER_DIFFERS, answer)


def extract_answer(text: str) -> str:
    """The answer as the original reads and normalises it; empty if there is none."""
    if "boxed" in text:
        answer = text.rpartition("boxed")[2]
        answer = _balanced(answer) if answer.startswith("{") else answer.split("$")[0].strip()
    elif "he answer is" in text:
        answer = text.rpartition("he answer is")[2].strip()
    else:
        numbers = _NUMBER.findall(text.replace(",", ""))
        answer = numbers[-1] if numbers else ""
    answer = answer.split("\n")[0] if "\\begin" not in answer else answer
    return _strip(answer.strip().removeprefix(":").removesuffix(".").removesuffix("/"))


def _balanced(text: str) -> str:
    """What stands in the brace that opens a text, up to its end if it stays open."""
    depth = 0
    for i, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[1:i]
    return text[1:]


def _strip(text: str) -> str:
    """The original's normal form."""
    text = text.strip().removesuffix(".")
    text = _FRACTION.sub(r"\\frac", text).replace("bmatrix", "pmatrix").replace("\\mathbf", "").replace("\\mathrm", "")
    without_unit = _TRAILING_TEXT.sub("", text).strip()
    text = without_unit or text
    text = re.sub(r"\\text\{(.*?)\}", r"\1", text)
    for removed in _REMOVED:
        text = text.replace(removed, "")
    text = text.replace("\\in", "") if text.startswith("x\\in") or text.startswith("x \\in") else text
    text = _TRAILING_ZEROS.sub(r"\1", text)
    if text.count("=") == 1 and len(text.split("=")[0].strip()) <= 2:
        text = text.split("=")[1]
    text = _BARE_ARGUMENT.sub(r"\\sqrt{\1}", text.replace(" ", ""))
    text = _HALF_SHORT_FRACTION.sub(r"\\frac{\1}{", _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", text))
    return "0" + text if text.startswith(".") else text


def _are_equal(answer: str, reference: str, depth: int = 0) -> bool:
    if answer.lower() == reference.lower():
        return True
    if max(len(answer), len(reference)) > MAX_CHARACTERS or depth > MAX_DEPTH:
        return False
    numbers = _read_number(answer), _read_number(reference)
    if numbers[0] is not None and numbers[1] is not None:
        return any(_is_close(numbers[0], numbers[1] * factor) for factor in (1, 100, 0.01))
    if _are_equal_without_brackets(answer, reference):
        return True
    if _is_bracketed(answer) and _is_bracketed(reference):
        return _are_all_equal(answer[1:-1].split(","), reference[1:-1].split(","), depth)
    matrices = _MATRIX.fullmatch(answer), _MATRIX.fullmatch(reference)
    if matrices[0] and matrices[1]:
        cells = [re.split(r"\\\\|&", matrix[1].strip().removesuffix("\\\\")) for matrix in matrices if matrix]
        return _are_all_equal(cells[0], cells[1], depth)
    sides = answer.split("="), reference.split("=")
    if len(sides[0]) == len(sides[1]) == 2:
        differences = [f"{left}-({right})" for left, right in sides]
        return _is_same_value(differences[0], differences[1]) or _is_same_value(f"-({differences[0]})", differences[1])
    if len(sides[0]) == 2 and len(sides[0][0]) <= 2 and len(sides[1]) == 1:
        return _are_equal(sides[0][1], reference, depth + 1)
    if len(sides[1]) == 2 and len(sides[1][0]) <= 2 and len(sides[0]) == 1:
        return _are_equal(answer, sides[1][1], depth + 1)
    return _is_same_value(answer, reference)


def _are_all_equal(answers: list[str], references: list[str], depth: int) -> bool:
    return len(answers) == len(references) and all(
        _are_equal(answer, reference, depth + 1) for answer, reference in zip(answers, references, strict=True)
    )


def _is_bracketed(text: str) -> bool:
    return len(text) > 2 and text[0] in "([" and text[-1] in ")]"


def _are_equal_without_brackets(answer: str, reference: str) -> bool:
    for brackets, other in (("[]", "("), ("()", "[")):
        if answer.startswith(brackets[0]) and answer.endswith(brackets[1]) and not reference.startswith(other):
            answer, reference = answer.strip("[]()"), reference.strip("[]()")
    return re.sub(r"[(){}]", "", answer).lower() == re.sub(r"[(){}]", "", reference).lower()


def _read_number(text: str) -> float | None:
    """A decimal, with commas between thousands or not."""
    text = text.replace(",", "")
    if len(text) > 300 or not re.fullmatch(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]{1,3})?", text):
        return None
    return float(text)


def _is_close(left: float, right: float) -> bool:
    return math.isclose(left, right, rel_tol=RELATIVE_TOLERANCE)


def _is_same_value(answer: str, reference: str) -> bool:
    """Equal as expressions, or as numbers within the tolerance."""
    if "{,}" in answer + reference:
        return False
    try:
        left, right = (parse(normalize(_MIXED.sub(r"\\cdot\\frac", text))) for text in (answer, reference))
    except (NotUnderstoodError, TooLargeError):
        return False
    if are_equal(left, right):
        return True
    if letters(left) or letters(right):
        return False
    values = numeric.real_value(left), numeric.real_value(right)
    return values[0] is not None and values[1] is not None and _is_close(values[0], values[1])
