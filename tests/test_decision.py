"""What a decision is made of, and what decisions on parts say of the whole."""

from fractions import Fraction

import pytest

from nsr_trl.verifier import Rule
from nsr_trl.verifier.decision import Decision, all_of, differ, same, unknown, unless_same, worst
from nsr_trl.verifier.nodes import Opaque, Scalar
from nsr_trl.verifier.terms import Number


FIVE, SIX = (Scalar((str(i),), Number(Fraction(i))) for i in (5, 6))
UNREAD = Opaque(("?",))
SAME, DIFFERENT = same(Rule.NUMBER_SAME, FIVE, FIVE), differ(Rule.NUMBER_DIFFERS, FIVE, SIX)
CONTESTED, OPEN = unknown(Rule.LIST_ONE, FIVE, SIX), unknown(Rule.LIST_OPEN, FIVE, SIX)


@pytest.mark.parametrize("parts", [(FIVE, UNREAD), (UNREAD, FIVE), (UNREAD, UNREAD)])
def test_a_difference_from_what_is_not_understood_is_none(parts):
    assert differ(Rule.NUMBER_DIFFERS, *parts).rule is Rule.READING_PARTIAL


@pytest.mark.parametrize("parts", [(FIVE, UNREAD), (UNREAD, FIVE), (None, FIVE), (FIVE, None), (None, None)])
def test_a_difference_of_anything_but_two_whole_readings_cannot_be_built(parts):
    with pytest.raises(AssertionError, match="of two whole readings"):
        Decision(Rule.NUMBER_DIFFERS, *parts)


@pytest.mark.parametrize(
    ("decide", "rule"),
    [(same, Rule.NUMBER_DIFFERS), (same, Rule.LIST_OPEN), (differ, Rule.NUMBER_SAME), (unknown, Rule.NUMBER_SAME)],
)
def test_a_rule_decides_as_it_says(decide, rule):
    with pytest.raises(AssertionError):
        decide(rule, FIVE, FIVE)


def test_the_outcome_is_that_of_the_rule():
    outcomes = [(one.is_correct, one.is_incorrect, str(one.outcome)) for one in (SAME, DIFFERENT, OPEN)]
    assert outcomes == [(True, False, "correct"), (False, True, "incorrect"), (False, False, "undecided")]


@pytest.mark.parametrize(
    ("parts", "rule"),
    [
        ([], Rule.LIST_SAME),
        ([SAME, SAME], Rule.LIST_SAME),
        ([SAME, OPEN, DIFFERENT], Rule.LIST_DIFFERS),
        ([SAME, CONTESTED], Rule.LIST_ONE),
        ([CONTESTED, OPEN, SAME], Rule.LIST_OPEN),
    ],
)
def test_a_whole_differs_if_a_part_does_and_is_the_same_if_all_are(parts, rule):
    assert all_of(iter(parts), Rule.LIST_SAME, Rule.LIST_DIFFERS, FIVE, SIX).rule is rule


def test_what_is_not_understood_is_worse_than_what_people_disagree_about():
    assert worst([CONTESTED, OPEN]) is worst([OPEN, CONTESTED]) is OPEN


def test_of_another_form_a_difference_stands_and_equality_does_not():
    assert unless_same(DIFFERENT, Rule.LIST_ONE) is DIFFERENT
    assert unless_same(OPEN, Rule.LIST_ONE) is OPEN
    assert unless_same(SAME, Rule.LIST_ONE) == unknown(Rule.LIST_ONE, FIVE, FIVE)
