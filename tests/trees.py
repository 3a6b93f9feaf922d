r"""Random expressions, printed in five styles: by sympy, by hand, with few brackets, with all of them, plain."""

import random
from fractions import Fraction

import sympy

from nsr_trl.verifier.terms import Apply, Negative, Number, Power, Product, Quotient, Sum, Symbol, Term, write


LETTERS = ("x", "y", "a", "\\theta", "\\alpha", "x_1", "n")
FUNCTIONS = ("sin", "cos", "tan", "ln", "exp", "root", "abs", "atan", "log")


def random_term(rng: random.Random, depth: int = 3) -> Term:
    """An expression of letters and numbers below 10: of larger ones a sine is in degrees."""
    if depth == 0 or rng.random() < 0.2:
        if rng.random() < 0.5:
            return Symbol(rng.choice(LETTERS if rng.random() < 0.9 else ("\\pi", "e")))
        return Number(Fraction(rng.randint(2, 9)))
    kind = rng.randrange(7)
    part = lambda: random_term(rng, depth - 1)  # noqa: E731
    if kind == 0:
        return Sum(tuple(Negative(part()) if rng.random() < 0.4 and i else part() for i in range(rng.randint(2, 3))))
    if kind in (1, 2):
        return Product((part(), part()))
    if kind == 3:
        return Quotient(part(), part())
    if kind == 4:
        if rng.random() < 0.7:
            return Power(part(), Number(Fraction(rng.randint(2, 4))))
        return Power(Symbol(rng.choice(LETTERS)), part())  # of a letter: towers of numbers fill the memory
    name = rng.choice(FUNCTIONS)
    if name == "root":
        return Apply("root", (part(), Number(Fraction(rng.choice((2, 2, 3))))))
    if name == "log":
        return Quotient(Apply("ln", (part(),)), Apply("ln", (Number(Fraction(rng.choice((2, 3, 10)))),)))
    return Apply(name, (part(),))


# --- sympy -----------------------------------------------------------------------------------------------------------

_SYMPY = {"sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "ln": sympy.log, "exp": sympy.exp, "abs": sympy.Abs}
_SYMPY |= {"atan": sympy.atan, "root": sympy.root}


def to_sympy(term: Term) -> sympy.Expr:
    match term:
        case Number(value):
            return sympy.Rational(value.numerator, value.denominator)
        case Symbol(name):
            return {"e": sympy.E, "\\pi": sympy.pi}.get(name) or sympy.Symbol(name.removeprefix("\\"))
        case Negative(inner):
            return -to_sympy(inner)
        case Sum(terms):
            return sympy.Add(*map(to_sympy, terms))
        case Product(factors):
            return sympy.Mul(*map(to_sympy, factors))
        case Quotient(top, bottom):
            return to_sympy(top) / to_sympy(bottom)
        case Power(base, exponent):
            return to_sympy(base) ** to_sympy(exponent)
        case Apply(name, arguments):
            return _SYMPY[name](*map(to_sympy, arguments))
    raise AssertionError(term)


def by_sympy(term: Term) -> str:
    return sympy.latex(to_sympy(term), ln_notation=True)


# --- By hand ---------------------------------------------------------------------------------------------------------


def by_hand(term: Term) -> str:
    r"""`2x\sin 3x`, `\frac{x+1}{2}`, `\sin^2 x`: without signs and brackets where they can be left out."""
    match term:
        case Number(value):
            return str(value)
        case Symbol(name):
            return name + (" " if name[0] == "\\" else "")
        case Negative(inner):
            return f"-{_factor_by_hand(inner)}"
        case Sum(terms):
            texts = [by_hand(part) for part in terms]
            return texts[0] + "".join(text if text[0] == "-" else f"+{text}" for text in texts[1:])
        case Product(factors):
            return _product_by_hand(factors)
        case Quotient(Apply("ln", (argument,)), Apply("ln", (Number(base),))):
            return rf"\log_{{{base}}}({by_hand(argument)})"
        case Quotient(top, bottom):
            return rf"\frac{{{by_hand(top)}}}{{{by_hand(bottom)}}}"
        case Power(Apply(name, (argument,)), Number(exponent)) if name in ("sin", "cos", "tan"):
            return rf"\{name}^{{{exponent}}}{_argument_by_hand(argument)}"
        case Power(base, exponent):
            is_simple = isinstance(base, Symbol) or (isinstance(base, Number) and base.value >= 0)
            return f"{by_hand(base).strip() if is_simple else f'({by_hand(base)})'}^{{{by_hand(exponent)}}}"
        case Apply("root", (radicand, Number(index))):
            return rf"\sqrt{{{by_hand(radicand)}}}" if index == 2 else rf"\sqrt[{index}]{{{by_hand(radicand)}}}"
        case Apply("abs", (argument,)):
            return rf"\left|{by_hand(argument)}\right|"
        case Apply("exp", (argument,)):
            return rf"e^{{{by_hand(argument)}}}"
        case Apply(name, (argument,)):
            return ("\\arctan" if name == "atan" else f"\\{name}") + _argument_by_hand(argument)
    raise AssertionError(term)


def _argument_by_hand(argument: Term) -> str:
    is_bare = isinstance(argument, Symbol) or (
        isinstance(argument, Product)
        and isinstance(argument.factors[0], Number)
        and len(argument.factors) == 2
        and isinstance(argument.factors[1], Symbol)
    )
    return f" {by_hand(argument)}" if is_bare else f"({by_hand(argument)})"


def _factor_by_hand(term: Term) -> str:
    text = by_hand(term)
    is_sum = isinstance(term, Sum | Negative)
    return f"({text})" if is_sum else text


def _product_by_hand(factors: tuple[Term, ...]) -> str:
    """Factors side by side; a sign where digits or functions would run into each other, or letters into a word."""
    text = ""
    for factor in factors:
        piece = _factor_by_hand(factor)
        is_word = text[-1:] == piece[0]
        is_apart = piece[0].isdigit() or not _ends_cleanly(text) or piece.startswith("\\frac") or is_word
        text += rf" \cdot {piece}" if text and is_apart else piece
    return text


def _ends_cleanly(text: str) -> bool:
    """Whether what follows cannot be taken into an argument or a name."""
    return text.strip()[-1:] in set(")}|") or text.strip() in LETTERS or text.isdigit()


# --- Few brackets ----------------------------------------------------------------------------------------------------

_LEVELS = {Sum: 1, Negative: 2, Product: 3, Quotient: 3, Power: 5}


def with_few_brackets(term: Term, level: int = 0) -> str:
    r"""Signs everywhere, and brackets only where the order of operations asks for them."""
    text = _with_few_brackets(term)
    return rf"({text})" if _LEVELS.get(type(term), 9) < level else text


def _with_few_brackets(term: Term) -> str:
    match term:
        case Number(value):
            return str(value)
        case Symbol(name):
            return name + " "
        case Negative(inner):
            return "-" + with_few_brackets(inner, 3)
        case Sum(terms):
            texts = [with_few_brackets(part, 2) for part in terms]
            return " + ".join(texts).replace("+ -", "- ")
        case Product(factors):
            return r" \cdot ".join(with_few_brackets(factor, 3 if i == 0 else 4) for i, factor in enumerate(factors))
        case Quotient(top, bottom):
            return f"{with_few_brackets(top, 3)} / {with_few_brackets(bottom, 4)}"
        case Power(base, exponent):
            return f"{with_few_brackets(base, 6).strip()}^{{{with_few_brackets(exponent)}}}"
        case Apply("root", (radicand, Number(index))):
            return rf"\sqrt[{index}]{{{with_few_brackets(radicand)}}}"
        case Apply("abs", (argument,)):
            return f"|{with_few_brackets(argument)}|"
        case Apply(name, (argument,)):
            return ("\\arctan" if name == "atan" else f"\\{name}") + f"({with_few_brackets(argument)})"
    raise AssertionError(term)


# --- Plain text ------------------------------------------------------------------------------------------------------


def plain(term: Term) -> str:
    """As a program would print it: `sqrt(x + 1)*sin(x)/(2*y)**2`."""
    match term:
        case Number(value):
            return str(value)
        case Symbol(name):
            return name.removeprefix("\\")
        case Negative(inner):
            return f"-({plain(inner)})"
        case Sum(terms):
            return f"({' + '.join(map(plain, terms))})".replace("+ -", "- ")
        case Product(factors):
            return "*".join(
                f"({plain(factor)})" if isinstance(factor, Quotient | Negative) else plain(factor)
                for factor in factors
            )
        case Quotient(top, bottom):
            return f"({plain(top)})/({plain(bottom)})"
        case Power(base, exponent):
            return f"({plain(base)})**({plain(exponent)})"
        case Apply("root", (radicand, Number(index))):
            return f"sqrt({plain(radicand)})" if index == 2 else f"({plain(radicand)})**(1/{index})"
        case Apply("abs", (argument,)):
            return f"|{plain(argument)}|"
        case Apply(name, (argument,)):
            return f"{'arctan' if name == 'atan' else name}({plain(argument)})"
    raise AssertionError(term)


STYLES = {
    "sympy": by_sympy,
    "by hand": by_hand,
    "few brackets": with_few_brackets,
    "left and right": write,
    "plain": plain,
}
