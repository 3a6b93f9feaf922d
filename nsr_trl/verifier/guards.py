"""What computer algebra is given at all: known commands, within limits. Text goes in, a reason to refuse comes out.

Plain Python, so that a pair which would be refused by a worker is not sent to one.
"""

import re

from . import algebra
from .verdict import Reason


MAX_EXPRESSION_CHARACTERS = 400
MAX_NESTING = 12
MAX_DIGITS = 18
"""Most digits in a row."""
MAX_POWER_DIGITS = 3
"""Most digits in a row in an exponent, a factorial or a binomial coefficient."""

_COMMANDS = (
    algebra.GREEK
    | algebra.FUNCTIONS
    | frozenset(["\\frac", "\\sqrt", "\\binom", "\\cdot", "\\times", "\\div", "\\infty", "\\lfloor", "\\rfloor"])
    | frozenset(["\\lceil", "\\rceil", "\\sum", "\\prod"])
)
_TEXT = re.compile(r"[A-Za-z0-9+\-*/^_!.(){}\[\]| =\\]*")
_COMMAND = re.compile(r"\\[A-Za-z]+|\\.")
_DIGITS = re.compile(r"[0-9]+")
# powers of powers, numbers with a base, repeated factorials: not understood, or too large, or both
_REFUSED = re.compile(r"\^\{[^{}]*\^|\^\{?[^{}]*\{[^{}]*\^|[0-9]_|!\s*!|\*\*|'")
_LARGE = re.compile(
    rf"\^\s*\{{?[^{{}}]*[0-9]{{{MAX_POWER_DIGITS + 1}}}|[0-9]{{{MAX_POWER_DIGITS + 1}}}\)*\s*!|\\binom.*[0-9]{{5}}"
)


def refusal(text: str) -> Reason | None:
    """
    Why an expression in TeX is not given to computer algebra, if it is not.

    Args:
        text (`str`):
            The expression.

    Returns:
        [`Reason`] or `None`:
            Too large, not comparable, or `None` if it may be tried.
    """
    if len(text) > MAX_EXPRESSION_CHARACTERS or _LARGE.search(text):
        return Reason.TOO_LARGE
    if any(len(digits) > MAX_DIGITS for digits in _DIGITS.findall(text)):
        return Reason.TOO_LARGE
    depth = deepest = 0
    for character in text:
        depth += (character in "({[") - (character in ")}]")
        deepest = max(depth, deepest)
    if deepest > MAX_NESTING:
        return Reason.TOO_LARGE
    is_known = _TEXT.fullmatch(text) and _COMMANDS.issuperset(_COMMAND.findall(text))
    return None if is_known and not _REFUSED.search(text) else Reason.NOT_COMPARABLE
