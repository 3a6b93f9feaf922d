r"""Equations, chains, names and conditions: what stands around a value goes in with it, a decision comes out."""

import math
from dataclasses import replace
from fractions import Fraction

from . import algebra, numeric
from .decision import Compare, Decision, differ, same, unknown, unless_same
from .expressions import NotUnderstoodError, TooLargeError
from .forms import letters_of, split
from .nodes import Chain, Collection, Conditioned, Equation, Inequality, Modular, Named, Node, Numbers, Scalar
from .normal_form import Form
from .scalars import resolution
from .terms import Negative, Sum, Symbol, Term, letters, substitute
from .verdict import Rule


# --- Equations ---


def compare_equations(answer: Node, gold: Node) -> Decision:
    """Equations are the same up to a factor, and differ where one has a solution that the other has not."""
    terms = [Sum((sides[0], Negative(sides[1]))) for node in (answer, gold) if (sides := _sides_of(node)) is not None]
    if len(terms) < 2:
        return unknown(Rule.EQUATION_OPEN, answer, gold)
    try:
        expressions = algebra.expand(terms[0]), algebra.expand(terms[1])
    except (NotUnderstoodError, TooLargeError):
        return unknown(Rule.EQUATION_OPEN, answer, gold)
    left, right = (algebra.without_negative_powers(expression.numerator) for expression in expressions)
    if algebra.is_multiple(left, right):
        return same(Rule.EQUATION_SAME, answer, gold)
    # a root of the numerator may be one of a denominator, and decimals may be roundings
    is_exact = not any(map(resolution, terms)) and all(one.denominator == algebra.ONE for one in expressions)
    names = sorted(letters(terms[0]) | letters(terms[1]))
    if is_exact and (_has_solution_without(left, right, names) or _has_solution_without(right, left, names)):
        return differ(Rule.EQUATION_DIFFERS, answer, gold)
    return unknown(Rule.EQUATION_OPEN, answer, gold)


_STARTS = (0.0, 0.71, 1.37, -2.3)
"""Values of the letters but one, from which a solution for that one is computed."""


def _has_solution_without(left: algebra.Polynomial, right: algebra.Polynomial, names: list[str]) -> bool:
    """Whether a real solution of one polynomial, of degree 1 or 2 in a letter, is certainly none of another."""
    for name in names:
        for start in _STARTS:
            others = {other: start + i / 7 for i, other in enumerate(names) if other != name}
            for root in _roots(left, name, others):
                value, size = _evaluate(right, others | {name: root})
                if abs(value) > 1e-6 * max(size, 1e-6):
                    return True
    return False


def _roots(polynomial: algebra.Polynomial, name: str, values: dict[str, float]) -> list[float]:
    """Real roots of a polynomial in one letter, of degree 1 or 2, given the values of the others."""
    by_power: dict[int, algebra.Polynomial] = {}
    for term, coefficient in polynomial.items():
        power = next((exponent for other, exponent in term if other == name), Fraction(0))
        if power not in (0, 1, 2):
            return []
        by_power.setdefault(int(power), {})[tuple(pair for pair in term if pair[0] != name)] = coefficient
    c, b, a = (_evaluate(by_power.get(power, {}), values)[0] for power in range(3))
    if abs(a) < 1e-9:
        return [-c / b] if abs(b) > 1e-6 else []
    square = b * b - 4 * a * c
    return [(-b + sign * math.sqrt(square)) / (2 * a) for sign in (1, -1)] if square > 1e-9 else []


def _evaluate(polynomial: algebra.Polynomial, values: dict[str, float]) -> tuple[float, float]:
    """The value of a polynomial and the size of its terms; not a number if it is made of more than letters."""
    total = size = 0.0
    for term, coefficient in polynomial.items():
        value = float(coefficient)
        for name, power in term:
            base = int(name[1:]) if name[0] == "#" else values.get(name, _CONSTANTS.get(name, math.nan))
            value *= base ** float(power) if base > 0 or (power.denominator == 1 and (base or power > 0)) else math.nan
        total, size = total + value, size + abs(value)
    return total, size


_CONSTANTS = {"e": math.e, "\\pi": math.pi}


def _sides_of(node: Node) -> tuple[Term, Term] | None:
    """The sides of `2x - y + 1 = 0`, and of `y = 2x + 1`, which is named `y`."""
    match node:
        case Equation(_, Scalar(_, left, None), Scalar(_, right, None)):
            return left, right
        case Named(_, ((name,),), Scalar(_, term, None)):
            return Symbol(name), term
    return None


def compare_equation_with_value(compare: Compare, answer: Node, gold: Node) -> Decision:
    r"""`a + b = 5` for `5` is contested, and so is what the equation is solved by; a number is no line."""
    equation, other = (answer, gold) if isinstance(answer, Equation) else (gold, answer)
    assert isinstance(equation, Equation)
    sides = _sides_of(equation)
    if sides is None or not isinstance(other, Scalar) or letters(other.term):
        return unknown(Rule.EQUATION_OPEN, answer, gold)
    pairs = [(side, other) if equation is answer else (other, side) for side in (equation.left, equation.right)]
    if not all(compare(*pair).is_incorrect for pair in pairs):
        return unknown(Rule.EQUATION_SIDE, answer, gold)
    names = letters(sides[0]) | letters(sides[1])
    if len(names) > 1 and equation is gold:
        return differ(Rule.KIND_DIFFERS, answer, gold)
    left, right = (substitute(side, min(names, default=""), other.term) for side in sides)
    if len(names) == 1 and numeric.differ(left, right):
        return differ(Rule.EQUATION_DIFFERS, answer, gold)
    return unknown(Rule.EQUATION_SIDE, answer, gold)


def compare_inequalities(compare: Compare, answer: Inequality, gold: Inequality) -> Decision:
    """Inequalities that are no intervals: side by side."""
    if answer.operators == gold.operators:
        decisions = [compare(*sides) for sides in zip(answer.sides, gold.sides, strict=True)]
        if all(decision.is_correct for decision in decisions):
            return same(Rule.TUPLE_SAME, answer, gold)
    return unknown(Rule.EQUATION_OPEN, answer, gold)


# --- Chains ---

FAR = 0.1
"""Relative difference from which on a rounding is none."""


def compare_chains(compare: Compare, answer: Node, gold: Node) -> Decision:
    r"""`2 + 3 = 5`, `\frac13 \approx 0.33`, `\frac12 (0.5)`: the last exact value counts, if all of them agree."""
    if isinstance(gold, Chain):
        return _compare_with_chain_of_gold(compare, answer, gold)
    assert isinstance(answer, Chain)
    if not answer.sides:
        return _compare_roundings(compare, answer, gold, answer.roundings[-1], gold)
    decisions = [compare(side, gold) for side in answer.sides[::-1]]
    if any(decision.is_correct for decision in decisions):
        holds = _holds(compare, answer)
        return same(Rule.CHAIN_SAME, answer, gold) if holds else unknown(Rule.CHAIN_BROKEN, answer, gold)
    if all(decision.is_incorrect for decision in (*decisions, *(compare(part, gold) for part in answer.roundings))):
        return differ(Rule.CHAIN_DIFFERS, answer, gold)
    return unknown(Rule.CHAIN_BROKEN, answer, gold) if decisions[0].is_incorrect else decisions[0]


def _compare_with_chain_of_gold(compare: Compare, answer: Node, gold: Chain) -> Decision:
    """A reference in several forms, any of which may be the answer."""
    if not gold.sides:
        return _compare_roundings(compare, answer, gold, answer, gold.roundings[-1])
    decisions = [compare(answer, part) for part in (*gold.sides[::-1], *gold.roundings)]
    if any(decision.is_correct for decision in decisions):
        return same(Rule.CHAIN_SAME, answer, gold)
    if all(decision.is_incorrect for decision in decisions):
        return differ(Rule.CHAIN_DIFFERS, answer, gold)
    return next(decision for decision in decisions if not decision.is_incorrect)


def _compare_roundings(compare: Compare, answer: Node, gold: Node, value: Node, other: Node) -> Decision:
    """One side is only approximate: what is close is contested."""
    decision = compare(value, other)
    if decision.is_correct:
        return same(Rule.CHAIN_SAME, answer, gold)
    return (
        decision if decision.is_incorrect and _are_far(value, other) else unknown(Rule.NUMBER_ROUNDING, answer, gold)
    )


def _holds(compare: Compare, chain: Chain) -> bool:
    """Whether the values of a chain are equal, as far as they have no letters, and its roundings close."""
    last = chain.sides[-1]
    constant = [side for side in chain.sides[:-1] if not letters_of(side.tokens)]
    return not any(compare(side, last).is_incorrect and not _is_share(side, last) for side in constant) and not any(
        compare(rounding, last).is_incorrect and (_are_far(rounding, last) and not _is_share(rounding, last))
        for rounding in chain.roundings
    )


def _are_far(left: Node, right: Node) -> bool:
    values = [
        numeric.real_value(node.term) for node in (left, right) if isinstance(node, Scalar) and not letters(node.term)
    ]
    if len(values) < 2 or values[0] is None or values[1] is None:
        return True
    distance = abs(values[0] - values[1])
    unit = max(resolution(node.term) for node in (left, right) if isinstance(node, Scalar))
    return distance > FAR * max(abs(values[0]), abs(values[1])) and distance > unit


def _is_share(left: Node, right: Node) -> bool:
    r"""Whether one is the other in percent: `0.5 = 50\%`."""
    if not (isinstance(left, Scalar) and isinstance(right, Scalar)) or bool(left.unit) == bool(right.unit):
        return False
    values = [algebra.value_of(node.term) for node in (left, right)]
    unit = left.unit or right.unit
    shares = sorted(value for value in values if value is not None)
    is_percent = unit is not None and unit.dimension == (("percent", 1),)
    return is_percent and len(shares) == 2 and shares[0] * 100 == shares[1]


# --- Names ---


def compare_named(compare: Compare, answer: Node, gold: Node) -> Decision:
    r"""A name may be left out; `y = 2x` may be `x = \frac{y}{2}`; who knows about `x = 2` for `y = 2`."""
    if isinstance(answer, Named) and isinstance(gold, Named):
        return _compare_two_names(compare, answer, gold)
    named, other = (answer, gold) if isinstance(answer, Named) else (gold, answer)
    assert isinstance(named, Named)
    if isinstance(other, Equation) and not isinstance(named.value, Equation):
        decision = compare_equations(answer, gold)
        is_solved = isinstance(named.value, Scalar) and not letters(named.value.term)
        return unless_same(decision, Rule.EQUATION_SIDE) if is_solved else decision
    if named is gold and "\\in" in gold.tokens and isinstance(answer, Inequality):
        return unless_same(compare(answer, named.value), Rule.INTERVAL_FORM)
    value: Node = named.value
    if len(named.names) > 1 and isinstance(other, Collection):  # x = y = 0 for (0, 0)
        value = Collection(named.tokens, (named.value,) * len(named.names), other.brackets)
    return compare(value, other) if named is answer else compare(other, value)


def _compare_two_names(compare: Compare, answer: Named, gold: Named) -> Decision:
    if (reordered := _in_order_of(gold, answer)) is not None:
        return compare(reordered, gold.value)
    if set(map("".join, answer.names)) & set(map("".join, gold.names)):
        return compare(answer.value, gold.value)
    are_letters = all(map(_is_lone_letter, (answer.names[0], gold.names[0])))
    if are_letters and (_is_function(answer.value) or _is_function(gold.value)):
        return compare_equations(answer, gold)
    decision = compare(answer.value, gold.value)
    if decision.is_correct and not isinstance(answer.value, Numbers):
        are_described = any(all(len(token) > 1 for token in node.names[0]) for node in (answer, gold))
        return (
            decision
            if are_described or _are_function_and_y(answer, gold)
            else unknown(Rule.NAME_DIFFERS, answer, gold)
        )
    if decision.is_incorrect and any("(" in node.names[0] and _is_function(node.value) for node in (answer, gold)):
        return unknown(Rule.NAME_DIFFERS, answer, gold)  # P(x) = x^2 is P(t) = t^2
    return decision


def _in_order_of(gold: Named, answer: Named) -> Collection | None:
    """The value of `(p, r, q) = (3, 7, 2)` in the order of `(p, q, r)`."""
    orders = [tuple(map("".join, split(node.names[0][1:-1], {","}))) for node in (answer, gold)]
    if sorted(orders[0]) != sorted(orders[1]) or len(set(orders[0])) < 2 or answer.names[0][0] != "(":
        return None
    if not isinstance(answer.value, Collection) or len(answer.value.items) != len(orders[0]):
        return None
    by_name = dict(zip(orders[0], answer.value.items, strict=True))
    return replace(answer.value, items=tuple(by_name[name] for name in orders[1]))


def _are_function_and_y(answer: Named, gold: Named) -> bool:
    """`f(x)` and `y`, which are mostly the same."""
    names = sorted((answer.names[0], gold.names[0]), key=len)
    return names[0] == ("y",) and names[1][1:2] == ("(",) and len(names[1]) == 4


def _is_lone_letter(name: Form) -> bool:
    return len(name) == 1 and len(name[0].lstrip("\\")) == 1


def _is_function(node: Node) -> bool:
    return isinstance(node, Scalar) and bool(letters(node.term))


# --- Conditions and remainders ---


def compare_conditioned(compare: Compare, answer: Node, gold: Node) -> Decision:
    r"""`\frac1x, x \ne 0` is `\frac1x`; a condition that says more than where a formula is defined is contested."""
    sides = [(node.value, node.conditions) if isinstance(node, Conditioned) else (node, ()) for node in (answer, gold)]
    (value, conditions), (other, other_conditions) = sides
    decision = compare(_renamed(value, conditions, other_conditions), other)
    if decision.is_correct:
        are_alike = _are_alike(compare, conditions, other_conditions)
        return decision if are_alike else unknown(Rule.CONDITION_DIFFERS, answer, gold)
    if decision.is_incorrect and (_parameters(conditions) or _parameters(other_conditions)):
        return unknown(Rule.CONDITION_DIFFERS, answer, gold)  # a family may be numbered otherwise
    return decision


def _are_alike(compare: Compare, conditions: tuple[Node, ...], others: tuple[Node, ...]) -> bool:
    left, right = ([one for one in some if not _is_harmless(one)] for some in (conditions, others))
    if len(left) != len(right):
        return False
    return all(any(compare(one, other).is_correct for other in right) for one in left)


def _is_harmless(condition: Node) -> bool:
    r"""Where a formula is defined: `x \ne 0`, `n \ge 1`, `x > 0`, `|r| < 1`, `k \in \Z`."""
    if isinstance(condition, Named):
        return isinstance(condition.value, Numbers)
    if not isinstance(condition, Inequality):
        return False
    if condition.operators == ("\\ne",):
        return True
    low, high = condition.sides[0], condition.sides[-1]
    if len(condition.sides) == 2 and isinstance(low, Scalar) and isinstance(high, Scalar):
        bound = algebra.value_of(low.term)
        is_below = bound is not None and 0 <= bound <= 2 and isinstance(high.term, Symbol)
        return is_below or (algebra.value_of(high.term) == 1 and "|" in low.tokens)
    return False


def _parameters(conditions: tuple[Node, ...]) -> list[str]:
    """Letters that stand for any integer."""
    return [
        condition.names[0][0]
        for condition in conditions
        if isinstance(condition, Named) and isinstance(condition.value, Numbers) and condition.value.letter in "ZN"
    ]


def _renamed(value: Node, conditions: tuple[Node, ...], others: tuple[Node, ...]) -> Node:
    """A value with the letter for any integer that the other side uses."""
    names = _parameters(conditions), _parameters(others)
    if len(names[0]) != 1 or len(names[1]) != 1 or names[0] == names[1]:
        return value
    if isinstance(value, Named):
        return Named(value.tokens, value.names, _renamed(value.value, conditions, others))
    if not isinstance(value, Scalar) or names[1][0] in letters(value.term):
        return value
    return Scalar(value.tokens, substitute(value.term, names[0][0], Symbol(names[1][0])), value.unit)


def compare_remainders(compare: Compare, answer: Node, gold: Node) -> Decision:
    r"""`3 \pmod{17}` is `3`; `20 \pmod{17}` is of the same remainder."""
    numbers = _whole_numbers([node.value if isinstance(node, Modular) else node for node in (answer, gold)])
    moduli = _whole_numbers([node.modulus for node in (answer, gold) if isinstance(node, Modular)])
    if len(numbers) < 2 or len(set(moduli)) != 1 or not moduli[0]:
        return unknown(Rule.REMAINDER_OTHER, answer, gold)
    if numbers[0] == numbers[1]:
        return same(Rule.REMAINDER_SAME, answer, gold)
    if (numbers[0] - numbers[1]) % moduli[0]:
        return differ(Rule.REMAINDER_DIFFERS, answer, gold)
    is_told_twice = isinstance(answer, Modular) and isinstance(gold, Modular)
    return same(Rule.REMAINDER_SAME, answer, gold) if is_told_twice else unknown(Rule.REMAINDER_OTHER, answer, gold)


def _whole_numbers(nodes: list[Node]) -> list[int]:
    values = [algebra.value_of(node.term) for node in nodes if isinstance(node, Scalar)]
    return [int(value) for value in values if value is not None and value.denominator == 1]
