"""What a response asks of its reference: texts go in, the pairs to be compared and the verdict on them come out.

Mostly that is one pair. A response with several boxes, a reference that is a list of several, or an answer that was
only guessed need more than one comparison, or a more careful word than its outcome.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .equivalence import readings_of_text
from .extract import Extracted, extract
from .nodes import Collection, Conditioned, Named
from .reference import Reference, read_reference
from .verdict import Outcome, Reason, Rule, Verdict


_MAX_ALTERNATIVES = 8

Pair = tuple[str, str]
"""An answer and a reference."""


@dataclass(frozen=True, slots=True)
class Question:
    """
    An answer and what it is compared with.

    Attributes:
        answer (`str`):
            The answer of the response.
        gold (`str`):
            The reference.
        together (`str`):
            All boxes of the response as one list, where the reference may be one; else empty.
        may_be_apart (`bool`):
            Whether there are more boxes than parts of the reference.
        choices (`tuple[str, ...]`):
            What else the reference may be: a part of it, where it is a list, or all of its boxes.
        alternatives (`tuple[str, ...]`):
            What else the answer may be.
        is_guess (`bool`):
            Whether the answer was read from a last sentence though none was asked for there.
    """

    answer: str
    gold: str
    together: str = ""
    may_be_apart: bool = False
    choices: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    is_guess: bool = False

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """All pairs to be compared."""
        together = [(self.together, self.gold)] if self.together else []
        choices = [(self.answer, choice) for choice in self.choices]
        return ((self.answer, self.gold), *together, *choices, *((other, self.gold) for other in self.alternatives))

    def verdict(self, rules: Mapping[Pair, Rule]) -> Verdict:
        """The verdict, given the rule that holds of each pair."""
        rule = self._rule(rules)
        others = [rules[other, self.gold].outcome for other in self.alternatives]
        is_unsure = self.is_guess or any(outcome is not Outcome.INCORRECT for outcome in others)
        if is_unsure and rule.outcome is Outcome.INCORRECT:
            rule = Rule.ANSWER_ELSEWHERE
        return Verdict.by(rule, self.answer)

    def _rule(self, rules: Mapping[Pair, Rule]) -> Rule:
        rule = rules[self.answer, self.gold]
        if rule.outcome is Outcome.CORRECT:
            return rule
        if self.together:
            together = rules[self.together, self.gold]
            if together.outcome is Outcome.CORRECT and not self.may_be_apart:
                return Rule.BOXES_TOGETHER
            if rule.outcome is Outcome.INCORRECT and (self.may_be_apart or together.outcome is not Outcome.INCORRECT):
                return Rule.BOXES_APART
        outcomes = {rules[self.answer, choice].outcome for choice in self.choices}
        if Outcome.CORRECT in outcomes:
            return Rule.REFERENCE_CHOICE
        is_open = rule.outcome is Outcome.INCORRECT and Outcome.UNDECIDED in outcomes
        return Rule.REFERENCE_CHOICE if is_open else rule


def read_row(response: Any, reference: Any, answer_format: str) -> Verdict | Question:
    """
    Reads a response and its reference.

    Args:
        response (`Any`):
            Response of a model; anything but text is undecided.
        reference (`Any`):
            As in [`~reference.read_reference`].
        answer_format (`str`):
            As in [`~extract.extract`].

    Returns:
        [`~verdict.Verdict`] or [`Question`]:
            The verdict where a side is missing, else what is to be compared.
    """
    if not isinstance(response, str):
        return Verdict.by(Rule.NOT_TEXT, None)
    found = extract(response, answer_format)
    gold = read_reference(reference)
    if gold.missing:
        return Verdict.by(Rule.REFERENCE_MISSING, found.answer)
    if found.answer is None:
        rule = Rule.NO_BOX if answer_format == "boxed" else Rule.NO_ANSWER
        return Verdict.by(rule, None, Reason.ANSWER_ELSEWHERE if found.is_elsewhere else None)
    return _question(found, gold)


def _question(found: Extracted, gold: Reference) -> Question:
    assert found.answer is not None
    num_parts = _num_parts(gold.text) if found.parts else 0
    is_list = num_parts > 1
    return Question(
        answer=found.answer,
        gold=gold.text,
        together=", ".join(found.parts) if is_list else "",
        may_be_apart=is_list and len(found.parts) > num_parts,
        choices=gold.choices + ((gold.together,) if gold.together else ()),
        alternatives=found.alternatives[-_MAX_ALTERNATIVES:],
        is_guess=found.is_guess,
    )


def _num_parts(gold: str) -> int:
    """How many parts a reference has that is a list or a tuple."""
    readings = readings_of_text(gold)
    node = readings[0].node if readings else None
    while isinstance(node, Named | Conditioned):
        node = node.value
    return len(node.items) if isinstance(node, Collection) else 0
