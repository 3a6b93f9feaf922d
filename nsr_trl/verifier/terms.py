r"""Expressions as trees: what `\frac{x+1}{2}` is, whatever it was written like.

One reader makes the trees (`expressions`), and every engine works from them: exact arithmetic and algebra, numerical
values, sympy. None of them reads the text a second time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Number:
    r"""
    A number as it stands: an integer, a decimal, a mixed number, `7.1 \times 10^5`, `0.\overline{3}`.

    Attributes:
        value (`Fraction`):
            Its exact value.
        resolution (`Fraction`):
            One unit of the last decimal place, within which it may be a rounding; 0 without decimals.
    """

    value: Fraction
    resolution: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Symbol:
    r"""A letter with its index, such as `x`, `a_{n}`, `\alpha`; among them the constants `e`, `i` and `\pi`."""

    name: str


@dataclass(frozen=True, slots=True)
class Negative:
    """A term with the sign turned."""

    term: "Term"


@dataclass(frozen=True, slots=True)
class Sum:
    """Two terms or more."""

    terms: "tuple[Term, ...]"


@dataclass(frozen=True, slots=True)
class Product:
    """Two factors or more."""

    factors: "tuple[Term, ...]"


@dataclass(frozen=True, slots=True)
class Quotient:
    """A fraction, however written."""

    top: "Term"
    bottom: "Term"


@dataclass(frozen=True, slots=True)
class Power:
    """A base with its exponent."""

    base: "Term"
    exponent: "Term"


@dataclass(frozen=True, slots=True)
class Apply:
    r"""
    A function of its arguments.

    Attributes:
        name (`str`):
            `"sin"`, `"ln"`, `"root"` (of a radicand and an index), `"abs"`, `"floor"`, `"ceil"`, `"factorial"`,
            `"binom"`, or the name of a function that is not known, such as `"f"`.
        arguments (`tuple[Term, ...]`):
            What it is applied to.
    """

    name: str
    arguments: "tuple[Term, ...]"


@dataclass(frozen=True, slots=True)
class Operator:
    r"""
    A sum, product, integral or limit over a body: `\sum_{k=1}^{n} k^2`.

    Attributes:
        name (`str`):
            Its command, such as `"\\sum"`.
        lower (`Term` or `None`), upper (`Term` or `None`):
            Its bounds.
        letter (`str`):
            The letter that runs; empty if none is named.
        body (`Term`):
            What is summed, multiplied, integrated.
        text (`str`):
            How it was written.
    """

    name: str
    lower: "Term | None"
    upper: "Term | None"
    letter: str
    body: "Term"
    text: str


Term = Number | Symbol | Negative | Sum | Product | Quotient | Power | Apply | Operator

CONSTANTS = frozenset(["e", "i", "\\pi"])


def children(term: Term) -> "tuple[Term, ...]":
    """The terms that a term is made of."""
    match term:
        case Negative(inner):
            return (inner,)
        case Sum(parts) | Product(parts) | Apply(_, parts):
            return parts
        case Quotient(first, second) | Power(first, second):
            return (first, second)
        case Operator():
            return tuple(part for part in (term.lower, term.upper, term.body) if part is not None)
    return ()


def walk(term: Term) -> "Iterator[Term]":
    """A term and all that it is made of."""
    waiting = [term]
    while waiting:
        yield (current := waiting.pop())
        waiting.extend(children(current))


def letters(term: Term) -> frozenset[str]:
    r"""The letters of a term, without the constants `e`, `i` and `\pi` and those that an operator runs through."""
    bound = {part.letter for part in walk(term) if isinstance(part, Operator)}
    return frozenset(part.name for part in walk(term) if isinstance(part, Symbol)) - CONSTANTS - bound


def integer_of(term: Term) -> int | None:
    """The whole number that a term is written as, with a sign or without."""
    match term:
        case Number(value, resolution) if value.denominator == 1 and not resolution:
            return int(value)
        case Negative(inner):
            positive = integer_of(inner)
            return None if positive is None else -positive
    return None


def substitute(term: Term, name: str, value: Term) -> Term:
    """A term with a value for a letter."""
    match term:
        case Symbol(other):
            return value if other == name else term
        case Negative(inner):
            return Negative(substitute(inner, name, value))
        case Sum(parts) | Product(parts):
            return type(term)(tuple(substitute(part, name, value) for part in parts))
        case Quotient(first, second) | Power(first, second):
            return type(term)(substitute(first, name, value), substitute(second, name, value))
        case Apply(function, parts):
            return Apply(function, tuple(substitute(part, name, value) for part in parts))
    return term


def write(term: Term) -> str:
    r"""TeX text of a term with every bracket written out, so that no reader can take it otherwise."""
    match term:
        case Number(value):
            whole = value.denominator == 1
            text = str(value) if whole else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
            return text if value >= 0 else rf"\left({text}\right)"
        case Symbol(name):
            return name if len(name) == 1 else name + " "
        case Negative(inner):
            return rf"\left(-{_bracketed(inner)}\right)"
        case Sum(terms):
            return rf"\left({'+'.join(map(write, terms))}\right)"
        case Product(factors):
            product = r" \cdot ".join(map(_bracketed, factors))
            return rf"\left({product}\right)"
        case Quotient(top, bottom):
            return rf"\frac{{{write(top)}}}{{{write(bottom)}}}"
        case Power(base, exponent):
            return rf"{{{_bracketed(base)}}}^{{{write(exponent)}}}"
        case Apply():
            return _write_function(term)
        case Operator():
            return _write_operator(term)


def _bracketed(term: Term) -> str:
    text = write(term)
    return text if isinstance(term, Number | Symbol) or text.startswith("\\left(") else rf"\left({text}\right)"


def _write_function(term: Apply) -> str:
    texts = [write(argument) for argument in term.arguments]
    match term.name:
        case "root":
            return rf"\sqrt[{texts[1]}]{{{texts[0]}}}"
        case "abs":
            return rf"\left|{texts[0]}\right|"
        case "floor":
            return rf"\lfloor {texts[0]}\rfloor "
        case "ceil":
            return rf"\lceil {texts[0]}\rceil "
        case "factorial":
            return rf"{_bracketed(term.arguments[0])}!"
        case "binom":
            return rf"\binom{{{texts[0]}}}{{{texts[1]}}}"
    name = term.name if len(term.name) == 1 else _FUNCTION_COMMANDS.get(term.name, f"\\{term.name}")
    return rf"{name}\left({', '.join(texts)}\right)"


_FUNCTION_COMMANDS = {"asin": "\\arcsin", "acos": "\\arccos", "atan": "\\arctan", "asinh": "\\operatorname{arcsinh}"}


def _write_operator(term: Operator) -> str:
    below = "" if term.lower is None else write(term.lower)
    if term.letter and term.name in ("\\sum", "\\prod"):
        below = f"{term.letter}={below}"
    elif term.name == "\\lim":
        below = rf"{term.letter}\to {below}"
    bounds = (rf"_{{{below}}}" if below else "") + ("" if term.upper is None else rf"^{{{write(term.upper)}}}")
    end = rf"\, d{term.letter}" if term.name == "\\int" else ""
    return rf"{term.name}{bounds} {_bracketed(term.body)}{end}"
