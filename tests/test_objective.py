"""Outcomes to signed weights, worked by hand."""

import pytest
import torch

from nsr_trl.objective import (
    OBJECTIVE_NAMES,
    Objective,
    build_objective,
    outcomes_from_rewards,
)


OUTCOMES = torch.tensor([[1, -1, 0, 1], [-1, -1, -1, 0]], dtype=torch.int8)  # P=2, G=4


@pytest.mark.parametrize(
    ("name", "correct", "incorrect"),
    [("psr", 1.0, 0.0), ("nsr", 0.0, -1.0), ("w_reinforce", 0.1, -1.0), ("reinforce", 1.0, -1.0)],
)
def test_a_named_objective_gives_its_weight_to_each_sign_and_nothing_to_undecided(name, correct, incorrect):
    c, i = correct, incorrect
    expected = torch.tensor([[c, i, 0, c], [i, i, i, 0]])
    torch.testing.assert_close(build_objective(name).weigh(OUTCOMES), expected)


def test_w_reinforce_takes_any_pair_of_weights():
    weights = build_objective("w_reinforce", positive_weight=0.3, negative_weight=2.0).weigh(OUTCOMES)
    torch.testing.assert_close(weights, torch.tensor([[0.3, -2, 0, 0.3], [-2, -2, -2, 0]]))


def test_weights_do_not_depend_on_the_group():
    weigh = build_objective("reinforce").weigh
    torch.testing.assert_close(weigh(OUTCOMES).flatten(), weigh(OUTCOMES.view(8, 1)).flatten())
    torch.testing.assert_close(weigh(torch.ones(2, 4)), torch.ones(2, 4))  # GRPO would give zeros to a solved group


def test_an_objective_may_use_the_statistics_of_its_group():
    def maxrl(outcomes):  # arXiv 2602.02710: (r - p) / p
        p = (outcomes > 0).float().mean(dim=1, keepdim=True)
        return torch.where(outcomes > 0, (1 - p) / p, -1.0) * (p > 0)

    weights = Objective("maxrl", "(r - p) / p", maxrl).weigh(torch.tensor([[1, -1, -1, -1], [-1, -1, -1, -1]]))
    # p = 1/4: (1 - 1/4) / (1/4) = 3; a group that is all wrong is dropped
    torch.testing.assert_close(weights, torch.tensor([[3.0, -1, -1, -1], [0, 0, 0, 0]]))


def test_grpo_has_no_weights_of_its_own():
    assert build_objective("grpo").weigh is None


@pytest.mark.parametrize(
    ("arguments", "formula"),
    [
        (("psr",), "L_PSR"),
        (("nsr",), "L_NSR"),
        (("w_reinforce",), "0.1 L_PSR + L_NSR"),
        (("w_reinforce", 0.5, 2.0), "0.5 L_PSR + 2 L_NSR"),
    ],
)
def test_the_formula_names_the_weights_in_force(arguments, formula):
    assert build_objective(*arguments).formula == formula


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nrs",), "must be one of psr, nsr, w_reinforce, reinforce, grpo; got 'nrs'"),
        (("w_reinforce", 0.1, -1.0), r"`negative_weight` must be a finite magnitude >= 0; got -1.0"),
        (("w_reinforce", float("nan")), "finite magnitude"),
        (("w_reinforce", 0.0, 0.0), "trains nothing"),
        (("nsr", 0.1), r"`positive_weight` is fixed at 0.0 under objective='nsr'; got 0.1"),
        (("grpo", 0.1), "not used under objective='grpo'"),
    ],
)
def test_a_wrong_objective_says_what_must_hold_what_came_and_what_to_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_objective(*arguments)


def test_repeating_the_weights_that_a_name_stands_for_is_allowed():
    assert build_objective("nsr", 0.0, 1.0).formula == "L_NSR"


@pytest.mark.parametrize(
    ("rewards", "threshold", "expected"),
    [
        ([1.0, 0.0, float("nan")], 0.5, [1, -1, 0]),
        ([1.0, -1.0, float("nan")], 0.5, [1, -1, 0]),
        ([0.2, 0.7, 0.71], 0.7, [-1, -1, 1]),  # above, not at, the threshold
    ],
)
def test_the_sign_is_read_off_rewards_of_any_scale(rewards, threshold, expected):
    outcomes = outcomes_from_rewards(torch.tensor(rewards), threshold)
    assert outcomes.tolist() == expected
    assert outcomes.dtype == torch.int8


def test_every_name_builds():
    assert [build_objective(name).name for name in OBJECTIVE_NAMES] == list(OBJECTIVE_NAMES)
