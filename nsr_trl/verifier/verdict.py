"""What a verifier says: an outcome of three values, the answer it read, and the rule that decided.

Every verdict names one rule. A rule proves that two answers are the same, or that they differ, or it says why neither
is proved; what no rule speaks of is undecided. The reason is the rule's family, for counting.
"""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """Whether a response is right. Only `correct` and `incorrect` train; `undecided` weighs nothing."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    UNDECIDED = "undecided"


_CORRECT, _INCORRECT, _UNDECIDED = Outcome


class Reason(StrEnum):
    """What decided, or what stood in the way. The values are stable: they are written to logs and sample files."""

    STRING = "string"
    """The answers have the same normal form: correct."""
    NUMBER = "number"
    """Both answers are exact numbers: correct if equal, incorrect if not."""
    STRUCTURE = "structure"
    """Both answers are understood part by part (lists, tuples, intervals, words), and the parts decide."""
    SYMBOLIC = "symbolic"
    """Algebra decided: correct if equal, incorrect if certainly different."""
    NO_ANSWER = "no answer"
    """The response has no answer in the format asked for: incorrect, as the paper reads it."""
    ANSWER_ELSEWHERE = "answer elsewhere"
    """The response has no answer in the format asked for, but one in another: incorrect, or undecided under `auto`."""
    GOLD_UNPARSABLE = "gold unparsable"
    """There is no reference answer to compare with: undecided."""
    NOT_TEXT = "not text"
    """The response is not a string: undecided."""
    NOT_COMPARABLE = "not comparable"
    """The answers differ in form and at least one is not understood exactly: undecided."""
    CONTESTED = "contested form"
    """Both are understood, but people disagree about the form: a rounding, undone arithmetic: undecided."""
    TOO_LARGE = "too large"
    """An answer is too long, too deep or too big a number to compare: undecided."""
    TIME_OUT = "time-out"
    """The symbolic comparison reached its deadline and was killed: undecided."""
    WORKER_DIED = "worker died"
    """The process of the symbolic comparison died, of memory or otherwise: undecided."""


class Rule(StrEnum):
    """
    What can be said of an answer and its reference, and what each saying proves. The names are stable.

    Attributes:
        outcome ([`Outcome`]):
            Correct for a proof that both are the same, incorrect for a proof that they differ, undecided for neither.
        reason ([`Reason`]):
            The family of the rule.
        meaning (`str`):
            The rule in a sentence.
    """

    outcome: Outcome
    reason: Reason
    meaning: str

    def __new__(cls, name: str, outcome: Outcome, reason: Reason, meaning: str) -> "Rule":
        """Makes a rule of its row."""
        rule = str.__new__(cls, name)
        rule._value_ = name
        rule.outcome, rule.reason, rule.meaning = outcome, reason, meaning
        return rule

    TEXT_SAME = "text.same", _CORRECT, Reason.STRING, "the normal forms are the same"

    NUMBER_SAME = "number.same", _CORRECT, Reason.NUMBER, "exact numbers, and equal"
    NUMBER_DIFFERS = "number.differs", _INCORRECT, Reason.NUMBER, "exact numbers, and different"
    NUMBER_ROUNDING = "number.rounding", _UNDECIDED, Reason.CONTESTED, "one may be a rounding of the other"
    NUMBER_WORK_LEFT = "number.work_left", _UNDECIDED, Reason.CONTESTED, "equal, but the answer leaves work to do"

    QUANTITY_SAME = "quantity.same", _CORRECT, Reason.NUMBER, "quantities in different units, and equal"
    QUANTITY_DIFFERS = "quantity.differs", _INCORRECT, Reason.NUMBER, "quantities of one kind, and different"
    QUANTITY_SCALE = "quantity.scale", _UNDECIDED, Reason.CONTESTED, "different numbers, as another unit would explain"
    QUANTITY_UNIT = "quantity.unit", _UNDECIDED, Reason.CONTESTED, "the units are different, or not known"

    EXPRESSION_SAME = "expression.same", _CORRECT, Reason.SYMBOLIC, "equal, as exact algebra proves"
    EXPRESSION_DIFFERS = "expression.differs", _INCORRECT, Reason.SYMBOLIC, "different, as terms or values prove"
    EXPRESSION_PROVED = "expression.proved", _CORRECT, Reason.SYMBOLIC, "equal, as computer algebra proves"
    EXPRESSION_LETTERS = (
        "expression.letters",
        _UNDECIDED,
        Reason.CONTESTED,
        "a letter may be named otherwise, or a unit",
    )
    EXPRESSION_OPEN = "expression.open", _UNDECIDED, Reason.NOT_COMPARABLE, "neither equal nor different for certain"

    LIST_SAME = "list.same", _CORRECT, Reason.STRUCTURE, "every part has its like, in whatever order"
    LIST_DIFFERS = "list.differs", _INCORRECT, Reason.STRUCTURE, "a part certainly has no like"
    LIST_ONE = "list.one", _UNDECIDED, Reason.CONTESTED, "a list of one part for the part"
    LIST_OPEN = "list.open", _UNDECIDED, Reason.NOT_COMPARABLE, "a part may have its like, or may not"

    TUPLE_SAME = "tuple.same", _CORRECT, Reason.STRUCTURE, "equal part by part, in order"
    TUPLE_DIFFERS = "tuple.differs", _INCORRECT, Reason.STRUCTURE, "another part, or another number of them"
    TUPLE_BRACKETS = "tuple.brackets", _UNDECIDED, Reason.CONTESTED, "equal parts in brackets that mean something else"

    INTERVAL_SAME = "interval.same", _CORRECT, Reason.STRUCTURE, "the same real numbers"
    INTERVAL_DIFFERS = (
        "interval.differs",
        _INCORRECT,
        Reason.STRUCTURE,
        "real numbers that are in one and not in the other",
    )
    INTERVAL_INTEGERS = (
        "interval.integers",
        _UNDECIDED,
        Reason.CONTESTED,
        "the same integers, though not the same real numbers",
    )

    INTERVAL_FORM = (
        "interval.form",
        _UNDECIDED,
        Reason.CONTESTED,
        "an inequality for a letter said to be in an interval",
    )

    MATRIX_SAME = "matrix.same", _CORRECT, Reason.STRUCTURE, "equal cell by cell"
    MATRIX_DIFFERS = "matrix.differs", _INCORRECT, Reason.STRUCTURE, "another cell, or another shape"
    MATRIX_LAYOUT = (
        "matrix.layout",
        _UNDECIDED,
        Reason.CONTESTED,
        "a row for a column, or brackets that mean something else",
    )

    EQUATION_SAME = "equation.same", _CORRECT, Reason.SYMBOLIC, "equations equal up to a factor"
    EQUATION_DIFFERS = "equation.differs", _INCORRECT, Reason.SYMBOLIC, "linear equations with other solutions"
    EQUATION_SIDE = (
        "equation.side",
        _UNDECIDED,
        Reason.CONTESTED,
        "an equation that holds the other, or is solved by it",
    )
    EQUATION_OPEN = "equation.open", _UNDECIDED, Reason.NOT_COMPARABLE, "equations that may have the same solutions"

    CHAIN_SAME = "chain.same", _CORRECT, Reason.STRUCTURE, "a chain of equal values that ends in the answer"
    CHAIN_DIFFERS = "chain.differs", _INCORRECT, Reason.STRUCTURE, "no value of a chain is the reference"
    CHAIN_BROKEN = "chain.broken", _UNDECIDED, Reason.CONTESTED, "a chain whose values are not all equal"

    NAME_DIFFERS = "name.differs", _UNDECIDED, Reason.NOT_COMPARABLE, "equal values with different names"
    CONDITION_DIFFERS = "condition.differs", _UNDECIDED, Reason.CONTESTED, "equal values under different conditions"

    RATIO_SAME = "ratio.same", _CORRECT, Reason.STRUCTURE, "ratios equal part by part"
    RATIO_DIFFERS = "ratio.differs", _INCORRECT, Reason.STRUCTURE, "different ratios"
    RATIO_SCALED = "ratio.scaled", _UNDECIDED, Reason.CONTESTED, "equal ratios with other parts, or a fraction"

    BASE_SAME = "base.same", _CORRECT, Reason.NUMBER, "equal numbers in one base"
    BASE_DIFFERS = "base.differs", _INCORRECT, Reason.NUMBER, "different numbers, whatever the base"
    BASE_LEFT_OUT = "base.left_out", _UNDECIDED, Reason.CONTESTED, "a number in another base, or without its base"

    REMAINDER_SAME = "remainder.same", _CORRECT, Reason.NUMBER, "equal remainders"
    REMAINDER_DIFFERS = "remainder.differs", _INCORRECT, Reason.NUMBER, "different remainders of one modulus"
    REMAINDER_OTHER = "remainder.other", _UNDECIDED, Reason.CONTESTED, "numbers of one remainder, or other moduli"

    TIME_SAME = "time.same", _CORRECT, Reason.STRUCTURE, "the same time of day"
    TIME_DIFFERS = "time.differs", _INCORRECT, Reason.STRUCTURE, "different times of day"

    OPTION_SAME = "option.same", _CORRECT, Reason.STRUCTURE, "the same option"
    OPTION_DIFFERS = "option.differs", _INCORRECT, Reason.STRUCTURE, "another option"
    OPTION_VALUE = (
        "option.value",
        _UNDECIDED,
        Reason.NOT_COMPARABLE,
        "an option for its value, which the problem knows",
    )

    WORDS_SAME = "words.same", _CORRECT, Reason.STRUCTURE, "the same words, but for articles and plurals"
    WORDS_SYNONYMS = "words.synonyms", _CORRECT, Reason.STRUCTURE, "words of one meaning, by the tables"
    WORDS_EXCLUSIVE = "words.exclusive", _INCORRECT, Reason.STRUCTURE, "words that exclude each other, by the tables"
    WORDS_NO_VALUE = "words.no_value", _INCORRECT, Reason.STRUCTURE, "words that name no value, and a value"
    WORDS_UNKNOWN = "words.unknown", _UNDECIDED, Reason.NOT_COMPARABLE, "words of which the tables do not tell"

    KIND_DIFFERS = "kind.differs", _INCORRECT, Reason.STRUCTURE, "a number for what is none, or the reverse"
    KIND_OPEN = "kind.open", _UNDECIDED, Reason.NOT_COMPARABLE, "forms that may mean the same"

    READING_AMBIGUOUS = "reading.ambiguous", _UNDECIDED, Reason.NOT_COMPARABLE, "equal in one reading of a text"
    READING_PARTIAL = (
        "reading.partial",
        _UNDECIDED,
        Reason.NOT_COMPARABLE,
        "different, but one is not understood as a whole",
    )

    BOXES_TOGETHER = "boxes.together", _CORRECT, Reason.STRUCTURE, "the parts of the reference, each in a box"
    BOXES_APART = "boxes.apart", _UNDECIDED, Reason.CONTESTED, "several boxes, of which one is a part of the reference"
    REFERENCE_CHOICE = "reference.choice", _UNDECIDED, Reason.CONTESTED, "one of several references"

    NO_BOX = "no_box", _INCORRECT, Reason.NO_ANSWER, "the response has no box"
    NO_ANSWER = "no_answer", _INCORRECT, Reason.NO_ANSWER, "the response has no answer in the format asked for"
    ANSWER_ELSEWHERE = (
        "answer.elsewhere",
        _UNDECIDED,
        Reason.ANSWER_ELSEWHERE,
        "the last sentence may state the answer",
    )
    REFERENCE_MISSING = "reference.missing", _UNDECIDED, Reason.GOLD_UNPARSABLE, "there is no reference answer"
    NOT_TEXT = "not_text", _UNDECIDED, Reason.NOT_TEXT, "the response is not a string"
    FAULT = "fault", _UNDECIDED, Reason.NOT_COMPARABLE, "the verifier failed, which is logged and should be reported"
    TOO_LARGE = "too_large", _UNDECIDED, Reason.TOO_LARGE, "an answer exceeds the limits"
    TIME_OUT = "time_out", _UNDECIDED, Reason.TIME_OUT, "computer algebra reached its limit of CPU time"
    WORKER_DIED = "worker_died", _UNDECIDED, Reason.WORKER_DIED, "the process of computer algebra died"

    PAPER_SAME = "paper.same", _CORRECT, Reason.NUMBER, "equal by the rules of the paper's code"
    PAPER_DIFFERS = "paper.differs", _INCORRECT, Reason.NUMBER, "not equal by the rules of the paper's code"


RULES: dict[str, Rule] = {str(rule): rule for rule in Rule}
"""Rules by name."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    The verdict on one response.

    Attributes:
        outcome ([`Outcome`]):
            Correct, incorrect or undecided.
        answer (`str` or `None`):
            The answer read from the response; `None` if it has none.
        reason ([`Reason`]):
            What decided, or what stood in the way.
        rule ([`Rule`]):
            The rule that decided.
    """

    outcome: Outcome
    answer: str | None
    reason: Reason
    rule: Rule

    @classmethod
    def by(cls, rule: Rule, answer: str | None, reason: Reason | None = None) -> "Verdict":
        """The verdict by a rule, for the rule's own reason unless there is a closer one."""
        return cls(rule.outcome, answer, reason or rule.reason, rule)
