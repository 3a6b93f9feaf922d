r"""Computer algebra for what exact algebra leaves open: two bare answers go in, the name of a rule comes out.

Only worker processes import this module: sympy may take for ever, fill the memory or crash, and only a process can be
killed. The answers are read and compared as everywhere (`equivalence`), and sympy gets the trees that were read. It
never sees a text, but for sums, products, integrals and limits, which it knows and we do not: there a LaTeX parser is
asked twice, for the text as it was written and as our reader writes it, with every bracket, and both have to have one
value. No text is executed: the parsers build sympy objects from an ANTLR tree, and the one place where they would pass
text to `parse_expr`, the values of named variables, is never used.

Equal means that the difference was proved to be zero, different that values to many digits are apart.
"""

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import sympy
from sympy.core.random import seed

from .equivalence import compare
from .guards import refusal
from .terms import Apply, Negative, Number, Operator, Power, Product, Quotient, Sum, Symbol, Term, write
from .verdict import Rule


MAX_OPERATIONS = 150
"""Most operations of a sympy expression that is simplified."""
NUM_DIGITS = 40
"""Digits to which values are computed."""
TOLERANCE = sympy.Float("1e-20", NUM_DIGITS)
"""Relative difference of values, far above the error of computing them, from which on they differ."""
POINTS = ("0.37", "1.83", "4.91", "13.7", "-0.83", "-7.3")
"""Where expressions are evaluated: the first letter at these, the others at multiples, in turns larger and smaller."""
WHOLE_POINTS = (3, 4)
"""The same for what is defined for whole numbers only."""

seed(0)  # sympy tries random numbers: the same in every worker


class _RefusedError(ValueError):
    """The expression is outside what this module handles."""


def compare_symbolic(answer: str, gold: str, parser: str = "") -> str:
    r"""
    Compares two bare answers part by part, with computer algebra for the parts. May run for ever: call it where it
    can be killed.

    Args:
        answer (`str`):
            Answer of the model.
        gold (`str`):
            Reference answer.
        parser (`str`, *optional*):
            Package that reads TeX, `"latex2sympy2_extended"` or `"latex2sympy2"`, for answers with sums, integrals and
            the like. By default these are left open.

    Returns:
        `str`: the name of a [`~verdict.Rule`].

    Raises:
        ImportError: If the parser is not installed.

    Example:
    ```python
    >>> compare_symbolic(r"\sqrt{24\sqrt{2} + 41}", r"3 + 4\sqrt2")
    'expression.proved'
    ```
    """
    parse = _load(parser) if parser else None

    def compare_open(left: Term, right: Term) -> Rule:
        refused = refusal(left) or refusal(right)
        if refused is not None:
            return refused
        try:
            return _compare(_Builder(parse).build(left), _Builder(parse).build(right))
        except _RefusedError:
            return Rule.EXPRESSION_OPEN

    return str(compare(answer, gold, compare_open).rule)


def _compare(left: sympy.Expr, right: sympy.Expr) -> Rule:
    are_apart = _are_apart(left, right)
    if are_apart:
        return Rule.EXPRESSION_DIFFERS
    if are_apart is False and _is_zero(left - right):
        return Rule.EXPRESSION_PROVED
    return Rule.EXPRESSION_OPEN


# --- Trees to sympy --------------------------------------------------------------------------------------------------

_CONSTANTS = {"e": sympy.E, "i": sympy.I, "\\pi": sympy.pi}
_FUNCTIONS: dict[str, Callable[..., sympy.Expr]] = {
    **{name: getattr(sympy, name) for name in "sin cos tan cot sec csc asin acos atan sinh cosh tanh exp".split()},
    "ln": sympy.log,
    "root": sympy.root,
    "abs": sympy.Abs,
    "floor": sympy.floor,
    "ceil": sympy.ceiling,
    "factorial": sympy.factorial,
    "binom": sympy.binomial,
}


class _Builder:
    """Makes sympy expressions of trees."""

    def __init__(self, parse: Callable[[str], Any] | None) -> None:
        self.parse = parse

    def build(self, term: Term) -> sympy.Expr:
        """The sympy expression of a tree."""
        expression = self.convert(term)
        if expression.has(sympy.nan, sympy.zoo, sympy.oo):
            raise _RefusedError
        if sum(1 for _ in sympy.preorder_traversal(expression)) > MAX_OPERATIONS:
            raise _RefusedError
        return expression

    def convert(self, term: Term) -> sympy.Expr:
        match term:
            case Number(value):
                return sympy.Rational(value.numerator, value.denominator)
            case Symbol(name):
                return _CONSTANTS.get(name) or sympy.Symbol(name)
            case Negative(inner):
                return -self.convert(inner)
            case Sum(terms):
                return sympy.Add(*map(self.convert, terms))
            case Product(factors):
                return sympy.Mul(*map(self.convert, factors))
            case Quotient(top, bottom):
                return self.convert(top) / self.convert(bottom)
            case Power(base, exponent):
                return self.convert(base) ** self.convert(exponent)
            case Apply(name, arguments):
                return _FUNCTIONS[name](*map(self.convert, arguments))
            case Operator():
                return self.parsed(term)

    def parsed(self, operator: Operator) -> sympy.Expr:
        """A sum, product, integral or limit, if its text and the tree written out have one value to the parser."""
        if self.parse is None:
            raise _RefusedError
        values = [_parsed(self.parse, text) for text in (operator.text, write(operator))]
        if values[0] != values[1] and _are_apart(*values) is not False:
            raise _RefusedError
        return values[0]


def _parsed(parse: Callable[[str], Any], text: str) -> sympy.Expr:
    try:
        expression = parse(text)
    except MemoryError:
        raise
    except Exception as error:
        raise _RefusedError from error
    if not isinstance(expression, sympy.Expr):
        raise _RefusedError
    names = {**_CONSTANTS, "E": sympy.E, "pi": sympy.pi}
    values = {symbol: names[symbol.name] for symbol in expression.free_symbols if symbol.name in names}
    return expression.xreplace(values).doit()


@cache
def _load(parser: str) -> Callable[[str], Any]:
    if parser == "latex2sympy2_extended":
        from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy

        config = ConversionConfig(lowercase_symbols=False)
        return lambda text: latex2sympy(text, conversion_config=config)
    assert parser == "latex2sympy2", "the caller knows the parsers"
    with contextlib.redirect_stdout(io.StringIO()):  # antlr prints that the versions differ
        import latex2sympy2

    def parse(text: str) -> Any:
        # what one text assigned would be substituted in all later ones
        latex2sympy2.set_variances({})
        latex2sympy2.VARIABLE_VALUES = {}
        with contextlib.redirect_stdout(io.StringIO()):
            return latex2sympy2.latex2sympy(text)

    return parse


# --- Comparison ------------------------------------------------------------------------------------------------------


def _are_apart(left: sympy.Expr, right: sympy.Expr) -> bool | None:
    """Whether two expressions differ, by their values to many digits; as in [`~numeric.differ`]."""
    symbols = sorted(left.free_symbols | right.free_symbols, key=lambda symbol: symbol.name)
    if not symbols:
        return _are_apart_at({}, left, right)
    found = [_are_apart_at(values, left, right) for values in _places(symbols)]
    whole = [_are_apart_at(values, left, right) for values in _whole_places(symbols)]
    if False not in found and found.count(True) + whole.count(True) >= 2:
        return True
    return False if False in found + whole and True not in found + whole else None


def _places(symbols: list[sympy.Symbol]) -> Iterator[dict[sympy.Symbol, sympy.Expr]]:
    for place, point in enumerate(POINTS):
        step = 1 + sympy.Rational(7, 19)
        in_turn = symbols if place % 2 else symbols[::-1]
        yield {symbol: sympy.Float(point, NUM_DIGITS) * step**i for i, symbol in enumerate(in_turn)}


def _whole_places(symbols: list[sympy.Symbol]) -> Iterator[dict[sympy.Symbol, sympy.Expr]]:
    for point in WHOLE_POINTS:
        yield {symbol: sympy.Integer(point + i) for i, symbol in enumerate(symbols)}


def _are_apart_at(values: Mapping[sympy.Symbol, sympy.Expr], left: sympy.Expr, right: sympy.Expr) -> bool | None:
    """Whether the values differ at a place; `None` if one is not known or, of letters, not real."""
    numbers = [side.subs(values).doit().evalf(NUM_DIGITS, maxn=200) for side in (left, right)]
    if not all(number.is_number and number.is_finite for number in numbers):
        return None
    parts = [number.as_real_imag() for number in numbers]
    if values and any(abs(imaginary) > TOLERANCE * max(abs(real), 1) for real, imaginary in parts):
        return None
    distance = abs(numbers[0] - numbers[1])
    if not distance.is_comparable:
        return None
    return bool(distance > TOLERANCE * max(abs(numbers[0]), abs(numbers[1]), 1))


def _is_zero(difference: sympy.Expr) -> bool:
    """Whether sympy proves that an expression is zero."""
    if difference == 0:
        return True
    for simplify in (sympy.expand, sympy.radsimp, sympy.sqrtdenest, sympy.trigsimp, sympy.simplify):
        if simplify(difference) == 0:
            return True
    # for roots, sympy finds the minimal polynomial
    return bool(not difference.free_symbols and difference.is_algebraic and difference.equals(0) is True)
