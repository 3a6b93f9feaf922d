"""Which expressions may be passed to sympy: those within limits, made of what it knows.

Plain Python, so that a pair which a worker would refuse is not sent to one.
"""

from .terms import Apply, Number, Operator, Power, Symbol, Term, letters, walk
from .verdict import Rule


MAX_NODES = 150
"""Most nodes of an expression."""
MAX_BITS = 64
"""Longest number, about 18 digits."""
MAX_SIZE = 999
"""Largest number in an exponent, a factorial or a binomial coefficient."""

KNOWN_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc asin acos atan sinh cosh tanh exp ln root abs floor ceil factorial binom".split()
)


def refusal(term: Term) -> Rule | None:
    """
    Why an expression is not given to computer algebra, if it is not.

    Args:
        term (`Term`):
            The expression.

    Returns:
        [`~verdict.Rule`] or `None`:
            Too large, left open, or `None` if it may be tried.
    """
    for num_nodes, part in enumerate(walk(term)):
        if num_nodes >= MAX_NODES or _is_too_large(part):
            return Rule.TOO_LARGE
        if isinstance(part, Apply) and part.name not in KNOWN_FUNCTIONS:
            return Rule.EXPRESSION_OPEN
        if isinstance(part, Operator) and (
            _is_indefinite(part) or _is_over_a_sequence(part) or _has_functions_of_functions(part.body)
        ):
            return Rule.EXPRESSION_OPEN
    return None


def _is_too_large(term: Term) -> bool:
    match term:
        case Number(value):
            return max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS
        case Power(_, exponent):
            return _is_tower(exponent) or _largest(exponent) > MAX_SIZE
        case Apply("factorial" | "binom", arguments):
            return any(_is_tower(argument) or _largest(argument) > MAX_SIZE for argument in arguments)
    return False


def _is_tower(term: Term) -> bool:
    """Whether there is a power or a factorial within, to which another one is applied."""
    return any((isinstance(part, Power) and not letters(part)) or _is_factorial(part) for part in walk(term))


def _is_factorial(term: Term) -> bool:
    return isinstance(term, Apply) and term.name == "factorial"


def _largest(term: Term) -> float:
    return max((abs(float(part.value)) for part in walk(term) if isinstance(part, Number)), default=0.0)


def _is_indefinite(operator: Operator) -> bool:
    r"""`\int x dx`, which is equal to what it stands for but for a constant."""
    return operator.name == "\\int" and operator.lower is None and operator.upper is None


def _is_over_a_sequence(operator: Operator) -> bool:
    r"""`\sum F_k`: a letter whose index runs, of which nothing is known."""
    return any(
        isinstance(part, Symbol) and operator.letter in part.name.partition("_")[2] for part in walk(operator.body)
    )


def _has_functions_of_functions(body: Term) -> bool:
    r"""`\int \sin(\sin x) dx`, over which sympy takes all the time that it is given."""
    outer = (part for part in walk(body) if isinstance(part, Apply))
    return any(isinstance(part, Apply) for apply in outer for argument in apply.arguments for part in walk(argument))


def has_operator(term: Term) -> bool:
    """Whether a LaTeX parser has to be asked: for sums, products, integrals and limits."""
    return any(isinstance(part, Operator) for part in walk(term))
