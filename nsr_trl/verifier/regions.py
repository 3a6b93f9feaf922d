r"""Sets of real numbers: intervals, unions, inequalities in one letter, `\R` without some points.

A region is a row of pieces from left to right, each with its ends; pieces that touch are one. Two regions are the same
exactly if their pieces are.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cmp_to_key
from itertools import pairwise

from . import algebra, numeric
from .decision import Decision, differ, same, unknown
from .expressions import TooLargeError
from .nodes import (
    Collection,
    Difference,
    Inequality,
    Infinite,
    Intersection,
    Named,
    Node,
    Numbers,
    Scalar,
    Union,
    is_interval,
    is_pair,
    parts_of,
)
from .terms import Apply, Negative, Number, Sum, Symbol, Term, letters
from .verdict import Rule


class UnclearError(ValueError):
    """It cannot be told which real numbers are meant."""


@dataclass(frozen=True, slots=True)
class End:
    """
    An end of a piece.

    Attributes:
        value (`float`):
            Where it is, to order ends by; equal ends may differ in the last digits.
        term (`Term` or `None`):
            Where it is exactly; `None` of infinity.
        is_closed (`bool`):
            Whether it belongs to the piece.
    """

    value: float
    term: Term | None
    is_closed: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """All numbers between two ends, or a point where the ends are equal."""

    low: End
    high: End


Region = tuple[Piece, ...]

_BELOW = End(float("-inf"), None, False)
_ABOVE = End(float("inf"), None, False)
_POSITIVE: Region = (Piece(End(1.0, Number(Fraction(1)), True), _ABOVE),)
_EVERYTHING: Region = (Piece(_BELOW, _ABOVE),)


def region_of(node: Node) -> Region:
    """
    The real numbers that a node means.

    Args:
        node ([`~nodes.Node`]):
            A node.

    Returns:
        `tuple[Piece, ...]`

    Raises:
        UnclearError: If it is none of these, or its ends are no real numbers that are known.
    """
    match node:
        case Named():
            return region_of(node.value)
        case Numbers() if node.letter == "R":
            return _EVERYTHING
        case Collection() if is_pair(node):
            return _interval(node)
        case Collection() if node.brackets == "\\{\\}":
            return _join([_point(item) for item in node.items])
        case Collection() if not node.brackets and all(map(is_pair, node.items)):
            return _join([piece for item in node.items for piece in region_of(item)])
        case Inequality():
            return _solutions(node)
        case Union():
            return _join([piece for item in node.items for piece in region_of(item)])
        case Intersection():
            _check_one_letter(node)
            region = _EVERYTHING
            for item in node.items:
                region = _meet(region, region_of(item))
            if not region:
                raise UnclearError  # "or" may be meant
            return region
        case Difference():
            return _meet(region_of(node.whole), _outside(region_of(node.removed)))
    raise UnclearError


def compare_regions(answer: Node, gold: Node) -> Decision:
    """Whether two nodes mean the same real numbers."""
    try:
        regions = region_of(answer), region_of(gold)
        if _are_equal(*regions):
            names = _letters(answer), _letters(gold)
            is_renamed = bool(names[0] and names[1]) and names[0] != names[1]
            return unknown(Rule.NAME_DIFFERS, answer, gold) if is_renamed else same(Rule.INTERVAL_SAME, answer, gold)
        if _are_counting(answer, gold):
            regions = _meet(regions[0], _POSITIVE), _meet(regions[1], _POSITIVE)
        if _hold_the_same_integers(*regions) and (_letters(answer) or _letters(gold)):
            return unknown(Rule.INTERVAL_INTEGERS, answer, gold)
    except (UnclearError, TooLargeError):
        return unknown(Rule.KIND_OPEN, answer, gold)
    return differ(Rule.INTERVAL_DIFFERS, answer, gold)


def is_region(node: Node) -> bool:
    """Whether a node certainly means a set of real numbers, rather than a point or a list."""
    match node:
        case Inequality() | Union() | Intersection() | Difference() | Numbers():
            return True
        case Named():
            return is_region(node.value)
    return is_interval(node)


# --- Ends ---


def _end(node: Node, is_closed: bool) -> End:
    if isinstance(node, Infinite):
        return End(float("inf") * node.sign, None, False)
    if not isinstance(node, Scalar) or letters(node.term) or node.unit:
        raise UnclearError
    value = numeric.real_value(node.term)
    if value is None:
        raise UnclearError
    return End(value, node.term, is_closed)


def _order(left: End, right: End) -> int:
    """Which end is further left; ends that are close have to be equal exactly."""
    if left.term is None or right.term is None:
        return (left.value > right.value) - (left.value < right.value)
    if abs(left.value - right.value) > 1e-9 * max(abs(left.value), abs(right.value), 1):
        return 1 if left.value > right.value else -1
    if algebra.are_equal(left.term, right.term):
        return 0
    exact = [algebra.value_of(end.term) for end in (left, right) if end.term is not None]
    if len(exact) == 2 and exact[0] is not None and exact[1] is not None:
        return 1 if exact[0] > exact[1] else -1
    raise UnclearError


def _point(node: Node) -> Piece:
    end = _end(node, is_closed=True)
    return Piece(end, end)


def _interval(node: Collection) -> Region:
    low, high = _end(node.items[0], node.brackets[0] == "["), _end(node.items[1], node.brackets[1] == "]")
    if _order(low, high) >= 0:
        raise UnclearError
    return (Piece(low, high),)


def _solutions(node: Inequality) -> Region:
    r"""`2 < x \le 5`, `x \ne 2`, `|x| < 2`."""
    letter = _letter(node)
    if node.operators == ("\\ne",):
        place = 1 if _is_letter(node.sides[0], letter) else 0
        if not _is_letter(node.sides[1 - place], letter):
            raise UnclearError
        return _outside(_join([_point(node.sides[place])]))
    region = _EVERYTHING
    for (left, right), operator in zip(pairwise(node.sides), node.operators, strict=True):
        region = _meet(region, _half_line(left, right, operator == "\\le", letter))
    return region


def _half_line(left: Node, right: Node, is_closed: bool, letter: str) -> Region:
    if _is_letter(left, letter):
        return (Piece(_BELOW, _end(right, is_closed)),)
    if _is_letter(right, letter):
        return (Piece(_end(left, is_closed), _ABOVE),)
    if (center := _center(left, letter)) is not None:  # |x - 1| < 2
        low, high = _around(center, _end(right, is_closed))
        return (Piece(low, high),)
    if (center := _center(right, letter)) is not None:
        low, high = _around(center, _end(left, is_closed))
        return (Piece(_BELOW, low), Piece(high, _ABOVE))
    raise UnclearError


def _around(center: Fraction, distance: End) -> tuple[End, End]:
    """The two ends at a distance from a centre."""
    if distance.term is None or distance.value <= 0:
        raise UnclearError
    low, high = (Sum((Number(center), term)) for term in (Negative(distance.term), distance.term))
    middle, size, is_closed = float(center), distance.value, distance.is_closed
    return End(middle - size, low, is_closed), End(middle + size, high, is_closed)


def _letters(node: Node) -> frozenset[str]:
    """The letters that a node says something of."""
    if isinstance(node, Scalar):
        return letters(node.term)
    return frozenset().union(*map(_letters, parts_of(node)))


def _letter(node: Inequality) -> str:
    names = {name for part in node.sides if isinstance(part, Scalar) for name in letters(part.term)}
    if len(names) != 1:
        raise UnclearError
    return names.pop()


def _check_one_letter(node: Intersection) -> None:
    names = {_letter(item) for item in node.items if isinstance(item, Inequality)}
    if len(names) > 1:
        raise UnclearError


def _is_letter(node: Node, letter: str) -> bool:
    return isinstance(node, Scalar) and node.term == Symbol(letter)


def _center(node: Node, letter: str) -> Fraction | None:
    """The 1 of `|x - 1|`; `None` if this is no distance."""
    if not (isinstance(node, Scalar) and isinstance(node.term, Apply) and node.term.name == "abs"):
        return None
    if node.term.arguments == (Symbol(letter),):
        return Fraction(0)
    try:
        return algebra.value_of(Sum((Symbol(letter), Negative(node.term.arguments[0]))))
    except TooLargeError:
        return None


# --- Regions ---


def _join(pieces: list[Piece]) -> Region:
    """Pieces from left to right, those that touch made one."""
    joined: list[Piece] = []
    for piece in sorted(pieces, key=cmp_to_key(_by_low_end)):
        if joined and _touch(joined[-1], piece):
            last = joined.pop()
            joined.append(Piece(last.low, _further(last.high, piece.high)))
        else:
            joined.append(piece)
    return tuple(joined)


def _by_low_end(left: Piece, right: Piece) -> int:
    return _order(left.low, right.low) or right.low.is_closed - left.low.is_closed


def _touch(left: Piece, right: Piece) -> bool:
    order = _order(right.low, left.high)
    return order < 0 or (order == 0 and (right.low.is_closed or left.high.is_closed))


def _further(left: End, right: End) -> End:
    order = _order(left, right)
    if order == 0:
        return left if left.is_closed else right
    return left if order > 0 else right


def _meet(left: Region, right: Region) -> Region:
    """What is in both."""
    pieces = []
    for one in left:
        for other in right:
            low = _inner(one.low, other.low, 1)
            high = _inner(one.high, other.high, -1)
            order = _order(low, high)
            if order < 0 or (order == 0 and low.is_closed and high.is_closed):
                pieces.append(Piece(low, high))
    return _join(pieces)


def _inner(left: End, right: End, side: int) -> End:
    """The end that leaves less: the one further right (`side` 1) or left (-1)."""
    order = _order(left, right) * side
    if order == 0:
        return left if not left.is_closed else right
    return left if order > 0 else right


def _outside(region: Region) -> Region:
    """What is not in a region."""
    pieces = []
    low = _BELOW
    for piece in region:
        if piece.low.term is not None:
            pieces.append(Piece(low, End(piece.low.value, piece.low.term, not piece.low.is_closed)))
        low = End(piece.high.value, piece.high.term, not piece.high.is_closed)
    if not region or low.term is not None:
        pieces.append(Piece(low, _ABOVE))
    return tuple(pieces)


def _are_equal(left: Region, right: Region) -> bool:
    if len(left) != len(right):
        return False
    ends = [
        (end, other)
        for one, two in zip(left, right, strict=True)
        for end, other in ((one.low, two.low), (one.high, two.high))
    ]
    return all(end.is_closed == other.is_closed and _order(end, other) == 0 for end, other in ends)


def _hold_the_same_integers(left: Region, right: Region) -> bool:
    r"""Whether no whole number tells two regions with whole ends apart: `n > 3` and `n \ge 4`."""
    ends = [end for piece in (*left, *right) for end in (piece.low, piece.high) if end.term is not None]
    return all(end.value == round(end.value) for end in ends) and _integers(left) == _integers(right)


def _are_counting(answer: Node, gold: Node) -> bool:
    r"""Whether both are about a letter that mostly counts: `m \ge 2` is `m \ne 1` of positive integers."""
    return _letters(answer) == _letters(gold) <= frozenset("nmkpqN")


def _integers(region: Region) -> list[tuple[float, float]]:
    """The first and the last whole number of each run of them, of pieces with whole ends."""
    found: list[tuple[float, float]] = []
    for piece in region:
        low = piece.low.value + (piece.low.term is not None and not piece.low.is_closed)
        high = piece.high.value - (piece.high.term is not None and not piece.high.is_closed)
        if low <= high:
            is_next = bool(found) and low <= found[-1][1] + 1
            found.append((found.pop()[0] if is_next else low, high))
    return found
