"""What a person is told of the outcome reward: how it was cut, and what to look at."""

import pytest
import torch

from nsr_trl.outcome_reward import OutcomeWatch, check_outcome_rewards


NAN = float("nan")


def watch(threshold=0.5, is_chosen=False, num_rollouts=3):
    return OutcomeWatch("accuracy", threshold, is_chosen, num_rollouts)


def told(watch, *rollouts, unanswered=0.0):
    """Everything that is said of some rollouts."""
    return [line for rewards in rollouts for line in watch.look(torch.tensor(rewards), unanswered)]


# --- a scale that was shifted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rewards", [[0.0, -1.0, -1.0, NAN], [-0.5, -2.0], [-1.0, -0.5, 0.0]])
def test_a_reward_that_is_never_above_zero_and_tells_completions_apart_is_refused(rewards):
    with pytest.raises(ValueError, match=r"correct_threshold=0\.5 .*never exceeded.*objective=\"nsr\""):
        check_outcome_rewards(torch.tensor(rewards), 0.5)


@pytest.mark.parametrize(
    "rewards", [[0.0, 0.0], [-1.0, NAN], [1.0, 0.0], [NAN] * 2, [0.2, 0.0], [0.2, -1.0], [0.5, -0.5, 0.0]]
)
def test_a_grade_that_is_below_the_threshold_is_no_shifted_scale(rewards):
    check_outcome_rewards(torch.tensor(rewards), 0.5)


def test_a_chosen_threshold_stands():
    assert len(told(watch(threshold=-0.5, is_chosen=True), [-1.0, -2.0])) == 1
    with pytest.raises(ValueError, match="never exceeded"):
        told(watch(), [-1.0, -2.0])


def test_a_scale_that_had_a_correct_answer_is_never_refused_later():
    assert len(told(watch(), [1.0, -1.0], [-1.0, -0.5])) == 1


# --- how it was cut --------------------------------------------------------------------------------------------------


def test_the_first_rollout_says_once_how_the_reward_was_cut():
    assert told(watch(), [2.0, 1.5, -2.5, 3.5, 0.0, 0.2], [1.0, 0.0]) == [
        "Outcome reward accuracy: values -2.5, 0, 0.2 | 1.5, 2, 3.5; above correct_threshold=0.5 counts as correct."
    ]


def test_a_rollout_without_a_decision_is_told_and_the_cut_waits():
    first, second = told(watch(), [NAN, NAN], [0.0, NAN])
    assert "decided none of 2 completions" in first
    assert "values 0 | none" in second


def test_of_many_values_the_lowest_and_the_highest_are_shown():
    (line,) = told(watch(), [i / 20 for i in range(11)] + [1.0])
    assert "values 0, 0.05, 0.1, 0.15, ..., 0.35, 0.4, 0.45, 0.5 | 1;" in line


def test_several_values_that_all_count_as_correct_are_warned_of():
    _, warning = told(watch(), [3.0, 5.0, 3.0])
    assert "3, 5, is above correct_threshold=0.5, so every completion counts as correct" in warning
    assert len(told(watch(), [1.0, 1.0])) == 1  # an easy batch


# --- after some rollouts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([0.0, 0.0], "In the first 3 rollouts none of 6 completions was correct."),
        ([1.0, 1.0], "In the first 3 rollouts all of 6 completions were correct."),
    ],
)
def test_rollouts_that_are_all_alike_are_told_once(rewards, expected):
    found = told(watch(), *[rewards] * 5)
    assert len(found) == 2
    assert found[1].startswith(expected)


def test_completions_that_mostly_have_no_answer_are_told_before_anything_else():
    found = told(watch(), *[[0.0, 0.0]] * 5, unanswered=0.75)
    assert "the verifier found no answer in 75% of the completions" in found[1]
    assert "\\boxed{}" in found[1]
    assert len(told(watch(), *[[1.0, 0.0]] * 5, unanswered=0.5)) == 1


def test_zero_rollouts_are_never_too_many():
    assert len(told(watch(num_rollouts=0), *[[0.0, 0.0]] * 30)) == 1


def test_what_was_told_goes_with_a_checkpoint():
    before = watch()
    told(before, [0.0, 0.0], [0.0, 0.0])
    after = watch()
    after.load(before.state())
    (line,) = told(after, [0.0, 0.0])
    assert line.startswith("In the first 3 rollouts none of 6")


def test_rollouts_without_a_decision_are_told_once():
    watch = OutcomeWatch("reward", 0.5, is_chosen=False, num_rollouts=3)
    undecided = torch.full((4,), float("nan"))
    told = [sentence for _ in range(3) for sentence in watch.look(undecided)]
    assert len(told) == 1
    assert "decided none of 4 completions" in told[0]
