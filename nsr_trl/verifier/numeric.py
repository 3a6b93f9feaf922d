r"""Numerical values of expressions, with a bound on their error, which prove that two of them differ.

A value is a disc in the complex plane that holds the true one. Two expressions differ where their discs are apart, and
by more than `MARGIN`, which is far above all that rounding can do. That discs overlap proves nothing.
"""

import cmath
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from .terms import Apply, Negative, Number, Operator, Power, Product, Quotient, Sum, Symbol, Term, letters


MARGIN = 1e-9
"""Relative difference from which on values differ."""
ROUNDING = 0.01
"""The same where one side has decimals, which may be roundings."""
_EPSILON = 4e-16
_LARGEST = 1e200

_POINTS = (0.37, 1.83, 4.91, 13.7, -0.83, -7.3)
"""Where expressions are evaluated: the first letter at these, the others at multiples, in turns larger and smaller."""
_WHOLE_POINTS = (2, 3, 6)
"""The same for `(-1)^n` and what else is defined for whole numbers only."""


class UndefinedError(ArithmeticError):
    """There is no value here, or none that is known well enough."""


@dataclass(frozen=True, slots=True)
class Disc:
    """
    All numbers within a radius.

    Attributes:
        center (`complex`):
            Its centre.
        radius (`float`):
            Its radius.
    """

    center: complex
    radius: float = 0.0

    @property
    def is_real(self) -> bool:
        """Whether the value may be real."""
        return abs(self.center.imag) <= self.radius + 1e-12 * abs(self.center)


def differ(left: Term, right: Term, margin: float = MARGIN) -> bool | None:
    """
    Compares two trees by their values.

    Args:
        left (`Term`):
            A tree.
        right (`Term`):
            Another.
        margin (`float`, *optional*, defaults to `1e-9`):
            Relative difference from which on values differ.

    Returns:
        `bool` or `None`:
            `True` if they certainly differ: without letters, in value; else at two points at least, and at none of
            some six in which both are real they are close, as `x` and `|x|` are wherever x is positive. `False` if
            they are close wherever they were compared; `None` if there was no such place, or both happened.
    """
    names = sorted(letters(left) | letters(right))
    if not names:
        return _are_apart(left, right, {}, margin)
    found = [_are_apart(left, right, values, margin) for values in _places(names)]
    whole = [_are_apart(left, right, values, margin) for values in _whole_places(names)]
    if False not in found and found.count(True) + whole.count(True) >= 2:
        return True
    return False if False in found + whole and True not in found + whole else None


def _places(names: list[str]) -> Iterator[dict[str, Disc]]:
    for place, point in enumerate(_POINTS):
        in_turn = names if place % 2 else names[::-1]
        yield {name: Disc(complex(point * (1 + i * 7 / 19))) for i, name in enumerate(in_turn)}


def _whole_places(names: list[str]) -> Iterator[dict[str, Disc]]:
    for point in _WHOLE_POINTS:
        yield {name: Disc(complex(point + i)) for i, name in enumerate(names)}


def _are_apart(left: Term, right: Term, values: Mapping[str, Disc], margin: float) -> bool | None:
    """Whether two trees differ in value at a place; `None` if a value is not known or, of letters, not real."""
    try:
        discs = evaluate(left, values), evaluate(right, values)
    except (UndefinedError, ArithmeticError, ValueError):
        return None
    if values and not (discs[0].is_real and discs[1].is_real):
        return None
    distance = abs(discs[0].center - discs[1].center)
    scale = max(abs(discs[0].center), abs(discs[1].center), 1.0)
    return distance > margin * scale + 4 * (discs[0].radius + discs[1].radius)


def real_value(term: Term) -> float | None:
    """The value of a tree without letters, if it is real and known well."""
    try:
        disc = evaluate(term, {})
    except (UndefinedError, ArithmeticError, ValueError):
        return None
    return disc.center.real if disc.is_real and disc.radius <= 1e-9 * max(abs(disc.center), 1) else None


def evaluate(term: Term, values: Mapping[str, Disc]) -> Disc:
    """
    The value of a tree.

    Args:
        term (`Term`):
            The tree.
        values (`Mapping[str, Disc]`):
            What its letters stand for.

    Returns:
        [`Disc`]

    Raises:
        UndefinedError: If there is no value, or none that is known well enough.
        ArithmeticError: If numbers overflow.
    """
    match term:
        case Number(value):
            return _rounded(_to_float(value))
        case Symbol(name):
            return _constant(name, values)
        case Negative(inner):
            disc = evaluate(inner, values)
            return Disc(-disc.center, disc.radius)
        case Sum(terms):
            discs = [evaluate(part, values) for part in terms]
            error = sum(disc.radius + _EPSILON * len(discs) * abs(disc.center) for disc in discs)
            return _checked(sum(disc.center for disc in discs), error)
        case Product(factors):
            result = Disc(1 + 0j)
            for factor in factors:
                result = _times(result, evaluate(factor, values))
            return result
        case Quotient(top, bottom):
            return _times(evaluate(top, values), _inverse(evaluate(bottom, values)))
        case Power(base, exponent):
            return _power(evaluate(base, values), evaluate(exponent, values))
        case Apply("root", (radicand, index)):
            return _power(evaluate(radicand, values), _inverse(evaluate(index, values)))
        case Apply("binom", (top, bottom)):
            return _binomial(evaluate(top, values), evaluate(bottom, values))
        case Apply(name, (argument,)) if name in _FUNCTIONS:
            return _FUNCTIONS[name](evaluate(argument, values))
        case Apply() | Operator():
            raise UndefinedError
    raise AssertionError(term)


def _to_float(value: Fraction) -> complex:
    try:
        return complex(value)
    except OverflowError:
        raise UndefinedError from None


def _constant(name: str, values: Mapping[str, Disc]) -> Disc:
    known = {"e": math.e, "\\pi": math.pi, "i": 1j}
    return _rounded(complex(known[name])) if name in known else values[name]


def _rounded(value: complex) -> Disc:
    return _checked(value, _EPSILON * abs(value))


def _checked(value: complex, radius: float) -> Disc:
    if not (abs(value) < _LARGEST and radius < _LARGEST):
        raise UndefinedError
    return Disc(value, radius)


def _times(left: Disc, right: Disc) -> Disc:
    value = left.center * right.center
    error = abs(left.center) * right.radius + abs(right.center) * left.radius + left.radius * right.radius
    return _checked(value, error + _EPSILON * abs(value))


def _inverse(disc: Disc) -> Disc:
    size = abs(disc.center)
    if size <= 2 * disc.radius or size == 0:
        raise UndefinedError
    return _checked(1 / disc.center, 2 * disc.radius / size**2 + _EPSILON / size)


def _power(base: Disc, exponent: Disc) -> Disc:
    if exponent.radius == 0 and exponent.center.imag == 0 and exponent.center.real == int(exponent.center.real):
        return _integer_power(base, int(exponent.center.real))
    nearest = round(exponent.center.real)
    if exponent.radius and abs(exponent.center - nearest) <= exponent.radius and nearest == exponent.center.real:
        return _integer_power(base, nearest)
    if base.center == 0:
        if base.radius or exponent.center.real <= exponent.radius:
            raise UndefinedError
        return Disc(0j)
    if base.center.real < 0 and base.is_real and abs(exponent.center - 0.5) > exponent.radius:
        raise UndefinedError  # the principal value is complex, the expected one may be real
    return _exp(_times(exponent, _log(base)))


def _integer_power(base: Disc, exponent: int) -> Disc:
    if exponent < 0:
        return _inverse(_integer_power(base, -exponent))
    size = abs(base.center)
    if exponent * math.log(max(size + base.radius, 1.0)) > math.log(_LARGEST):
        raise UndefinedError
    value = base.center**exponent
    error = exponent * (size + base.radius) ** max(exponent - 1, 0) * base.radius if exponent else 0.0
    return _checked(value, error + _EPSILON * (exponent + 1) * abs(value))


def _exp(disc: Disc) -> Disc:
    if disc.center.real > 400 or disc.radius > 0.5:
        raise UndefinedError
    value = cmath.exp(disc.center)
    return _checked(value, abs(value) * (2 * disc.radius + _EPSILON))


def _log(disc: Disc) -> Disc:
    size = abs(disc.center)
    if size <= 2 * disc.radius or size == 0:
        raise UndefinedError
    if disc.center.real < 0 and 0 < abs(disc.center.imag) <= disc.radius:
        raise UndefinedError  # across the cut
    value = cmath.log(complex(disc.center.real, disc.center.imag or 0.0))  # above the cut, whatever the sign of zero
    return _checked(value, 2 * disc.radius / size + _EPSILON * max(abs(value), 1))


def _smooth(function: Callable[[complex], complex]) -> Callable[[Disc], Disc]:
    """Sine and cosine, which change no faster than their argument, off the real axis times its exponential."""

    def apply(disc: Disc) -> Disc:
        if abs(disc.center.imag) > 300 or disc.radius > 0.5:
            raise UndefinedError
        slope = 2 * math.cosh(abs(disc.center.imag) + disc.radius)
        return _checked(function(disc.center), slope * (disc.radius + _EPSILON))

    return apply


_sine, _cosine = _smooth(cmath.sin), _smooth(cmath.cos)


def _turned(disc: Disc) -> Disc:
    return _times(disc, Disc(1j))


def _arc(function: Callable[[complex], complex]) -> Callable[[Disc], Disc]:
    """Inverse functions, which are steep at the ends of their cuts."""

    def apply(disc: Disc) -> Disc:
        edge = min(abs(disc.center - end) for end in (1, -1, 1j, -1j))
        error = disc.radius / math.sqrt(edge) if edge > 1e-3 else 4 * math.sqrt(disc.radius + _EPSILON)
        if not disc.is_real and edge <= 1e-3:
            raise UndefinedError
        value = function(disc.center)
        return _checked(value, 4 * error + _EPSILON * max(abs(value), 1))

    return apply


def _absolute(disc: Disc) -> Disc:
    return Disc(complex(abs(disc.center)), disc.radius)


def _step(function: Callable[[float], int]) -> Callable[[Disc], Disc]:
    def apply(disc: Disc) -> Disc:
        if not disc.is_real:
            raise UndefinedError
        low, high = disc.center.real - disc.radius, disc.center.real + disc.radius
        if function(low) != function(high):
            raise UndefinedError
        return Disc(complex(function(low)))

    return apply


def _factorial(disc: Disc) -> Disc:
    value = disc.center.real
    if disc.center.imag or value != int(value) or not 0 <= value <= 100:
        raise UndefinedError
    return _rounded(complex(math.factorial(int(value))))


def _binomial(top: Disc, bottom: Disc) -> Disc:
    n, k = top.center.real, bottom.center.real
    is_whole = n == int(n) and k == int(k) and not (top.center.imag or bottom.center.imag)
    if not is_whole or not 0 <= k <= n <= 200:
        raise UndefinedError
    return _rounded(complex(math.comb(int(n), int(k))))


_FUNCTIONS: dict[str, Callable[[Disc], Disc]] = {
    "sin": _sine,
    "cos": _cosine,
    "tan": lambda disc: _times(_sine(disc), _inverse(_cosine(disc))),
    "cot": lambda disc: _times(_cosine(disc), _inverse(_sine(disc))),
    "sec": lambda disc: _inverse(_cosine(disc)),
    "csc": lambda disc: _inverse(_sine(disc)),
    "sinh": lambda disc: _times(Disc(-1j), _sine(_turned(disc))),
    "cosh": lambda disc: _cosine(_turned(disc)),
    "tanh": lambda disc: _times(Disc(-1j), _times(_sine(_turned(disc)), _inverse(_cosine(_turned(disc))))),
    "exp": _exp,
    "ln": _log,
    "asin": _arc(cmath.asin),
    "acos": _arc(cmath.acos),
    "atan": _arc(cmath.atan),
    "abs": _absolute,
    "floor": _step(math.floor),
    "ceil": _step(math.ceil),
    "factorial": _factorial,
}
