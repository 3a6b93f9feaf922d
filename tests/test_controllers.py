"""Which objective is in force: by the step, by what was seen, and after a checkpoint."""

import math

import numpy as np
import pytest
import torch

from nsr_trl.controllers import build_controller
from nsr_trl.objective import build_objective


W = build_objective("w_reinforce")


def weight_of(controller):
    """Lambda in force, as the weight that a right completion gets."""
    weight = controller.objective.weigh(torch.tensor([[1, -1]]))[0, 0].item()
    assert controller.objective.positive_weight == pytest.approx(weight)
    return weight


@pytest.mark.parametrize(
    ("schedule", "weights"),
    [
        # at steps 0, 25, 50, 100 of 100
        ({"kind": "constant", "from": 0.3}, [0.3, 0.3, 0.3, 0.3]),
        ({"kind": "linear", "from": 0.0, "to": 0.2}, [0.0, 0.05, 0.1, 0.2]),
        ({"kind": "linear", "from": 0.0, "to": 0.2, "over": 0.5}, [0.0, 0.1, 0.2, 0.2]),
        ({"kind": "linear", "from": 0.0, "to": 0.2, "over": 50}, [0.0, 0.1, 0.2, 0.2]),
        # (1 - cos(pi / 4)) / 2 = .1464
        ({"kind": "cosine", "from": 0.0, "to": 1.0}, [0.0, 0.14645, 0.5, 1.0]),
        ({"kind": "step", "from": 0.0, "to": 1.0, "over": 0.5}, [0.0, 0.0, 1.0, 1.0]),
        ({"kind": "linear", "to": 0.5}, [0.1, 0.2, 0.3, 0.5]),  # from the paper's lambda
    ],
)
def test_a_schedule_moves_lambda_by_the_step(schedule, weights):
    controller = build_controller(W, schedule=schedule)
    for step, expected in zip((0, 25, 50, 100), weights, strict=True):
        controller.begin_rollout(step, 100)
        assert weight_of(controller) == pytest.approx(expected, abs=1e-5)


def test_the_weight_of_incorrect_completions_and_focal_gamma_stay(monkeypatch):
    controller = build_controller(W, 0.1, 2.0, 1.0, schedule={"kind": "linear", "to": 0.5})
    controller.begin_rollout(100, 100)
    # p = 1/2: (1 - p)^1 = 1/2 times 0.5 and -2
    assert controller.objective.weigh(torch.tensor([[1, -1]])).tolist() == [[0.25, -1.0]]


def test_balance_follows_the_smoothed_pass_rate():
    controller = build_controller(W, controller={"kind": "balance", "smoothing": 0.5, "low": 0.2, "high": 4})
    controller.see_outcomes(torch.tensor([[1, -1, -1, 0]]))
    assert weight_of(controller) == pytest.approx(2)  # 2 wrong to 1 right; undecided counts for neither
    controller.see_outcomes(torch.tensor([[1, 1, 1, -1]]))
    assert weight_of(controller) == pytest.approx(2 / 3.5)  # wrong 2/2 + 1, right 1/2 + 3
    for _ in range(9):
        controller.see_outcomes(torch.ones(1, 4))
    assert weight_of(controller) == pytest.approx(0.2)  # its lower bound
    controller = build_controller(W, controller={"kind": "balance", "high": 4})
    controller.see_outcomes(-torch.ones(1, 4))
    assert weight_of(controller) == pytest.approx(4)


def test_entropy_lowers_lambda_below_its_target_and_raises_it_above():
    controller = build_controller(W, controller={"kind": "entropy", "target": 0.5, "rate": 0.1, "high": 0.11})
    controller.see_entropy(0.4)
    assert weight_of(controller) == pytest.approx(0.1 * math.exp(-0.1))
    controller.see_entropy(0.6)
    assert weight_of(controller) == pytest.approx(0.1)
    controller.see_entropy(0.6)
    assert weight_of(controller) == pytest.approx(0.11)  # its upper bound


def test_entropy_without_a_target_holds_what_it_saw_first():
    controller = build_controller(W, controller="entropy")
    controller.see_entropy(0.4)
    assert weight_of(controller) == pytest.approx(0.1)
    controller.see_entropy(0.3)
    assert weight_of(controller) < 0.1


SOLVED, UNSOLVED, UNDECIDED = [1, -1], [-1, -1], [0, 0]


def test_nsr_hands_over_when_the_share_of_unsolved_prompts_rises():
    settings = {"kind": "handover", "to": "grpo", "rise": 0.1, "smoothing": 0.0, "warmup": 1}
    controller = build_controller(build_objective("nsr"), controller=settings)

    def share(unsolved, of=10):
        return torch.tensor([UNSOLVED] * unsolved + [SOLVED] * (of - unsolved) + [UNDECIDED] * 3)

    # 9 of 10 in the first rollout do not count; 3 is the lowest; 4 is not above 3 + 1
    for unsolved in (9, 5, 3, 4):
        assert controller.see_outcomes(share(unsolved)) is None
        assert controller.objective.name == "nsr"
    sentence = controller.see_outcomes(share(5))
    assert sentence == ("Handed over from nsr to grpo: the share of unsolved prompts is 50.0%, 30.0% at its lowest.")
    # grpo of outcomes: p = 1/2, s = sqrt(1/4 x 2) = .7071, +-.5 / .7071
    torch.testing.assert_close(
        controller.objective.weigh(torch.tensor([SOLVED])), torch.tensor([[0.7071, -0.7071]]), atol=1e-4, rtol=0
    )
    assert controller.see_outcomes(share(9)) is None  # once
    assert controller.describe() == "nsr, then grpo; handed over"


def test_a_handover_may_be_asked_for_and_then_has_no_trigger_of_its_own():
    controller = build_controller(build_objective("nsr"), hands_over=True)
    for _ in range(30):
        controller.see_outcomes(torch.tensor([SOLVED]))
    assert controller.see_outcomes(torch.tensor([UNSOLVED] * 99)) is None
    assert controller.hand_over("an alarm") == "Handed over from nsr to w_reinforce: an alarm."
    assert controller.hand_over("another") is None
    assert controller.objective.name == "w_reinforce"


CONTROLLERS = [
    {"schedule": {"kind": "cosine", "to": 1.0}},
    {"controller": {"kind": "balance"}},
    {"controller": {"kind": "entropy", "rate": 0.3}},
    {"controller": {"kind": "handover", "warmup": 1, "rise": 0.0}},
]


@pytest.mark.parametrize("settings", CONTROLLERS, ids=str)
def test_what_was_seen_makes_another_controller_the_same(settings):
    def drive(controller, steps):
        for step in steps:
            controller.begin_rollout(step, 10)
            controller.see_outcomes(torch.tensor([UNSOLVED] * step + [SOLVED] * (10 - step)))
            controller.see_entropy(0.5 + 0.1 * (-1) ** step)

    objective = build_objective("nsr") if settings.get("controller", {}).get("kind") == "handover" else W
    whole, first, second = (build_controller(objective, **settings) for _ in range(3))
    drive(whole, range(8))
    drive(first, range(4))
    second.load(first.seen)
    drive(second, range(4, 8))
    assert second.seen == whole.seen
    assert (
        second.objective.formula
        == whole.objective.formula
        == build_controller(objective, **settings).objective.formula
    )
    assert torch.equal(*(c.objective.weigh(torch.tensor([SOLVED])) for c in (whole, second)))
    assert not torch.equal(*(c.objective.weigh(torch.tensor([SOLVED])) for c in (whole, build_controller(objective))))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"schedule": {"kind": "lin"}}, "`positive_weight_schedule` must have a `kind`, one of constant.*'linear'"),
        ({"schedule": {"kind": "linear"}}, "must say where lambda goes; got .*Set `to`"),
        ({"schedule": {"kind": "linear", "to": -1}}, "`to` of positive_weight_schedule='linear' must be a finite"),
        ({"schedule": {"kind": "linear", "to": 1, "over": 0}}, "`over` .* must be a share of the run"),
        ({"schedule": {"kind": "constant", "till": 1}}, "must be of from; got 'till'"),
        ({"controller": "ballance"}, "`lambda_controller` must have a `kind`, .*Did you mean 'balance'"),
        ({"controller": {"kind": "balance", "low": 3, "high": 1}}, "`low` .* must be below `high`; got 3 and 1"),
        ({"controller": {"kind": "balance", "smoothing": 1}}, "`smoothing` .* from 0 to below 1; got 1"),
        ({"controller": {"kind": "handover", "to": "nrs"}}, "`to` of lambda_controller='handover' must be one of psr"),
        ({"controller": "balance", "schedule": {"kind": "linear", "to": 1}}, "One thing at most can move the weight"),
        ({"controller": "balance", "hands_over": True}, "on_alarm='handover' changes the objective"),
        ({"controller": ["handover"], "hands_over": True}, r"must have a `kind`, .* got \['handover'\]"),
    ],
)
def test_a_wrong_setting_says_what_must_hold(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        build_controller(W, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": {"kind": "linear", "to": np.float32(0.5), "over": np.int64(4)}},
        {"controller": {"kind": "balance", "smoothing": np.float64(0.5), "high": np.int64(2)}},
        {"controller": {"kind": "entropy", "rate": np.float32(0.5), "target": np.float64(0.25)}},
    ],
    ids=str,
)
def test_what_is_seen_under_settings_of_numpys_kinds_is_plain(settings):
    controller = build_controller(W, positive_weight=np.float32(0.25), **settings)
    controller.begin_rollout(2, 8)
    controller.see_outcomes(torch.tensor([SOLVED, UNSOLVED]))
    controller.see_entropy(0.5)
    # a checkpoint is read by torch's unpickler of plain values, and the card's facts are JSON
    assert {type(value) for value in controller.seen.values()} <= {float, int}


@pytest.mark.parametrize("name", ["nsr", "maxrl", "grpo"])
def test_only_w_reinforce_has_a_lambda_to_move(name):
    with pytest.raises(ValueError, match=f"which objective='w_reinforce' has; got objective='{name}'"):
        build_controller(build_objective(name), controller="balance")


def test_a_handover_to_the_same_objective_is_refused():
    with pytest.raises(ValueError, match="must go to another objective; got 'w_reinforce' on both sides"):
        build_controller(W, hands_over=True)
    assert build_controller(build_objective("w_reinforce", 0.5), hands_over=True).objective.positive_weight == 0.5


def test_trls_own_advantages_cannot_hand_over():
    with pytest.raises(ValueError, match="must begin with a signed objective; got objective='grpo'"):
        build_controller(build_objective("grpo"), controller="handover")
