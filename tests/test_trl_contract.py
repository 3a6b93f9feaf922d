"""Every private name, batch key and tuple length of TRL that the trainer relies on. When TRL moves, it shows here."""

import inspect

import pytest
import torch
from trl import GRPOConfig, GRPOTrainer
from trl.generation.vllm_client import VLLMClient

from nsr_trl import trainer as trainer_module
from nsr_trl.trainer import HOOKS, SignedRewardTrainer, check_hooks


@pytest.mark.parametrize("name", HOOKS)
def test_trl_has_the_method_with_these_leading_parameters(name):
    parameters = tuple(inspect.signature(getattr(GRPOTrainer, name)).parameters)
    assert parameters[1 : 1 + len(HOOKS[name])] == HOOKS[name]


def test_every_overridden_method_is_a_checked_hook():
    own = {name for name, value in vars(SignedRewardTrainer).items() if inspect.isfunction(value)}
    assert {name for name in own if hasattr(GRPOTrainer, name)} - {"__init__"} <= HOOKS.keys()


def test_a_missing_hook_fails_with_the_versions_named(monkeypatch, make_trainer):
    monkeypatch.setitem(trainer_module.HOOKS, "_gone", ("inputs",))
    with pytest.raises(RuntimeError, match=r"`GRPOTrainer\._gone\(inputs, \.\.\.\)`; trl 1\.\S+ with transformers 5"):
        make_trainer()


def test_a_changed_signature_fails_too(monkeypatch):
    monkeypatch.setitem(trainer_module.HOOKS, "_compute_loss", ("inputs", "model"))
    with pytest.raises(RuntimeError, match=r"has _compute_loss\(model, inputs\)"):
        check_hooks()


@pytest.fixture
def trl_trainer(make_trainer):
    """TRL's own trainer, off-policy so that old log-probs exist."""
    trainer = make_trainer(GRPOTrainer, GRPOConfig, num_iterations=2)
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer


def test_the_batch_has_the_keys_and_shapes_that_the_metrics_read(trl_trainer):
    batch = trl_trainer._generate_and_score_completions([trl_trainer.train_dataset[i // 4] for i in range(8)])
    tokens = batch["completion_ids"].shape
    assert tokens[0] == 8
    assert batch["advantages"].shape == (8,)
    assert batch["completion_mask"].shape == batch["old_per_token_logps"].shape == tokens
    assert batch["num_items_in_batch"].shape == ()
    assert "tool_mask" not in batch

    prompt_completion = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    arguments = (trl_trainer.model, prompt_completion, mask, tokens[1])
    logps, entropies, aux_loss = trl_trainer._get_per_token_logps_and_entropies(*arguments, compute_entropy=True)
    assert logps.shape == entropies.shape == tokens
    assert aux_loss is None
    assert trl_trainer._get_per_token_logps_and_entropies(*arguments)[1] is None


def test_an_extra_row_tensor_stays_with_its_row_through_the_shuffle(trl_trainer):
    """The trainer adds `outcomes` to the batch; TRL permutes and splits the batch before the loss sees it."""
    score = trl_trainer._generate_and_score_completions

    def add_rows(inputs):
        batch = score(inputs)
        return batch | {"outcomes": batch["completion_ids"].sum(1)}

    trl_trainer._generate_and_score_completions = add_rows
    batch = trl_trainer._prepare_inputs([trl_trainer.train_dataset[i // 4] for i in range(8)])
    assert torch.equal(batch["outcomes"], batch["completion_ids"].sum(1))


def test_rewards_come_gathered_as_one_column_per_function(make_trainer):
    def other_reward(completions, **kwargs):
        return [None] * len(completions)

    def one_reward(completions, **kwargs):
        return [1.0] * len(completions)

    trainer = make_trainer(GRPOTrainer, GRPOConfig, reward_funcs=[one_reward, other_reward])
    rewards = trainer._calculate_rewards([{"prompt": "1"}] * 3, ["1"] * 3, ["2"] * 3, [[1]] * 3)
    assert rewards.shape == (3, 2)
    assert rewards[:, 0].tolist() == [1.0] * 3
    assert rewards[:, 1].isnan().all()
    assert trainer.reward_func_names == ["one_reward", "other_reward"]


def test_the_attributes_that_the_trainer_reads_exist(trl_trainer):
    assert trl_trainer.num_generations == trl_trainer.num_generations_eval == 4
    assert (trl_trainer.epsilon_low, trl_trainer.epsilon_high) == (0.2, 0.2)
    assert trl_trainer.importance_sampling_level == "token"
    assert trl_trainer.loss_type == "dapo"
    assert trl_trainer._is_vlm is False
    assert (trl_trainer.entropy_coef, trl_trainer._entropy_bonus_enabled) == (0.0, False)
    assert (trl_trainer.use_adaptive_entropy, trl_trainer._last_world_entropy) == (False, float("inf"))
    assert (trl_trainer.use_vllm, trl_trainer.vllm_mode) == (False, "colocate")
    assert trl_trainer.vllm_importance_sampling_clip_min is None
    assert trl_trainer.vllm_importance_sampling_clip_max == 3.0
    assert callable(VLLMClient.get_server_info)
    assert trl_trainer._metrics.keys() == {"train", "eval"}
    trl_trainer._logs["advantages"].extend([1.0, 2.0])
    assert trl_trainer._logs["advantages"].pop() == 2.0
    trl_trainer._log_completion_extra("column", [1])
    assert trl_trainer._pending_extra_logs["column"] == [1]
