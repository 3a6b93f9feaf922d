r"""Exact algebra of TeX tokens, which tells that `\frac{1}{\sqrt 6}` is `\frac{\sqrt 6}{6}`.

An expression becomes a quotient of two polynomials with rational coefficients. Their generators are letters, `\pi`,
`e`, `i`, roots of prime numbers, and atoms: functions and powers that are not looked into, each named by its canonical
argument. Distinct products of roots of primes are linearly independent, `i` is not real and `\pi` is transcendental
over them all; so without atoms a difference is zero exactly when it is zero term by term, and both "equal" and
"different" are certain. With atoms only "equal" is.

Ambiguous text is refused, never guessed: `1/2x`, `x^10`, `f(x)`, a word.
"""

import cmath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from .arithmetic import DIGITS, MAX_BITS, MAX_DEPTH, AmbiguousError, NotArithmeticError, TokenReader, TooLargeError


MAX_WORK = 4_000
"""Most products of terms per expression, some 10 ms."""
MAX_RADICAND = 10**9
"""Largest integer under a root, which is factored."""
MAX_FACTORIAL = 200

Monomial = tuple[tuple[str, Fraction], ...]
"""Generators with their exponents, sorted; the root of a prime is `#prime` with an exponent between 0 and 1."""
Polynomial = dict[Monomial, Fraction]

ONE: Polynomial = {(): Fraction(1)}
GREEK = frozenset(
    "\\" + name
    for name in (
        "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
        "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega hbar ell pi"
    ).split()
)
FUNCTIONS = frozenset(
    "\\" + name for name in "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp".split()
)
_FRACTION = re.compile(r"\([0-9]+/[0-9]+\)")
_ENDS = frozenset(["", ")", "}", "]", "+", "-", "*", "/", "\\cdot", "\\times", "\\div"])


@dataclass(frozen=True, slots=True)
class Expression:
    """
    A quotient of polynomials.

    Attributes:
        numerator (`dict`):
            Coefficient of each monomial.
        denominator (`dict`):
            The same; 1 unless the expression divides by a sum.
        has_atoms (`bool`):
            Something was not looked into, so that terms may be related in unknown ways.
        has_decimals (`bool`):
            Written with decimals, which may be roundings.
        has_degrees (`bool`):
            Written with degrees, which are left out of the value.
    """

    numerator: Polynomial
    denominator: Polynomial = field(default_factory=lambda: ONE)
    has_atoms: bool = False
    has_decimals: bool = False
    has_degrees: bool = False

    @property
    def symbols(self) -> set[str]:
        r"""Letters, without `e`, `i`, `\pi` and roots of primes."""
        names = {name for polynomial in (self.numerator, self.denominator) for term in polynomial for name, _ in term}
        return {name for name in names if name[0] != "#" and name not in ("e", "i", "\\pi")}

    @property
    def is_certain(self) -> bool:
        r"""Whether terms that differ mean that values differ: `e` and `\pi` may be related, for all that is known."""
        names = {name for polynomial in (self.numerator, self.denominator) for term in polynomial for name, _ in term}
        return not self.has_atoms and not {"e", "\\pi"} <= names

    @property
    def key(self) -> str:
        """Text that is the same for equal polynomials."""
        parts = [
            "+".join(f"{c}*{'*'.join(f'{name}^{power}' for name, power in term)}" for term, c in sorted(p.items()))
            for p in (self.numerator, self.denominator)
        ]
        return f"[{parts[0]}]/[{parts[1]}]"

    def constant(self) -> Fraction | None:
        """The value, if it is a rational number."""
        if self.denominator != ONE or any(self.numerator.keys() - {()}):
            return None
        return self.numerator.get((), Fraction(0))

    def approximate(self) -> complex:
        """Value where every letter stands for some fixed number; close to exact for what has no atoms."""
        return _approximate(self.numerator) / _approximate(self.denominator)


@lru_cache(maxsize=256)
def parse(tokens: tuple[str, ...]) -> Expression:
    """
    Reads an expression.

    Args:
        tokens (`tuple[str, ...]`):
            TeX tokens, every digit one of its own.

    Returns:
        [`Expression`], which is shared and not to be changed

    Raises:
        NotArithmeticError: If the tokens are not understood, or divide by zero.
        TooLargeError: If a number, the nesting or the work exceeds its limit.
    """
    return _Parser(tokens).parse()


def subtract(left: Expression, right: Expression) -> Polynomial:
    """Numerator of the difference of two expressions: empty exactly if they are equal term by term."""
    work = _Work()
    return work.add(
        work.multiply(left.numerator, right.denominator), work.multiply(right.numerator, left.denominator), -1
    )


def is_multiple(left: Polynomial, right: Polynomial) -> Fraction | None:
    """The rational number that `left` is of `right`, if there is one."""
    if not left or left.keys() != right.keys():
        return None
    ratios = {left[term] / right[term] for term in left}
    return ratios.pop() if len(ratios) == 1 else None


class _Work:
    """Arithmetic of polynomials with a budget."""

    def __init__(self) -> None:
        self.work = 0

    def add(self, left: Polynomial, right: Polynomial, sign: int = 1) -> Polynomial:
        self.spend(len(left) + len(right))
        total = dict(left)
        for term, coefficient in right.items():
            total[term] = total.get(term, Fraction(0)) + sign * coefficient
            if not total[term]:
                del total[term]
        return total

    def multiply(self, left: Polynomial, right: Polynomial) -> Polynomial:
        if left == ONE:
            return right
        if right == ONE:
            return left
        self.spend(len(left) * len(right))
        product: Polynomial = {}
        for term, coefficient in left.items():
            for other, other_coefficient in right.items():
                merged, factor = _merge(term, other)
                value = product.get(merged, Fraction(0)) + coefficient * other_coefficient * factor
                if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
                    raise TooLargeError
                if value:
                    product[merged] = value
                else:
                    product.pop(merged, None)
        return product

    def spend(self, work: int) -> None:
        self.work += work
        if self.work > MAX_WORK:
            raise TooLargeError


def _merge(left: Monomial, right: Monomial) -> tuple[Monomial, Fraction]:
    """Product of two monomials: whole powers of primes and of `i` leave it as a factor."""
    exponents = dict(left)
    for name, power in right:
        exponents[name] = exponents.get(name, Fraction(0)) + power
    return _reduce(exponents)


def _reduce(exponents: dict[str, Fraction]) -> tuple[Monomial, Fraction]:
    factor = Fraction(1)
    for name in list(exponents):
        power = exponents[name]
        if name[0] == "#":
            whole = power.numerator // power.denominator
            if abs(whole) > MAX_BITS:
                raise TooLargeError
            factor *= Fraction(int(name[1:])) ** whole
            exponents[name] = power - whole
        elif name == "i":  # the exponent is an integer
            factor *= -1 if power % 4 >= 2 else 1
            exponents[name] = power % 2
    return tuple(sorted((name, power) for name, power in exponents.items() if power)), factor


def _approximate(polynomial: Polynomial) -> complex:
    total = 0j
    for term, coefficient in polynomial.items():
        value = complex(coefficient)
        for name, power in term:
            if name[0] == "#":
                base: complex = complex(int(name[1:]))
            elif name in ("i", "e", "\\pi"):
                base = {"i": 1j, "e": cmath.e + 0j, "\\pi": cmath.pi + 0j}[name]
            else:
                base = complex(0.4 + sum(map(ord, name)) * 0.6180339887 % 1)
            value *= base ** float(power)
        total += value
    return total


class _Parser(_Work, TokenReader):
    """
    One method per rule, each consuming its tokens.

    sum = product (("+" | "-") product)*
    product = signed (operator signed | factor)*
    signed = ("+" | "-")* factor
    factor = atom ["!"] ["^" argument]
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        _Work.__init__(self)
        TokenReader.__init__(self, tokens)
        self.has_decimals = self.has_degrees = self.has_atoms = False

    def parse(self) -> Expression:
        result = self.sum()
        if self.position < len(self.tokens):
            raise NotArithmeticError
        return Expression(result.numerator, result.denominator, self.has_atoms, self.has_decimals, self.has_degrees)

    def sum(self) -> Expression:
        total = self.product()
        while sign := self.accept("+", "-"):
            term = self.product()
            factor = 1 if sign == "+" else -1
            if total.denominator == term.denominator:
                total = Expression(self.add(total.numerator, term.numerator, factor), total.denominator)
            else:
                left = self.multiply(total.numerator, term.denominator)
                right = self.multiply(term.numerator, total.denominator)
                numerator = self.add(left, right, factor)
                total = Expression(numerator, self.multiply(total.denominator, term.denominator))
        return total

    def product(self) -> Expression:
        result = self.signed()
        is_after_slash = False
        while True:
            if operator := self.accept("*", "/", "\\cdot", "\\times", "\\div"):
                factor = self.signed()
                is_after_slash = operator in ("/", "\\div")
                result = self.divide(result, factor) if is_after_slash else self.times(result, factor)
            elif self.peek() in _ENDS:
                return result
            elif self.peek() in DIGITS or self.peek() == "." or is_after_slash:  # x2, 1/2x
                raise AmbiguousError
            elif self.tokens[self.position - 1] in DIGITS and _FRACTION.match(
                "".join(self.tokens[self.position : self.position + 20])
            ):
                raise AmbiguousError  # 3(1/2) is a mixed number to some
            else:
                result = self.times(result, self.factor())

    def signed(self) -> Expression:
        is_negative = False
        while sign := self.accept("+", "-"):
            is_negative ^= sign == "-"
        result = self.factor()
        if not is_negative:
            return result
        return Expression({term: -c for term, c in result.numerator.items()}, result.denominator)

    def factor(self) -> Expression:
        is_bare_fraction = self.peek() == "\\frac"
        base = self.atom()
        if self.accept("!"):
            base = self.factorial(base)
        while (self.peek() == "^" and self.peek(1) == "\\circ") or self.peek() == "\\degree":
            self.position += 1 if self.peek() == "\\degree" else 2
            self.has_degrees = True
        if self.accept("^"):
            if is_bare_fraction:  # \frac12^2 squares the half for some and the numerator for others
                raise AmbiguousError
            base = self.power(base, self.argument())
            if self.peek() == "^" or self.peek() in DIGITS or self.peek() == "!":
                raise AmbiguousError
        return base

    def atom(self) -> Expression:
        token = self.peek()
        if token in DIGITS or token == ".":
            return self.number()
        self.position += 1
        if token in ("(", "{", "["):
            return self.bracketed({"(": ")", "{": "}", "[": "]"}[token])
        if token == "\\frac":
            return self.divide(self.argument(), self.argument())
        if token == "\\sqrt":
            index = self.bracketed("]").constant() if self.accept("[") else Fraction(2)
            if index is None or index.denominator != 1 or not 2 <= index <= 100:
                raise NotArithmeticError
            return self.power(self.argument(), Expression({(): 1 / index}))
        if token == "\\binom":
            return self.binomial(self.argument(), self.argument())
        if token in FUNCTIONS:
            return self.function(token)
        if token in GREEK or (len(token) == 1 and token.isascii() and token.isalpha()):
            return self.symbol(token)
        raise NotArithmeticError

    def symbol(self, name: str) -> Expression:
        if self.peek() == "(" and name in ("f", "g", "h"):
            raise AmbiguousError  # a function more likely than a product
        if self.peek() == "^" and self.peek(1) in DIGITS and self.peek(2) == "_":  # v^2_0 is the square of v_0
            power = self.peek(1)
            self.position += 2
            return self.power(self.symbol(name), Expression({(): Fraction(int(power))}))
        if self.accept("_"):
            start = self.position
            if self.accept("{"):
                while self.peek() not in ("{", "}", ""):
                    self.position += 1
                if not self.accept("}"):
                    raise NotArithmeticError
            elif self.peek()[:1] == "\\" or (self.peek().isascii() and self.peek().isalnum()):
                self.position += 1
            else:
                raise NotArithmeticError
            name += "_" + "".join(self.tokens[start : self.position]).strip("{}")
        return Expression({((name, Fraction(1)),): Fraction(1)})

    def number(self) -> Expression:
        whole = self.digits()
        decimals = self.digits() if self.accept(".") else ""
        if not whole + decimals:
            raise NotArithmeticError
        if len(whole) + len(decimals) > MAX_BITS // 4:
            raise TooLargeError
        self.has_decimals |= bool(decimals)
        value = Fraction(int(whole + decimals), 10 ** len(decimals))
        if not decimals and self.peek() == "\\frac":
            start = self.position
            fraction = self.factor().constant()
            if fraction is None:
                self.position = start  # a product, such as 2\frac{x}{3}
            elif 0 < fraction < 1:
                value += fraction
            else:
                raise AmbiguousError  # 3\frac{3}{2} is no mixed number
        return Expression({(): value} if value else {})

    def digits(self) -> str:
        start = self.position
        while self.peek() in DIGITS:
            self.position += 1
        return "".join(self.tokens[start : self.position])

    def argument(self) -> Expression:
        if self.accept("{"):
            return self.bracketed("}")
        token = self.peek()
        self.position += 1
        if token in DIGITS:
            return Expression({(): Fraction(int(token))} if token != "0" else {})
        if token in GREEK or (len(token) == 1 and token.isascii() and token.isalpha()):
            return Expression({((token, Fraction(1)),): Fraction(1)})
        if token == "(":
            return self.bracketed(")")
        raise NotArithmeticError

    def bracketed(self, end: str) -> Expression:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooLargeError
        result = self.sum()
        self.depth -= 1
        if not self.accept(end):
            raise NotArithmeticError
        return result

    def function(self, name: str) -> Expression:
        power = Fraction(1)
        if name in ("\\log", "\\ln") and self.accept("_"):
            name += "_" + self.argument().key
        if self.accept("^"):
            exponent = self.argument().constant()
            if exponent is None or exponent.denominator != 1 or not 1 <= exponent <= 100:
                raise AmbiguousError  # \sin^{-1} is an inverse for some
            power = exponent
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooLargeError
        if self.accept("("):
            argument = self.bracketed(")")
            if self.peek() == "^":  # \sin(x)^2
                raise AmbiguousError
        elif self.accept("{"):
            argument = self.bracketed("}")
        else:  # \sin 2x\cos y ends before the next function
            argument = self.factor()
            while self.peek() not in _ENDS and self.peek() not in FUNCTIONS and self.peek() != "(":
                if self.peek() in DIGITS:
                    raise AmbiguousError
                argument = self.times(argument, self.factor())
            if self.peek() == "/":  # \sin x/2
                raise AmbiguousError
        self.depth -= 1
        self.has_atoms = True
        return Expression({((f"{name}({argument.key})", power),): Fraction(1)})

    def times(self, left: Expression, right: Expression) -> Expression:
        return Expression(
            self.multiply(left.numerator, right.numerator), self.multiply(left.denominator, right.denominator)
        )

    def divide(self, left: Expression, right: Expression) -> Expression:
        if not right.numerator:
            raise NotArithmeticError
        if len(right.numerator) > 1:
            inverse = Expression(right.denominator, right.numerator)
        else:  # a single term is turned over, so that no denominator is left
            [(term, coefficient)] = right.numerator.items()
            turned, factor = _reduce({name: -power for name, power in term})
            inverse = Expression(self.multiply({turned: factor / coefficient}, right.denominator))
        return self.times(left, inverse)

    def power(self, base: Expression, exponent: Expression) -> Expression:
        value = exponent.constant()
        if value is None:
            return self.symbolic_power(base, exponent)
        if not base.numerator:
            if value <= 0:
                raise NotArithmeticError
            return base
        if value.denominator == 1:
            return self.integer_power(base, int(value))
        return self.root(base, value)

    def integer_power(self, base: Expression, exponent: int) -> Expression:
        if exponent < 0:
            return self.integer_power(self.divide(Expression(ONE), base), -exponent)
        if len(base.numerator) == 1 and base.denominator == ONE:
            [(term, coefficient)] = base.numerator.items()
            size = max(coefficient.numerator.bit_length(), coefficient.denominator.bit_length())
            if abs(coefficient) != 1 and size * exponent > MAX_BITS:
                raise TooLargeError
            merged, factor = _reduce({name: power * exponent for name, power in term})
            return Expression({merged: coefficient**exponent * factor})
        if exponent > 100:
            raise TooLargeError
        result = Expression(ONE)
        for _ in range(exponent):
            result = self.times(result, base)
        return result

    def root(self, base: Expression, exponent: Fraction) -> Expression:
        constant = base.constant()
        if exponent.denominator > 100 or abs(exponent) > MAX_BITS:
            raise TooLargeError
        if constant is not None:
            if constant < 0 and exponent.denominator != 2:
                raise AmbiguousError  # the principal root is complex, the expected one may be real
            exponents = {name: power * exponent for name, power in _factors(abs(constant)).items()}
            if constant < 0:
                exponents["i"] = Fraction(exponent.numerator)
            term, factor = _reduce(exponents)
            return Expression({term: factor})
        if list(base.numerator.values()) == [1] and base.denominator == ONE:
            [term] = base.numerator
            if len(term) == 1 and term[0][1] == 1 and term[0][0] != "i":  # the root of a letter
                return Expression({((term[0][0], exponent),): Fraction(1)})
        self.has_atoms = True
        whole = exponent.numerator // exponent.denominator
        name = f"({base.key})^{exponent - whole}"
        return self.times(self.integer_power(base, whole), Expression({((name, Fraction(1)),): Fraction(1)}))

    def symbolic_power(self, base: Expression, exponent: Expression) -> Expression:
        r"""Splits an integer off the exponent and turns it positive, so that `2^{n+1}` is `2 \cdot 2^n`."""
        self.has_atoms = True
        whole = exponent.numerator.get((), Fraction(0)) if exponent.denominator == ONE else Fraction(0)
        if whole.denominator != 1 or abs(whole) > 100:
            whole = Fraction(0)
        rest = {term: c for term, c in exponent.numerator.items() if term or not whole}
        sign = -1 if rest[min(rest)] < 0 else 1
        rest = {term: sign * c for term, c in rest.items()}
        name = f"({base.key})^{Expression(rest, exponent.denominator).key}"
        atom = Expression({((name, Fraction(sign)),): Fraction(1)})
        return self.times(self.integer_power(base, int(whole)), atom)

    def factorial(self, base: Expression) -> Expression:
        value = base.constant()
        if value is None or value.denominator != 1 or value < 0 or self.peek() == "!":
            raise NotArithmeticError
        if value > MAX_FACTORIAL:
            raise TooLargeError
        product = 1
        for i in range(2, int(value) + 1):
            product *= i
        return Expression({(): Fraction(product)})

    def binomial(self, top: Expression, bottom: Expression) -> Expression:
        n, k = top.constant(), bottom.constant()
        if n is None or k is None or n.denominator != 1 or k.denominator != 1 or not 0 <= k <= n:
            raise NotArithmeticError
        if n > 1_000:
            raise TooLargeError
        value = 1
        for i in range(int(min(k, n - k))):
            value = value * (int(n) - i) // (i + 1)
        return Expression({(): Fraction(value)})


def _factors(value: Fraction) -> dict[str, Fraction]:
    """Prime factors of a positive rational number, negative exponents below the bar."""
    exponents: dict[str, Fraction] = {}
    for number, sign in ((value.numerator, 1), (value.denominator, -1)):
        divisor = 2
        while number > 1:
            if divisor * divisor > number:
                divisor = number
            if number > MAX_RADICAND and divisor > 100:
                raise TooLargeError
            while number % divisor == 0:
                number //= divisor
                exponents[f"#{divisor}"] = exponents.get(f"#{divisor}", Fraction(0)) + sign
            divisor += 1 if divisor == 2 else 2
    return exponents
