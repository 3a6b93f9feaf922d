r"""Computer algebra for what exact algebra leaves open: two bare answers go in, an outcome and its reason come out.

Only worker processes import this module: sympy may take for ever, fill the memory or crash, and only a process can be
killed. The structure is compared by `equivalence`, which hands over single expressions; of these, the text is checked
against a list of known commands and against the limits below before any parser sees it, and the parser's result before
sympy works on it. No text is executed: both parsers build sympy objects from an ANTLR tree, and the one place where
they would pass text to `parse_expr`, the values of named variables, is never used.

Correct means that the difference was proved to be zero. Incorrect means that both sides were understood by `algebra`
too, and that their values certainly differ; close values prove nothing.
"""

import contextlib
import io
from collections.abc import Callable
from typing import Any

import sympy
from sympy.core.random import seed

from . import algebra
from .arithmetic import NotArithmeticError, TooLargeError
from .equivalence import Decision, compare
from .guards import refusal
from .normal_form import normalize
from .verdict import Outcome, Reason


MAX_OPERATIONS = 150
"""Most operations of a sympy expression that is simplified."""
NUM_DIGITS = 30
"""Digits to which values are computed."""
TOLERANCE = 1e-9
"""Relative difference of values, far above the error of computing them, from which on they differ."""
ROUNDING = 0.01
"""The same where one side has decimals."""
POINTS = ("0.37", "1.83", "4.91", "13.7", "57.3")
"""Where expressions are evaluated: the first letter at these, the others at multiples."""

PARSERS = ("latex2sympy2_extended", "latex2sympy2")

_UNDECIDED: Decision = (Outcome.UNDECIDED, Reason.NOT_COMPARABLE)


seed(0)  # sympy tries random numbers: the same in every worker


class _RefusedError(ValueError):
    """The text or its expression is outside what this module handles."""


def compare_symbolic(answer: str, gold: str, parser: str = "latex2sympy2_extended") -> Decision:
    r"""
    Compares two bare answers part by part, with computer algebra for the parts. May run for ever: call it where it
    can be killed.

    Args:
        answer (`str`):
            Answer of the model.
        gold (`str`):
            Reference answer.
        parser (`str`, *optional*, defaults to `"latex2sympy2_extended"`):
            Package that reads TeX, `"latex2sympy2_extended"` or `"latex2sympy2"`.

    Returns:
        `tuple[Outcome, Reason]`

    Raises:
        ValueError: If the parser is unknown.
        ImportError: If the parser is not installed.

    Example:
    ```python
    >>> compare_symbolic(r"\frac{1}{\tan x}", r"\cot x")
    (<Outcome.CORRECT: 'correct'>, <Reason.SYMBOLIC: 'symbolic'>)
    ```
    """
    parse = _load(parser)

    def compare_leaf(answer: str, gold: str) -> Decision:
        for text in (answer, gold):
            if reason := refusal(text):
                return Outcome.UNDECIDED, reason
        try:
            left, right = _expression(parse, answer), _expression(parse, gold)
            if "." in answer + gold:  # a decimal may be a rounding, and sympy computes with floats
                return _refute(left, right, tolerance=ROUNDING) if _are_certain(answer, gold) else _UNDECIDED
            if _is_zero(left - right):
                return Outcome.CORRECT, Reason.SYMBOLIC
            return _refute(left, right) if _are_certain(answer, gold) else _UNDECIDED
        except _RefusedError:
            return _UNDECIDED

    return compare(answer, gold, compare_leaf)


def _load(parser: str) -> Callable[[str], Any]:
    if parser == "latex2sympy2_extended":
        from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy

        config = ConversionConfig(lowercase_symbols=False)
        return lambda text: latex2sympy(text, conversion_config=config)
    if parser == "latex2sympy2":
        with contextlib.redirect_stdout(io.StringIO()):  # antlr prints that the versions differ
            import latex2sympy2

        def parse(text: str) -> Any:
            # what one text assigned would be substituted in all later ones
            latex2sympy2.set_variances({})
            latex2sympy2.VARIABLE_VALUES = {}
            with contextlib.redirect_stdout(io.StringIO()):
                return latex2sympy2.latex2sympy(text)

        return parse
    raise ValueError(f"The parser must be one of {', '.join(PARSERS)}; got {parser!r}. Choose one of them.")


def _expression(parse: Callable[[str], Any], text: str) -> sympy.Expr:
    try:
        expression = parse(text)
    except Exception as error:  # the parsers raise plain `Exception` on what they cannot read
        raise _RefusedError from error
    if not isinstance(expression, sympy.Expr) or expression.has(sympy.nan, sympy.zoo, sympy.oo):
        raise _RefusedError
    if sum(1 for _ in sympy.preorder_traversal(expression)) > MAX_OPERATIONS:
        raise _RefusedError
    names = {"i": sympy.I, "e": sympy.E, "E": sympy.E}
    values = {symbol: names[symbol.name] for symbol in expression.free_symbols if symbol.name in names}
    return expression.xreplace(values).doit(deep=True) if not expression.has(sympy.Sum, sympy.Product) else expression


def _are_certain(*texts: str) -> bool:
    """Whether `algebra` reads the texts as well, so that each has one meaning."""
    try:
        for text in texts:
            algebra.parse(normalize(text))
    except (NotArithmeticError, TooLargeError):
        return False
    return True


def _refute(left: sympy.Expr, right: sympy.Expr, tolerance: float = TOLERANCE) -> Decision:
    differ = _differ(left, right, tolerance)
    return (Outcome.INCORRECT, Reason.SYMBOLIC) if differ else _UNDECIDED


def _differ(left: sympy.Expr, right: sympy.Expr, tolerance: float) -> bool | None:
    """
    Whether the values differ at two points where both are real, or at the only one if there are no letters; `None` if
    there is no such point.
    """
    symbols = sorted(left.free_symbols | right.free_symbols, key=lambda symbol: symbol.name)
    num_different = num_equal = 0
    for point in POINTS if symbols else POINTS[:1]:
        values = {s: sympy.Float(point, NUM_DIGITS) * (1 + i * sympy.Rational(7, 19)) for i, s in enumerate(symbols)}
        numbers = [side.xreplace(values).evalf(NUM_DIGITS, maxn=100) for side in (left, right)]
        if not all(number.is_Float or number.is_Rational for number in numbers):
            continue  # not real, or not a number
        scale = max(abs(number) for number in numbers)
        if scale > 10**15:
            continue
        if abs(numbers[0] - numbers[1]) > tolerance * max(scale, 1):
            num_different += 1
        else:
            num_equal += 1
    if num_different >= min(2, len(symbols) + 1):
        return True
    return False if num_equal and not num_different else None


def _is_zero(difference: sympy.Expr) -> bool:
    """Whether sympy proves that an expression is zero. The values are looked at first, which is quick."""
    if difference == 0:
        return True
    if difference.has(sympy.Sum, sympy.Product) or _differ(difference, sympy.S.Zero, TOLERANCE) is not False:
        return False
    for simplify in (sympy.expand, sympy.radsimp, sympy.sqrtdenest, sympy.trigsimp, sympy.simplify):
        if simplify(difference) == 0:
            return True
    # for roots, sympy finds the minimal polynomial
    return bool(not difference.free_symbols and difference.is_algebraic and difference.equals(0) is True)
