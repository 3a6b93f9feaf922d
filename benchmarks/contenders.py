"""
What the benchmarks of training set side by side: TRL's `GRPOTrainer` and `SignedRewardTrainer` on the same rows.

A contender is `"trl"` or the name of an objective. A seeded rollout deals completions of log-normal length (mean a
quarter of the limit, at most the limit) and rewards at a given correct ratio: the same to every contender.
"""

import gc
import random
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, Qwen2Config, Qwen2ForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from nsr_trl import SignedRewardConfig, SignedRewardTrainer
from nsr_trl.run.memory import ModelShape


@dataclass(frozen=True)
class Workload:
    """
    What is dealt to the contenders.

    Attributes:
        limit (`int`):
            Longest completion, tokens.
        rows (`int`), micro_steps (`int`), updates (`int`):
            Rows of a micro-batch, micro-batches of an optimizer step, optimizer steps of a generation.
        correct_ratio (`float`):
            Share of the completions that are rewarded.
        gradient_checkpointing (`bool`):
            Whether activations are computed again in the backward pass.
        generates (`bool`):
            Whether the model writes the completions, so that a step is a whole one.
        num_generations (`int`):
            Completions of a prompt.
    """

    limit: int
    rows: int
    micro_steps: int
    correct_ratio: float
    updates: int = 1
    gradient_checkpointing: bool = False
    generates: bool = False
    num_generations: int = 8

    @property
    def num_rows(self) -> int:
        """Completions of a generation."""
        return self.rows * self.micro_steps * self.updates


class StepTimes(TrainerCallback):
    """Seconds of each optimizer step by a clock, to the end of what the GPU was given."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: list[float] = []
        self.clock = clock

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.start = self._now()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds.append(self._now() - self.start)

    def _now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return self.clock()


def build_trainer(contender: str, folder: str, **settings: Any) -> GRPOTrainer:
    """Builds the trainer of a contender; fields of the config and arguments of the trainer may be mixed."""
    names = ("model", "reward_funcs", "train_dataset", "processing_class", "callbacks", "rollout_func")
    given = {name: settings.pop(name) for name in names if name in settings}
    settings = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "learning_rate": 1e-6} | settings
    if contender == "trl":
        trainer = GRPOTrainer(args=GRPOConfig(folder, **settings), **given)
    else:
        trainer = SignedRewardTrainer(args=SignedRewardConfig(folder, objective=contender, **settings), **given)
    trainer.remove_callback(PrinterCallback)
    return trainer


@dataclass(frozen=True)
class Timing:
    """
    What a contender cost.

    Attributes:
        seconds (`list[float]`):
            Seconds per optimizer step, one for each generation but the first, which warms up.
        num_tokens (`float`):
            Sampled tokens, prompts included, of an optimizer step, whether they train or not.
        peak_bytes (`int`):
            Most that was allocated on the GPU; without one, the most that the process held.
        costs (`dict[str, float]`):
            The trainer's `cost/*`, mean over the optimizer steps.
    """

    seconds: list[float]
    num_tokens: float
    peak_bytes: int
    costs: dict[str, float]


def time_generations(
    contender: str,
    model: Any,
    workload: Workload,
    num_generations: int,
    tokenizer: Any = None,
    callbacks: Sequence[TrainerCallback] = (),
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
    **settings: Any,
) -> Timing:
    """
    Trains a contender and times it.

    Args:
        contender (`str`):
            `"trl"` or an objective.
        model:
            What `GRPOTrainer` takes as one.
        workload ([`Workload`]):
            What is dealt.
        num_generations (`int`):
            Generations to train on, two at least.
        tokenizer (*optional*):
            The model's, where `model` is no path.
        callbacks (`Sequence[TrainerCallback]`, *optional*):
            Further callbacks.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the rows.
        clock (`Callable[[], float]`, *optional*, defaults to `time.perf_counter`):
            What the seconds are read from.
        **settings:
            Further fields of the config.

    Returns:
        [`Timing`]
    """
    rng = random.Random(seed)

    def rollout(prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        mean = workload.limit / 4
        lengths = [min(max(int(rng.lognormvariate(0, 0.7) / 1.28 * mean), 1), workload.limit) for _ in prompts]
        ids = [[rng.randrange(10, 60) for _ in range(length)] for length in lengths]
        prompt_ids = trainer.processing_class(text=prompts)["input_ids"]
        return {"prompt_ids": prompt_ids, "completion_ids": ids, "logprobs": [[0.0] * len(row) for row in ids]}

    def reward(completions: list, **kwargs: Any) -> list[float]:
        return [float(rng.random() < workload.correct_ratio) for _ in completions]

    times, has_gpu = StepTimes(clock), torch.cuda.is_available()
    if has_gpu:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    num_steps = workload.updates * num_generations
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(
            contender,
            folder,
            model=model,
            reward_funcs=reward,
            processing_class=tokenizer,
            train_dataset=Dataset.from_dict({"prompt": [f"What is {n}+{n}?" for n in range(512)]}),
            callbacks=[times, *callbacks],
            **({} if workload.generates else {"rollout_func": rollout}),
            **{"use_cpu": not has_gpu, "bf16": has_gpu},
            gradient_checkpointing=workload.gradient_checkpointing,
            per_device_train_batch_size=workload.rows,
            gradient_accumulation_steps=workload.micro_steps,
            steps_per_generation=workload.micro_steps * workload.updates,
            num_generations=workload.num_generations,
            max_completion_length=workload.limit,
            max_steps=num_steps,
            logging_steps=num_steps,
            **settings,
        )
        trainer.train()
    (log,) = (row for row in trainer.state.log_history if "num_tokens" in row)
    # the first step of a generation pays for the old log-probs of all of its steps
    steps = [times.seconds[i : i + workload.updates] for i in range(0, num_steps, workload.updates)]
    return Timing(
        seconds=[sum(generation) / workload.updates for generation in steps[1:]],
        num_tokens=log["num_tokens"] / num_steps,
        peak_bytes=torch.cuda.max_memory_allocated()
        if has_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        costs={name.removeprefix("cost/"): value for name, value in log.items() if name.startswith("cost/")},
    )


def build_model(shape: ModelShape, tokenizer: Any) -> Qwen2ForCausalLM:
    """A model of Qwen2.5's family with random weights in float32, on the GPU where there is one."""
    config = Qwen2Config(
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_key_value_heads,
        vocab_size=shape.vocab_size,
        tie_word_embeddings=shape.is_tied,
        max_position_embeddings=4096,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        return Qwen2ForCausalLM(config)
