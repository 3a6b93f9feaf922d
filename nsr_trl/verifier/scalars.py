r"""Numbers, quantities and expressions: two of them go in, a decision comes out.

Numbers are compared exactly. Equality of expressions is proved by exact algebra, difference by their terms or by their
values; what neither decides is handed on, to computer algebra.
"""

import re
from collections.abc import Callable
from fractions import Fraction

from . import algebra, numeric
from .decision import Decision, differ, same, unknown
from .expressions import ACCENTS, NotUnderstoodError, TooLargeError, in_radians
from .forms import without
from .guards import has_operator
from .nodes import Scalar
from .terms import Negative, Number, Power, Product, Quotient, Symbol, Term, integer_of, letters, substitute, walk
from .units import Unit, may_be_converted, scale_of
from .verdict import Rule


FLOAT_DIGITS = 12
"""From this many significant digits on, a decimal is the fraction that it is the rounding of."""

CompareOpen = Callable[[Term, Term], Rule]
"""Compares two expressions that neither exact algebra nor values decide."""

_SPELLED = re.compile("[a-z] [a-z] [a-z]|i n|o f|(?<![A-Z] )[IVXLCDM](?: [IVXLCDM])+(?! [A-Z])")
"""Letters with spaces between them that may be a word or a Roman number."""
_PARAMETERS = frozenset("kKnmlcCtsNZ")
"""Letters for any integer or any constant."""
_UNIT_LETTERS = frozenset([*"mgsNJWVALhKCkMBp", "\\Omega"])
"""A letter after a number that may be a unit, or thousands: `5m`, `5k`."""
_UNIT_RATIOS = frozenset([1, 10, 100, 1_000, 10_000, 10**6, 10**9, 60, 3_600])


def compare_scalars(answer: Scalar, gold: Scalar, compare_open: CompareOpen) -> Decision:
    """
    Compares numbers and expressions with their units.

    Args:
        answer ([`~nodes.Scalar`]):
            Of the answer.
        gold ([`~nodes.Scalar`]):
            Of the reference.
        compare_open (`Callable`):
            Compares two terms that are left open here.

    Returns:
        [`~decision.Decision`]

    Raises:
        TooLargeError: If a number is too large to be written.
    """
    if answer.unit and gold.unit and _are_converted(answer.unit, gold.unit):
        return _compare_converted(answer, gold, compare_open)
    try:
        values = algebra.value_of(answer.term), algebra.value_of(gold.term)
    except TooLargeError:
        if (_is_tower(answer.term) or _is_tower(gold.term)) and _is_one_small(answer.term, gold.term):
            return differ(Rule.NUMBER_DIFFERS, answer, gold)  # larger than what is written is
        if answer.term == gold.term:
            return same(Rule.EXPRESSION_SAME, answer, gold)
        if _are_powers_of_one_base(answer.term, gold.term):
            return differ(Rule.NUMBER_DIFFERS, answer, gold)
        raise
    if values[0] is not None and values[1] is not None:
        return _compare_numbers(answer, gold, values[0], values[1])
    return _compare_expressions(answer, gold, compare_open)


# --- Numbers ---


def _compare_numbers(answer: Scalar, gold: Scalar, value: Fraction, other: Fraction) -> Decision:
    if value == other:
        if is_literal(gold.term) and not is_literal(answer.term):
            return unknown(Rule.NUMBER_WORK_LEFT, answer, gold)  # the problem is not its answer
        return _with_units(answer, gold, Rule.NUMBER_SAME)
    if _may_be_one_angle(answer, gold):
        return unknown(Rule.QUANTITY_SCALE, answer, gold)
    if answer.unit and gold.unit and not _are_one_unit(answer.unit, gold.unit):
        return unknown(Rule.QUANTITY_UNIT, answer, gold)
    resolutions = resolution(answer.term), resolution(gold.term)
    if _is_float(value, resolutions[0], other, resolutions[1]) or _is_float(
        other, resolutions[1], value, resolutions[0]
    ):
        return same(Rule.NUMBER_SAME, answer, gold)
    if _may_be_other_unit(answer, gold, value, other):
        return unknown(Rule.QUANTITY_SCALE, answer, gold)
    if _may_be_rounding(value, other, *resolutions):
        return unknown(Rule.NUMBER_ROUNDING, answer, gold)
    return differ(Rule.NUMBER_DIFFERS, answer, gold)


def is_literal(term: Term) -> bool:
    """Whether a number is written as one: `8/2` and `2+2` are not, they leave work to do."""
    match term:
        case Number():
            return True
        case Negative(inner):
            return is_literal(inner)
        case Quotient(top, bottom):
            above, below = integer_of(top), integer_of(bottom)
            return above is not None and below not in (None, 0) and (below == 1 or above % below != 0)
        case Power(Number(Fraction(numerator=10, denominator=1)), exponent):
            return integer_of(exponent) is not None
    return False


def resolution(term: Term) -> Fraction:
    """One unit of the last decimal place that a term is written with; 0 without decimals."""
    return max((part.resolution for part in walk(term) if isinstance(part, Number)), default=Fraction(0))


def _is_float(written: Fraction, unit: Fraction, exact: Fraction, exact_unit: Fraction) -> bool:
    """Whether a decimal is the exact fraction to all the digits a computer prints."""
    if exact_unit or exact.denominator == 1 or not unit:
        return False
    return abs(written) >= unit * 10 ** (FLOAT_DIGITS - 1) and abs(written - exact) < unit


def _may_be_rounding(answer: Fraction, gold: Fraction, unit: Fraction, other_unit: Fraction) -> bool:
    """Whether one is the other to as many places as are written, or as many as a float holds."""
    difference = abs(answer - gold)
    if difference.denominator == 1 and unit == other_unit == 0:
        return False
    coarse = max(unit, other_unit)
    # of one significant digit, as in 0.3 for 1/3, nobody says that it is a rounding
    is_fine = coarse * 10 <= max(abs(answer), abs(gold))
    return (is_fine and difference < coarse) or difference < abs(gold) / 10 ** (6 if coarse else FLOAT_DIGITS)


def _is_tower(term: Term) -> bool:
    r"""Whether this is a power of a power of integers, `9^{9^{9}}`: too large to write means larger than what is."""
    match term:
        case Power(base, exponent):
            return (integer_of(base) or 0) > 1 and (_is_tower(exponent) or (integer_of(exponent) or 0) > 1)
    return False


def _are_powers_of_one_base(left: Term, right: Term) -> bool:
    """`2^{4951}` and `2^{4950}`."""
    match left, right:
        case Power(base, exponent), Power(other_base, other):
            exponents = integer_of(exponent), integer_of(other)
            is_one_base = base == other_base and (integer_of(base) or 0) > 1
            return is_one_base and None not in exponents and exponents[0] != exponents[1]
    return False


def _is_one_small(*terms: Term) -> bool:
    small = 0
    for term in terms:
        try:
            small += algebra.value_of(term) is not None
        except TooLargeError:
            continue
    return small == 1


# --- Units ---


def _are_one_unit(left: Unit, right: Unit) -> bool:
    if left.is_known and right.is_known:
        are_equal = (left.dimension, left.factor) == (right.dimension, right.factor)
        return are_equal or not left.dimension or not right.dimension
    return left.name == right.name


def _are_converted(left: Unit, right: Unit) -> bool:
    """Whether two units measure the same, and are not the same."""
    return left.is_known and right.is_known and left.dimension == right.dimension and left.factor != right.factor


def _compare_converted(answer: Scalar, gold: Scalar, compare_open: CompareOpen) -> Decision:
    r"""Compares quantities in the unit of the reference: `500 cents` is `\$5`, and `5 cents` is not."""
    assert answer.unit is not None
    assert gold.unit is not None
    ratio = answer.unit.factor / gold.unit.factor
    match answer.term:
        case Number(value, unit):
            term: Term = Number(value * ratio, unit * ratio)
        case _:
            term = Product((answer.term, Number(ratio)))
    decision = compare_scalars(Scalar(answer.tokens, term), Scalar(gold.tokens, gold.term), compare_open)
    if decision.is_correct:
        return same(Rule.QUANTITY_SAME, answer, gold)
    return differ(Rule.QUANTITY_DIFFERS, answer, gold) if decision.is_incorrect else decision


def _with_units(answer: Scalar, gold: Scalar, rule: Rule) -> Decision:
    """Equal numbers: a unit may be left out."""
    if not answer.unit or not gold.unit or _are_one_unit(answer.unit, gold.unit):
        return same(rule, answer, gold)
    return unknown(Rule.QUANTITY_UNIT, answer, gold)


def _may_be_other_unit(answer: Scalar, gold: Scalar, value: Fraction, other: Fraction) -> bool:
    """Whether different numbers may still be equal quantities: 5 dollars and 500, `2 million` and 2."""
    if value and other and {value / other, other / value} & _scales(answer, gold):
        return True
    if bool(answer.unit) == bool(gold.unit) or not value or not other:
        return False
    unit, ratio = (answer.unit, other / value) if answer.unit else (gold.unit, value / other)
    assert unit is not None
    return may_be_converted(unit, ratio)


def _scales(answer: Scalar, gold: Scalar) -> set[Fraction]:
    return {Fraction(scale) for token in answer.tokens + gold.tokens if (scale := scale_of(token))}


# --- Expressions ---


def _compare_expressions(answer: Scalar, gold: Scalar, compare_open: CompareOpen) -> Decision:
    left, right = answer.term, gold.term
    if _are_capitals(answer, gold):
        return unknown(Rule.EXPRESSION_LETTERS, answer, gold)
    if algebra.are_equal(left, right):
        if is_literal(right) and not is_literal(left):
            return unknown(Rule.NUMBER_WORK_LEFT, answer, gold)
        return _with_units(answer, gold, Rule.EXPRESSION_SAME)
    if (doubt := _doubt(answer, gold)) is not None:
        return unknown(doubt, answer, gold)
    has_decimals = bool(resolution(left) or resolution(right))
    are_apart = numeric.differ(left, right, numeric.ROUNDING if has_decimals else numeric.MARGIN)
    if are_apart:
        return differ(Rule.EXPRESSION_DIFFERS, answer, gold)
    if has_decimals:
        return unknown(Rule.NUMBER_ROUNDING, answer, gold)
    if _are_certain(left, right):
        return differ(Rule.EXPRESSION_DIFFERS, answer, gold)
    if are_apart is None and not (has_operator(left) or has_operator(right)):
        return unknown(Rule.EXPRESSION_OPEN, answer, gold)  # there is nothing to go by
    rule = compare_open(left, right)
    if rule is Rule.EXPRESSION_PROVED:
        if is_literal(right) and not is_literal(left):
            return unknown(Rule.NUMBER_WORK_LEFT, answer, gold)
        return _with_units(answer, gold, rule)
    return differ(rule, answer, gold) if rule is Rule.EXPRESSION_DIFFERS else unknown(rule, answer, gold)


def _are_certain(left: Term, right: Term) -> bool:
    """Whether terms that differ mean that values do."""
    try:
        return algebra.expand(left).is_certain and algebra.expand(right).is_certain
    except (NotUnderstoodError, TooLargeError):
        return False


def _doubt(answer: Scalar, gold: Scalar) -> Rule | None:
    """Why different expressions may yet mean the same, if they may."""
    if _bare_spelling(answer) == _bare_spelling(gold):
        return Rule.EXPRESSION_LETTERS
    if _may_be_one_angle(answer, gold):
        return Rule.QUANTITY_SCALE
    if _may_be_spelled_out(answer, gold) or _may_be_spelled_out(gold, answer):
        return Rule.EXPRESSION_LETTERS
    if _may_have_differential(answer, gold) or _may_have_differential(gold, answer):
        return Rule.EXPRESSION_LETTERS
    if answer.unit and gold.unit and not _are_one_unit(answer.unit, gold.unit):
        return Rule.QUANTITY_UNIT
    if _is_option(answer, gold) or _is_option(gold, answer):
        return Rule.OPTION_VALUE
    try:
        left, right = algebra.expand(answer.term), algebra.expand(gold.term)
        if _may_be_unit(left, right) or _may_be_unit(right, left) or _is_renamed(answer.term, gold.term):
            return Rule.EXPRESSION_LETTERS
        ratio = algebra.ratio(right, left)
    except (NotUnderstoodError, TooLargeError):
        return None
    if ratio and _may_be_other_unit(answer, gold, Fraction(1), ratio):
        return Rule.QUANTITY_SCALE
    return None


def _are_capitals(answer: Scalar, gold: Scalar) -> bool:
    """Whether both are capitals, which may be points or a permutation rather than factors."""
    tokens = answer.tokens + gold.tokens
    return max(len(answer.tokens), len(gold.tokens)) > 1 and all(token.isupper() for token in tokens)


def _bare_spelling(scalar: Scalar) -> str:
    r"""The text without what letters may be written with or without: capitals, `\vec`."""
    bare = [token for token in scalar.tokens if token not in ACCENTS]
    return "".join(bare if len(bare) == len(scalar.tokens) else without(tuple(bare), "{", "}")).lower()


def _may_be_spelled_out(scalar: Scalar, other: Scalar) -> bool:
    """Whether letters side by side, for what has none, may be a word: `XIV` for 14, `gcd`, `in`."""
    text = " ".join(token if len(token) == 1 and token.isalpha() else "1" for token in scalar.tokens)
    return not letters(other.term) and _SPELLED.search(text) is not None


def _may_have_differential(scalar: Scalar, other: Scalar) -> bool:
    r"""Whether a text may end in a differential that the other leaves out: `2x\,dx` for `2x`; an integral needs it."""
    end = scalar.tokens[-2:]
    is_differential = len(end) == 2 and end[0] == "d" and end[1].isalpha()
    return is_differential and "\\int" not in scalar.tokens and "d" not in other.tokens


def _may_be_one_angle(answer: Scalar, gold: Scalar) -> bool:
    r"""Whether one is in degrees and the other, to its places, the same in radians: `60^\circ` and `\frac\pi3`."""
    if _is_angle(answer) == _is_angle(gold):
        return False
    if letters(answer.term) or letters(gold.term):
        return any(part == Symbol("\\pi") for scalar in (answer, gold) for part in walk(scalar.term))
    degrees, other = (answer, gold) if _is_angle(answer) else (gold, answer)
    has_decimals = bool(resolution(degrees.term) or resolution(other.term))
    return not numeric.differ(
        in_radians(degrees.term), other.term, numeric.ROUNDING if has_decimals else numeric.MARGIN
    )


def _is_angle(scalar: Scalar) -> bool:
    is_degrees = scalar.unit is not None and scalar.unit.dimension == (("degrees", 1),)
    return is_degrees or "\\degree" in scalar.tokens


def _is_option(scalar: Scalar, other: Scalar) -> bool:
    r"""A lone capital that may be an option, for a number."""
    is_letter = len(scalar.tokens) == 1 and scalar.tokens[0] in "ABCDE"
    return is_letter and not letters(other.term)


def _may_be_unit(left: algebra.Expression, right: algebra.Expression) -> bool:
    """`5m` against `5`, where the letter may be a metre."""
    extra = left.generators - right.generators
    if not extra or not extra <= _UNIT_LETTERS or left.denominator != algebra.ONE or len(left.numerator) != 1:
        return False
    [(term, coefficient)] = left.numerator.items()
    bare = tuple(pair for pair in term if pair[0] not in extra)
    if right.numerator.keys() != {bare} or right.denominator != algebra.ONE:
        return False
    ratio = coefficient / right.numerator[bare]
    return ratio > 0 and max(ratio, 1 / ratio) in _UNIT_RATIOS


def _stem(name: str) -> str:
    r"""A letter without its index, its primes and what is above it: `v` of `v_0` and of `\vec v`."""
    return name.rpartition(" ")[2].partition("_")[0].rstrip("'")


def _is_renamed(left: Term, right: Term) -> bool:
    r"""A constant of integration more or less, `2\pi k` for `2\pi n`, `v_0` for `v`, or `2I` for `2i`."""
    names = letters(left), letters(right)
    extra = names[0] - names[1], names[1] - names[0]
    if (extra[0] | extra[1]) & {"I", "j"}:
        left, right = (substitute(substitute(term, "I", Symbol("i")), "j", Symbol("i")) for term in (left, right))
        return algebra.expand(left) == algebra.expand(right)
    stems = [{_stem(name): name for name in some} for some in extra]
    if len(extra[0]) == len(stems[0]) and stems[0] and stems[0].keys() == stems[1].keys():
        for stem, name in stems[0].items():
            left = substitute(left, name, Symbol(stems[1][stem])) if stem in (name, stems[1][stem]) else left
        return algebra.expand(left) == algebra.expand(right)
    if "C" in extra[0] | extra[1] and extra[0] | extra[1] <= _PARAMETERS:
        difference = algebra.subtract(algebra.expand(left), algebra.expand(right))
        if all(len(term) == 1 and term[0][0] in _PARAMETERS for term in difference):
            return True
    if len(extra[0]) != 1 or len(extra[1]) != 1 or not extra[0] | extra[1] <= _PARAMETERS:
        return False
    return algebra.expand(substitute(left, min(extra[0]), Symbol(min(extra[1])))) == algebra.expand(right)
