r"""The reader of expressions: TeX tokens go in, a tree comes out.

A parser by recursive descent. What it does not know it refuses, and where people read one text in two ways
(`1/2x`, `x^10`, `\sin^{-1} x`) it asks which way to take: see `Ambiguity`. So a text has one tree per combination of
choices, all of them are known, and no engine guesses.

    sum     = product (("+" | "-") product)*
    product = signed (times signed | slash signed | factor)*
    signed  = ("+" | "-")* factor
    factor  = atom ("!" | degree | "^" exponent)*
"""

import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from fractions import Fraction
from types import MappingProxyType

from .terms import Apply, Negative, Number, Operator, Power, Product, Quotient, Sum, Symbol, Term, integer_of


MAX_DIGITS = 1_024
"""Longest number, in digits."""
MAX_DEPTH = 40
"""Deepest nesting of brackets and commands."""

DIGITS = frozenset("0123456789")
GREEK = frozenset(
    "\\" + name
    for name in (
        "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
        "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega hbar ell pi"
    ).split()
)
TRIGONOMETRIC = frozenset("sin cos tan cot sec csc".split())
_FUNCTIONS = {
    **{f"\\{name}": name for name in (*TRIGONOMETRIC, "sinh", "cosh", "tanh", "ln", "log", "exp")},
    **{f"\\arc{name}": f"a{name}" for name in TRIGONOMETRIC},
    "\\lg": "log10",
    **{f"\\{name}": name for name in ("abs", "floor", "ceil")},
}
NAMED_FUNCTIONS = frozenset(_FUNCTIONS)
"""Commands of functions."""
_COUNTS = frozenset("CAP")
"""Letters for a number of combinations or arrangements."""
_OPERATORS = frozenset(["\\sum", "\\prod", "\\int", "\\lim"])
ACCENTS = frozenset(
    "\\" + name
    for name in (
        "overline bar vec hat tilde dot angle triangle overrightarrow overleftrightarrow widehat widetilde overarc"
    ).split()
)
"""Commands that make a letter, or several, another letter."""
_OF_SEVERAL_LETTERS = ("\\angle", "\\triangle")
_TIMES = ("*", "\\cdot", "\\times")
_SLASH = ("/", "\\div")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_ENDS = frozenset(["", ")", "}", "]", "+", "-", *_TIMES, *_SLASH, "\\rfloor", "\\rceil", ",", "^", "!", "=", "&"])


# digits that come three times at least, or two or more of them twice
_REPEATING = re.compile(r"([0-9]*?)(?:([0-9])\2{2,}|([0-9]{2,6}?)\3+)")


class NotUnderstoodError(ValueError):
    """The tokens are no expression that is understood."""


class TooLargeError(ValueError):
    """The expression needs numbers too large, brackets too deep or too much work."""


class Ambiguity(StrEnum):
    """
    A form that people read in several ways. The first reading is taken unless told otherwise.

    Attributes:
        num_readings (`int`):
            How many readings there are.
        is_usual (`bool`):
            Whether nearly all mean the first one, so that it may prove answers equal. All readings have to differ
            before answers do, in any case.
        meaning (`str`):
            The readings in a sentence.
    """

    num_readings: int
    is_usual: bool
    meaning: str

    def __new__(cls, name: str, num_readings: int, is_usual: bool, meaning: str) -> "Ambiguity":
        """Makes an ambiguity of its row."""
        ambiguity = str.__new__(cls, name)
        ambiguity._value_ = name
        ambiguity.num_readings, ambiguity.is_usual, ambiguity.meaning = num_readings, is_usual, meaning
        return ambiguity

    SLASH = "slash", 2, False, "`1/2x` is half of x, or one over 2x"
    EXPONENT = "exponent", 2, True, "`x^10` has the exponent 10, or, as TeX has it, 1; so has a root without braces"
    EXPONENT_SLASH = "exponent slash", 2, False, "`x^1/2` is half of x, or its root"
    FRACTION_POWER = "power of a fraction", 3, False, "`\\frac12^2` squares the fraction, its top or its bottom"
    INVERSE = "inverse function", 2, True, "`\\sin^{-1} x` is the arc sine, or one over the sine"
    FUNCTION_POWER = "power of a function", 2, True, "`\\sin(x)^2` squares the sine, or x"
    ARGUMENT = "argument", 2, False, "`\\sin x/2` is half of a sine, or the sine of a half"
    LOGARITHM_BASE = "base of a logarithm", 2, True, "`log2(8)` is of base 2, or of 2 times 8"
    LOGARITHM = "logarithm", 4, True, "`\\log` has a base that is not told, or e, 10 or 2"
    ODD_ROOT = "odd root", 2, True, "an odd root of a negative number is the real one, or the principal one"
    MIXED = "mixed number", 2, False, "`6(3/4)` and `6\\frac{7}{4}` are products, or sums"
    MIXED_HYPHEN = "mixed number with a hyphen", 2, True, "`4-1/2` is a difference, or a mixed number"
    MIXED_SPACE = "mixed number with a space", 2, True, "`2 3/4` is a mixed number, or a product"
    JUXTAPOSED = "letter and digit", 3, False, "`x2` is a product, a power or a letter with an index"
    DEGREES = "degrees", 2, True, "`60^\\circ` is 60, or a third of π; `\\sin 30` is of degrees, or of radians"
    E_NOTATION = "e notation", 2, True, "`1e-2` is a hundredth, or e minus 2"
    COMBINATIONS = "combinations", 2, True, "`C_5^2` and `C(5, 2)` are numbers of combinations, or a power and a point"
    ARRANGEMENTS = "arrangements", 2, False, "`A_5^2` and `P_5^2` are numbers of arrangements, or powers of a letter"
    NAMED_POINT = "named point", 2, True, "`P(5, 2)` and `A(5, 2)` are points, or numbers of arrangements"
    UNIT_VECTORS = "unit vectors", 2, False, "i is imaginary, or, beside j, a unit vector"
    THOUSANDS = "thousands", 2, True, "`1,234` is a number, or a list of two"
    THOUSANDS_IN_BRACKETS = "thousands in brackets", 2, True, "`(20,100)` is a point, or a number"
    SPACED_DIGITS = "spaced digits", 2, True, "`1 234` is a number, or two"
    DOTS = "dots", 2, True, "`0.333\\ldots` repeats, or goes on otherwise"
    PERIOD = "period in brackets", 2, True, "`0.1(6)` repeats the 6, or is a product"
    DECIMAL_COMMA = "decimal comma", 2, True, "`0,5` is a list of two, or a half"


class Choices:
    """
    Which reading is taken of each ambiguity, and which ambiguities were met.

    Args:
        taken (`Mapping[Ambiguity, int]`, *optional*):
            Readings other than the first, counted from 0.
    """

    def __init__(self, taken: Mapping[Ambiguity, int] = MappingProxyType({})) -> None:
        self._taken = taken
        self.met: set[Ambiguity] = set()

    def take(self, ambiguity: Ambiguity) -> int:
        """The reading to take of an ambiguity that was met."""
        self.met.add(ambiguity)
        return self._taken.get(ambiguity, 0)


def parse(tokens: Sequence[str], choices: Choices | None = None) -> Term:
    """
    Reads an expression.

    Args:
        tokens (`Sequence[str]`):
            TeX tokens, every digit one of its own.
        choices ([`Choices`], *optional*):
            Which readings to take; those met are added to it.

    Returns:
        `Term`

    Raises:
        NotUnderstoodError: If the tokens are not understood.
        TooLargeError: If a number or the nesting exceeds its limit.
    """
    parser = _Parser(tokens, choices or Choices())
    term = parser.sum()
    if parser.position < len(tokens):
        raise NotUnderstoodError
    return term


class _Parser:
    """One method per rule of the grammar, each consuming its tokens."""

    def __init__(self, tokens: Sequence[str], choices: Choices) -> None:
        self.tokens = tuple(tokens)
        self.choices = choices
        self.position = 0
        self.depth = 0
        self.num_bars = 0  # absolute values that are open
        self.is_angle = False  # in the argument of a trigonometric function
        self.has_unit_vectors = "j" in tokens and "i" in tokens and bool(choices.take(Ambiguity.UNIT_VECTORS))

    # --- Tokens ---

    def peek(self, ahead: int = 0) -> str:
        """The next token, or one further ahead; empty after the last."""
        position = self.position + ahead
        return self.tokens[position] if position < len(self.tokens) else ""

    def accept(self, *choices: str) -> str:
        """Consumes and returns the next token if it is one of the choices; else returns an empty text."""
        token = self.peek()
        if not token or token not in choices:
            return ""
        self.position += 1
        return token

    def expect(self, token: str) -> None:
        """Consumes a token that must come."""
        if not self.accept(token):
            raise NotUnderstoodError

    def starts_factor(self) -> bool:
        """Whether a factor follows without a sign before it."""
        token = self.peek()
        return token not in _ENDS and not (token == "|" and self.num_bars) and not _is_differential(self)

    # --- Sums and products ---

    def sum(self) -> Term:
        terms = [self.product()]
        while sign := self.accept("+", "-"):
            term = self.product()
            terms.append(term if sign == "+" else _negated(term))
        return terms[0] if len(terms) == 1 else Sum(tuple(terms))

    def product(self) -> Term:
        factors, divisors = [self.signed()], []
        while True:
            if self.accept(*_TIMES) or self.accept_letter_for_times(factors[-1]):
                factors.append(self.signed())
                _join_power_of_ten(factors)
            elif self.accept(*_SLASH):
                self.refuse_derivative(factors)
                divisors.append(self.divisor())
            elif self.starts_factor():
                self.implicit_factor(factors)
            else:
                return Quotient(_product(factors), _product(divisors)) if divisors else _product(factors)

    def accept_letter_for_times(self, before: Term) -> str:
        """`1.2 x 10^3`: a letter in the place of a sign."""
        is_sign = isinstance(before, Number) and tuple(self.peek(i) for i in range(4)) == ("x", "1", "0", "^")
        return self.accept("x") if is_sign else ""

    def divisor(self) -> Term:
        factors = [self.signed()]
        if self.starts_factor() and self.choices.take(Ambiguity.SLASH):
            while self.starts_factor():
                self.implicit_factor(factors)
        return _product(factors)

    def implicit_factor(self, factors: list[Term]) -> None:
        """Reads a factor that stands beside the one before it, without a sign."""
        before = factors[-1]
        if isinstance(before, Number) and self.peek() == ".":
            raise NotUnderstoodError  # 1.2.3
        if self.peek() in DIGITS or self.peek() == ".":
            if before in (Symbol("P"), Symbol("C")) and isinstance(factors[:-1] and factors[-2], Number):
                raise NotUnderstoodError  # 5P2
            reading = self.choices.take(Ambiguity.JUXTAPOSED)
            number = self.number()
            if reading == 1:
                factors[-1] = Power(before, number)
            elif reading == 2 and isinstance(before, Symbol) and isinstance(number, Number):
                factors[-1] = Symbol(f"{before.name}_{number.value}")
            else:
                factors.append(number)
            return
        may_be_mixed = self.peek() == "(" and isinstance(before, Number) and integer_of(before) is not None
        factor = self.factor()
        part = _proper_fraction(factor) if may_be_mixed else None
        if part is not None and isinstance(before, Number) and self.choices.take(Ambiguity.MIXED):
            factors[-1] = Number(before.value + part)
        else:
            factors.append(factor)

    def signed(self) -> Term:
        is_negative = False
        while sign := self.accept("+", "-"):
            is_negative ^= sign == "-"
        factor = self.factor()
        return _negated(factor) if is_negative else factor

    # --- Factors ---

    def factor(self) -> Term:
        is_fraction = self.peek() == "\\frac"
        base = self.atom()
        for _ in range(MAX_DEPTH):
            if self.accept("!"):
                if self.peek() == "!":
                    raise NotUnderstoodError  # a double factorial
                base = Apply("factorial", (base,))
            elif self.accept("\\degree"):
                base = self.degrees(base)
            elif self.accept("^"):
                base = self.power(base, is_fraction)
            else:
                return base
        raise TooLargeError

    def power(self, base: Term, is_fraction: bool) -> Term:
        exponent, is_one = self.exponent()
        if self.peek() == "^":
            raise NotUnderstoodError  # x^2^3
        if is_one and self.peek() == "/" and self.peek(1) in DIGITS and self.choices.take(Ambiguity.EXPONENT_SLASH):
            self.position += 1
            exponent = Quotient(exponent, self.number())
        if is_fraction and isinstance(base, Quotient):
            reading = self.choices.take(Ambiguity.FRACTION_POWER)
            if reading == 1:
                return Quotient(Power(base.top, exponent), base.bottom)
            if reading == 2:
                return Quotient(base.top, Power(base.bottom, exponent))
        return Power(base, exponent)

    def exponent(self) -> tuple[Term, bool]:
        """Reads an exponent; also whether it is a bare 1."""
        sign = self.accept("+", "-")
        if bracket := self.accept("{", "("):
            exponent, is_one = self.bracketed(_CLOSING[bracket]), False
        elif self.peek() in DIGITS:
            exponent = self.script_number()
            is_one = exponent == Number(Fraction(1))
        else:
            exponent, is_one = self.atom(), False
        return (_negated(exponent) if sign == "-" else exponent), is_one and not sign

    def script_number(self) -> Term:
        """Reads the number after `^` or a root: of several digits TeX takes the first, their writer meant all."""
        first = self.peek()
        if self.peek(1) not in DIGITS and not (self.peek(1) == "." and self.peek(2) in DIGITS):
            self.position += 1
            return Number(Fraction(int(first)))
        if self.choices.take(Ambiguity.EXPONENT):
            self.position += 1
            return Number(Fraction(int(first)))
        return self.decimal()

    def degrees(self, base: Term) -> Term:
        if not self.is_angle and not self.choices.take(Ambiguity.DEGREES):
            return base
        return in_radians(base)

    def atom(self) -> Term:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooLargeError
        term = self.read_atom()
        self.depth -= 1
        return term

    def read_atom(self) -> Term:
        token = self.peek()
        if token in DIGITS or token == ".":
            return self.number()
        self.position += 1
        if token in _CLOSING:
            return self.bracketed(_CLOSING[token])
        if token in _FUNCTIONS:
            return self.function(_FUNCTIONS[token])
        if token in _ATOMS:
            return _ATOMS[token](self)
        if token in _OPERATORS:
            return self.operator(token)
        if token in ACCENTS:
            return self.accented(token)
        if _is_letter(token):
            return self.symbol(token)
        if token == "\\E":
            return Symbol("e")
        raise NotUnderstoodError

    def bracketed(self, end: str) -> Term:
        num_bars, self.num_bars = self.num_bars, 0
        term = self.sum()
        self.num_bars = num_bars
        self.expect(end)
        return term

    def fraction(self) -> Term:
        top = self.argument()
        self.refuse_derivative(top.factors[:1] if isinstance(top, Product) else [top])
        bottom = self.argument()
        if self.peek() in DIGITS:
            raise NotUnderstoodError  # \frac123
        return Quotient(top, bottom)

    def refuse_derivative(self, top: Sequence[Term]) -> None:
        r"""`\frac{d}{dx}`, `\frac{d^2y}{dx^2}` and `dy/dx` are no quotients of products."""
        start = int(self.peek() in ("{", "("))
        if self.peek(start) == "d" and _is_letter(self.peek(start + 1)):
            bases = [factor.base if isinstance(factor, Power) else factor for factor in top]
            if Symbol("d") in bases:
                raise NotUnderstoodError

    def root(self) -> Term:
        index: Term = self.bracketed("]") if self.accept("[") else Number(Fraction(2))
        radicand = self.script_number() if self.peek() in DIGITS else self.argument()
        return self.root_of(radicand, index)

    def root_of(self, radicand: Term, index: Term) -> Term:
        size = integer_of(index)
        is_negative = isinstance(radicand, Negative) or (isinstance(radicand, Number) and radicand.value < 0)
        if size is not None and size % 2 and is_negative and not self.choices.take(Ambiguity.ODD_ROOT):
            return Negative(Apply("root", (_negated(radicand), index)))  # \sqrt[3]{-8}
        return Apply("root", (radicand, index))

    def binomial(self) -> Term:
        return Apply("binom", (self.argument(), self.argument()))

    def absolute(self) -> Term:
        self.num_bars += 1
        term = self.sum()
        self.num_bars -= 1
        self.expect("|")
        return Apply("abs", (term,))

    def floor(self) -> Term:
        return Apply("floor", (self.bracketed("\\rfloor"),))

    def ceiling(self) -> Term:
        return Apply("ceil", (self.bracketed("\\rceil"),))

    def argument(self) -> Term:
        """Reads the argument of a command: a group, or one token as TeX has it."""
        if bracket := self.accept("{", "("):
            return self.bracketed(_CLOSING[bracket])
        if self.peek() in DIGITS:
            self.position += 1
            return Number(Fraction(int(self.tokens[self.position - 1])))
        token = self.peek()
        if _is_letter(token):
            self.position += 1
            return Symbol(token)
        return self.atom()

    # --- Letters ---

    def symbol(self, name: str) -> Term:
        if name in _COUNTS and self.has_two_arguments() and self.is_count(name):
            return self.count(name)
        if self.peek() == "^" and self.peek(1) in DIGITS and self.peek(2) == "_":  # v^2_0 is the square of v_0
            power = Number(Fraction(int(self.peek(1))))
            self.position += 2
            return Power(self.symbol(name), power)
        if self.accept("_"):
            name += "_" + self.index()
        while self.accept("'"):
            name += "'"
        if name[0] in "fgh" and self.accept("("):  # a function rather than a product
            return Apply(name, (self.bracketed(")"),))
        if name == "i" and self.has_unit_vectors:
            name = "\\hat i"
        return Symbol(name)

    def has_two_arguments(self) -> bool:
        """Whether `_5^2`, `^2_5` or `(5, 2)` follows."""
        end = self.end_of_group(self.position)
        if self.peek() == "(":
            return "," in self.tokens[self.position : end]
        middle = self.end_of_group(self.position + 1)
        return (self.peek(), *self.tokens[middle : middle + 1]) in (("_", "^"), ("^", "_"))

    def is_count(self, name: str) -> bool:
        if self.peek() == "(":
            return is_count(name, self.choices)
        return not self.choices.take(Ambiguity.COMBINATIONS if name == "C" else Ambiguity.ARRANGEMENTS)

    def end_of_group(self, position: int) -> int:
        """Where the group or the token ends that begins at a position."""
        depth = 0
        for i in range(position, len(self.tokens)):
            depth += (self.tokens[i] in _CLOSING) - (self.tokens[i] in _CLOSING.values())
            if depth <= 0:
                return i + 1
        return len(self.tokens)

    def count(self, name: str) -> Term:
        """In how many ways k may be chosen of n."""
        if self.accept("("):
            n, k = self.sum(), self.comma_and_sum()
            self.expect(")")
        else:
            is_index_first = self.accept("_", "^") == "_"
            first = self.argument()
            self.accept("_", "^")
            second = self.argument()
            n, k = (first, second) if is_index_first else (second, first)
        return _number_of_choices(name, n, k)

    def comma_and_sum(self) -> Term:
        self.expect(",")
        return self.sum()

    def count_with_index_in_front(self) -> Term:
        """`_5C_2`, `^5C_2`."""
        n, name = self.argument(), self.accept(*_COUNTS)
        if not name:
            raise NotUnderstoodError
        self.expect("_")
        return _number_of_choices(name, n, self.argument())

    def index(self) -> str:
        """Reads an index as text."""
        if not self.accept("{"):
            token = self.peek()
            if token[:1] != "\\" and not (token.isascii() and token.isalnum()):
                raise NotUnderstoodError
            self.position += 1
            return token
        start = self.position
        while self.peek() not in ("{", "}", ""):
            self.position += 1
        self.expect("}")
        return "".join(self.tokens[start : self.position - 1])

    def accented(self, accent: str) -> Term:
        name = self.index() if self.peek() == "{" else self.letters(accent in _OF_SEVERAL_LETTERS)
        if not name.isalpha():
            raise NotUnderstoodError
        return Symbol(f"{accent} {name}")

    def letters(self, are_several: bool) -> str:
        start = self.position
        while len(self.peek()) == 1 and self.peek().isalpha() and (are_several or self.position == start):
            self.position += 1
        return "".join(self.tokens[start : self.position])

    # --- Numbers ---

    def number(self) -> Term:
        number = self.decimal()
        if self.peek() == "\\E" and (size := self.e_notation()) is not None:
            scale = Fraction(10) ** size
            return Number(number.value * scale, (number.resolution or 1) * scale)
        if number.resolution or number.value.denominator != 1:
            return number
        if self.peek() == "\\frac":
            return self.mixed(number)
        if self.peek() == " ":
            return self.mixed_with_space(number)
        return number

    def decimal(self) -> Number:
        """Reads digits with a decimal point or without, thousands apart or not, repeating or not."""
        whole = self.grouped_digits()
        if not self.accept("."):
            if not whole:
                raise NotUnderstoodError
            return Number(Fraction(_to_int(whole)))
        decimals, period = self.decimals()
        if not decimals + period and not whole:
            raise NotUnderstoodError
        unit = Fraction(1, 10 ** len(decimals))
        value = _to_int(whole + decimals) * unit
        if period:
            return Number(value + unit * Fraction(_to_int(period), 10 ** len(period) - 1))
        return Number(value, unit if decimals else Fraction(0))

    def decimals(self) -> tuple[str, str]:
        r"""Reads what stands behind the point, and what of it repeats: `1\overline{27}`, `1(27)`, `333\ldots`."""
        decimals = self.digits()
        if len(decimals) > MAX_DIGITS:
            raise TooLargeError
        if self.accept("\\ldots"):
            match = _REPEATING.fullmatch(decimals)
            if match is None or self.choices.take(Ambiguity.DOTS):
                raise NotUnderstoodError
            return match[1], match[2] or match[3]
        if self.peek() == "(" and self.peek(1) in DIGITS and decimals and self.choices.take(Ambiguity.PERIOD):
            return decimals, ""
        return decimals, self.period()

    def period(self) -> str:
        start = self.position
        if self.accept("\\overline", "\\bar", "\\dot", "("):
            end = ")" if self.tokens[start] == "(" else "}" if self.accept("{") else ""
            digits = self.digits() if end else self.accept(*DIGITS)
            if digits and (not end or self.accept(end)):
                return digits
            self.position = start
        return ""

    def digits(self) -> str:
        start = self.position
        while self.peek() in DIGITS:
            self.position += 1
        return "".join(self.tokens[start : self.position])

    def grouped_digits(self) -> str:
        digits = self.digits()
        is_first = 1 <= len(digits) <= 3 and digits[0] != "0"
        while is_first and self.is_group():
            ambiguity = Ambiguity.THOUSANDS if self.peek() == "{,}" else Ambiguity.SPACED_DIGITS
            if self.choices.take(ambiguity):
                raise NotUnderstoodError
            self.position += 1
            digits += self.digits()
        return digits

    def is_group(self) -> bool:
        """Whether a separator and exactly three digits follow, or a comma that is known to part digits."""
        if self.peek() == "{,}":
            return self.peek(1) in DIGITS
        return (
            self.peek() == " "
            and all(self.peek(i) in DIGITS for i in (1, 2, 3))
            and self.peek(4) not in DIGITS
            and self.peek(4) != "/"
        )

    def e_notation(self) -> int | None:
        """Reads the exponent of `1e-2`, which was marked as one because nothing stands between its characters."""
        if self.peek(1) in ("+", "-") and self.choices.take(Ambiguity.E_NOTATION):
            return None
        self.position += 1
        sign = self.accept("+", "-")
        digits = self.digits()
        if len(digits) > 3:
            raise TooLargeError
        return -int(digits) if sign == "-" else int(digits)

    def mixed(self, whole: Number) -> Term:
        r"""Reads `3\frac{1}{2}`, which is a product only if the fraction is none of two numbers."""
        found = self.fraction_of_integers()
        if found is None:
            return whole
        top, bottom, self.position = found
        if self.peek() == "^" or not bottom:
            raise NotUnderstoodError
        if 0 < top < bottom:
            return Number(whole.value + Fraction(top, bottom))
        fraction = Number(Fraction(top, bottom))
        return Sum((whole, fraction)) if self.choices.take(Ambiguity.MIXED) else Product((whole, fraction))

    def fraction_of_integers(self) -> tuple[int, int, int] | None:
        """Looks ahead at a fraction of two whole numbers: top, bottom and where it ends."""
        position, numbers = self.position + 1, []
        for _ in range(2):
            start = position + (self.tokens[position : position + 1] == ("{",))
            end = start + 1
            if start > position:
                while end < len(self.tokens) and self.tokens[end] in DIGITS:
                    end += 1
                if self.tokens[end : end + 1] != ("}",):
                    return None
            digits = "".join(self.tokens[start:end])
            if not digits.isdecimal():
                return None
            numbers.append(_to_int(digits))
            position = end + (start > position)
        return numbers[0], numbers[1], position

    def mixed_with_space(self, whole: Number) -> Term:
        """Reads `2 3/4`."""
        self.position += 1
        top = self.digits()
        if not (top and self.accept("/") and (bottom := self.digits()) and _to_int(top) < _to_int(bottom)):
            raise NotUnderstoodError  # 2 3
        fraction = Fraction(int(top), int(bottom))
        if self.choices.take(Ambiguity.MIXED_SPACE):
            return Product((whole, Number(fraction)))
        return Number(whole.value + fraction)

    # --- Functions ---

    def function(self, name: str) -> Term:
        base = self.logarithm_base(name)
        exponent: Term | None = None
        if self.accept("^"):
            exponent, _ = self.exponent()
            is_inverse = integer_of(exponent) == -1 and name not in ("ln", "log", "log10", "exp")
            if is_inverse and not self.choices.take(Ambiguity.INVERSE):
                name, exponent = f"a{name}", None
        is_certain = self.peek() == "{" and self.peek(1) == "("  # \sin{(x)}^2, as sympy prints it
        is_angle, self.is_angle = self.is_angle, name in TRIGONOMETRIC
        argument, is_grouped = self.function_argument()
        self.is_angle = is_angle
        if name in TRIGONOMETRIC and _may_be_degrees(argument) and not self.choices.take(Ambiguity.DEGREES):
            argument = in_radians(argument)
        result: Term = self.logarithm(base, argument) if name in ("log", "log10") else Apply(name, (argument,))
        if exponent is not None:
            result = Power(result, exponent)
        elif self.peek() == "^" and is_grouped:
            result = self.power_of_function(result, argument, is_certain)
        return result

    def function_argument(self) -> tuple[Term, bool]:
        """Reads an argument; also whether brackets hold all of it."""
        self.accept(" ")
        if bracket := self.accept("(", "{"):
            return self.bracketed(_CLOSING[bracket]), True
        if self.accept("|"):
            return self.absolute(), True
        factors = [self.signed()]
        while self.starts_factor() and self.goes_on(factors[-1]):
            self.implicit_factor(factors)
        is_number = len(factors) == 1 and isinstance(factors[0], Number)
        may_go_on = self.peek() in _SLASH or (self.peek() in _TIMES and is_number)
        if may_go_on and self.peek(1) not in _FUNCTIONS and self.choices.take(Ambiguity.ARGUMENT):
            self.position += 1
            sign, rest = self.tokens[self.position - 1], self.factor()
            return (Quotient(_product(factors), rest) if sign in _SLASH else _product([*factors, rest])), False
        return _product(factors), False

    def goes_on(self, before: Term) -> bool:
        r"""Whether an argument without brackets goes on: `\sin 2x` does, and ends before `\cos y`."""
        token = self.peek()
        if token in _FUNCTIONS or token in _OPERATORS:
            return False
        is_number = isinstance(before, Number)
        is_apart = token in ("[", "|", "\\frac", "\\sqrt") or (token == "(" and not self.is_angle)
        if is_apart or (token in ("(", "e") and not is_number):
            return bool(self.choices.take(Ambiguity.ARGUMENT))
        return True

    def power_of_function(self, result: Term, argument: Term, is_certain: bool) -> Term:
        r"""`\sin(x)^2`."""
        self.position += 1
        exponent, _ = self.exponent()
        if not is_certain and self.choices.take(Ambiguity.FUNCTION_POWER) and isinstance(result, Apply):
            return Apply(result.name, (Power(argument, exponent),))
        return Power(result, exponent)

    def logarithm_base(self, name: str) -> Term | None:
        if name == "log10":
            return Number(Fraction(10))
        if name != "log":
            return None
        if self.accept("_"):
            return self.argument()
        num_digits = next((i for i in range(3) if self.peek(i) not in DIGITS), 0)
        if num_digits and self.peek(num_digits) == "(" and not self.choices.take(Ambiguity.LOGARITHM_BASE):
            return Number(Fraction(int(self.digits())))
        return None

    def logarithm(self, base: Term | None, argument: Term) -> Term:
        """A logarithm as a quotient of natural ones; where no base is told, its own logarithm is a letter."""
        if base is None:
            reading = self.choices.take(Ambiguity.LOGARITHM)
            if reading == 1:
                return Apply("ln", (argument,))
            logarithm: Term = Apply("ln", (Number(Fraction((0, 0, 10, 2)[reading])),)) if reading else Symbol("\\log")
        else:
            logarithm = Apply("ln", (base,))
        return Quotient(Apply("ln", (argument,)), logarithm)

    # --- Sums, products, integrals and limits ---

    def operator(self, name: str) -> Term:
        start = self.position - 1
        lower = upper = None
        letter = ""
        for _ in range(2):
            if self.accept("_"):
                letter, lower = self.lower_bound(name)
            elif self.accept("^"):
                upper, _ = self.exponent()
        body = self.product()
        if name == "\\int":
            self.expect("d")
            letter = self.peek()
            self.position += 1
        return Operator(name, lower, upper, letter, body, "".join(self.tokens[start : self.position]))

    def lower_bound(self, name: str) -> tuple[str, Term | None]:
        if not self.accept("{"):
            return "", self.argument()
        letter = ""
        sign = {"\\sum": "=", "\\prod": "=", "\\lim": "\\to"}.get(name)
        if sign and self.peek(1) == sign:
            letter = self.peek()
            self.position += 2
        return letter, self.bracketed("}")


_ATOMS: dict[str, Callable[[_Parser], Term]] = {
    "\\frac": _Parser.fraction,
    "\\sqrt": _Parser.root,
    "\\binom": _Parser.binomial,
    "|": _Parser.absolute,
    "\\lfloor": _Parser.floor,
    "\\lceil": _Parser.ceiling,
    "_": _Parser.count_with_index_in_front,
    "^": _Parser.count_with_index_in_front,
}


def is_count(letter: str, choices: Choices) -> bool:
    """Whether `C(5, 2)` is a number of combinations or arrangements rather than a point with its name."""
    if letter == "C":
        return not choices.take(Ambiguity.COMBINATIONS)
    return letter in _COUNTS and bool(choices.take(Ambiguity.NAMED_POINT))


def _number_of_choices(name: str, n: Term, k: Term) -> Term:
    """Combinations, or arrangements."""
    if name == "C":
        return Apply("binom", (n, k))
    return Quotient(Apply("factorial", (n,)), Apply("factorial", (Sum((n, Negative(k))),)))


def _negated(term: Term) -> Term:
    match term:
        case Number(value, resolution):
            return Number(-value, resolution)
        case Negative(inner):
            return inner
    return Negative(term)


def _product(factors: list[Term]) -> Term:
    return factors[0] if len(factors) == 1 else Product(tuple(factors))


def _join_power_of_ten(factors: list[Term]) -> None:
    r"""Makes one number of `7.1 \times 10^5`."""
    match factors[-2:]:
        case [Number(value, resolution), Power(Number(Fraction(numerator=10, denominator=1)), exponent)]:
            size = integer_of(exponent)
            if size is not None and abs(size) < MAX_DIGITS:
                scale = Fraction(10) ** size
                factors[-2:] = [Number(value * scale, (resolution or 1) * scale)]


def _to_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise TooLargeError
    return int(digits or "0")


def _proper_fraction(term: Term) -> Fraction | None:
    """The value of a fraction of two whole numbers between 0 and 1."""
    if not isinstance(term, Quotient):
        return None
    top, bottom = integer_of(term.top), integer_of(term.bottom)
    return Fraction(top, bottom) if top and bottom and 0 < top < bottom else None


def in_radians(term: Term) -> Term:
    """An angle of so many degrees."""
    return Product((term, Quotient(Symbol("\\pi"), Number(Fraction(180)))))


def _may_be_degrees(argument: Term) -> bool:
    r"""Whether an angle is a whole number so large that nobody means radians: `\sin 30`."""
    size = integer_of(argument)
    return size is not None and abs(size) >= 10


def _is_letter(token: str) -> bool:
    return token in GREEK or (len(token) == 1 and token.isascii() and token.isalpha())


def _is_differential(parser: _Parser) -> bool:
    """Whether `dx` follows, with which an integral ends."""
    return parser.peek() == "d" and "\\int" in parser.tokens and parser.peek(1).isalpha()
