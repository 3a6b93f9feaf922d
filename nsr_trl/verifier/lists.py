"""Lists, tuples, ratios and matrices: two of them go in, a decision comes out. Their parts are compared by the caller.

A list is incorrect as soon as one of its parts certainly has no partner, and correct only if every part has one.
"""

import re
from collections.abc import Sequence
from fractions import Fraction

from . import algebra, numeric
from .decision import Compare, Decision, all_of, differ, same, unknown, unless_same, worst
from .nodes import Collection, Matrix, Named, Node, Ratio, Scalar, Words
from .terms import Product, letters
from .verdict import Rule


def in_order(
    compare: Compare,
    answers: Sequence[Node],
    golds: Sequence[Node],
    answer: Node,
    gold: Node,
    rules: tuple[Rule, Rule] = (Rule.TUPLE_SAME, Rule.TUPLE_DIFFERS),
) -> Decision:
    """Compares part by part."""
    if len(answers) != len(golds):
        return differ(rules[1], answer, gold)
    pairs = zip(answers, golds, strict=True)
    return all_of((compare(*pair) for pair in pairs), *rules, answer, gold)


def unordered(compare: Compare, answers: Sequence[Node], golds: Sequence[Node], answer: Node, gold: Node) -> Decision:
    """Whether every part has a partner, and none certainly lacks one; repetitions count once."""
    table = [[compare(one, other) for other in golds] for one in answers]
    lines = table + [list(column) for column in zip(*table, strict=True)]
    if not table or not golds or any(all(cell.is_incorrect for cell in line) for line in lines):
        return differ(Rule.LIST_DIFFERS, answer, gold) if answers or golds else same(Rule.LIST_SAME, answer, gold)
    if all(any(cell.is_correct for cell in line) for line in lines):
        return same(Rule.LIST_SAME, answer, gold)
    undecided = [cell for line in lines for cell in line if not (cell.is_correct or cell.is_incorrect)]
    return worst(undecided) if undecided else unknown(Rule.LIST_OPEN, answer, gold)


def compare_collections(compare: Compare, answer: Collection, gold: Collection) -> Decision:
    """Compares lists, sets, points and what else stands between commas."""
    is_bare = not answer.brackets, not gold.brackets
    is_set = answer.brackets == "\\{\\}", gold.brackets == "\\{\\}"
    if all(bare or a_set for bare, a_set in zip(is_bare, is_set, strict=True)):
        return _compare_lists(compare, answer, gold)
    if len(answer.items) == 1 or len(gold.items) == 1:
        return _compare_lists_of_one(compare, answer, gold)
    if any(is_set):
        return _compare_with_brackets_of_lists(compare, answer, gold)
    if any(is_bare):
        return _compare_bare_with_tuple(compare, answer, gold)
    decision = in_order(compare, answer.items, gold.items, answer, gold)
    if decision.is_incorrect or answer.brackets == gold.brackets:
        return decision
    return unless_same(decision, Rule.TUPLE_BRACKETS)


def _compare_lists(compare: Compare, answer: Collection, gold: Collection) -> Decision:
    """Solutions in any order; with names, by name."""
    by_name = _by_name(answer), _by_name(gold)
    if by_name[0] and by_name[1]:
        if by_name[0].keys() == by_name[1].keys():
            pairs = [(value, by_name[1][name]) for name, value in by_name[0].items()]
            decision = all_of((compare(*pair) for pair in pairs), Rule.LIST_SAME, Rule.LIST_DIFFERS, answer, gold)
            if decision.is_incorrect and _are_numbered(list(by_name[0])):  # x_1 and x_2 may change places
                return unless_same(unordered(compare, _values(answer), _values(gold), answer, gold), Rule.NAME_DIFFERS)
            return decision
        values = list(by_name[0].values()), list(by_name[1].values())
        return unless_same(unordered(compare, *values, answer, gold), Rule.NAME_DIFFERS)
    decision = unordered(compare, _values(answer), _values(gold), answer, gold)
    names = by_name[0] or by_name[1]
    if decision.is_correct and names and not _are_numbered(list(names)):
        ordered = in_order(compare, _values(answer), _values(gold), answer, gold)
        return decision if ordered.is_correct else unknown(Rule.NAME_DIFFERS, answer, gold)
    return decision


def _compare_lists_of_one(compare: Compare, answer: Collection, gold: Collection) -> Decision:
    r"""`\{(1, 2)\}` for `(1, 2)` is contested."""
    inner = answer.items[0] if len(answer.items) == 1 else answer
    other = gold.items[0] if len(gold.items) == 1 else gold
    return unless_same(compare(inner, other), Rule.LIST_ONE)


def _compare_with_brackets_of_lists(compare: Compare, answer: Collection, gold: Collection) -> Decision:
    """A set against other brackets: parts that differ differ, equal ones are contested."""
    decision = unordered(compare, _values(answer), _values(gold), answer, gold)
    return unless_same(decision, Rule.TUPLE_BRACKETS)


def _compare_bare_with_tuple(compare: Compare, answer: Collection, gold: Collection) -> Decision:
    """`1, 2` for `(1, 2)` lacks its brackets; `(1, 2)` for `1, 2` may be a point; `x = 1, y = 2` is one."""
    bare, other = (answer, gold) if not answer.brackets else (gold, answer)
    names = _by_name(bare)
    if names:
        values = tuple(value for _, value in sorted(names.items()))
        pair = (values, other.items) if bare is answer else (other.items, values)
        decision = in_order(compare, *pair, answer, gold)
        is_alphabetical = list(names) == sorted(names) or len(names) == len(bare.items)
        return decision if is_alphabetical else unless_same(decision, Rule.NAME_DIFFERS)
    if any(not isinstance(item, Scalar) for item in bare.items):  # points in a list
        answers: tuple[Node, ...] = answer.items if bare is answer else (answer,)
        golds: tuple[Node, ...] = gold.items if bare is gold else (gold,)
        return unordered(compare, answers, golds, answer, gold)
    decision = in_order(compare, answer.items, gold.items, answer, gold)
    if decision.is_correct:
        is_point = bare is answer and other.brackets == "()"
        return decision if is_point else unknown(Rule.TUPLE_BRACKETS, answer, gold)
    disorderly = unordered(compare, answer.items, gold.items, answer, gold)
    return disorderly if disorderly.is_incorrect else unknown(Rule.TUPLE_BRACKETS, answer, gold)


def compare_list_with_one(compare: Compare, answer: Node, gold: Node) -> Decision:
    """A list or a tuple for one part, or the reverse."""
    collection, other = (answer, gold) if isinstance(answer, Collection) else (gold, answer)
    assert isinstance(collection, Collection)
    if not collection.items and isinstance(other, Scalar) and algebra.value_of(other.term) == 0:
        return unknown(Rule.KIND_OPEN, answer, gold)  # a zero with a stroke
    if collection.brackets not in ("", "\\{\\}", "[]") or (collection.brackets == "[]" and len(collection.items) > 1):
        if isinstance(other, Scalar) and not letters(other.term) and not ("i" in other.tokens or may_be_range(other)):
            return differ(Rule.KIND_DIFFERS, answer, gold)  # a number is no point, unless it is complex
        return unknown(Rule.KIND_OPEN, answer, gold)
    if isinstance(other, Scalar) and len(other.tokens) > 1 and all(token.isupper() for token in other.tokens):
        return unknown(Rule.KIND_OPEN, answer, gold)  # BC may be B, C
    answers = _values(collection) if collection is answer else (answer,)
    golds = _values(collection) if collection is gold else (gold,)
    decision = unordered(compare, answers, golds, answer, gold)
    if decision.is_incorrect and _may_state(collection, other):
        return unknown(Rule.LIST_OPEN, answer, gold)
    return decision if not collection.brackets else unless_same(decision, Rule.LIST_ONE)


def _may_state(collection: Collection, other: Node) -> bool:
    """Whether a list may say one thing: `Yes, 5`, or `5 red and 7 blue` of 12."""
    kinds = {type(item) for item in collection.items}
    if Words in kinds and len(kinds) > 1:
        return True
    has_units = any(isinstance(item, Scalar) and item.unit for item in collection.items)
    values = [_value(item) for item in collection.items]
    return has_units and None not in values and sum(filter(None, values)) == _value(other)


def may_be_range(scalar: Scalar) -> bool:
    """Whether a difference may be from one number to another: `2-5`."""
    return _RANGE.fullmatch("".join(scalar.tokens)) is not None


_RANGE = re.compile("[0-9]+-[0-9]+")


def compare_ratios(compare: Compare, answer: Ratio, gold: Ratio) -> Decision:
    """Ratios part by part; `4:6` for `2:3` is contested."""
    decision = in_order(compare, answer.items, gold.items, answer, gold, (Rule.RATIO_SAME, Rule.RATIO_DIFFERS))
    if not decision.is_incorrect or len(answer.items) != len(gold.items):
        return decision
    return decision if _are_out_of_scale(answer, gold) else unknown(Rule.RATIO_SCALED, answer, gold)


def _are_out_of_scale(answer: Ratio, gold: Ratio) -> bool:
    """Whether no factor makes one ratio of the other: two pairs of parts have another quotient."""
    pairs = [
        (part.term, other.term)
        for part, other in zip(answer.items, gold.items, strict=True)
        if isinstance(part, Scalar) and isinstance(other, Scalar)
    ]
    return any(
        numeric.differ(Product((part, pairs[0][1])), Product((other, pairs[0][0])), numeric.MARGIN)
        for part, other in pairs[1:]
    ) and not _may_be_times(answer, gold)


def _may_be_times(answer: Ratio, gold: Ratio) -> bool:
    """Whether both may be times of day, half a day apart: `19:30` and `7:30`."""
    times = [_TIME.fullmatch("".join(ratio.tokens)) for ratio in (answer, gold)]
    minutes = [60 * int(time[1]) + int(time[2]) for time in times if time]
    return len(minutes) == 2 and abs(minutes[0] - minutes[1]) == 12 * 60


_TIME = re.compile("([0-9]{1,2}):([0-5][0-9])")


def compare_ratio_with_number(answer: Node, gold: Node) -> Decision:
    """`3:2` for `3/2` is contested."""
    ratio, other = (answer, gold) if isinstance(answer, Ratio) else (gold, answer)
    assert isinstance(ratio, Ratio)
    assert isinstance(other, Scalar)
    values = [_value(item) for item in ratio.items]
    number = algebra.value_of(other.term)
    if len(values) != 2 or values[0] is None or not values[1] or number is None:
        return unknown(Rule.KIND_OPEN, answer, gold)
    if number in (values[0] / values[1], values[1] / values[0] if values[0] else None, values[0], values[1]):
        return unknown(Rule.RATIO_SCALED, answer, gold)
    return differ(Rule.KIND_DIFFERS, answer, gold)


def compare_matrices(compare: Compare, answer: Matrix, gold: Matrix) -> Decision:
    """Matrices cell by cell."""
    if answer.kind != gold.kind:
        return unknown(Rule.MATRIX_LAYOUT, answer, gold)
    shapes = [[len(row) for row in matrix.rows] for matrix in (answer, gold)]
    decision = in_order(compare, _cells(answer), _cells(gold), answer, gold, (Rule.MATRIX_SAME, Rule.MATRIX_DIFFERS))
    if shapes[0] == shapes[1]:
        return decision
    are_lines = all(len(shape) == 1 or set(shape) == {1} for shape in shapes)
    return unless_same(decision, Rule.MATRIX_LAYOUT) if are_lines else differ(Rule.MATRIX_DIFFERS, answer, gold)


def compare_matrix_with_collection(compare: Compare, answer: Node, gold: Node) -> Decision:
    """Nested lists as rows of a matrix, and a column as a point."""
    matrix, other = (answer, gold) if isinstance(answer, Matrix) else (gold, answer)
    assert isinstance(matrix, Matrix)
    assert isinstance(other, Collection)
    if other.brackets in ("[]", "()", "") and all(isinstance(item, Collection) for item in other.items):
        rows = tuple(item.items for item in other.items if isinstance(item, Collection))
        as_matrix = Matrix(other.tokens, rows, matrix.kind)
        pair = (as_matrix, gold) if other is answer else (answer, as_matrix)
        return compare_matrices(compare, *pair)
    pair_of_cells = (_cells(matrix), other.items) if matrix is answer else (other.items, _cells(matrix))
    decision = in_order(compare, *pair_of_cells, answer, gold, (Rule.MATRIX_SAME, Rule.MATRIX_DIFFERS))
    if not other.brackets and decision.is_incorrect:
        return unknown(Rule.MATRIX_LAYOUT, answer, gold)  # a layout of several answers
    is_column = all(len(row) == 1 for row in matrix.rows) and other.brackets == "()" and not matrix.kind
    return decision if is_column else unless_same(decision, Rule.MATRIX_LAYOUT)


def _cells(matrix: Matrix) -> tuple[Node, ...]:
    return tuple(cell for row in matrix.rows for cell in row)


def _by_name(collection: Collection) -> dict[str, Node]:
    """Values by name, if all have one of their own."""
    named = [item for item in collection.items if isinstance(item, Named)]
    names = {"".join(item.names[0]): item.value for item in named if len(item.names) == 1}
    return names if len(names) == len(collection.items) else {}


def _values(collection: Collection) -> tuple[Node, ...]:
    return tuple(item.value if isinstance(item, Named) else item for item in collection.items)


def _are_numbered(names: list[str]) -> bool:
    """`x_1`, `x_2`: numbers of solutions, which are in no order."""
    stems = {name.partition("_")[0] for name in names}
    return len(stems) == 1 and all("_" in name for name in names)


def _value(node: Node) -> Fraction | None:
    return algebra.value_of(node.term) if isinstance(node, Scalar) else None
