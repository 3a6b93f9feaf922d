r"""Are two answers the same? Two texts go in, an outcome and its reason come out.

Equal normal forms are correct. Otherwise both answers are taken apart and compared part by part with three values, so
that a list is incorrect as soon as one of its parts certainly has no partner, and correct only if all have one.
Numbers and expressions are compared exactly. Training acts on "incorrect", so it is said only of sides that are
understood exactly; the rest is undecided, and what is undecided for want of algebra may be passed to `compare_leaf`.
No text is ever executed.
"""

import re
from collections.abc import Callable, Iterable
from fractions import Fraction

from . import algebra
from .arithmetic import DIGITS, AmbiguousError, NotArithmeticError, Number, TooLargeError, evaluate
from .normal_form import Form, is_word, normalize, write
from .structure import Kind, Part, read
from .verdict import Outcome, Reason


MAX_CHARACTERS = 10_000
"""Longer answers are compared as they stand."""
MAX_EXPRESSIONS = 300
"""Most pairs of expressions that are compared, as in two long lists."""
FLOAT_DIGITS = 12
"""From this many significant digits on, a decimal is the fraction that it is the rounding of."""

Decision = tuple[Outcome, Reason]
CompareLeaf = Callable[[str, str], Decision]
"""Compares two expressions in TeX that exact algebra leaves open."""

_SAME: Decision = (Outcome.CORRECT, Reason.STRING)
_UNLIKE: Decision = (Outcome.INCORRECT, Reason.STRUCTURE)
_UNKNOWN: Decision = (Outcome.UNDECIDED, Reason.NOT_COMPARABLE)
_CONTESTED: Decision = (Outcome.UNDECIDED, Reason.CONTESTED)

_WITH_COMMAS = re.compile(r"[^0-9,()\[\]]*[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9])[^,()\[\]]*")
_DECIMAL_COMMA = re.compile(r"-?[0-9]+,[0-9]+")
_OPTION = re.compile(r"\(?([A-Z])[).:]")
_IDENTIFIER = re.compile(r"[A-Z]+[0-9]+[A-Z][A-Z0-9]*")
_APPROXIMATELY = re.compile(r"\\approx(?![A-Za-z])|\\simeq|\\sim(?![A-Za-z])|≈")
_NUMERAL = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_NEGATIONS = frozenset("no not none undefined impossible cannot empty nonexistent dne apologize unable".split())
_LARGE_NUMBER_WORDS = frozenset(
    "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty "
    "seventy eighty ninety hundred thousand million billion dozen".split()
)
_OPERATION_WORDS = frozenset(
    "square squared cube cubed root power factorial log logarithm sine cosine tangent percent times sum product "
    "difference quotient ratio plus minus divided multiplied double twice triple half less more than over negative "
    "inverse reciprocal number value total pi".split()
)
_NUMBER_WORDS = _LARGE_NUMBER_WORDS | frozenset(
    "zero one two three four five six seven eight nine ten half third quarter once twice both pair single first "
    "second fourth fifth sixth".split()
)
_PARAMETERS = frozenset("kKnmlcCtsNZ")
"""Letters for any integer or any constant."""
_UNIT_LETTERS = frozenset("mgsNJWVALhKC")
"""A letter after a number that may be a unit: `5m`."""
_UNIT_NAMES = {"dollar": "\\$", "usd": "\\$", "meter": "m", "metre": "m", "inche": "inch", "feet": "ft", "foot": "ft"}
_FACTORS = {
    "\\%": (100,),
    "\\$": (100,),
    "cent": (100,),
    "\\degree": (60,),
    **dict.fromkeys(["mm", "cm", "dm", "m", "km", "mg", "g", "gm", "kg", "ml", "l", "liter", "gram"], (10, 100, 1000)),
    **dict.fromkeys(["centimeter", "millimeter", "kilometer", "kilogram", "milliliter"], (10, 100, 1000)),
    **dict.fromkeys(["inch", "ft", "yard", "mile"], (3, 12, 36, 1760, 5280)),
    **dict.fromkeys(["second", "sec", "minute", "min", "hour", "hr", "day", "week"], (7, 24, 60, 1440, 3600)),
    **dict.fromkeys(["mph", "kph"], (60, 3600)),
}
"""What a number changes by when its unit does."""


def compare(answer: str, gold: str, compare_leaf: CompareLeaf | None = None) -> Decision:
    r"""
    Compares two bare answers.

    Args:
        answer (`str`):
            Answer of the model.
        gold (`str`):
            Reference answer.
        compare_leaf (`Callable`, *optional*):
            Called with two expressions in TeX that this module cannot decide; returns an outcome and its reason.

    Returns:
        `tuple[Outcome, Reason]`

    Example:
    ```python
    >>> compare(r"x = \frac12", "0.5")
    (<Outcome.CORRECT: 'correct'>, <Reason.NUMBER: 'number'>)
    ```
    """
    answer, gold = answer.strip(), gold.strip()
    if max(len(answer), len(gold)) > MAX_CHARACTERS:
        return _SAME if answer == gold else (Outcome.UNDECIDED, Reason.TOO_LARGE)
    answer_form, gold_form = normalize(answer), normalize(gold)
    if not gold_form:
        return Outcome.UNDECIDED, Reason.GOLD_UNPARSABLE
    if "".join(answer_form) == "".join(gold_form):
        return _SAME
    if not answer_form:
        return Outcome.INCORRECT, Reason.NO_ANSWER
    try:
        decision = _Comparison(compare_leaf).texts((answer, answer_form), (gold, gold_form))
    except TooLargeError:
        return Outcome.UNDECIDED, Reason.TOO_LARGE
    if decision[0] is Outcome.INCORRECT and "\\approx" in answer_form:
        # the exact value comes first and decided; but who writes 9.99 \approx 10 may mean 10
        rounded = _APPROXIMATELY.split(answer)[-1]
        if rounded == answer or compare(rounded, gold, compare_leaf)[0] is not Outcome.INCORRECT:
            return _CONTESTED
    return decision


class _Comparison:
    """Comparison of parts; every method takes the answer first, the reference second."""

    def __init__(self, compare_leaf: CompareLeaf | None) -> None:
        self.compare_leaf = compare_leaf
        self.num_expressions = 0

    def texts(self, answer: tuple[str, Form], gold: tuple[str, Form]) -> Decision:
        """Reads a comma as a separator of thousands or of parts, whichever the other side allows."""
        answer_part, gold_part = read(answer[1]), read(gold[1])
        answer_number, gold_number = _read_thousands(*answer), _read_thousands(*gold)
        if answer_number and gold_number:  # 120,240 and 240,120 may be one list
            if self.scalars(answer_number, gold_number)[0] is Outcome.CORRECT:
                return Outcome.CORRECT, Reason.NUMBER
            return _CONTESTED if self.parts(answer_part, gold_part)[0] is Outcome.CORRECT else _different_numbers()
        if answer_number and gold_part.kind is not Kind.LIST:
            answer_part = answer_number
        elif gold_number and answer_part.kind is not Kind.LIST:
            gold_part = gold_number
        decision = self.parts(answer_part, gold_part)
        if decision[0] is Outcome.INCORRECT and _may_be_decimal_comma(answer[1], gold[1]):
            return _CONTESTED
        return decision

    def parts(self, answer: Part, gold: Part) -> Decision:
        """Compares parts of any kind."""
        if answer.name and gold.name and not _same(answer.name, gold.name):
            return self.named(answer, gold)
        return self.values(answer, gold)

    def named(self, answer: Part, gold: Part) -> Decision:
        r"""`y = 2x` may be `x = \frac{y}{2}`, and `x = 2` is not `y = 3` but who knows about `y = 2`."""
        if answer.kind is gold.kind is Kind.SCALAR and any(
            _is_lone_letter(part.name) and not _constant(part) for part in (answer, gold)
        ):
            return self.equations((answer.name, answer.tokens), (gold.name, gold.tokens))
        decision = self.values(answer, gold)
        if any("(" in part.name and not _is_plain_number(part) for part in (answer, gold)):
            return _UNKNOWN  # P(x) = x^2 is P(t) = t^2
        if answer.is_inequality or gold.is_inequality or not all(map(_is_lone_letter, (answer.name, gold.name))):
            return decision if decision[0] is not Outcome.CORRECT else _UNKNOWN
        return decision if decision[0] is Outcome.INCORRECT else _UNKNOWN

    def values(self, answer: Part, gold: Part) -> Decision:
        """Compares parts whatever their names."""
        if _same(answer.tokens, gold.tokens) and answer.kind is gold.kind and answer.unit == gold.unit:
            same_labels = answer.label == gold.label and answer.is_inequality == gold.is_inequality
            if same_labels and answer.kind is not Kind.BASE:
                return _SAME
        kinds = {answer.kind, gold.kind}
        if answer.kind is gold.kind:
            return {
                Kind.SCALAR: self.scalars,
                Kind.LIST: self.lists,
                Kind.TUPLE: self.tuples,
                Kind.UNION: self.unions,
                Kind.MATRIX: self.matrices,
                Kind.RELATION: self.relations,
                Kind.RATIO: self.ratios,
                Kind.BASE: self.bases,
                Kind.WORDS: self.words,
            }[answer.kind](answer, gold)
        if Kind.LIST in kinds:
            return self.list_and_other(answer, gold)
        if Kind.WORDS in kinds:
            return self.words_and_other(answer, gold)
        if kinds == {Kind.SCALAR, Kind.RELATION} and (sides := _two_equations(answer, gold)):
            return self.equations(*sides)
        if kinds == {Kind.TUPLE, Kind.UNION}:
            return self.unions(answer, gold)
        if Kind.SCALAR in kinds:
            return self.scalar_and_other(answer, gold)
        if kinds == {Kind.MATRIX, Kind.TUPLE}:
            matrix, other = (answer, gold) if answer.kind is Kind.MATRIX else (gold, answer)
            cells = tuple(cell for row in matrix.items for cell in row.items)
            return _unless_equal(self.in_order(cells, other.items))
        return _UNKNOWN

    def scalars(self, answer: Part, gold: Part) -> Decision:
        """Numbers exactly, then expressions by exact algebra, then whatever `compare_leaf` can do."""
        if not answer.tokens or not gold.tokens:
            return _UNKNOWN
        if _same(answer.tokens, gold.tokens):
            return _compare_units(answer, gold)
        if "\\infty" in answer.tokens + gold.tokens:
            return _UNLIKE if _is_understood(answer) and _is_understood(gold) else _UNKNOWN
        try:
            numbers = evaluate(answer.tokens), evaluate(gold.tokens)
        except NotArithmeticError:
            return self.expressions(answer, gold)
        except TooLargeError:
            if any(_is_tower(part.tokens) for part in (answer, gold)) and _is_one_small(answer, gold):
                return _different_numbers()
            raise
        return _compare_numbers(numbers[0], numbers[1], answer, gold)

    def expressions(self, answer: Part, gold: Part) -> Decision:
        if " " in answer.tokens + gold.tokens:  # `2 3`
            return _UNKNOWN
        if len(answer.tokens) > 1 and all(token.isupper() for token in answer.tokens + gold.tokens):
            return _UNKNOWN  # angles or permutations rather than products
        self.num_expressions += 1
        if self.num_expressions > MAX_EXPRESSIONS:
            raise TooLargeError
        try:
            left, right = algebra.parse(answer.tokens), algebra.parse(gold.tokens)
        except AmbiguousError:
            return _UNKNOWN
        except NotArithmeticError:
            if "\\begin" in answer.tokens + gold.tokens and (_constant(answer) is None) != (_constant(gold) is None):
                return _UNLIKE  # a case distinction is no number
            return self.leaf(answer, gold)
        difference = algebra.subtract(left, right)
        is_number = not left.symbols and not right.symbols
        if not difference:
            if _is_literal(gold) and not _is_literal(answer):
                return _CONTESTED  # work left to do
            outcome, _ = _compare_units(answer, gold)
            return (
                (outcome, Reason.NUMBER if is_number else Reason.SYMBOLIC)
                if outcome is Outcome.CORRECT
                else _CONTESTED
            )
        if (
            _may_be_radians(answer, gold, left, right)
            or "".join(answer.tokens).lower() == "".join(gold.tokens).lower()
        ):
            return _CONTESTED
        if left.has_decimals or right.has_decimals:
            if left.has_atoms or right.has_atoms:
                return self.leaf(answer, gold)
            if _is_near(left, right):
                return _CONTESTED
        if not (left.is_certain and right.is_certain):
            return self.leaf(answer, gold)
        if _may_be_unit(left, right) or _may_be_unit(right, left) or _is_renamed(left, right, difference):
            return _CONTESTED
        if _is_option(answer, right) or _is_option(gold, left):
            return _UNKNOWN  # an option for its value needs the problem
        if _differ_by_unit(answer, gold):
            return _CONTESTED
        return Outcome.INCORRECT, Reason.NUMBER if is_number else Reason.SYMBOLIC

    def leaf(self, answer: Part, gold: Part) -> Decision:
        """Asks for more than exact algebra; units are not its business."""
        if self.compare_leaf is None or any(map(is_word, answer.tokens + gold.tokens)):
            return _UNKNOWN
        if answer.unit and gold.unit and _unit(answer) != _unit(gold):
            return _UNKNOWN
        decision = self.compare_leaf(write(answer.tokens), write(gold.tokens))
        if decision[0] is Outcome.CORRECT and _is_literal(gold) and not _is_literal(answer):
            return _CONTESTED
        if decision[0] is Outcome.INCORRECT and (
            _differ_by_unit(answer, gold) or {*answer.unit, *gold.unit} & {"\\degree"}
        ):
            return _CONTESTED
        return decision

    def in_order(self, answers: tuple[Part, ...], golds: tuple[Part, ...]) -> Decision:
        """Compares part by part."""
        if len(answers) != len(golds):
            return _UNLIKE
        return _all(self.parts(answer, gold) for answer, gold in zip(answers, golds, strict=True))

    def unordered(self, answers: tuple[Part, ...], golds: tuple[Part, ...]) -> Decision:
        """Whether every part has a partner, and none certainly lacks one."""
        table = [[self.values(answer, gold) for gold in golds] for answer in answers]
        lines = table + [list(column) for column in zip(*table, strict=True)]
        if any(all(cell[0] is Outcome.INCORRECT for cell in line) for line in lines):
            # 2 hours and 30 minutes are one quantity
            are_compound = any(len({part.unit for part in parts if part.unit}) > 1 for parts in (answers, golds))
            return _CONTESTED if are_compound else _UNLIKE
        if all(any(cell[0] is Outcome.CORRECT for cell in line) for line in lines):
            return Outcome.CORRECT, Reason.STRUCTURE
        undecided = [cell for line in lines for cell in line if cell[0] is Outcome.UNDECIDED]
        return _UNKNOWN if not undecided or _UNKNOWN in undecided else undecided[0]

    def lists(self, answer: Part, gold: Part) -> Decision:
        """Solutions in any order, repetitions counted once; with names, in the order of the names."""
        answers, golds = answer.items, gold.items
        names = [{"".join(item.name) for item in items if item.name} for items in (answers, golds)]
        if len(names[0]) > 1 and len(names[1]) > 1:  # a = 1, b = 2 against b = 2, a = 1
            pairs = [[item for item in golds if _same(item.name, one.name)] for one in answers]
            if len(answers) == len(golds) and all(len(pair) == 1 for pair in pairs):
                return _all(self.values(one, pair[0]) for one, pair in zip(answers, pairs, strict=True))
        decision = self.unordered(answers, golds)
        if decision[0] is Outcome.CORRECT and max(map(len, names)) > 1:
            in_order = self.in_order(answers, golds)
            return in_order if in_order[0] is Outcome.CORRECT else _UNKNOWN
        if {answer.label, gold.label} == {"[]", "\\{\\}"}:
            return _unless_equal(decision)
        return decision

    def list_and_other(self, answer: Part, gold: Part) -> Decision:
        a_list, other = (answer, gold) if answer.kind is Kind.LIST else (gold, answer)
        if other.kind is Kind.TUPLE and not other.is_inequality and not a_list.label:
            names = ["".join(item.name) for item in a_list.items]
            in_order = self.in_order(answer.items, gold.items)
            if in_order[0] is Outcome.CORRECT:  # 1, 2 for (1, 2) lacks its brackets; (1, 2) for 1, 2 may be a point
                is_named = all(names) and names == sorted(set(names))
                is_bare = a_list is answer and not any(names) and other.label == "()"
                return in_order if is_named or is_bare else _CONTESTED
            if any(item.kind is not Kind.SCALAR for item in a_list.items):
                return self.unordered(
                    (answer,) if other is answer else answer.items, (gold,) if other is gold else gold.items
                )
            decision = self.unordered(answer.items, gold.items)
            return decision if decision[0] is Outcome.INCORRECT else _UNKNOWN
        if other.kind is Kind.MATRIX or (len(other.tokens) > 1 and all(token.isupper() for token in other.tokens)):
            return _UNKNOWN  # BC may be B, C
        items = [(part,) if part is other else part.items for part in (answer, gold)]
        decision = self.unordered(items[0], items[1])
        is_contested = a_list.label and decision[0] is Outcome.CORRECT
        return _CONTESTED if is_contested else decision

    def tuples(self, answer: Part, gold: Part) -> Decision:
        """Part by part in order; a bracket is a bracket."""
        decision = self.in_order(answer.items, gold.items)
        if decision[0] is Outcome.INCORRECT:
            return decision
        if answer.label != gold.label:
            return _UNLIKE if len(gold.items) == 2 else _unless_equal(decision)
        return _unless_equal(decision) if answer.is_inequality and not gold.is_inequality else decision

    def unions(self, answer: Part, gold: Part) -> Decision:
        """Unions of intervals and points, pieces that touch merged where all ends are known."""
        left, right = _merge(answer), _merge(gold)
        if left is not None and right is not None:
            decision: Decision = (Outcome.CORRECT, Reason.STRUCTURE) if left == right else _UNLIKE
        items = [part.items if part.kind is Kind.UNION else (part,) for part in (answer, gold)]
        if left is None or right is None or (left != right and len(items[0]) == len(items[1]) == len(left)):
            decision = self.unordered(items[0], items[1])
            if decision[0] is Outcome.INCORRECT and len(items[0]) != len(items[1]):
                return _UNKNOWN  # pieces may overlap
        return _unless_equal(decision) if answer.is_inequality and not gold.is_inequality else decision

    def matrices(self, answer: Part, gold: Part) -> Decision:
        if answer.label != gold.label:
            return _UNKNOWN
        if len(answer.items) != len(gold.items):
            return _UNLIKE
        return _all(self.in_order(a.items, g.items) for a, g in zip(answer.items, gold.items, strict=True))

    def relations(self, answer: Part, gold: Part) -> Decision:
        if answer.label == gold.label == "=":
            left, right = ((part.items[0].tokens, part.items[1].tokens) for part in (answer, gold))
            return self.equations(left, right)
        if answer.label == gold.label:
            decision = self.in_order(answer.items, gold.items)
            return decision if decision[0] is Outcome.CORRECT else _UNKNOWN
        return _UNKNOWN

    def equations(self, answer: tuple[Form, Form], gold: tuple[Form, Form]) -> Decision:
        """Equations up to a factor; only linear ones are certainly different."""
        try:
            sides = [algebra.parse(side) for side in (*answer, *gold)]
        except NotArithmeticError:
            return _UNKNOWN
        left, right = algebra.subtract(sides[0], sides[1]), algebra.subtract(sides[2], sides[3])
        if algebra.is_multiple(left, right):
            return Outcome.CORRECT, Reason.SYMBOLIC
        is_certain = all(side.is_certain and not side.has_decimals for side in sides)
        letters = [sides[0].symbols | sides[1].symbols, sides[2].symbols | sides[3].symbols]
        are_linear = [_is_linear(left), _is_linear(right)]
        if is_certain and (all(are_linear) or (any(are_linear) and letters[0] != letters[1])):
            return Outcome.INCORRECT, Reason.SYMBOLIC
        return _UNKNOWN

    def ratios(self, answer: Part, gold: Part) -> Decision:
        decision = self.in_order(answer.items, gold.items)
        numbers = [[_constant(item) for item in part.items] for part in (answer, gold)]
        if decision[0] is Outcome.INCORRECT and len(numbers[0]) == len(numbers[1]):
            first, second = numbers
            values = [(a, g) for a, g in zip(first, second, strict=True) if a is not None and g is not None]
            if len(values) < len(first):
                return decision
            if all(a * values[0][1] == g * values[0][0] for a, g in values):
                return _CONTESTED  # 2:4 and 1:2
        return decision

    def bases(self, answer: Part, gold: Part) -> Decision:
        values = [_in_base(part.tokens, int(part.label)) for part in (answer, gold)]
        if None in values:
            return _UNKNOWN
        if values[0] != values[1]:
            return _different_numbers()
        return (Outcome.CORRECT, Reason.NUMBER) if int(answer.label) == int(gold.label) else _CONTESTED

    def words(self, answer: Part, gold: Part) -> Decision:
        """Different words are incorrect unless one may abbreviate, decline or extend the other."""
        if _letter(answer.tokens) and _letter(gold.tokens):
            return _SAME if _letter(answer.tokens) == _letter(gold.tokens) else _UNLIKE
        left, right = ("".join(token + " " for token in part.tokens).lower().split() for part in (answer, gold))
        if left == right:
            return _SAME
        if sorted("".join(left)) == sorted("".join(right)) or set(left) <= set(right) or set(right) <= set(left):
            return _UNKNOWN
        short, long = sorted(["".join(left), "".join(right)], key=len)
        if (long.startswith(short) and len(long) - len(short) != 1) or long in (short + "s", short + "es"):
            return _UNKNOWN
        if len(left) > 2 or len(right) > 2 or not DIGITS.isdisjoint(long):
            return _UNKNOWN  # sentences
        if {short, long} in ({"yes", "true"}, {"no", "false"}):
            return _UNKNOWN
        return _UNLIKE

    def words_and_other(self, answer: Part, gold: Part) -> Decision:
        """A sentence without a number is no number; the letter of an option is compared with a letter."""
        words, other = (answer, gold) if answer.kind is Kind.WORDS else (gold, answer)
        if letter := _letter(other.tokens):
            option = _letter(words.tokens)
            if option:
                return _UNKNOWN if words is gold else _SAME if option == letter else _UNLIKE
            return _UNKNOWN if letter.isupper() else _UNLIKE
        tokens = [token.lower() for token in words.tokens]
        if words is answer and _is_sentence_without(words.tokens, gold.tokens):
            return _UNLIKE
        if not _NUMBER_WORDS.isdisjoint(tokens) or "=" in tokens:
            return _UNKNOWN
        if other.kind is Kind.SCALAR and not _is_plain_number(other):
            return _UNKNOWN
        is_nothing = not _NEGATIONS.isdisjoint(tokens)
        has_digits = not DIGITS.isdisjoint(tokens) and not _IDENTIFIER.fullmatch("".join(words.tokens))
        if is_nothing:
            return _UNKNOWN if _constant(other) == 0 else _UNLIKE
        return _UNLIKE if other.kind is Kind.SCALAR and not has_digits else _UNKNOWN  # all real numbers

    def scalar_and_other(self, answer: Part, gold: Part) -> Decision:
        """A number is no point, interval, matrix or statement; it may be a ratio or lack its base."""
        scalar, other = (answer, gold) if answer.kind is Kind.SCALAR else (gold, answer)
        if other.kind is Kind.BASE:
            value, based = _constant(scalar), _in_base(other.tokens, int(other.label))
            if value is None or based is None:
                return _UNKNOWN
            return _CONTESTED if value == based or _same(scalar.tokens, other.tokens) else _different_numbers()
        if not _is_understood(scalar) or "\\emptyset" in scalar.tokens:
            is_empty = scalar.tokens == ("\\emptyset",) and other.kind is Kind.UNION
            return _UNLIKE if is_empty else _UNKNOWN
        if other.kind is Kind.RATIO:
            values = [_constant(item) for item in other.items]
            if len(values) == 2 and values[0] is not None and values[1]:
                return _CONTESTED if values[0] / values[1] == _constant(scalar) else _UNLIKE
            return _UNKNOWN
        if other.kind is Kind.RELATION and other is answer and other.label == "=":
            is_about_letters = any(_constant(side) is None for side in other.items)
            if is_about_letters and any(self.scalars(side, gold)[0] is not Outcome.INCORRECT for side in other.items):
                return _CONTESTED  # a + b = 5 for 5
        if other.kind is Kind.RELATION and scalar.is_chain:
            return _UNKNOWN
        if other.kind is Kind.RELATION and other is gold and _constant(scalar) is None:
            return _UNKNOWN
        if {"i", "j"} <= set(scalar.tokens):  # unit vectors
            return _UNKNOWN
        is_thousands = other.kind is Kind.TUPLE and _WITH_COMMAS.fullmatch("".join(other.tokens[1:-1]))
        if other.kind is Kind.MATRIX and (other.label or len(other.items) == 1):
            return _UNKNOWN
        return _UNKNOWN if is_thousands else _UNLIKE


def _all(decisions: Iterable[Decision]) -> Decision:
    """Incorrect if any part is, correct if all are."""
    found = set(decisions)
    if any(outcome is Outcome.INCORRECT for outcome, _ in found):
        return _UNLIKE
    if _UNKNOWN in found or _CONTESTED in found:
        return _UNKNOWN if _UNKNOWN in found else _CONTESTED
    undecided = [decision for decision in found if decision[0] is Outcome.UNDECIDED]
    return min(undecided, default=(Outcome.CORRECT, Reason.STRUCTURE))


def _unless_equal(decision: Decision) -> Decision:
    """The form is another one than asked for: different is incorrect, equal is contested."""
    return _CONTESTED if decision[0] is Outcome.CORRECT else decision


def _different_numbers() -> Decision:
    return Outcome.INCORRECT, Reason.NUMBER


def _same(left: Form, right: Form) -> bool:
    return "".join(left) == "".join(right)


def _compare_numbers(left: Number, right: Number, answer: Part, gold: Part) -> Decision:
    if left.value == right.value:
        if right.is_literal and not left.is_literal:
            return _CONTESTED  # the problem is not its answer
        decision = _compare_units(answer, gold)
        return (Outcome.CORRECT, Reason.NUMBER) if decision[0] is Outcome.CORRECT else decision
    if (_is_float(left, right) or _is_float(right, left)) and _compare_units(answer, gold) == _SAME:
        return Outcome.CORRECT, Reason.NUMBER
    if _differ_by_unit(answer, gold) or _may_be_rounding(left, right):
        return _CONTESTED
    return _different_numbers()


def _is_float(written: Number, exact: Number) -> bool:
    """Whether a decimal is the exact fraction to all the digits a computer prints."""
    if exact.resolution or exact.value.denominator == 1 or not written.resolution:
        return False
    is_long = abs(written.value) >= written.resolution * 10 ** (FLOAT_DIGITS - 1)
    return is_long and abs(written.value - exact.value) < written.resolution


def _may_be_rounding(answer: Number, gold: Number) -> bool:
    """Whether one is the other to as many places as are written, or as many as a float holds."""
    difference = abs(answer.value - gold.value)
    if difference.denominator == 1 and answer.resolution == gold.resolution == 0:
        return False
    coarse = max(answer.resolution, gold.resolution)
    # of one significant digit, as in 0.3 for 1/3, nobody says that it is a rounding
    is_fine = coarse * 10 <= max(abs(answer.value), abs(gold.value))
    return (is_fine and difference < coarse) or difference < abs(gold.value) / 10**6


def _unit(part: Part) -> str:
    """Unit in one spelling, without its power."""
    words = [token for token in part.unit if token not in "^/.-()" and token not in DIGITS]
    names = [word.removesuffix("s") if len(word) > 2 else word for word in words]
    return " ".join(_UNIT_NAMES.get(name, name) for name in names)


def _compare_units(answer: Part, gold: Part) -> Decision:
    r"""A unit may be left out; `5 cents` is not `\$5`."""
    is_same = not answer.unit or not gold.unit or _unit(answer) == _unit(gold)
    return _SAME if is_same else _CONTESTED


def _differ_by_unit(answer: Part, gold: Part) -> bool:
    """Whether different numbers may still be equal quantities: 5 dollars and 500."""
    if answer.unit and gold.unit and _unit(answer) != _unit(gold):
        return True
    if bool(answer.unit) == bool(gold.unit):
        return False
    part = answer if answer.unit else gold
    factors = {f for word in _unit(part).split() for f in _FACTORS.get(word, ())}
    values = _constant(answer), _constant(gold)
    if not factors or None in values or values[0] == values[1] == 0:
        return bool(factors)
    if not values[0] or not values[1]:
        return False
    ratio = max(abs(values[0] / values[1]), abs(values[1] / values[0]))
    power = int(part.unit[-1]) if part.unit[-1] in ("2", "3") else 1
    return any(ratio == Fraction(factor) ** power for factor in factors)


def _may_be_radians(answer: Part, gold: Part, left: algebra.Expression, right: algebra.Expression) -> bool:
    is_degrees = [part.unit == ("\\degree",) or side.has_degrees for part, side in ((answer, left), (gold, right))]
    return is_degrees[0] != is_degrees[1] and "\\pi" in answer.tokens + gold.tokens


def _is_near(left: algebra.Expression, right: algebra.Expression) -> bool:
    try:
        values = left.approximate(), right.approximate()
    except (OverflowError, ZeroDivisionError):
        return True
    return not abs(values[0] - values[1]) > 0.01 * max(abs(values[0]), abs(values[1]))


def _may_be_unit(left: algebra.Expression, right: algebra.Expression) -> bool:
    """`5m` against `5`, where the letter may be a metre."""
    letters = left.symbols - right.symbols
    if not letters or not letters <= _UNIT_LETTERS or right.symbols or left.denominator != algebra.ONE:
        return False
    bare = {tuple(p for p in term if p[0] not in letters): c for term, c in left.numerator.items()}
    if len(left.numerator) != 1 or bare.keys() != right.numerator.keys():
        return False
    ratio = next(bare[term] / right.numerator[term] for term in bare)
    return max(ratio, 1 / ratio) in (1, 10, 100, 1_000, 10_000, 10**6, 60, 3_600)


def _is_renamed(left: algebra.Expression, right: algebra.Expression, difference: algebra.Polynomial) -> bool:
    r"""A constant of integration more or less, or `2\pi k` for `2\pi n`."""
    names = {term[0][0] if len(term) == 1 and term[0][1] == 1 else "" for term in difference}
    if "C" in names and names <= _PARAMETERS:
        return True
    extra = left.symbols - right.symbols, right.symbols - left.symbols
    if len(extra[0]) != 1 or len(extra[1]) != 1 or not (extra[0] | extra[1]) <= _PARAMETERS:
        return False
    return left.key.replace(extra[0].pop(), extra[1].pop()) == right.key


def _is_linear(polynomial: algebra.Polynomial) -> bool:
    letters = [
        [power for name, power in term if name[0] != "#" and name not in ("e", "i", "\\pi")] for term in polynomial
    ]
    return any(letters) and all(powers in ([], [1]) for powers in letters)


def _constant(part: Part) -> Fraction | None:
    """The exact value of a part that is a rational number."""
    if part.kind is not Kind.SCALAR:
        return None
    try:
        return evaluate(part.tokens).value
    except (NotArithmeticError, TooLargeError):
        return None


def _is_literal(part: Part) -> bool:
    try:
        return evaluate(part.tokens).is_literal
    except (NotArithmeticError, TooLargeError):
        return False


def _is_understood(part: Part) -> bool:
    try:
        algebra.parse(part.tokens)
    except NotArithmeticError:
        return part.tokens[-1:] == ("\\infty",) and len(part.tokens) <= 2
    return True


def _is_number(part: Part) -> bool:
    """Whether an expression that is understood has no letters."""
    return "\\infty" not in part.tokens and not algebra.parse(part.tokens).symbols


def _is_plain_number(part: Part) -> bool:
    return part.kind is Kind.SCALAR and _is_understood(part) and _is_number(part)


def _two_equations(answer: Part, gold: Part) -> list[tuple[Form, Form]]:
    """The sides of `2x - y + 1 = 0` and of `y = 2x + 1`, which is named `y`; empty if one is no equation."""
    sides: list[tuple[Form, Form]] = []
    for part in (answer, gold):
        if part.kind is Kind.RELATION and part.label == "=":
            sides.append((part.items[0].tokens, part.items[1].tokens))
        elif part.kind is Kind.SCALAR and part.name:
            sides.append((part.name, part.tokens))
    return sides if len(sides) == 2 else []


def _is_option(part: Part, other: algebra.Expression) -> bool:
    return len(part.tokens) == 1 and part.tokens[0] in "ABCDE" and other.constant() is not None


def _is_lone_letter(name: Form) -> bool:
    return len(name) == 1 and not is_word(name[0])


def _letter(form: Form) -> str:
    """The letter of an option: `B`, `(B)`, `(B) Circle`."""
    if len(form) == 1 and len(form[0]) == 1 and form[0].isascii() and form[0].isalpha():
        return form[0]
    if len(form) == 3 and form[0] == "(" and form[2] == ")":
        return _letter(form[1:2])
    match = _OPTION.match("".join(form)) if any(map(is_word, form)) else None
    return match[1] if match else ""


def _is_sentence_without(sentence: Form, gold: Form) -> bool:
    """
    Whether a sentence says something else than a reference with a distinctive numeral.

    It names none of the reference's numerals, no decimal, no number in words, and no operation that might lead there:
    "the square root of 144" may be 12.
    """
    numerals = [set(_NUMERAL.findall("".join(form))) for form in (sentence, gold)]
    is_distinctive = any(len(numeral) > 1 for numeral in numerals[1])
    words = {token.lower() for token in sentence if is_word(token)}
    is_long = sum(map(is_word, sentence)) >= 8 and words.isdisjoint(_LARGE_NUMBER_WORDS | _OPERATION_WORDS)
    is_plain = not any("." in numeral for numeral in numerals[0])
    return is_long and is_plain and is_distinctive and numerals[0].isdisjoint(numerals[1])


def _read_thousands(text: str, form: Form) -> Part | None:
    r"""`x = \$1,234` as one number; a space after the comma makes a list."""
    if "," not in text or not _WITH_COMMAS.fullmatch(text):
        return None
    part = read(tuple(token for token in form if token != ","))
    return part if part.kind is Kind.SCALAR else None


def _may_be_decimal_comma(answer: Form, gold: Form) -> bool:
    """`0,5` against `0.5`."""
    texts = "".join(answer), "".join(gold)
    if all(_DECIMAL_COMMA.fullmatch(text) is None for text in texts):
        return False
    first, second = (_constant(Part(Kind.SCALAR, tuple(text.replace(",", ".")))) for text in texts)
    return first is not None and first == second


def _is_tower(form: Form) -> bool:
    r"""Whether this is a power of integers, `9^{9^{9}}`: too large to write means larger than what is written."""
    text = "".join(form)
    parts = text.rstrip("}").replace("{", "").split("^")
    return len(parts) > 1 and all(
        part.isascii() and part.isdigit() and part[0] != "0" and part != "1" for part in parts
    )


def _is_one_small(answer: Part, gold: Part) -> bool:
    """Whether exactly one of the two is a number within the limits."""
    return (_constant(answer) is None) != (_constant(gold) is None)


def _in_base(form: Form, base: int) -> int | None:
    try:
        return int("".join(form), base) if 2 <= base <= 36 and len(form) <= 1_000 else None
    except ValueError:
        return None


def _merge(part: Part) -> list[tuple[float, bool, float, bool]] | None:
    """Intervals from left to right, those that touch made one; `None` if an end is not a known real number."""
    pieces: list[tuple[float, bool, float, bool]] = []
    for piece in part.items if part.kind is Kind.UNION else (part,):
        if piece.kind is Kind.LIST and piece.label == "\\{\\}":
            points = [_real(item) for item in piece.items]
            if None in points:
                return None
            pieces.extend((point, True, point, True) for point in points if point is not None)
        elif piece.kind is Kind.TUPLE and len(piece.items) == 2:
            low, high = _real(piece.items[0]), _real(piece.items[1])
            if low is None or high is None or not low < high:
                return None
            pieces.append((low, piece.label[0] == "[", high, piece.label[1] == "]"))
        else:
            return None
    merged: list[tuple[float, bool, float, bool]] = []
    for low, has_low, high, has_high in sorted(pieces, key=lambda piece: (piece[0], not piece[1])):
        if merged and (low < merged[-1][2] or (low == merged[-1][2] and (has_low or merged[-1][3]))):
            last = merged.pop()
            end = max((last[2], last[3]), (high, has_high))
            merged.append((last[0], last[1] or (low == last[0] and has_low), *end))
        else:
            merged.append((low, has_low, high, has_high))
    return merged


def _real(part: Part) -> float | None:
    """Value of an end of an interval, equal for equal numbers: only rational ends and infinities are known so."""
    if part.tokens in (("\\infty",), ("+", "\\infty")):
        return float("inf")
    if part.tokens == ("-", "\\infty"):
        return float("-inf")
    value = _constant(part)
    return None if value is None or part.unit or abs(value) > 10**9 or value.denominator > 10**4 else float(value)
