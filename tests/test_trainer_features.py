"""What works in `GRPOTrainer` works here: each feature trained for a step or two, and its signed weights checked."""

import asyncio
import json
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import transformers
import trl
from datasets import Dataset
from packaging.version import Version
from transformers import AutoModelForCausalLM, TrainerCallback

from nsr_trl.metrics import METRICS, PHASES
from nsr_trl.quickstart.model import build_tokenizer


class Logs(TrainerCallback):
    """Keeps every logged dictionary."""

    def __init__(self):
        self.rows = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.rows.append(dict(logs))

    def last(self, name):
        return [row[name] for row in self.rows if name in row][-1]


def parameters(trainer):
    return torch.cat([p.detach().flatten().clone() for p in trainer.model.parameters()])


def in_order(*values):
    """A reward function that returns `values` again and again, whatever the model says."""

    def reward(completions, **kwargs):
        return [values[i % len(values)] for i in range(len(completions))]

    return reward


# --- Prompts and reward functions ------------------------------------------------------------------------------------


def test_conversational_prompts_train(make_trainer):
    seen = []

    def reward(prompts, completions, **kwargs):
        seen.extend(zip(prompts, completions, strict=True))
        return [1.0, 0.0] * (len(completions) // 2)

    chat = Dataset.from_list([{"prompt": [{"role": "user", "content": f"{n}+1="}]} for n in range(8)])
    make_trainer(train_dataset=chat, reward_funcs=reward).train()
    prompt, completion = seen[0]
    assert prompt[0]["role"] == "user"
    assert completion[0]["role"] == "assistant"


def test_a_reward_function_gets_the_other_columns_of_the_dataset(make_trainer):
    seen = []

    def reward(prompts, completions, target, **kwargs):
        seen.extend(zip(prompts, target, strict=True))
        return [1.0] * len(completions)

    make_trainer(reward_funcs=reward).train()
    assert ("3+3=", "6") in seen


def test_async_reward_functions_decide_the_sign(make_trainer):
    async def reward(completions, **kwargs):
        await asyncio.sleep(0)
        return [1.0, 0.0, None, 0.0] * (len(completions) // 4)

    logs = Logs()
    make_trainer(reward_funcs=reward, callbacks=[logs]).train()
    assert logs.last("signed/correct_ratio") == 0.25
    assert logs.last("signed/undecided_ratio") == 0.25


def test_a_stream_of_prompts_trains(make_trainer, prompts):
    trainer = make_trainer(train_dataset=prompts.to_iterable_dataset())
    before = parameters(trainer)
    trainer.train()
    assert not torch.equal(parameters(trainer), before)


def test_a_rollout_function_trains(make_trainer):
    def rollout(prompts, trainer):
        return {
            "prompt_ids": [[5, 6]] * len(prompts),
            "completion_ids": [[7 + i % 4, 8] for i in range(len(prompts))],
            "logprobs": [[-1.0, -1.0]] * len(prompts),
        }

    logs = Logs()
    make_trainer(rollout_func=rollout, callbacks=[logs]).train()
    assert logs.last("signed/length/correct") == 2


# --- Schedules and adapters ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"num_iterations": 2},
        {"steps_per_generation": 4, "gradient_accumulation_steps": 1},
        {"steps_per_generation": 4, "gradient_accumulation_steps": 2},
        {"gradient_accumulation_steps": 2, "loss_type": "dr_grpo", "mask_truncated_completions": True},
        {"loss_type": "cispo", "epsilon_high": 5.0},
        {"importance_sampling_level": "sequence", "loss_type": "grpo", "num_iterations": 2},
    ],
    ids=str,
)
def test_trls_schedules_and_losses_train_on_signed_weights(make_trainer, settings):
    trainer = make_trainer(**settings, max_steps=4)
    before = parameters(trainer)
    trainer.train()
    after = parameters(trainer)
    assert after.isfinite().all()
    assert not torch.equal(after, before) or settings.get("mask_truncated_completions")


def test_lora_trains_the_adapter_alone(make_trainer, tmp_path):
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = make_trainer(peft_config=lora, reward_funcs=in_order(1.0, 0.0), objective="reinforce")
    frozen = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if not p.requires_grad}
    adapter = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    now = dict(trainer.model.named_parameters())
    assert all(torch.equal(now[n], p) for n, p in frozen.items())
    assert any(not torch.equal(now[n], p) for n, p in adapter.items())
    trainer.save_model(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


# --- Evaluation, logs and the completions table ----------------------------------------------------------------------


def test_evaluation_during_training_reports_pass_at_k(make_trainer, prompts):
    logs = Logs()
    make_trainer(
        reward_funcs=in_order(1.0, 0.0, 0.0, None),
        eval_dataset=prompts,
        eval_strategy="steps",
        eval_steps=1,
        num_generations_eval=4,
        callbacks=[logs],
    ).train()
    assert logs.last("eval_pass@1") == 1 / 4  # one correct of four; the undecided one counts as not correct
    assert logs.last("eval_pass@2") == 1 / 2  # 1 - C(3, 2) / C(4, 2) = 1 - 3/6
    assert logs.last("eval_pass@4") == 1.0
    assert logs.last("eval_signed/undecided_ratio") == 1 / 4
    assert logs.last("eval_signed/groups_solved_once") == 1.0
    assert not any(name.startswith("pass@") for row in logs.rows for name in row)


def test_pass_at_the_number_of_generations_is_reported_whatever_it_is(make_trainer, prompts):
    logs = Logs()
    trainer = make_trainer(
        reward_funcs=in_order(1.0, 0.0, 0.0),
        eval_dataset=prompts,
        num_generations_eval=3,
        per_device_eval_batch_size=6,
    )
    trainer.add_callback(logs)
    trainer.evaluate()
    found = {name: value for name, value in logs.rows[-1].items() if name.startswith("eval_pass@")}
    # one correct of three: 1/3, 1 - C(2, 2) / C(3, 2) = 2/3, 1
    assert found == pytest.approx({"eval_pass@1": 1 / 3, "eval_pass@2": 2 / 3, "eval_pass@3": 1.0})


def test_evaluation_with_one_generation_has_groups_of_one(make_trainer, prompts):
    trainer = make_trainer(reward_funcs=in_order(1.0, 0.0), eval_dataset=prompts, num_generations_eval=1)
    logs = Logs()
    trainer.add_callback(logs)
    trainer.evaluate()
    assert logs.last("eval_pass@1") == 1 / 2
    assert "eval_pass@2" not in logs.rows[-1]


def test_metrics_are_sums_over_counts_across_micro_batches(make_trainer):
    """Four micro-batches of two rows: a mean of their means would weigh rows of 1 and 3 tokens alike."""

    def rollout(prompts, trainer):
        return {
            "prompt_ids": [[5, 6]] * len(prompts),
            "completion_ids": [[7] * (1 + 2 * (i % 2)) for i in range(len(prompts))],  # 1 or 3 tokens
            "logprobs": [[-1.0] * (1 + 2 * (i % 2)) for i in range(len(prompts))],
        }

    logs = Logs()
    trainer = make_trainer(
        rollout_func=rollout,
        reward_funcs=in_order(1.0, 0.0),
        objective="reinforce",
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        max_steps=1,
        callbacks=[logs],
    )
    trainer.train()
    # 4 correct rows of 1 token, 4 incorrect rows of 3 tokens, all with |A rho| = 1
    assert logs.last("signed/loss_share/correct") == pytest.approx(4 / 16)
    assert logs.last("signed/loss_share/incorrect") == pytest.approx(12 / 16)
    assert logs.last("signed/length/incorrect") == 3
    assert logs.last("signed/clip_ratio/correct") == 0


def test_a_run_reports_every_documented_metric_and_no_other(make_trainer):
    logs = Logs()
    several = {"outcome_reward": "answer", "outcome_requires": ["form"], "auxiliary_weight": 0.1}
    several |= {"prompt_allocation": "unbiased", "max_steps": 8, "max_tokens_per_microbatch": "auto"}
    functions = [in_order(1.0, 0.0), in_order(1.0, 1.0, 0.0)]
    functions[0].__name__, functions[1].__name__ = "answer", "form"
    make_trainer(reward_funcs=functions, callbacks=[logs], **several).train()
    without_vllm = {name for name in METRICS if "/vllm_" not in name}
    assert {name for row in logs.rows for name in row if name.startswith(("signed/", "cost/"))} == without_vllm


def test_the_seconds_of_a_step_are_shared_out_to_its_phases(make_trainer):
    def slow_rollout(prompts, trainer):
        time.sleep(0.2)
        return {
            "prompt_ids": [[5]] * len(prompts),
            "completion_ids": [[7]] * len(prompts),
            "logprobs": [[0.0]] * len(prompts),
        }

    def slow_reward(completions, **kwargs):
        time.sleep(0.1)
        return [1.0, 0.0] * (len(completions) // 2)

    for compact in ("on", "off"):  # rewards are computed inside generation when compacted
        logs = Logs()
        make_trainer(
            rollout_func=slow_rollout, reward_funcs=slow_reward, num_iterations=2, compact=compact, callbacks=[logs]
        ).train()
        generation, rewards = (
            sum(row.get(f"cost/seconds/{p}", 0) for row in logs.rows) for p in ("generation", "rewards")
        )
        assert 0.2 <= generation < 0.29  # one generation serves both steps
        assert 0.1 <= rewards < 0.19
        assert all(logs.rows[0][f"cost/seconds/{phase}"] > 0 for phase in ("logps", "update"))


@pytest.mark.parametrize("compact", ["on", "off"])
def test_the_speeds_are_the_tokens_over_the_seconds(make_trainer, compact):
    """32 rows of a prompt of one token and two to five tokens of completion, two optimizer steps, each row twice."""
    kept = []

    def rollout(prompts, trainer):
        ids = [[7] * (2 + row % 4) for row in range(len(prompts))]
        kept.append(sum(map(len, ids)))
        return {"prompt_ids": [[5]] * len(prompts), "completion_ids": ids, "logprobs": [[0.0] * len(i) for i in ids]}

    trainer = make_trainer(
        rollout_func=rollout,
        reward_funcs=in_order(1.0, 0.0),
        objective="nsr",  # half of the rows run
        compact=compact,
        gradient_accumulation_steps=2,
        steps_per_generation=4,
        num_iterations=2,
        max_steps=4,
    )
    trainer.train()
    assert kept == [8 * (2 + 3 + 4 + 5)]
    totals = trainer._ledger.of_training
    seconds = {phase: totals[f"cost/seconds/{phase}"][0] for phase in PHASES}
    tokens = 2 * (kept[0] + 32)  # trained twice, prompts included
    assert totals["cost/tokens_per_second/generation"] == [kept[0], pytest.approx(seconds["generation"])]
    assert totals["cost/tokens_per_second/update"] == [tokens, pytest.approx(seconds["update"])]
    assert totals["cost/tokens_per_second/step"] == [tokens, pytest.approx(sum(seconds.values()))]
    assert all(log["cost/tokens_per_second/step"] > 0 for log in trainer.state.log_history if "loss" in log)


def test_a_loss_without_a_clip_reports_no_clip_fraction(make_trainer):
    logs = Logs()
    make_trainer(loss_type="cispo", reward_funcs=in_order(1.0, 0.0), callbacks=[logs]).train()
    assert "signed/entropy/correct" in logs.rows[0]
    assert "signed/clip_ratio/correct" not in logs.rows[0]


def test_the_completions_table_shows_outcome_weight_answer_and_reason(make_trainer, tmp_path, capsys):
    from nsr_trl import math_reward

    def boxed(prompts, trainer):
        texts = ["\\boxed{0}", "\\boxed{1}", "no box", "\\boxed{0+0}"]
        ids = [trainer.processing_class(texts[i % 4])["input_ids"] for i in range(len(prompts))]
        return {"prompt_ids": [[5]] * len(prompts), "completion_ids": ids, "logprobs": [[0.0] * len(i) for i in ids]}

    trainer = make_trainer(
        rollout_func=boxed,
        reward_funcs=math_reward,
        train_dataset=Dataset.from_dict({"prompt": ["0+0="] * 4, "answer": ["0"] * 4}),
        max_completion_length=32,
        log_completions=True,
        max_steps=1,
    )
    trainer.train()
    table = pd.read_parquet(next(tmp_path.glob("completions/*.parquet")))
    assert table["signed/outcome"].tolist() == ["correct", "incorrect", "incorrect", "undecided"] * 2
    torch.testing.assert_close(torch.tensor(table["signed/weight"].tolist()), torch.tensor([0.1, -1.0, -1.0, 0.0] * 2))
    assert table["advantage"].tolist() == table["signed/weight"].tolist()
    assert table["verifier/answer"].tolist() == ["0", "1", "", "0+0"] * 2
    assert table["verifier/reason"].tolist() == ["string", "number", "no answer", "contested form"] * 2
    logged = {name: value for row in trainer.state.log_history for name, value in row.items()}
    assert logged["verifier/undecided/contested"] == 1 / 4
    assert logged["verifier/undecided/time_out"] == 0


# --- Saving and resuming ---------------------------------------------------------------------------------------------


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(make_trainer, tmp_path):
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "optim": "adamw_torch"}
    whole = make_trainer(**settings, output_dir=str(tmp_path / "whole"))
    whole.train()
    resumed = make_trainer(**settings, output_dir=str(tmp_path / "resumed"))
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert resumed.state.global_step == 4
    torch.testing.assert_close(parameters(resumed), parameters(whole))


def test_a_checkpoint_loads_in_plain_transformers_and_carries_a_card(make_trainer, tmp_path):
    trainer = make_trainer(save_strategy="steps", save_steps=2, objective="nsr")
    trainer.train()
    checkpoint = tmp_path / "checkpoint-2"
    loaded = AutoModelForCausalLM.from_pretrained(checkpoint)
    torch.testing.assert_close(torch.cat([p.flatten() for p in loaded.parameters()]), parameters(trainer))
    card = (tmp_path / "README.md").read_text()
    assert "2506.01347" in card
    assert {"trl", "nsr-trl", "nsr"} <= set(trainer.model.model_tags)


# --- Tools, environments, images -------------------------------------------------------------------------------------


def tool_tokenizer():
    """The quickstart's tokenizer with a chat template that can call tools (TRL ships it)."""
    tokenizer = build_tokenizer()
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text()
    return tokenizer


CHAT = [{"prompt": [{"role": "user", "content": f"{n}+1="}]} for n in range(8)]


@pytest.mark.skipif(Version(transformers.__version__) < Version("5.13"), reason="TRL's tools need transformers 5.13")
def test_tools_train_on_the_tokens_of_the_model_alone(make_trainer):
    def add(a: int, b: int) -> str:
        """
        Adds two numbers.

        Args:
            a: The first number.
            b: The second number.
        """
        return str(a + b)

    tokenizer = tool_tokenizer()
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    call_ids = [*tokenizer(call)["input_ids"], tokenizer.eos_token_id]
    logs = Logs()
    trainer = make_trainer(
        tools=[add],
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(CHAT),
        reward_funcs=in_order(1.0, 0.0),
        max_completion_length=512,
        max_tool_calling_iterations=1,
        max_steps=1,
        callbacks=[logs],
    )
    # the model's first turn calls the tool; its second is whatever it says
    single_turn = trainer._generate_single_turn
    turns = iter([True, False])

    def first_turn_calls_the_tool(prompt_ids, *args, **kwargs):
        if next(turns):
            return [call_ids] * len(prompt_ids), None
        ids, logprobs = single_turn(prompt_ids, *args, **kwargs)
        return [row[:8] for row in ids], logprobs

    trainer._generate_single_turn = first_turn_calls_the_tool
    token_counts, add_sums = [], trainer._add

    def keep_counts(sums):
        token_counts.extend(count for name, (_, count) in sums.items() if name == "signed/entropy/correct")
        add_sums(sums)

    trainer._add = keep_counts
    trainer.train()
    assert logs.last("tools/call_frequency") == 1.0
    assert logs.last("tools/failure_frequency") == 0.0
    (batch,) = trainer._buffered_inputs
    assert sorted(set(batch["advantages"].tolist())) == pytest.approx([-1.0, 0.1])
    masked = tokenizer.decode(batch["completion_ids"][0][batch["tool_mask"][0] == 0])
    assert "3" in masked  # the tool's answer, 1 + 2: in the completion, not in the loss
    # a metric by sign counts the tokens that the loss counts
    counted = (batch["completion_mask"] * batch["tool_mask"])[batch["outcomes"] > 0].sum()
    assert counted < batch["completion_mask"][batch["outcomes"] > 0].sum()
    assert token_counts[0] == counted


@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.2"), reason="TRL's environments need transformers 5.2"
)
def test_an_environment_may_own_the_outcome_reward(make_trainer):
    class Counter:
        def reset(self, **kwargs) -> None:
            self.count = 0

        def increment(self) -> int:
            """Adds one."""
            self.count += 1
            return self.count

        def get_reward(self) -> float:
            return 0.0

    logs = Logs()
    trainer = make_trainer(
        environment_factory=Counter,
        reward_funcs=None,
        processing_class=tool_tokenizer(),
        train_dataset=Dataset.from_list(CHAT),
        objective="nsr",
        callbacks=[logs],
    )
    before = parameters(trainer)
    trainer.train()
    assert logs.last("signed/incorrect_ratio") == 1.0
    assert not torch.equal(parameters(trainer), before)


def test_logs_can_be_written_as_json(make_trainer):
    logs = Logs()
    make_trainer(callbacks=[logs]).train()
    json.dumps(logs.rows, allow_nan=False)
