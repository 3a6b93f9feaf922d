"""Gradients that are not finite: the norm of each optimizer step comes in, and no step is taken on NaN or infinity.

A single NaN would make every weight NaN, which shows only where generation fails. The norm that transformers has
computed says so before: no further pass over the gradients, and one number per optimizer step read from the device.
"""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


logger = logging.getLogger(__name__)

MOST_IN_A_ROW = 3
"""Optimizer steps without a finite gradient after which a run stops."""

REPORT = "nonfinite_gradient.json"


def describe_update(
    objective: str,
    loss_type: str,
    precision: str,
    model_config: Any,
    micro_batches: Sequence[Mapping[str, Any] | None],
) -> dict[str, Any]:
    """Describes an optimizer step, to find the cause of a NaN."""
    return {
        "objective": objective,
        "loss": loss_type,
        "precision": precision,
        "attention": getattr(model_config, "_attn_implementation", None),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "micro-batches, rows x (prompt + completion)": [
            f"{len(batch['completion_ids'])} x ({batch['prompt_ids'].size(1)} + {batch['completion_ids'].size(1)})"
            for batch in micro_batches
            if batch is not None
        ],
    }


class NonFiniteGradientError(ArithmeticError):
    """A run was stopped because its gradients were not finite, before they reached the weights."""


class FiniteGradients(TrainerCallback):
    """
    Takes no optimizer step on a gradient that is not finite, and stops after three in a row.

    With float16 torch's gradient scaler does that itself, and infinities are part of how it finds its scale.

    Args:
        accelerator (`accelerate.Accelerator`):
            Clips the gradients; its norm is noted.
        describe (`Callable[[], dict]`):
            Says what ran: objective, attention, shapes. For the log and the report.

    Attributes:
        num_in_a_row (`int`):
            Optimizer steps that were not taken since the last one that was.
    """

    def __init__(self, accelerator: Any, describe: Callable[[], dict[str, Any]]) -> None:
        self.num_in_a_row = 0
        self._accelerator = accelerator
        self._describe = describe
        self._norm: torch.Tensor | float | None = None
        self._nothing_ran = False
        clip = accelerator.clip_grad_norm_

        def clip_and_note(*args: Any, **kwargs: Any) -> Any:
            self._norm = clip(*args, **kwargs)
            return self._norm

        accelerator.clip_grad_norm_ = clip_and_note

    def expect_nothing(self, model: torch.nn.Module) -> None:
        """Prepares for an optimizer step that has no gradient at all, and is not to be taken."""
        self._nothing_ran = True
        if self._accelerator.scaler is not None:  # which refuses to step where it saw no gradient
            parameter = next(p for p in model.parameters() if p.requires_grad)
            parameter.grad = torch.zeros_like(parameter)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begins to count."""
        self.num_in_a_row = 0
        self._norm, self._nothing_ran = None, False

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Drops the gradients where one is not finite, or where nothing ran: without them the step changes nothing."""
        norm, self._norm = self._norm, None
        nothing_ran, self._nothing_ran = self._nothing_ran, False
        if nothing_ran:
            _drop_gradients(kwargs["model"])
            return
        if norm is None:  # older transformers compute none where they do not clip
            norm = _norm_of_gradients(kwargs["model"])
        if self._accelerator.scaler is not None or math.isfinite(float(norm)):
            self.num_in_a_row = 0
            return
        _drop_gradients(kwargs["model"])
        self.num_in_a_row += 1
        facts = self._describe() | {"optimizer step": state.global_step + 1, "gradient norm": str(float(norm))}
        if self.num_in_a_row == 1 and state.is_world_process_zero:
            shown = ", ".join(f"{name} {value}" for name, value in facts.items())
            logger.warning(f"The gradient was not finite, and its optimizer step is not taken: {shown}.")
            self._keep(Path(args.output_dir) / REPORT, facts)
        if self.num_in_a_row >= MOST_IN_A_ROW:
            control.should_training_stop = True

    def check(self, last_checkpoint: str | None) -> None:
        """
        Raises:
            NonFiniteGradientError: If the training that has just ended was stopped for its gradients.
        """
        if self.num_in_a_row >= MOST_IN_A_ROW:
            raise NonFiniteGradientError(
                f"The gradient was not finite in {self.num_in_a_row} optimizer steps in a row, none of which was "
                f"taken: the weights are as they were before, and the last checkpoint is {last_checkpoint or 'none'}. "
                "Resume from it with another `attn_implementation`, with bf16=False or with a lower learning_rate; "
                f"{REPORT} in the output folder tells what ran."
            )

    @staticmethod
    def _keep(path: Path, facts: dict[str, Any]) -> None:
        try:
            path.write_text(json.dumps(facts, indent=1, default=str) + "\n", encoding="utf-8")
        except OSError as error:  # the log has it
            logger.warning(f"{path} could not be written: {error}.")


def _norm_of_gradients(model: torch.nn.Module) -> torch.Tensor | float:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return 0.0 if any(isinstance(g, DTensor) for g in gradients) else torch.nn.utils.get_total_norm(gradients)


def _drop_gradients(model: torch.nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad = None
