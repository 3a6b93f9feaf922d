"""Outcomes to signed weights, worked by hand."""

import math

import pytest
import torch

from nsr_trl.objective import (
    FAMILY,
    OBJECTIVE_NAMES,
    build_objective,
    outcomes_from_rewards,
    reads_batch,
    register_objective,
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


def test_grpo_has_no_weights_of_its_own():
    assert build_objective("grpo").weigh is None


@pytest.mark.parametrize(
    ("arguments", "formula"),
    [
        (("psr",), "L_PSR"),
        (("nsr",), "L_NSR"),
        (("w_reinforce",), "0.1 L_PSR + L_NSR"),
        (("w_reinforce", 0.5, 2.0), "0.5 L_PSR + 2 L_NSR"),
        (("dr_grpo",), "r - p"),
        (("pkpo", None, None, {"k": 8}), "gradient of Pass@k (k=8)"),
        (("dr_grpo", None, None, None, 0.5), "(1-p)^0.5 x (r - p)"),
    ],
)
def test_the_formula_names_the_weights_in_force(arguments, formula):
    assert build_objective(*arguments).formula == formula


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nrs",), r"must be one of psr, nsr, .*, or module:function of your own; got 'nrs'\. Did you mean 'nsr'"),
        (("w_reinforce", 0.1, -1.0), r"`negative_weight` must be a finite magnitude >= 0; got -1.0"),
        (("w_reinforce", float("nan")), "finite magnitude"),
        (("w_reinforce", 0.0, 0.0), "trains nothing"),
        (("nsr", 0.1), r"`positive_weight` is fixed at 0.0 under objective='nsr'; got 0.1"),
        (("grpo", 0.1), "not used under objective='grpo'"),
        (("maxrl", None, 1.0), "`negative_weight` is not used under objective='maxrl'; got 1.0"),
        (("nsr", None, None, {"k": 4}), "objective='nsr' takes no `objective_args`; got {'k': 4}"),
        (("pkpo", None, None, {"K": 4}), "under objective='pkpo' must be of k; got 'K'"),
        (("pkpo", None, None, {"k": 0}), "`k` of objective='pkpo' must be a whole number, 1 or more; got 0"),
        (("pkpo", None, None, {"k": 2.0}), "a whole number, 1 or more; got 2.0. Leave it out for 4"),
        (
            ("qae", None, None, {"quantile": 1}),
            "`quantile` of objective='qae' must be a number between 0 and 1; got 1",
        ),
        (("nsr", None, None, None, -1), "`focal_gamma` must be a number >= 0; got -1"),
        (("no_such_module:weigh",), "`objective` must be module:function of what can be imported"),
        (("os:sep",), "`objective` must be a function; 'os:sep' is of type str"),
    ],
)
def test_a_wrong_objective_says_what_must_hold_what_came_and_what_to_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_objective(*arguments)


def test_repeating_the_weights_that_a_name_stands_for_is_allowed():
    assert build_objective("nsr", 0.0, 1.0).formula == "L_NSR"


def only_rare(outcomes, most=0.5):
    """A rule of one's own, which forgets that undecided is not wrong."""
    rate = (outcomes > 0).float().mean(dim=1, keepdim=True)
    return torch.where(outcomes > 0, 1.0, -1.0) * (rate <= most)


def test_an_own_objective_is_found_by_its_path_and_by_a_name_given_to_it(monkeypatch):
    outcomes = torch.tensor([[1, 1, 1, -1], [1, -1, -1, 0]])
    # 3 of 4 are not rare; 1 of 4 is, and the undecided one weighs nothing whatever the rule says
    rare = torch.tensor([[0.0, 0, 0, 0], [1, -1, -1, 0]])
    monkeypatch.setattr("nsr_trl.objective._own", {})
    register_objective("only_rare", only_rare, "the sign, where it is rare")
    for name in (f"{__name__}:only_rare", "only_rare"):
        torch.testing.assert_close(build_objective(name).weigh(outcomes), rare)
    named = build_objective("only_rare", args={"most": 0.9})
    assert named.formula == "the sign, where it is rare (most=0.9)"
    assert named.weigh(outcomes)[0].tolist() == [1, 1, 1, -1]


def mean_weight(outcomes):
    return outcomes.float() / outcomes.float().sum(dim=1, keepdim=True)  # 0 / 0 where signs cancel


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (mean_weight, "must return finite weights of the shape of its outcomes.*got NaN or infinity. Mind groups"),
        (lambda outcomes: outcomes.float().sum(1), r"\(5, 4\); got shape \(5,\)"),
        (lambda outcomes: outcomes.tolist(), "got a list"),
        (lambda outcomes, k: outcomes, "must take outcomes .* missing 1 required positional argument"),
    ],
)
def test_an_own_objective_that_does_not_do_is_refused_when_it_is_built(monkeypatch, rule, sentence):
    monkeypatch.setattr("nsr_trl.objective._own", {})
    register_objective("mine", rule)
    with pytest.raises(ValueError, match=sentence):
        build_objective("mine")


@pytest.mark.parametrize("name", ["nsr", "two words"])
def test_a_name_that_is_taken_or_is_none_cannot_be_registered(name):
    with pytest.raises(ValueError, match="a word that no shipped objective has"):
        register_objective(name, only_rare)


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


def test_a_reward_is_correct_above_one_half_where_nothing_is_said():
    assert outcomes_from_rewards(torch.tensor([1.0, 0.5, 0.0, float("nan")])).tolist() == [1, -1, -1, 0]


def test_one_objective_weighs_a_group_by_the_others_of_its_batch():
    assert [name for name in OBJECTIVE_NAMES if reads_batch(build_objective(name))] == ["a_grae"]


BOUNDS = [  # a parameter, values that it may have, and values that it may not
    ("pkpo", "k", (1, 64), (0, True, 2.0)),
    ("maclaurin", "order", (1, 64), (0, True, 2.0)),
    ("qae", "quantile", (0.01, 0.99), (0, 1)),
    ("ngrpo", "ddof", (0, 1), (2, -1, True, 0.5)),
    ("a_grae", "alpha", (0.01, 1), (0, 1.01)),
    ("asymre", "delta_v", (-1, 1), (-1.01, 1.01, "0")),
    ("lead", "floor", (0, 5), (-0.01, math.inf)),
    ("lead", "ceiling", (0.01, 5), (0, math.inf)),
    ("lead", "slope", (-5, 0), (math.inf, True)),
    ("lead", "midpoint", (-5, 0), (math.nan, "0")),
]


@pytest.mark.parametrize(("name", "parameter", "allowed", "refused"), BOUNDS)
def test_a_parameter_may_be_at_its_bound_and_not_beyond(name, parameter, allowed, refused):
    for value in allowed:
        build_objective(name, args={parameter: value})
    for value in refused:
        with pytest.raises(ValueError, match=f"`{parameter}` of objective='{name}' must be"):
            build_objective(name, args={parameter: value})


def test_each_parameter_has_its_bounds():
    assert {parameter for _, parameter, *_ in BOUNDS} == set().union(*(member.defaults for member in FAMILY.values()))


def test_an_objective_says_how_many_completions_of_a_prompt_it_needs():
    least = {name: build_objective(name).least_group for name in OBJECTIVE_NAMES}
    by_sign = {"psr": 1, "nsr": 1, "w_reinforce": 1, "reinforce": 1}
    # ngrpo adds a virtual completion; order 4 and Pass@4 look at 4; passk compares draws of 4: of 4 rows there is one
    special = {"ngrpo": 1, "maclaurin": 4, "pkpo": 4, "passk": 5}
    assert least == dict.fromkeys(OBJECTIVE_NAMES, 2) | by_sign | special
    # of one completion nothing can be told: no group is smaller than 2
    assert [build_objective("pkpo", args={"k": k}).least_group for k in (1, 2, 3)] == [2, 2, 3]
    assert [build_objective("maclaurin", args={"order": k}).least_group for k in (1, 2, 3)] == [2, 2, 3]
