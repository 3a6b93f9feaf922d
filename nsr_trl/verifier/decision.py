"""Decisions: a rule and the two parts of which it speaks.

There are three ways to decide, one for each outcome, and none is the default. A difference can only be decided of two
readings that are whole: of anything else, `differ` says that the reading is partial.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .nodes import Node, is_whole
from .verdict import Outcome, Reason, Rule


@dataclass(frozen=True, slots=True)
class Decision:
    """
    What was decided.

    Attributes:
        rule ([`~verdict.Rule`]):
            The rule.
        answer (`Node` or `None`), gold (`Node` or `None`):
            The parts of the answer and of the reference that it is about.
    """

    rule: Rule
    answer: Node | None = None
    gold: Node | None = None

    def __post_init__(self) -> None:
        if self.rule.outcome is Outcome.INCORRECT:
            are_whole = (
                self.answer is not None and self.gold is not None and is_whole(self.answer) and is_whole(self.gold)
            )
            assert are_whole, "a difference is proved of two whole readings"

    @property
    def outcome(self) -> Outcome:
        """Correct, incorrect or undecided."""
        return self.rule.outcome

    @property
    def is_correct(self) -> bool:
        """Whether both are proved to be the same."""
        return self.rule.outcome is Outcome.CORRECT

    @property
    def is_incorrect(self) -> bool:
        """Whether both are proved to differ."""
        return self.rule.outcome is Outcome.INCORRECT


Compare = Callable[[Node, Node], Decision]
"""Compares a part of the answer with one of the reference."""


def same(rule: Rule, answer: Node, gold: Node) -> Decision:
    """Both are the same."""
    assert rule.outcome is Outcome.CORRECT, rule
    return Decision(rule, answer, gold)


def differ(rule: Rule, answer: Node, gold: Node) -> Decision:
    """Both differ, if both are understood as a whole."""
    assert rule.outcome is Outcome.INCORRECT, rule
    return Decision(rule if is_whole(answer) and is_whole(gold) else Rule.READING_PARTIAL, answer, gold)


def unknown(rule: Rule, answer: Node, gold: Node) -> Decision:
    """Neither is proved."""
    assert rule.outcome is Outcome.UNDECIDED, rule
    return Decision(rule, answer, gold)


def all_of(decisions: Iterable[Decision], equal: Rule, different: Rule, answer: Node, gold: Node) -> Decision:
    """Differ if any part does, are the same if all are; else what is not known of a part is not known of the whole."""
    found = list(decisions)
    if any(decision.is_incorrect for decision in found):
        return differ(different, answer, gold)
    undecided = [decision for decision in found if not decision.is_correct]
    return worst(undecided) if undecided else same(equal, answer, gold)


def worst(undecided: list[Decision]) -> Decision:
    """The decision that knows least: a form that is not understood rather than one about which people disagree."""
    return max(undecided, key=lambda decision: decision.rule.reason is Reason.NOT_COMPARABLE)


def unless_same(decision: Decision, rule: Rule) -> Decision:
    """For another form than the reference's: a difference stands, but equality proves nothing."""
    if not decision.is_correct:
        return decision
    assert decision.answer is not None
    assert decision.gold is not None
    return unknown(rule, decision.answer, decision.gold)
