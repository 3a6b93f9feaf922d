"""What the rewards of a rollout come to: requirements, other rewards, weights that move, in the trainer and apart."""

import re
from pathlib import Path

import pytest
import torch
from trl import GRPOConfig, GRPOTrainer

from nsr_trl.auxiliary import auxiliary_weights
from nsr_trl.objective import require
from nsr_trl.outcome_reward import find_outcome_reward
from nsr_trl.weighing import Weighing


NAN = float("nan")


def test_right_and_well_formed_is_correct_and_wrong_is_wrong_whatever_its_form():
    outcomes = torch.tensor([1, 1, 1, 1, 0, 0, 0, -1, -1], dtype=torch.int8)
    form = [0.5, 0.0, -1.0, NAN, 1.0, NAN, 0.0, 1.0, NAN]  # public format rewards give 0.5 for a good form
    #       right and formed, not, not, not known | undecided, undecided, not formed | wrong, wrong
    expected = [1, -1, -1, 0, 0, 0, -1, -1, -1]
    assert require(outcomes, torch.tensor(form).unsqueeze(1)).tolist() == expected
    both = torch.tensor([[1.0, 1.0], [1.0, 0.0], [NAN, 0.0], [NAN, 1.0]])
    assert require(torch.ones(4, dtype=torch.int8), both).tolist() == [1, -1, -1, 0]
    assert require(outcomes, torch.tensor(form).unsqueeze(1)).dtype == torch.int8


def test_auxiliary_weights_by_hand():
    rewards = torch.tensor(
        [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, NAN], [0.5, 2.0], [0.5, 2.0], [NAN, NAN], [0.5, 2]]
    )
    found = auxiliary_weights(rewards, torch.tensor([1.0, 3.0]), group_size=4)
    # sums 1, 3, 0, 1: mean 1.25, variance (.0625 + 3.0625 + 1.5625 + .0625) / 3 = 1.5833, deviation 1.2583
    expected = [-0.25, 1.75, -1.25, -0.25]
    torch.testing.assert_close(found[:4], torch.tensor(expected) / (1.25831 + 1e-4), atol=1e-5, rtol=0)
    assert found[4:].tolist() == [0, 0, 0, 0]  # alike, but for one without any reward
    none = auxiliary_weights(rewards, torch.tensor([1.0, 3.0]), group_size=4, scale="none")
    assert none[:4].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_auxiliary_weights_are_trls_advantages(make_trainer, scale):
    functions = [form, length]
    settings = {"scale_rewards": scale, "reward_weights": [0.5, 2.0]}
    trainer = make_trainer(GRPOTrainer, GRPOConfig, reward_funcs=functions, **settings)
    trainer.current_gradient_accumulation_steps = 1
    rows = [trainer.train_dataset[i // 4] for i in range(8)]
    kept = []
    calculate = trainer._calculate_rewards
    trainer._calculate_rewards = lambda *args: kept.append(calculate(*args)) or kept[0]
    batch = trainer._generate_and_score_completions(rows)
    found = auxiliary_weights(kept[0], torch.tensor([0.5, 2.0]), 4, scale)
    assert found.abs().max() > 0
    torch.testing.assert_close(found, batch["advantages"], atol=1e-5, rtol=1e-5)


def form(completion_ids, **kwargs):
    """A graded format reward, None for some."""
    return [[0.0, 0.5, 1.0, None, 0.5][ids[0] % 5] for ids in completion_ids]


def length(completion_ids, **kwargs):
    return [float(len(ids)) for ids in completion_ids]


def answer(completion_ids, **kwargs):
    return [[1.0, 0.0, None][sum(ids) % 3] for ids in completion_ids]


def rollout(trainer):
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    trainer.model.train()
    rows = [trainer.train_dataset[i // trainer.num_generations] for i in range(8)]
    return trainer._generate_and_score_completions(rows)


def fixed(values):
    """A reward function that gives these values."""
    return lambda completions, **kwargs: (values * 8)[: len(completions)]


def named(function, name):
    function.__name__ = name
    return function


def test_both_ways_together_weigh_a_rollout(make_trainer):
    functions = [named(fixed([1, 1, 0, None]), "right"), named(fixed([1, 0, 1, 1]), "xml")]
    settings = {"outcome_reward": "right", "objective": "reinforce", "reward_funcs": functions}
    required = make_trainer(**settings, outcome_requires=["xml"])
    batch = rollout(required)
    assert batch["outcomes"].tolist() == [1, -1, -1, 0] * 2
    assert batch["advantages"].tolist() == [1, -1, -1, 0] * 2
    assert required._ledger.drain("train")["signed/unmet_ratio"] == 0.5  # one of two right answers

    both = make_trainer(**settings, outcome_requires=["xml"], auxiliary_weight=0.1)
    # xml 1, 0, 1, 1: mean .75, deviation .5: .5, -1.5, .5, .5 of which a tenth
    expected = torch.tensor([1.05, -1.15, -0.95, 0.05] * 2)
    torch.testing.assert_close(rollout(both)["advantages"], expected, atol=1e-4, rtol=0)
    # a tenth of 3 beside 3 of the signs
    assert both._ledger.drain("train")["signed/auxiliary_share"] == pytest.approx(0.3 / 3.3, abs=1e-4)


def test_what_the_other_rewards_weigh_stands_in_the_table(make_trainer):
    functions = [named(fixed([1, 0]), "right"), named(fixed([1, 0, 1, 1]), "xml")]
    trainer = make_trainer(reward_funcs=functions, outcome_reward="right", auxiliary_weight=1.0, log_completions=True)
    rollout(trainer)
    columns = trainer._logs["extra"]
    shown = [
        weight - other for weight, other in zip(columns["signed/weight"], columns["signed/auxiliary"], strict=True)
    ]
    assert shown == pytest.approx([0.1, -1.0] * 4, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"outcome_requires": ["xlm"]}, "must name reward functions, of which there are right, xml; got 'xlm'. Did"),
        (
            {"outcome_requires": ["xml"], "objective": "grpo"},
            "goes with a signed objective; got .* under objective='grpo'",
        ),
        ({"auxiliary_weight": 0.1, "objective": "grpo"}, "where TRL sums all rewards"),
    ],
)
def test_a_wrong_requirement_is_refused(make_trainer, settings, sentence):
    functions = [named(fixed([1, 0]), "right"), named(fixed([1, 0]), "xml")]
    with pytest.raises(ValueError, match=sentence):
        make_trainer(reward_funcs=functions, outcome_reward="right", **settings)


def test_a_misspelt_outcome_reward_is_answered_with_the_near_name():
    with pytest.raises(
        ValueError, match=r"got outcome_reward='accuracy_rewrd'\. Did you mean 'accuracy_reward'\? Set"
    ):
        find_outcome_reward(["accuracy_reward", "xml"], "accuracy_rewrd", "nsr", needs_sign=True)
    with pytest.raises(ValueError, match=r"got outcome_reward=None\. Set"):
        find_outcome_reward(["accuracy_reward", "xml"], None, "nsr", needs_sign=True)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {},
            "xml, length are logged and train nothing; set `auxiliary_weight` or `outcome_requires` to train on them.",
        ),
        ({"outcome_requires": ["xml"]}, "length is logged and trains nothing; set"),
        ({"outcome_requires": ["xml", "length"]}, None),
        ({"auxiliary_weight": 0.1}, None),
        ({"objective": "grpo"}, None),  # TRL sums all of them
    ],
)
def test_rewards_that_train_nothing_are_named_once_at_the_start(make_trainer, caplog, settings, told):
    functions = [named(fixed([1, 0]), name) for name in ("right", "xml", "length")]
    make_trainer(reward_funcs=functions, outcome_reward="right", **settings)
    lines = [record.getMessage() for record in caplog.records if "nothing" in record.getMessage()]
    assert [line[: len(told or "")] for line in lines] == [told] * (told is not None)


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_an_endless_reward_is_not_trained_on(make_config, value):
    args = make_config(auxiliary_weight=0.5, outcome_reward="right")
    weighing = Weighing(args, ["right", "form"])
    with pytest.raises(ValueError, match=rf"must be a finite number, or None; form gave {value}\. Bound it"):
        weighing.weigh(torch.tensor([[1.0, 0.5], [0.0, value], [1.0, NAN], [0.0, 0.0]]), 2, (0, 4))


def test_an_auxiliary_weight_without_another_reward_is_refused(make_trainer):
    with pytest.raises(
        ValueError, match=r"weighs the rewards besides the outcome reward; got 0\.1 and the reward functions"
    ):
        make_trainer(auxiliary_weight=0.1)


def test_the_settings_of_other_rewards_are_said_to_have_no_effect_only_where_they_have_none(make_config, caplog):
    with caplog.at_level("WARNING"):
        make_config(auxiliary_weight=0.1, reward_weights=[1.0, 2.0], scale_rewards="none")
    assert "no effect" not in caplog.text


def test_lambda_in_force_is_logged_and_on_the_card(make_trainer):
    trainer = make_trainer(positive_weight_schedule={"kind": "linear", "from": 0.0, "to": 1.0}, max_steps=4)
    trainer.train()
    logged = [entry["signed/positive_weight"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged == pytest.approx([0, 0.25, 0.5, 0.75])
    facts = trainer.card_facts()
    assert facts.settings["moving weights"] == "from 0 to 1, linear over 100% of the run; 0.75 at the end"
    assert facts.formula == "lambda L_PSR + L_NSR, lambda from 0 to 1, linear over 100% of the run"
    trainer.train()  # and a new training begins at the beginning
    assert trainer.state.log_history[0]["signed/positive_weight"] == 0


def test_evaluation_moves_nothing(make_trainer, prompts):
    trainer = make_trainer(lambda_controller="balance", eval_dataset=prompts)
    before = dict(trainer.weighing.controller.seen)
    trainer.evaluate()
    assert trainer.weighing.controller.seen == before


def test_the_rewards_of_the_documented_example_read_xml():
    page = (Path(__file__).parent.parent / "docs" / "objectives.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "answer_reward" in block)
    names = {}
    exec(code.partition("trainer = ")[0], names)  # noqa: S102 (our own page)
    texts = ["<reasoning>2+2</reasoning>\n<answer>4</answer>", "<answer>5</answer>", "4", "<answer> 4 </answer>"]
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    assert names["answer_reward"](completions, answer=["4"] * 4) == [1.0, 0.0, 0.0, 1.0]
    assert names["format_reward"](completions) == [0.5, 0.0, 0.0, 0.0]
