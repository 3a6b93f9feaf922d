"""The loss by hand, the gradient by algebra, and equality with TRL where equality is claimed."""

import functools
import inspect
import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import even_reward
from transformers import TrainerCallback, TrainingArguments
from trl import GRPOConfig, GRPOTrainer

from nsr_trl import SignedRewardConfig, SignedRewardTrainer
from nsr_trl.config import SIGNED_FIELDS, adopt
from nsr_trl.objective import build_objective


# --- The loss, by hand -----------------------------------------------------------------------------------------------

RHO = torch.tensor([[1.0, 1.5, 0.5, 1.1], [1.0, 1.5, 0.5, 1.0], [1.0, 1.0, 1.0, 1.0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]])  # the second row has one token of padding: 11 tokens
OUTCOMES = torch.tensor([[1, -1, 0]])  # correct, incorrect, undecided


def worked_inputs(weights):
    return {
        "prompt_ids": torch.ones(3, 2, dtype=torch.long),
        "prompt_mask": torch.ones(3, 2, dtype=torch.long),
        "completion_ids": torch.ones(3, 4, dtype=torch.long),
        "completion_mask": MASK,
        "advantages": weights,
        "outcomes": OUTCOMES[0],
        "num_items_in_batch": MASK.sum(),
        "old_per_token_logps": torch.full((3, 4), -2.0),
    }


def worked_loss(trainer, weights, logps):
    """Runs the trainer's own loss, TRL's code included, on given log-probs."""
    trainer._get_per_token_logps_and_entropies = lambda *args, **kwargs: hand_over(trainer, logps)
    return enter_training(trainer).compute_loss(trainer.model, worked_inputs(weights))


def enter_training(trainer):
    """What `train()` sets before the first step."""
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    trainer.model.train()
    return trainer


def hand_over(trainer, logps):
    trainer._forward = (logps.detach(), torch.ones_like(logps))
    return logps, torch.ones_like(logps), None


@pytest.mark.parametrize(
    ("objective", "total"),
    [
        # correct row, A = 1: -min(rho A, clip(rho) A) = -(1 + 1.2 + 0.5 + 1.1) = -3.8
        # incorrect row, A = -1: max(rho, clip(rho)) = 1 + 1.5 + 0.8 = 3.3
        ("psr", -3.8),
        ("nsr", 3.3),
        ("w_reinforce", 0.1 * -3.8 + 3.3),
        ("reinforce", -3.8 + 3.3),
    ],
)
def test_the_loss_of_each_objective_by_hand(make_trainer, objective, total):
    trainer = make_trainer(objective=objective)
    weights = trainer.signed_objective.weigh(OUTCOMES).view(-1)
    logps = (RHO.log() - 2.0).requires_grad_()
    loss = worked_loss(trainer, weights, logps)
    torch.testing.assert_close(loss.item(), total / 11)  # the token mean, undecided tokens included, padding not

    loss.backward()
    positive, negative = weights[0].item(), -weights[1].item()
    expected = torch.tensor(
        [
            # d(-A rho)/d(log-prob) = -A rho, and 0 where the clip acts: rho = 1.5 for A > 0 and rho = 0.5 for A < 0
            [-positive * 1.0, 0.0, -positive * 0.5, -positive * 1.1],
            [negative * 1.0, negative * 1.5, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0],
        ]
    )
    torch.testing.assert_close(logps.grad, expected / 11)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_gradient_on_the_logits_is_the_closed_form(make_trainer, sign):
    """For L = max(-A rho, -A clip(rho)): dL/dz_y = -A rho (1 - pi_y), dL/dz_v = A rho pi_v, and 0 where clipped."""
    trainer = make_trainer(objective="reinforce")
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 7, generator=generator).requires_grad_()
    sampled = torch.randint(7, (3, 4, 1), generator=generator)
    logps = logits.log_softmax(-1).gather(-1, sampled).squeeze(-1)
    trainer._get_per_token_logps_and_entropies = lambda *args, **kwargs: hand_over(trainer, logps)
    inputs = worked_inputs(torch.full((3,), float(sign))) | {"old_per_token_logps": (logps - RHO.log()).detach()}
    enter_training(trainer).compute_loss(trainer.model, inputs).backward()

    probabilities = logits.detach().softmax(-1)
    one_hot = torch.nn.functional.one_hot(sampled.squeeze(-1), 7)
    acts = (RHO <= 1.2) if sign > 0 else (RHO >= 0.8)  # where the clip lets the gradient through
    rho = (RHO * acts * MASK).unsqueeze(-1)
    torch.testing.assert_close(logits.grad, -sign * rho * (one_hot - probabilities) / 11)


# --- The gradient, by algebra ----------------------------------------------------------------------------------------


def rollout(trainer, num_rows=8):
    """One batch through the trainer's own generation and scoring: prompts in groups, as its sampler deals them."""
    size = trainer.num_generations
    rows = [trainer.train_dataset[i // size] for i in range(num_rows)]
    return enter_training(trainer)._generate_and_score_completions(rows)


def gradient(trainer, batch, objective):
    outcomes = batch["outcomes"].view(-1, trainer.num_generations)
    trainer.model.zero_grad()
    trainer.compute_loss(trainer.model, batch | {"advantages": objective.weigh(outcomes).view(-1)}).backward()
    return torch.cat([p.grad.flatten() for p in trainer.model.parameters()])


def test_the_gradient_of_w_reinforce_is_lambda_times_psr_plus_nsr(make_trainer):
    trainer = make_trainer()
    batch = rollout(trainer)
    assert {-1, 1} <= set(batch["outcomes"].tolist())
    psr, nsr, mixed = (
        gradient(trainer, batch, build_objective(*arguments))
        for arguments in [("psr",), ("nsr",), ("w_reinforce", 0.3, 1.0)]
    )
    assert psr.norm() > 0 < nsr.norm()
    torch.testing.assert_close(mixed, 0.3 * psr + nsr, rtol=1e-5, atol=1e-7)


# --- Equality with TRL -----------------------------------------------------------------------------------------------


class Recorder(TrainerCallback):
    def __init__(self):
        self.rows = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.rows.append({k: v for k, v in logs.items() if k in ("loss", "grad_norm", "reward", "entropy", "kl")})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_iterations": 2, "steps_per_generation": 2, "gradient_accumulation_steps": 1},
        {"optim": "adamw_torch", "beta": 0.1, "learning_rate": 1e-3},
    ],
    ids=["plain", "off_policy", "adamw_kl"],
)
def test_the_grpo_objective_is_trl_to_the_last_bit(make_trainer, settings):
    runs = []
    for trainer_class, config_class, extra in (
        (GRPOTrainer, GRPOConfig, {}),
        (SignedRewardTrainer, SignedRewardConfig, {"objective": "grpo", "compact": "off"}),
    ):
        recorder = Recorder()
        trainer = make_trainer(trainer_class, config_class, max_steps=5, callbacks=[recorder], **settings, **extra)
        start = [p.detach().clone() for p in trainer.model.parameters()]
        trainer.train()
        runs.append((recorder.rows, [p.detach() for p in trainer.model.parameters()], start))
    (their_rows, theirs, start), (our_rows, ours, _) = runs
    assert our_rows == their_rows
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(ours, start, strict=True))


def test_the_signature_is_that_of_grpo_trainer():
    assert inspect.signature(SignedRewardTrainer) == inspect.signature(GRPOTrainer)


# --- What must not move ----------------------------------------------------------------------------------------------


def all_correct(completions, **kwargs):
    return [1.0] * len(completions)


def all_wrong(completions, **kwargs):
    return [0.0] * len(completions)


def all_undecided(completions, **kwargs):
    return [None] * len(completions)


@pytest.mark.parametrize(
    ("objective", "reward", "moves"),
    [
        ("nsr", all_correct, False),
        ("psr", all_wrong, False),
        ("w_reinforce", all_undecided, False),
        ("nsr", all_wrong, True),  # GRPO would not move here: the group has no variance
        ("psr", all_correct, True),
    ],
)
def test_only_rows_with_a_weight_move_the_parameters(make_trainer, objective, reward, moves):
    trainer = make_trainer(objective=objective, reward_funcs=reward)
    start = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.train()
    end = list(trainer.model.parameters())
    assert all(p.isfinite().all() for p in end)
    assert all(torch.equal(a, b) for a, b in zip(start, end, strict=True)) != moves


def test_a_batch_without_any_decision_is_said_aloud_and_a_few_undecided_rows_are_not(make_trainer, caplog):
    rollout(make_trainer(reward_funcs=lambda completions, **kwargs: [None, 1.0, 0.0, 1.0] * 2))
    assert "None" not in caplog.text
    rollout(make_trainer(reward_funcs=all_undecided))
    assert "decided none of 8 completions" in caplog.text


def test_undecided_completions_carry_no_gradient(make_trainer):
    trainer = make_trainer(objective="reinforce", reward_funcs=lambda completions, **kwargs: [None, 1.0, 0.0, 1.0] * 2)
    batch = rollout(trainer)
    assert batch["outcomes"].tolist() == [0, 1, -1, 1] * 2
    assert batch["advantages"].tolist() == [0, 1, -1, 1] * 2


def test_undecided_completions_count_as_incorrect_only_where_the_config_says_so(make_trainer, caplog):
    def reward(completions, **kwargs):
        return [None, 1.0, 0.0, 1.0] * 2

    trainer = make_trainer(objective="nsr", reward_funcs=reward, undecided_as_incorrect=True)
    assert rollout(trainer)["outcomes"].tolist() == [-1, 1, -1, 1] * 2
    rollout(make_trainer(reward_funcs=all_undecided, undecided_as_incorrect=True))
    assert "decided none of 8 completions" in caplog.text


# --- The sign --------------------------------------------------------------------------------------------------------


def length_reward(completions, **kwargs):
    return [float(len(c)) for c in completions]


def test_several_rewards_and_no_name_is_an_error_that_lists_them(make_trainer):
    with pytest.raises(ValueError, match=r"exactly one of the reward functions all_correct, length_reward"):
        make_trainer(reward_funcs=[all_correct, length_reward])


def test_an_unknown_outcome_reward_is_an_error_that_lists_the_names(make_trainer):
    with pytest.raises(ValueError, match=r"all_correct, length_reward; got outcome_reward='accuracy'"):
        make_trainer(reward_funcs=[all_correct, length_reward], outcome_reward="accuracy")


def test_the_named_reward_decides_the_sign_and_the_others_do_not(make_trainer):
    trainer = make_trainer(reward_funcs=[length_reward, all_wrong], outcome_reward="all_wrong", objective="reinforce")
    assert rollout(trainer)["advantages"].tolist() == [-1.0] * 8


def test_grpo_sums_several_rewards_as_trl_does_and_needs_no_name(make_trainer):
    trainer = make_trainer(reward_funcs=[length_reward, all_wrong], objective="grpo")
    assert "outcomes" not in rollout(trainer)


@pytest.mark.parametrize("rewards", [[1.0, 0.0], [1.0, -1.0], [0.9, 0.3]], ids=["01", "pm1", "graded"])
def test_rewards_of_any_scale_work_through_the_threshold(make_trainer, rewards):
    trainer = make_trainer(objective="reinforce", reward_funcs=lambda completions, **kwargs: rewards * 4)
    assert rollout(trainer)["advantages"].tolist() == [1.0, -1.0] * 4


def rule_of_ones_own(outcomes, scale):
    return scale * outcomes.float()


def test_an_own_objective_trains_and_its_name_is_on_the_card(make_trainer):
    path = f"{__name__}:rule_of_ones_own"
    trainer = make_trainer(
        objective=path, objective_args={"scale": 0.5}, reward_funcs=lambda completions, **_: [1, 0] * 4
    )
    assert rollout(trainer)["advantages"].tolist() == [0.5, -0.5] * 4
    facts = trainer.card_facts()
    assert (facts.objective, facts.formula) == (path, f"{path} (scale=0.5)")
    assert "rule_of_ones_own" in facts.tags
    assert facts.reads_group
    assert not make_trainer(objective="nsr").card_facts().reads_group


def test_emulating_nsr_with_shifted_rewards_stops_the_run(make_trainer):
    trainer = make_trainer(reward_funcs=lambda completions, **kwargs: [0.0, -1.0] * 4)
    with pytest.raises(ValueError, match=r"values -1, 0 and never exceeded.*objective=\"nsr\""):
        trainer.train()


def test_a_graded_reward_may_have_a_batch_without_a_correct_answer_once_there_was_one(make_trainer):
    batches = iter([[0.9, 0.2] * 4, [0.1, 0.2] * 4])
    trainer = make_trainer(reward_funcs=lambda completions, **kwargs: next(batches))
    trainer.train()
    assert trainer.state.global_step == 2


# --- The config ------------------------------------------------------------------------------------------------------


def test_a_plain_grpo_config_is_upgraded_and_says_so(make_trainer, caplog):
    with caplog.at_level("WARNING"):
        trainer = make_trainer(config_class=GRPOConfig, epsilon=0.3)
    assert "Got a `GRPOConfig`: training with objective='w_reinforce'" in caplog.text
    assert trainer.epsilon_low == 0.3
    trainer.train()


def test_no_config_at_all_gives_the_defaults(tiny_model, prompts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    on_cpu = functools.partial(SignedRewardConfig, use_cpu=True)  # without it TRL wants a GPU for its bf16 default
    monkeypatch.setattr("nsr_trl.trainer.SignedRewardConfig", on_cpu)
    trainer = SignedRewardTrainer(tiny_model, all_correct, train_dataset=prompts)
    assert trainer.args.objective == "w_reinforce"
    assert trainer.args.output_dir.endswith("-SignedReward")


@dataclass
class OwnGRPOConfig(GRPOConfig):
    """A user's: with a field and a method of its own, and an objective among its fields."""

    note: str = "mine"
    objective: str = "nsr"

    def shout(self):
        return self.note.upper()


def test_a_users_own_config_keeps_its_class_its_methods_and_its_identity(make_trainer, make_config, caplog):
    args = make_config(OwnGRPOConfig)
    trainer = SignedRewardTrainer(**make_arguments(make_trainer), args=args)
    assert trainer.args is args
    assert type(args) is OwnGRPOConfig
    assert args.shout() == "MINE"
    assert trainer.signed_objective.name == "nsr"
    assert "Got a" not in caplog.text
    trainer.train()
    loaded = torch.load(save(trainer), weights_only=False)
    assert type(loaded) is OwnGRPOConfig


def make_arguments(make_trainer):
    """The arguments of a trainer besides its config."""
    trainer = make_trainer()
    return {"model": trainer.model.name_or_path, "reward_funcs": even_reward, "train_dataset": trainer.train_dataset}


def save(trainer):
    trainer.save_model()
    return f"{trainer.args.output_dir}/training_args.bin"


def test_an_adopted_config_has_the_fields_of_a_fresh_one(make_config):
    adopted, fresh = adopt(make_config(GRPOConfig)), make_config(SignedRewardConfig)
    assert {name: getattr(adopted, name) for name in SIGNED_FIELDS} == {n: getattr(fresh, n) for n in SIGNED_FIELDS}


@dataclass
class OwnSignedConfig(SignedRewardConfig):
    compact: str = "off"
    dropped_rows: str = "objective"


def test_a_subclass_of_the_config_may_have_other_defaults(make_trainer):
    trainer = make_trainer(config_class=OwnSignedConfig)
    assert trainer._compacts is False
    trainer.train()


def test_other_arguments_are_refused(make_trainer):
    with pytest.raises(TypeError, match="must be a SignedRewardConfig, or a GRPOConfig; got a TrainingArguments"):
        make_trainer(config_class=lambda **kwargs: TrainingArguments(output_dir=kwargs["output_dir"], use_cpu=True))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("correct_threshold", float("nan")),
        ("correct_threshold", float("-inf")),
        ("correct_threshold", "0.5"),
        ("correct_threshold", True),
        ("correct_threshold", 10**400),
        ("undecided_as_incorrect", "false"),
        ("undecided_as_incorrect", None),
        ("positive_weight", "0.5"),
        ("negative_weight", float("nan")),
        ("positive_weight", True),
        ("max_tokens_per_microbatch", 0),
        ("max_tokens_per_microbatch", -1),
        ("max_tokens_per_microbatch", 1.5),
        ("outcome_reward", 3),
        ("objective", "nrs"),
        ("objective", None),
        ("objective", ["psr"]),
        ("objective_args", "k=4"),
        ("focal_gamma", -1),
        ("positive_weight_schedule", {"kind": "lnear"}),
        ("positive_weight_schedule", "linear"),
        ("lambda_controller", "balanc"),
        ("outcome_requires", "format_reward"),
        ("auxiliary_weight", -0.1),
        ("on_alarm", "halt"),
        ("alarm_thresholds", {"clip": -1}),
        ("compact", "of"),
        ("compact", None),
        ("compact", []),
        ("dropped_rows", "ref"),
        ("check_after_rollouts", -1),
        ("check_after_rollouts", 2.5),
        ("overwrite_output_dir", "yes"),
    ],
)
def test_a_field_of_the_wrong_kind_or_size_is_refused_at_construction(make_config, name, value):
    with pytest.raises(ValueError, match=rf"(`{name}`|alarm clip) .*; got .*\. \w+"):
        make_config(**{name: value})


def test_an_objective_that_needs_more_completions_of_a_prompt_is_refused(make_config):
    make_config(objective="pkpo", objective_args={"k": 4})
    with pytest.raises(ValueError, match=r"objective='pkpo' needs 8 completions .*; got num_generations=4\. Raise it"):
        make_config(objective="pkpo", objective_args='{"k": 8}')  # as a flag gives it


def test_fields_may_be_of_numpys_kinds(make_config):
    make_config(
        correct_threshold=np.float32(0.7), max_tokens_per_microbatch=np.int64(64), positive_weight=np.float64(1)
    )
    config = make_config(
        focal_gamma=np.float32(1), alarm_thresholds={"length": np.float32(3), "none_correct": np.int64(4)}
    )
    json.dumps([config.focal_gamma, config.alarm_thresholds])  # as the card records them


def test_the_defaults_are_the_papers_loss(make_config):
    config = make_config(learning_rate=1e-6)
    assert (config.objective, config.epsilon, config.beta, config.loss_type) == ("w_reinforce", 0.2, 0.0, "dapo")


@pytest.mark.parametrize(
    "setting",
    [{"scale_rewards": "none"}, {"multi_objective_aggregation": "normalize_then_sum"}, {"reward_weights": [2.0]}],
    ids=str,
)
def test_a_setting_that_has_no_effect_is_ignored_out_loud(make_config, caplog, setting):
    (name,) = setting
    with caplog.at_level("WARNING"):
        make_config(objective="grpo", **setting)
        assert "no effect" not in caplog.text
        make_config(objective="nsr", **setting)
    assert f"`{name}=" in caplog.text
    assert "has no effect under objective='nsr'" in caplog.text


def test_every_signed_field_is_documented(make_config):
    assert SIGNED_FIELDS == (
        "objective",
        "objective_args",
        "focal_gamma",
        "positive_weight",
        "negative_weight",
        "positive_weight_schedule",
        "lambda_controller",
        "correct_threshold",
        "undecided_as_incorrect",
        "outcome_reward",
        "outcome_requires",
        "auxiliary_weight",
        "compact",
        "max_tokens_per_microbatch",
        "dropped_rows",
        "prompt_allocation",
        "allocation_floor",
        "check_after_rollouts",
        "on_alarm",
        "alarm_thresholds",
        "overwrite_output_dir",
    )
    for name in SIGNED_FIELDS:
        assert f"{name} (`" in SignedRewardConfig.__doc__
        assert SignedRewardConfig.__dataclass_fields__[name].metadata["help"]
