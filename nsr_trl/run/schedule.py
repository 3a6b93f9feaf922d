"""The schedule of a run: a configuration goes in, how many rows train in how many steps comes out."""

import math
from dataclasses import dataclass

from ..config import SignedRewardConfig


PROMPT_TOKENS = 1024
"""Prompt tokens assumed where `vllm_max_model_length` does not say: the paper's limit."""


@dataclass(frozen=True)
class Schedule:
    """
    What a configuration amounts to on a number of processes.

    Attributes:
        num_processes (`int`):
            Processes, one per GPU.
        num_prompts (`int`), num_generations (`int`):
            Prompts of a generation batch, completions of each.
        rows_per_micro_step (`int`):
            `per_device_train_batch_size`: rows of one process in a micro-step, before compaction fills it by tokens.
        micro_steps (`int`):
            `gradient_accumulation_steps`: micro-steps of an optimizer step.
        optimizer_steps (`float`):
            Optimizer steps per generation batch; below 1 where one optimizer step takes several.
        max_steps (`int`, *optional*):
            Optimizer steps of the run; `None` where the epochs say and the number of problems is not known.
        num_epochs (`float`, *optional*):
            Passes over the problems; `None` where their number is not known.
        max_tokens_per_row (`int`):
            Prompt and completion, at most.
    """

    num_processes: int
    num_prompts: int
    num_generations: int
    rows_per_micro_step: int
    micro_steps: int
    optimizer_steps: float
    max_steps: int | None
    num_epochs: float | None
    max_tokens_per_row: int

    @property
    def rows_per_optimizer_step(self) -> int:
        """Rows over all processes."""
        return self.rows_per_micro_step * self.micro_steps * self.num_processes

    @property
    def max_tokens_per_optimizer_step(self) -> int:
        """Tokens over all processes, if every row were of full length."""
        return self.rows_per_optimizer_step * self.max_tokens_per_row


def make_schedule(
    args: SignedRewardConfig, num_processes: int, num_problems: int | None = None, context: int | None = None
) -> Schedule:
    """
    Works out the schedule.

    Args:
        args ([`SignedRewardConfig`]):
            Configuration, as one of `num_processes` builds it.
        num_processes (`int`):
            Processes over all machines.
        num_problems (`int`, *optional*):
            Problems of the dataset, where it is known.
        context (`int`, *optional*):
            Tokens that the model can attend to, where it is known: no row is longer.
    """
    num_prompts = args.generation_batch_size // args.num_generations
    optimizer_steps = args.steps_per_generation * args.num_iterations / args.gradient_accumulation_steps
    generations_per_epoch = num_problems // num_prompts if num_problems else None  # an incomplete batch is dropped
    max_steps: int | None = args.max_steps if args.max_steps > 0 else None
    num_epochs: float | None = None if max_steps else args.num_train_epochs
    if generations_per_epoch and max_steps:
        num_epochs = max_steps / optimizer_steps / generations_per_epoch
    elif generations_per_epoch:
        max_steps = math.ceil(args.num_train_epochs * generations_per_epoch * optimizer_steps)
    max_tokens = args.vllm_max_model_length or args.max_completion_length + PROMPT_TOKENS
    return Schedule(
        num_processes,
        num_prompts,
        args.num_generations,
        args.per_device_train_batch_size,
        args.gradient_accumulation_steps,
        optimizer_steps,
        max_steps,
        num_epochs,
        min(max_tokens, context or max_tokens),
    )
