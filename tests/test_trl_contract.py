"""What is relied on in TRL, accelerate and vLLM without a promise. When one of them moves, it shows here."""

import ast
import inspect
import tomllib
from pathlib import Path

import pytest
import torch
from accelerate.commands import launch
from trl import GRPOConfig, GRPOTrainer
from trl.generation.vllm_client import VLLMClient

from nsr_trl import trl_surface
from nsr_trl.trainer import SignedRewardTrainer
from nsr_trl.trl_surface import ATTRIBUTES, LATER_ATTRIBUTES, METHODS, check_methods, check_rollout


ROOT = Path(__file__).parent.parent


def attributes_of(path, name):
    """Every attribute that a source file reads or sets of a variable."""
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
    }


def called_through_super(path):
    """Every method that a source file calls of `super()`."""
    return {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and "super()" in ast.unparse(node.func)
    }


def test_the_list_of_what_the_trainer_relies_on_is_what_its_source_relies_on(make_trainer):
    """Generated from the source: what is touched and not our own must be in the list, and in TRL's trainer."""
    package = ROOT / "nsr_trl"
    touched = attributes_of(package / "trainer.py", "self") | attributes_of(package / "run_card.py", "trainer")
    touched |= called_through_super(package / "trainer.py") - {"__init__"}
    theirs = make_trainer(GRPOTrainer, GRPOConfig)
    ours = {name for name in {*vars(SignedRewardTrainer), *vars(make_trainer())} if not hasattr(theirs, name)}
    listed = {*METHODS, *ATTRIBUTES, *LATER_ATTRIBUTES}
    assert touched - ours - {"__dict__", "_tag_names", "_paper"} == listed - {
        "create_model_card"
    }  # replaced, not called


@pytest.mark.parametrize("name", METHODS)
def test_trl_has_the_method_with_these_leading_parameters(name):
    parameters = tuple(inspect.signature(getattr(GRPOTrainer, name)).parameters)
    assert parameters[1 : 1 + len(METHODS[name])] == METHODS[name]


def test_trls_own_trainer_has_the_attributes(trl_trainer):
    assert [name for name in ATTRIBUTES if not hasattr(trl_trainer, name)] == []


def test_every_overridden_method_is_a_checked_one():
    own = {name for name, value in vars(SignedRewardTrainer).items() if inspect.isfunction(value)}
    assert {name for name in own if hasattr(GRPOTrainer, name)} - {"__init__"} <= METHODS.keys()


def test_a_missing_method_fails_with_the_versions_named(monkeypatch, make_trainer):
    monkeypatch.setitem(trl_surface.METHODS, "_gone", ("inputs",))
    with pytest.raises(RuntimeError, match=r"`GRPOTrainer\._gone\(inputs, \.\.\.\)`; trl 1\.\S+ with transformers 5"):
        make_trainer()


def test_a_changed_signature_fails_too(monkeypatch):
    monkeypatch.setitem(trl_surface.METHODS, "_compute_loss", ("inputs", "model"))
    with pytest.raises(RuntimeError, match=r"has _compute_loss\(model, inputs\)"):
        check_methods(GRPOTrainer)


def test_a_missing_attribute_fails_at_construction(monkeypatch, make_trainer):
    monkeypatch.setattr(trl_surface, "ATTRIBUTES", ("_gone",))
    with pytest.raises(RuntimeError, match="needs the attribute `_gone` of a GRPOTrainer"):
        make_trainer()


def test_a_rollout_of_another_length_fails_with_a_sentence():
    with pytest.raises(RuntimeError, match=r"needs 8 values from `GRPOTrainer\._generate`; .* has 9 values"):
        check_rollout((None,) * 9)


def test_one_range_of_versions_is_in_the_metadata_and_the_documentation():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (needed,) = (d for d in project["dependencies"] if d.startswith("trl"))
    assert needed == f"trl{trl_surface.TRL_VERSIONS}"
    (with_vllm,) = project["optional-dependencies"]["vllm"]
    assert with_vllm == f"trl[vllm]{trl_surface.TRL_VERSIONS}"
    low, high = trl_surface.TRL_VERSIONS.removeprefix(">=").split(",<")
    assert f"TRL {low} or newer, below {high}" in (ROOT / "docs" / "limits.md").read_text()


def test_accelerate_has_what_the_launcher_uses():
    parser = launch.launch_command_parser()
    options = {option for action in parser._actions for option in action.option_strings}
    assert {"--num_processes", "--num_machines", "--main_process_port", "--config_file"} <= options
    assert tuple(inspect.signature(launch._validate_launch_command).parameters) == ("args",)
    assert tuple(inspect.signature(launch.launch_command).parameters) == ("args",)


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


def test_the_attributes_have_the_values_that_the_trainer_reads(trl_trainer):
    assert trl_trainer.num_generations == trl_trainer.num_generations_eval == 4
    assert (trl_trainer.epsilon_low, trl_trainer.epsilon_high) == (0.2, 0.2)
    assert trl_trainer.importance_sampling_level == "token"
    assert trl_trainer.loss_type == "dapo"
    assert trl_trainer._is_vlm is False
    assert (trl_trainer.entropy_coef, trl_trainer._entropy_bonus_enabled) == (0.0, False)
    assert (trl_trainer.use_adaptive_entropy, trl_trainer._last_world_entropy) == (False, float("inf"))
    assert trl_trainer._entropy_window_stats is None
    assert (trl_trainer.use_vllm, trl_trainer.vllm_mode) == (False, "colocate")
    assert trl_trainer.vllm_importance_sampling_clip_min is None
    assert trl_trainer.vllm_importance_sampling_clip_max == 3.0
    assert callable(VLLMClient.get_server_info)
    assert trl_trainer._metrics.keys() == {"train", "eval"}
    trl_trainer._logs["advantages"].extend([1.0, 2.0])
    assert trl_trainer._logs["advantages"].pop() == 2.0
    for kept in trl_trainer._logs.values():
        kept.clear()
    trl_trainer._log_completion_extra("column", [1])
    assert trl_trainer._pending_extra_logs["column"] == [1]
    trl_trainer._log_metric("name", 0.5)
    assert trl_trainer._pending_metrics["name"] == [0.5]
