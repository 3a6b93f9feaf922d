r"""Exact algebra of expressions, which tells that `\frac{1}{\sqrt 6}` is `\frac{\sqrt 6}{6}`.

An expression becomes a quotient of two polynomials with rational coefficients. Their generators are letters, `\pi`,
`e`, `i`, roots of prime numbers, logarithms of prime numbers, powers with a letter in the exponent, and atoms: what is
not looked into, named by its canonical argument. Trigonometric functions are written in exponentials, as Euler did, so
that every identity among them is one of polynomials.

Distinct products of roots of primes are linearly independent, `i` is not real, letters are free and `\pi` or `e` alone
is transcendental over them all: where there is nothing else, a difference is zero exactly when it is zero term by
term, so both "equal" and "different" are proved. With anything else only "equal" is.
"""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from .expressions import NotUnderstoodError, TooLargeError
from .terms import Apply, Negative, Number, Operator, Power, Product, Quotient, Sum, Symbol, Term, write


MAX_BITS = 4_096
"""Largest numerator or denominator, about 1,200 digits."""
MAX_WORK = 4_000
"""Most products of terms per expression, some 10 ms."""
MAX_RADICAND = 10**9
"""Largest integer under a root, which is factored."""
MAX_FACTORIAL = 200
MAX_BINOMIAL = 1_000

Monomial = tuple[tuple[str, Fraction], ...]
"""Generators with their exponents, sorted; the root of a prime is `#prime` with an exponent between 0 and 1."""
Polynomial = dict[Monomial, Fraction]

ONE: Polynomial = {(): Fraction(1)}
_HALF = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Expression:
    """
    A quotient of polynomials.

    Attributes:
        numerator (`dict`):
            Coefficient of each monomial.
        denominator (`dict`):
            The same; 1 unless the expression divides by a sum.
    """

    numerator: Polynomial
    denominator: Polynomial = field(default_factory=lambda: ONE)

    @property
    def generators(self) -> set[str]:
        """Names of all that the polynomials are made of."""
        return {name for polynomial in (self.numerator, self.denominator) for term in polynomial for name, _ in term}

    @property
    def is_certain(self) -> bool:
        r"""Whether terms that differ mean that values differ: `e` and `\pi` may be related, for all that is known."""
        names = self.generators
        return not any("[" in name for name in names) and not {"e", "\\pi"} <= names

    @property
    def key(self) -> str:
        """Text that is the same for equal polynomials."""
        top, bottom = (
            "+".join(f"{c}*{'*'.join(f'{name}^{power}' for name, power in term)}" for term, c in sorted(p.items()))
            for p in (self.numerator, self.denominator)
        )
        return top if bottom == "1*" else f"({top})/({bottom})"

    def constant(self) -> Fraction | None:
        """The value, if it is a rational number."""
        if self.denominator != ONE or any(self.numerator.keys() - {()}):
            return None
        return self.numerator.get((), Fraction(0))


@lru_cache(maxsize=256)
def expand(term: Term) -> Expression:
    """
    Multiplies a tree out.

    Args:
        term (`Term`):
            The tree.

    Returns:
        [`Expression`], which is shared and not to be changed

    Raises:
        NotUnderstoodError: If the tree divides by zero, or has no single value.
        TooLargeError: If a number or the work exceeds its limit.
    """
    return _Expansion().expand(term)


def subtract(left: Expression, right: Expression) -> Polynomial:
    """Numerator of the difference of two expressions: empty exactly if they are equal term by term."""
    work = _Work()
    return work.add(
        work.multiply(left.numerator, right.denominator), work.multiply(right.numerator, left.denominator), -1
    )


def ratio(left: Expression, right: Expression) -> Fraction | None:
    """The quotient of two expressions, if the divisor is one term and the quotient a rational number."""
    return _Expansion().divide(left, right).constant()


def are_equal(left: Term, right: Term) -> bool:
    """Whether two trees are equal term by term; `False` proves nothing."""
    try:
        return not subtract(expand(left), expand(right))
    except (NotUnderstoodError, TooLargeError):
        return False


def value_of(term: Term) -> Fraction | None:
    """The exact value of a tree that is a rational number; `None` if it is none, or not known to be."""
    if isinstance(term, Number):
        return term.value
    try:
        return expand(term).constant()
    except NotUnderstoodError:
        return None


def without_negative_powers(polynomial: Polynomial) -> Polynomial:
    """A polynomial times the powers of letters by which its terms divide: `xy - 1` for `y - x^{-1}`."""
    least: dict[str, Fraction] = {}
    for term in polynomial:
        for name, power in term:
            least[name] = min(power, least.get(name, Fraction(0)))
    missing = {name: -power for name, power in least.items() if power < 0}
    if not missing:
        return polynomial
    return {
        tuple(sorted((name, power) for name, power in _plus_powers(dict(term), missing).items() if power)): coefficient
        for term, coefficient in polynomial.items()
    }


def _plus_powers(powers: dict[str, Fraction], others: dict[str, Fraction]) -> dict[str, Fraction]:
    return {name: powers.get(name, Fraction(0)) + others.get(name, Fraction(0)) for name in powers.keys() | others}


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
                _check_size(value)
                if value:
                    product[merged] = value
                else:
                    product.pop(merged, None)
        return product

    def spend(self, work: int) -> None:
        self.work += work
        if self.work > MAX_WORK:
            raise TooLargeError


def _check_size(value: Fraction) -> None:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise TooLargeError


def _merge(left: Monomial, right: Monomial) -> tuple[Monomial, Fraction]:
    """Product of two monomials: whole powers of primes and of `i` leave it as a factor."""
    if not left or not right:
        return left or right, Fraction(1)
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
        elif name == _TURN:  # half a turn is a factor of -1
            factor *= -1 if power % 2 >= 1 else 1
            exponents[name] = power % 1
    return tuple(sorted((name, power) for name, power in exponents.items() if power)), factor


def _rational(value: Fraction | int) -> Expression:
    return Expression({(): Fraction(value)} if value else {})


def _generator(name: str, power: Fraction | int = 1) -> Expression:
    return Expression({((name, Fraction(power)),): Fraction(1)})


_TURN = "exp[\\pi^1*i^1]"
"""The generator of roots of unity: half a turn to the power one."""
_MINUS_ONE = _rational(-1)
_I = _generator("i")


class _Expansion(_Work):
    """One method per kind of term."""

    def expand(self, term: Term) -> Expression:
        match term:
            case Number(value):
                _check_size(value)
                return _rational(value)
            case Symbol(name):
                return _generator(name)
            case Negative(inner):
                return self.negative(self.expand(inner))
            case Sum(terms):
                total = self.expand(terms[0])
                for part in terms[1:]:
                    total = self.plus(total, self.expand(part))
                return total
            case Product(factors):
                return self.product([self.expand(factor) for factor in factors])
            case Quotient(top, bottom):
                return self.divide(self.expand(top), self.expand(bottom))
            case Power(base, exponent):
                return self.power(self.expand(base), self.expand(exponent))
            case Apply(name, arguments):
                return self.apply(name, [self.expand(argument) for argument in arguments])
            case Operator():
                return _generator(f"[{write(term)}]")

    # --- Sums, products, quotients ---

    def negative(self, one: Expression) -> Expression:
        return Expression({term: -c for term, c in one.numerator.items()}, one.denominator)

    def plus(self, left: Expression, right: Expression) -> Expression:
        if left.denominator == right.denominator:
            return Expression(self.add(left.numerator, right.numerator), left.denominator)
        numerator = self.add(
            self.multiply(left.numerator, right.denominator), self.multiply(right.numerator, left.denominator)
        )
        return Expression(numerator, self.multiply(left.denominator, right.denominator))

    def times(self, left: Expression, right: Expression) -> Expression:
        return Expression(
            self.multiply(left.numerator, right.numerator), self.multiply(left.denominator, right.denominator)
        )

    def product(self, factors: list[Expression]) -> Expression:
        result = factors[0]
        for factor in factors[1:]:
            result = self.times(result, factor)
        return result

    def divide(self, left: Expression, right: Expression) -> Expression:
        if not right.numerator:
            raise NotUnderstoodError
        if len(right.numerator) > 1:
            return self.times(left, Expression(right.denominator, right.numerator))
        # a single term is turned over, so that no denominator is left
        [(term, coefficient)] = right.numerator.items()
        turned, factor = _reduce({name: -power for name, power in term})
        return self.times(left, Expression(self.multiply({turned: factor / coefficient}, right.denominator)))

    # --- Powers and roots ---

    def power(self, base: Expression, exponent: Expression) -> Expression:
        value = exponent.constant()
        if base == _generator("e"):
            return self.exponential(exponent)
        if value is None:
            return self.symbolic_power(base, exponent)
        if not base.numerator:
            if value <= 0:
                raise NotUnderstoodError
            return base
        return self.integer_power(base, int(value)) if value.denominator == 1 else self.root(base, value)

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
        return self.product([Expression(ONE), *[base] * exponent])

    def root(self, base: Expression, exponent: Fraction) -> Expression:
        constant = base.constant()
        if exponent.denominator > 100 or abs(exponent) > MAX_BITS:
            raise TooLargeError
        if constant is not None:
            return self.root_of_constant(constant, exponent)
        if len(base.numerator) == 1 and base.denominator == ONE:
            [(term, coefficient)] = base.numerator.items()
            if coefficient > 0 and len(term) == 1 and term[0][1] == 1 and term[0][0] != "i" and "[" not in term[0][0]:
                # the root of a letter, and of a positive multiple of it
                return self.times(self.root_of_constant(coefficient, exponent), _generator(term[0][0], exponent))
        whole = exponent.numerator // exponent.denominator
        name = f"root[{base.key}][{exponent - whole}]"
        return self.times(self.integer_power(base, whole), _generator(name))

    def root_of_constant(self, constant: Fraction, exponent: Fraction) -> Expression:
        if constant < 0 and exponent.denominator != 2:
            raise NotUnderstoodError  # the principal root is complex, the expected one may be real
        exponents = {f"#{prime}": power * exponent for prime, power in _factors(abs(constant)).items()}
        if constant < 0:
            exponents["i"] = Fraction(exponent.numerator)
        term, factor = _reduce(exponents)
        return Expression({term: factor})

    def symbolic_power(self, base: Expression, exponent: Expression) -> Expression:
        r"""Splits the exponent, so that `2^{n+1}` is `2 \cdot 2^n` and `4^n` is `(2^n)^2`."""
        constant = base.constant()
        if exponent.denominator == ONE and constant is not None and constant > 0:
            factors = [self.power_of_prime(prime, k, exponent) for prime, k in _factors(constant).items()]
            return self.product([Expression(ONE), *factors])
        whole = exponent.numerator.get((), Fraction(0)) if exponent.denominator == ONE else Fraction(0)
        if whole.denominator != 1 or abs(whole) > 100:
            whole = Fraction(0)
        rest = {term: c for term, c in exponent.numerator.items() if term or not whole}
        sign = -1 if rest[min(rest)] < 0 else 1
        rest = {term: sign * c for term, c in rest.items()}
        atom = _generator(f"power[{base.key}][{Expression(rest, exponent.denominator).key}]", sign)
        return self.times(self.integer_power(base, int(whole)), atom)

    def power_of_prime(self, prime: int, multiplicity: int, exponent: Expression) -> Expression:
        result = Expression(ONE)
        for term, coefficient in exponent.numerator.items():
            power = coefficient * multiplicity
            name = f"#{prime}" if not term else f"power[{prime}][{_key(term)}]"
            if not term and abs(power) > MAX_BITS:
                raise TooLargeError
            merged, factor = _reduce({name: power})
            result = self.times(result, Expression({merged: factor}))
        return result

    # --- Functions ---

    def apply(self, name: str, arguments: list[Expression]) -> Expression:
        match name, arguments:
            case "root", [radicand, index]:
                size = index.constant()
                if size is None or size.denominator != 1 or not 2 <= size <= 100:
                    raise NotUnderstoodError
                return self.power(radicand, _rational(1 / size))
            case "exp", [exponent]:
                return self.exponential(exponent)
            case "sin" | "cos" | "tan" | "cot" | "sec" | "csc", [angle]:
                return self.trigonometric(name, angle)
            case "sinh" | "cosh" | "tanh", [argument]:
                return self.trigonometric(name[:3], self.times(_I, argument), is_hyperbolic=True)
            case "ln", [argument]:
                return self.logarithm(argument)
            case "acos", [argument]:  # what the arc sine lacks to a quarter turn
                quarter = Expression({(("\\pi", Fraction(1)),): _HALF})
                return self.plus(quarter, self.negative(self.apply("asin", [argument])))
            case "asin" | "atan", [argument]:
                return self.inverse(name, argument)
            case "abs", [argument]:
                return self.absolute(argument)
            case "floor" | "ceil" | "factorial", [argument] if (value := argument.constant()) is not None:
                return _rational(_whole_number_function(name, value))
            case "binom", [top, bottom]:
                return self.binomial(top, bottom)
        return _generator(f"{name}[{', '.join(argument.key for argument in arguments)}]")

    def exponential(self, exponent: Expression) -> Expression:
        """The exponential of a sum is the product of those of its terms."""
        if exponent.denominator != ONE:
            return _generator(f"exp[{exponent.key}]")
        result = Expression(ONE)
        for term, coefficient in exponent.numerator.items():
            result = self.times(result, self.exponential_of_term(term, coefficient))
        return result

    def exponential_of_term(self, term: Monomial, coefficient: Fraction) -> Expression:
        if not term:
            return _generator("e", coefficient)
        if len(term) == 1 and term[0][1] == 1 and term[0][0].startswith("ln["):
            argument = term[0][0][3:-1]
            if argument.isdecimal():
                return self.root_of_constant(Fraction(int(argument)), coefficient)
        if _key(term) == _TURN[4:-1]:
            return self.root_of_unity(coefficient)
        return _generator(f"exp[{_key(term)}]", coefficient)

    def root_of_unity(self, half_turns: Fraction) -> Expression:
        steps = half_turns * 12
        if steps.denominator != 1:
            term, factor = _reduce({_TURN: half_turns})
            return Expression({term: factor})
        cosine, sine = _cosine(int(steps)), _cosine(int(steps) - 6)
        return self.plus(cosine, self.times(_I, sine))

    def trigonometric(self, name: str, angle: Expression, is_hyperbolic: bool = False) -> Expression:
        forward = self.exponential(self.times(_I, angle))
        backward = self.divide(Expression(ONE), forward)
        twice_cosine = self.plus(forward, backward)
        difference = self.plus(forward, self.negative(backward))  # 2i times the sine
        twice_sine = self.negative(difference) if is_hyperbolic else self.times(self.negative(_I), difference)
        match name:
            case "sin":
                return self.times(twice_sine, _rational(_HALF))
            case "cos":
                return self.times(twice_cosine, _rational(_HALF))
            case "tan":
                return self.divide(twice_sine, twice_cosine)
            case "cot":
                return self.divide(twice_cosine, twice_sine)
            case "sec":
                return self.divide(_rational(2), twice_cosine)
            case _:
                return self.divide(_rational(2), twice_sine)

    def logarithm(self, argument: Expression) -> Expression:
        """Logarithms of rational numbers, roots and powers of e are sums; a positive factor comes off a letter's."""
        if argument.denominator != ONE or len(argument.numerator) != 1:
            return _generator(f"ln[{argument.key}]")
        [(term, coefficient)] = argument.numerator.items()
        free = [(name, power) for name, power in term if name[0] != "#" and name != "e"]
        if coefficient <= 0 or len(free) > 1 or (free and free[0][1] != 1):
            return _generator(f"ln[{argument.key}]")
        total = Expression({})
        for prime, multiplicity in _factors(coefficient).items():
            total = self.plus(total, self.times(_rational(multiplicity), _generator(f"ln[{prime}]")))
        for name, power in term:
            part = _rational(1) if name == "e" else _generator(f"ln[{name.removeprefix('#')}]")
            total = self.plus(total, self.times(_rational(power), part))
        return total

    def inverse(self, name: str, argument: Expression) -> Expression:
        angle = _ANGLES[name].get(argument.key)
        if angle is not None:
            return Expression({(("\\pi", Fraction(1)),): angle} if angle else {})
        sign, argument = self.turn_positive(argument)
        return self.times(sign, _generator(f"{name}[{argument.key}]"))

    def absolute(self, argument: Expression) -> Expression:
        constant = argument.constant()
        if constant is not None:
            return _rational(abs(constant))
        _, argument = self.turn_positive(argument)
        if argument.denominator == ONE and len(argument.numerator) == 1:
            [(term, coefficient)] = argument.numerator.items()
            if all(name in ("\\pi", "e") or name[0] == "#" for name, _ in term):
                return argument
            return self.times(_rational(coefficient), _generator(f"abs[{_key(term)}]"))
        return _generator(f"abs[{argument.key}]")

    def turn_positive(self, argument: Expression) -> tuple[Expression, Expression]:
        """A sign and the argument without it, so that opposite arguments get one name."""
        is_negative = bool(argument.numerator) and argument.numerator[min(argument.numerator)] < 0
        return (_MINUS_ONE, self.negative(argument)) if is_negative else (Expression(ONE), argument)

    def binomial(self, top: Expression, bottom: Expression) -> Expression:
        n, k = top.constant(), bottom.constant()
        if k is None or k.denominator != 1 or k < 0:
            return _generator(f"binom[{top.key}][{bottom.key}]")
        if n is None:
            if k > 20:
                raise TooLargeError
            factors = [self.plus(top, _rational(-i)) for i in range(int(k))]
            return self.product([_rational(Fraction(1, math.factorial(int(k)))), *factors])
        if n.denominator != 1 or n < k:
            raise NotUnderstoodError
        if n > MAX_BINOMIAL:
            raise TooLargeError
        return _rational(math.comb(int(n), int(k)))


def _key(term: Monomial) -> str:
    return "*".join(f"{name}^{power}" for name, power in term)


def _whole_number_function(name: str, value: Fraction) -> int:
    if name == "floor":
        return math.floor(value)
    if name == "ceil":
        return math.ceil(value)
    if value.denominator != 1 or value < 0:
        raise NotUnderstoodError
    if value > MAX_FACTORIAL:
        raise TooLargeError
    return math.factorial(int(value))


def _factors(value: Fraction) -> dict[int, int]:
    """Prime factors of a positive rational number, with negative exponents below the bar."""
    exponents: dict[int, int] = {}
    for number, sign in ((value.numerator, 1), (value.denominator, -1)):
        divisor = 2
        while number > 1:
            if divisor * divisor > number:
                divisor = number
            if number > MAX_RADICAND and divisor > 100:
                raise TooLargeError
            while number % divisor == 0:
                number //= divisor
                exponents[divisor] = exponents.get(divisor, 0) + sign
            divisor += 1 if divisor == 2 else 2
    return exponents


def _surd(coefficient: Fraction, radicand: int) -> Expression:
    monomial = tuple(sorted((f"#{prime}", _HALF) for prime in _factors(Fraction(radicand))))
    return Expression({monomial: coefficient})


def _sum(left: Expression, right: Expression) -> Expression:
    return Expression(left.numerator | right.numerator)


_QUARTER = Fraction(1, 4)
_COSINES = (
    _rational(1),
    _sum(_surd(_QUARTER, 6), _surd(_QUARTER, 2)),
    _surd(_HALF, 3),
    _surd(_HALF, 2),
    _rational(_HALF),
    _sum(_surd(_QUARTER, 6), _surd(-_QUARTER, 2)),
    _rational(0),
)
"""Cosines of the multiples of 15 degrees, up to a right angle."""


def _cosine(steps: int) -> Expression:
    """The cosine of so many times 15 degrees."""
    steps %= 24
    steps = min(steps, 24 - steps)
    if steps <= 6:
        return _COSINES[steps]
    opposite = _COSINES[12 - steps]
    return Expression({term: -c for term, c in opposite.numerator.items()})


def _by_key(values: dict[Fraction, Expression]) -> dict[str, Fraction]:
    """Angles by the key of their function, which is odd."""
    angles = {value.key: angle for angle, value in values.items()}
    negative = {Expression({t: -c for t, c in value.numerator.items()}).key: -angle for angle, value in values.items()}
    return negative | angles


_ANGLES = {
    "asin": _by_key({Fraction(6 - steps, 12): value for steps, value in enumerate(_COSINES)}),
    "atan": _by_key(
        {
            Fraction(0): _rational(0),
            Fraction(1, 6): _surd(Fraction(1, 3), 3),
            Fraction(1, 4): _rational(1),
            Fraction(1, 3): _surd(Fraction(1), 3),
        }
    ),
}
"""Angles, in half turns, whose sine or tangent is known."""
