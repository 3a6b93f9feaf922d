r"""Exact arithmetic of TeX tokens: what `3\frac{1}{2}`, `-0.25` or `2^{10} + 1` is worth, as a fraction.

The grammar is that of a pocket calculator. Anything else, a product without a sign or a root for example, is refused,
never guessed:

    sum     = product (("+" | "-") product)*
    product = signed (("*" | "/" | "\cdot" | "\times" | "\div") signed)*
    signed  = ["+" | "-"] atom ["^" argument]
    atom    = number | integer fraction | fraction | "(" sum ")" | "{" sum "}"
    fraction = "\frac" argument argument
    argument = digit | "{" sum "}"
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


MAX_BITS = 4_096
"""Largest numerator or denominator, about 1,200 digits."""
MAX_DEPTH = 40
"""Deepest nesting of brackets."""

DIGITS = frozenset("0123456789")


class NotArithmeticError(ValueError):
    """The tokens are not arithmetic that is understood."""


class AmbiguousError(NotArithmeticError):
    """The tokens can be read in two ways."""


class TooLargeError(ValueError):
    """The arithmetic needs numbers too large or brackets too deep."""


@dataclass(frozen=True, slots=True)
class Number:
    r"""
    An exact value and how it was written.

    Attributes:
        value (`Fraction`):
            The value.
        is_literal (`bool`):
            Written as one number: an integer, a decimal, a fraction that is not whole, a mixed number, or a multiple
            of a power of ten. `8/2` and `2+2` are not, they leave work to do.
        resolution (`Fraction`):
            One unit of the last decimal place, within which the number may be a rounding; 0 without decimals.
    """

    value: Fraction
    is_literal: bool = True
    resolution: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        if max(self.value.numerator.bit_length(), self.value.denominator.bit_length()) > MAX_BITS:
            raise TooLargeError


def evaluate(tokens: Sequence[str]) -> Number:
    """
    Evaluates arithmetic exactly, in time and memory bounded by the limits of this module.

    Args:
        tokens (`Sequence[str]`):
            TeX tokens, every digit one of its own.

    Returns:
        [`Number`]

    Raises:
        NotArithmeticError: If the tokens are anything but arithmetic, or divide by zero.
        TooLargeError: If a number or the nesting exceeds its limit.
    """
    return _Parser(tokens).parse()


class TokenReader:
    """Where a parser by recursive descent stands in its tokens."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0

    def peek(self, ahead: int = 0) -> str:
        """The next token, or one further ahead; empty after the last."""
        position = self.position + ahead
        return self.tokens[position] if position < len(self.tokens) else ""

    def accept(self, *choices: str) -> str:
        """Consumes and returns the next token if it is one of the choices; else returns an empty text."""
        token = self.peek()
        if token not in choices:
            return ""
        self.position += 1
        return token


class _Parser(TokenReader):
    """One method per rule of the grammar, each consuming its tokens."""

    def parse(self) -> Number:
        number = self.sum()
        if self.position < len(self.tokens):
            raise NotArithmeticError
        return number

    def sum(self) -> Number:
        number = self.product()
        while sign := self.accept("+", "-"):
            term = self.product()
            value = number.value + term.value if sign == "+" else number.value - term.value
            number = Number(value, False, max(number.resolution, term.resolution))
        return number

    def product(self) -> Number:
        number = self.signed()
        while operator := self.accept("*", "/", "\\cdot", "\\times", "\\div"):
            is_power_of_ten = tuple(self.tokens[self.position : self.position + 3]) == ("1", "0", "^")
            factor = self.signed()
            if operator in ("/", "\\div"):
                number = _divide(number, factor)
            elif is_power_of_ten and number.is_literal:
                number = Number(number.value * factor.value, True, (number.resolution or 1) * factor.value)
            else:
                resolution = max(number.resolution, factor.resolution)
                number = Number(number.value * factor.value, False, resolution)
        return number

    def signed(self) -> Number:
        sign = self.accept("+", "-")
        is_fraction = self.peek() == "\\frac"
        number = self.atom()
        if self.accept("^"):
            if is_fraction:  # \frac12^2 squares the half for some and the numerator for others
                raise NotArithmeticError
            number = _raise(number, self.argument())
            if self.peek() == "^" or self.peek() in DIGITS:  # 2^10 is 2^{1}0 to TeX and 2^{10} to its writer
                raise NotArithmeticError
        return Number(-number.value, number.is_literal, number.resolution) if sign == "-" else number

    def atom(self) -> Number:
        if self.accept("\\frac"):
            return _divide(self.argument(), self.argument())
        if self.accept("("):
            return self.bracketed(")")
        if self.accept("{"):
            return self.bracketed("}")
        number = self.number()
        if number.resolution == 0 and self.accept("\\frac"):
            fraction = _divide(self.argument(), self.argument())
            if not (fraction.is_literal and 0 < fraction.value < 1) or self.peek() == "^":
                raise NotArithmeticError
            return Number(number.value + fraction.value)
        return number

    def argument(self) -> Number:
        if self.accept("{"):
            return self.bracketed("}")
        digit = self.accept(*DIGITS)
        if not digit:
            raise NotArithmeticError
        return Number(Fraction(int(digit)))

    def bracketed(self, end: str) -> Number:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooLargeError
        number = self.sum()
        self.depth -= 1
        if not self.accept(end):
            raise NotArithmeticError
        return number

    def number(self) -> Number:
        whole = self.digits()
        decimals = self.digits() if self.accept(".") else ""
        if not whole and not decimals:
            raise NotArithmeticError
        if len(whole) + len(decimals) > MAX_BITS // 4:  # a digit has less than 4 bits
            raise TooLargeError
        unit = Fraction(1, 10 ** len(decimals))
        return Number(int(whole + decimals) * unit, True, unit if decimals else Fraction(0))

    def digits(self) -> str:
        start = self.position
        while self.peek() in DIGITS:
            self.position += 1
        return "".join(self.tokens[start : self.position])


def _divide(number: Number, divisor: Number) -> Number:
    if divisor.value == 0:
        raise NotArithmeticError
    value = number.value / divisor.value
    is_whole = number.value.denominator == divisor.value.denominator == 1
    is_ratio = is_whole and (value.denominator > 1 or divisor.value == 1)
    is_literal = number.is_literal and divisor.is_literal and is_ratio
    return Number(value, is_literal, max(number.resolution, divisor.resolution))


def _raise(base: Number, exponent: Number) -> Number:
    power = exponent.value
    if power.denominator != 1 or (base.value == 0 and power <= 0):
        raise NotArithmeticError
    size = max(base.value.numerator.bit_length(), base.value.denominator.bit_length())
    if abs(power) * size > MAX_BITS:
        raise TooLargeError
    return Number(base.value ** int(power), False)
