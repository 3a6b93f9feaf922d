r"""Are two answers the same? Two texts go in, a decision comes out: a rule and the parts of which it speaks.

Equal normal forms are correct. Otherwise both answers are read into trees, which are compared part by part with three
values. Where a text can be read in several ways, all of them are compared: answers differ if they do in every reading,
and are the same if they are in every one, or in the one that nearly all mean.

Training acts on "incorrect", so it is said only by a rule that proves it. What no rule proves is undecided, and what
is undecided for want of algebra may be passed to `compare_open`. No text is ever executed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import product

from .algebra import value_of
from .decision import Compare, Decision, differ, same, unknown, worst
from .equations import (
    compare_chains,
    compare_conditioned,
    compare_equation_with_value,
    compare_equations,
    compare_inequalities,
    compare_named,
    compare_remainders,
)
from .expressions import MAX_DEPTH, Ambiguity, Choices, TooLargeError
from .forms import deepest
from .lists import (
    compare_collections,
    compare_list_with_one,
    compare_matrices,
    compare_matrix_with_collection,
    compare_ratio_with_number,
    compare_ratios,
    in_order,
    may_be_range,
    unordered,
)
from .nodes import (
    Based,
    Cases,
    Chain,
    Clock,
    Collection,
    Conditioned,
    Equation,
    Inequality,
    Infinite,
    Intersection,
    Matrix,
    Modular,
    Named,
    Node,
    Numbers,
    Opaque,
    Option,
    Prose,
    Ratio,
    Scalar,
    Union,
    Words,
    is_pair,
)
from .normal_form import Form, normalize, spell
from .regions import compare_regions, is_region
from .scalars import CompareOpen, compare_scalars
from .structure import read
from .terms import Term, letters
from .verdict import Rule
from .wording import compare_options, compare_prose, compare_words, compare_words_with_value


MAX_CHARACTERS = 10_000
"""Longer answers are compared as they stand."""
MAX_COMPARISONS = 4_000
"""Most pairs of parts that are compared, as in two long lists."""
MAX_READINGS = 16
"""Most readings of one text."""
MAX_REMEMBERED_TOKENS = 1_000
"""The readings of longer forms are not remembered, which bounds the memory."""


@dataclass(frozen=True, slots=True)
class Reading:
    """
    One way in which a text can be read.

    Attributes:
        node ([`~nodes.Node`]):
            The tree.
        choices (`dict[Ambiguity, int]`):
            The choice made of each ambiguity in it.
    """

    node: Node
    choices: dict[Ambiguity, int]


def readings_of(form: Form) -> tuple[Reading, ...]:
    """
    All ways in which a normal form can be read, the first one being the usual.

    Args:
        form (`tuple[str, ...]`):
            Normal form.

    Returns:
        `tuple[Reading, ...]`

    Raises:
        TooLargeError: If there are too many parts or readings, or they nest too deep.
    """
    return _remembered_readings(form) if len(form) <= MAX_REMEMBERED_TOKENS else _all_readings(form)


def _all_readings(form: Form) -> tuple[Reading, ...]:
    if deepest(form) > MAX_DEPTH:
        raise TooLargeError
    usual = Choices()
    node = read(form, usual)
    met = sorted(usual.met)
    found = [Reading(node, dict.fromkeys(met, 0))]
    for chosen in product(*(range(ambiguity.num_readings) for ambiguity in met)):
        if any(chosen):
            if len(found) == MAX_READINGS:
                raise TooLargeError
            choices = dict(zip(met, chosen, strict=True))
            found.append(Reading(read(form, Choices(choices)), choices))
    return tuple(found)


_remembered_readings = lru_cache(maxsize=1_024)(_all_readings)


def readings_of_text(text: str) -> tuple[Reading, ...]:
    """
    All ways in which a bare answer can be read, the first one being the usual.

    Args:
        text (`str`):
            A bare answer.

    Returns:
        `tuple[Reading, ...]`: none if it is too large to be read.
    """
    try:
        return readings_of(normalize(text)) if len(text) <= MAX_CHARACTERS else ()
    except TooLargeError:
        return ()


def compare(answer: str, gold: str, compare_open: CompareOpen | None = None) -> Decision:
    r"""
    Compares two bare answers.

    Args:
        answer (`str`):
            Answer of the model.
        gold (`str`):
            Reference answer.
        compare_open (`Callable`, *optional*):
            Called with two expressions that this module cannot decide; returns a rule.

    Returns:
        [`~decision.Decision`]

    Example:
    ```python
    >>> compare(r"x = \frac12", "0.5").rule
    <Rule.NUMBER_SAME: 'number.same'>
    ```
    """
    answer, gold = answer.strip(), gold.strip()
    if max(len(answer), len(gold)) > MAX_CHARACTERS:
        return Decision(Rule.TEXT_SAME if answer == gold else Rule.TOO_LARGE)
    forms = normalize(answer), normalize(gold)
    if not forms[1]:
        return Decision(Rule.REFERENCE_MISSING)
    if spell(forms[0]) == spell(forms[1]):
        return Decision(Rule.TEXT_SAME)
    try:
        return _Comparison(compare_open or _leave_open).forms(*forms)
    except (TooLargeError, RecursionError):
        return Decision(Rule.TOO_LARGE)


def _leave_open(left: Term, right: Term) -> Rule:
    return Rule.EXPRESSION_OPEN


class _Comparison:
    """Comparison of nodes; every method takes the answer first, the reference second."""

    def __init__(self, compare_open: CompareOpen) -> None:
        self.compare_open = compare_open
        self.num_comparisons = 0

    def forms(self, answer: Form, gold: Form) -> Decision:
        """Compares all readings of both texts."""
        answers, golds = readings_of(answer), readings_of(gold)
        usual = self.nodes(answers[0].node, golds[0].node)
        if len(answers) == len(golds) == 1:
            return usual
        met = answers[0].choices.keys() | golds[0].choices.keys()
        if usual.is_correct and all(ambiguity.is_usual for ambiguity in met):
            return usual
        others = [
            (_agree(one.choices, other.choices), self.nodes(one.node, other.node))
            for one in answers
            for other in golds
        ]
        if all(decision.is_correct for is_joint, decision in others if is_joint):
            return usual
        if all(decision.is_incorrect for _, decision in others):
            return usual
        if any(decision.is_correct for _, decision in others):
            return unknown(Rule.READING_AMBIGUOUS, answers[0].node, golds[0].node)
        return worst([decision for _, decision in others if not decision.is_incorrect])

    def nodes(self, answer: Node, gold: Node) -> Decision:
        """Compares nodes of any kind."""
        self.num_comparisons += 1
        if self.num_comparisons > MAX_COMPARISONS:
            raise TooLargeError
        if answer == gold:
            return same(Rule.TEXT_SAME, answer, gold)
        for kind, compare_around in _AROUND:
            if isinstance(answer, kind) or isinstance(gold, kind):
                return compare_around(self.nodes, answer, gold)
        if isinstance(answer, Numbers) and isinstance(gold, Numbers):
            if answer.letter == gold.letter:
                return same(Rule.INTERVAL_SAME, answer, gold)
            return differ(Rule.INTERVAL_DIFFERS, answer, gold)
        if (is_region(answer) or is_region(gold)) and _may_be_regions(answer, gold):
            return self.regions(answer, gold)
        if type(answer) is type(gold):
            return self.alike(answer, gold)
        return self.unlike(answer, gold)

    def alike(self, answer: Node, gold: Node) -> Decision:
        """Compares two nodes of one kind."""
        match answer, gold:
            case Scalar(), Scalar():
                return compare_scalars(answer, gold, self.compare_open)
            case Collection(), Collection():
                return compare_collections(self.nodes, answer, gold)
            case Words(), Words():
                return compare_words(answer, gold)
            case Infinite(), Infinite():
                is_same = answer.sign == gold.sign
                return same(Rule.NUMBER_SAME, answer, gold) if is_same else differ(Rule.NUMBER_DIFFERS, answer, gold)
            case Matrix(), Matrix():
                return compare_matrices(self.nodes, answer, gold)
            case Ratio(), Ratio():
                return compare_ratios(self.nodes, answer, gold)
            case Equation(), Equation():
                return compare_equations(answer, gold)
            case Based(), Based():
                return _compare_bases(answer, gold)
            case Clock(), Clock():
                is_same = answer.minutes == gold.minutes
                return same(Rule.TIME_SAME, answer, gold) if is_same else differ(Rule.TIME_DIFFERS, answer, gold)
        return unknown(Rule.KIND_OPEN, answer, gold)

    def unlike(self, answer: Node, gold: Node) -> Decision:
        """Compares nodes of different kinds."""
        kinds = {type(answer), type(gold)}
        if Opaque in kinds:
            return unknown(Rule.READING_PARTIAL, answer, gold)
        if Prose in kinds:
            return compare_prose(answer, gold)
        if Words in kinds:
            return compare_words_with_value(answer, gold)
        if kinds == {Matrix, Collection}:
            return compare_matrix_with_collection(self.nodes, answer, gold)
        if Collection in kinds:
            return compare_list_with_one(self.nodes, answer, gold)
        if Scalar in kinds:
            return self.number_and_other(answer, gold)
        return unknown(Rule.KIND_OPEN, answer, gold)

    def number_and_other(self, answer: Node, gold: Node) -> Decision:
        """A number is no matrix and no set; it may be a ratio, lack its base, or be what an equation says."""
        scalar, other = (answer, gold) if isinstance(answer, Scalar) else (gold, answer)
        assert isinstance(scalar, Scalar)
        match other:
            case Equation():
                return compare_equation_with_value(self.nodes, answer, gold)
            case Ratio():
                return compare_ratio_with_number(answer, gold)
            case Based():
                return _compare_base_with_number(answer, gold)
        is_number = not letters(scalar.term)
        if is_number and not may_be_range(scalar) and (isinstance(other, Infinite | Cases) or is_region(other)):
            return differ(Rule.KIND_DIFFERS, answer, gold)
        if is_number and _is_real_matrix(other):
            return differ(Rule.KIND_DIFFERS, answer, gold)
        return unknown(Rule.KIND_OPEN, answer, gold)

    def regions(self, answer: Node, gold: Node) -> Decision:
        """Sets of real numbers: two intervals by their ends, all else by what is in them."""
        if isinstance(answer, Collection) and isinstance(gold, Collection) and is_pair(answer) and is_pair(gold):
            rules = Rule.INTERVAL_SAME, Rule.INTERVAL_DIFFERS
            decision = in_order(self.nodes, answer.items, gold.items, answer, gold, rules)
            if decision.is_correct and answer.brackets != gold.brackets:
                return differ(Rule.INTERVAL_DIFFERS, answer, gold)
            return decision
        decision = compare_regions(answer, gold)
        if decision.rule is not Rule.KIND_OPEN:
            return decision
        match answer, gold:
            case Inequality(), Inequality():
                return compare_inequalities(self.nodes, answer, gold)
            case (Union(items=parts), Union(items=others)) | (Intersection(items=parts), Intersection(items=others)):
                return unordered(self.nodes, parts, others, answer, gold) if len(parts) == len(others) else decision
        return decision


_AROUND: tuple[tuple[type[Node], Callable[[Compare, Node, Node], Decision]], ...] = (
    (Conditioned, compare_conditioned),
    (Named, compare_named),
    (Chain, compare_chains),
    (Option, compare_options),
    (Modular, compare_remainders),
)
"""What stands around a value, from outside in."""


def _agree(left: dict[Ambiguity, int], right: dict[Ambiguity, int]) -> bool:
    """Whether two readings make the same choices where both have one."""
    return all(right.get(ambiguity, choice) == choice for ambiguity, choice in left.items())


def _may_be_regions(answer: Node, gold: Node) -> bool:
    """Whether both may be sets of real numbers."""
    return all(is_region(node) or (isinstance(node, Collection) and _may_be_region(node)) for node in (answer, gold))


def _may_be_region(node: Collection) -> bool:
    if node.brackets == "\\{\\}" or is_pair(node):
        return True
    return not node.brackets and all(map(is_pair, node.items))


def _is_real_matrix(node: Node) -> bool:
    """Whether this is a matrix of several cells, and no layout of something else."""
    return isinstance(node, Matrix) and not node.kind and sum(map(len, node.rows)) > 1


def _value_in_base(node: Based) -> Fraction:
    sign = -1 if node.digits[0] == "-" else 1
    whole, _, decimals = node.digits.removeprefix("-").partition(".")
    value = 0
    for digit in whole + decimals:  # `int` refuses the 9 of 19_8
        value = value * node.base + int(digit, 36)
    return Fraction(sign * value, node.base ** len(decimals))


def _compare_bases(answer: Based, gold: Based) -> Decision:
    if _value_in_base(answer) != _value_in_base(gold):
        return differ(Rule.BASE_DIFFERS, answer, gold)
    is_same = answer.base == gold.base
    return same(Rule.BASE_SAME, answer, gold) if is_same else unknown(Rule.BASE_LEFT_OUT, answer, gold)


def _compare_base_with_number(answer: Node, gold: Node) -> Decision:
    """`12` for `12_8` lacks its base, `10` is its value."""
    based, other = (answer, gold) if isinstance(answer, Based) else (gold, answer)
    assert isinstance(based, Based)
    assert isinstance(other, Scalar)
    value = value_of(other.term)
    if value is None or value == _value_in_base(based) or "".join(other.tokens) == based.digits:
        return unknown(Rule.BASE_LEFT_OUT, answer, gold)
    return differ(Rule.BASE_DIFFERS, answer, gold)
