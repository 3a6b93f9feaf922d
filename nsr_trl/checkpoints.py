"""Checkpoints: which of a folder's was written to its end, and what a run keeps there beside weights and optimizer.

checkpoint-N/rollouts_RANK.pth   this rank's rollouts that are not trained on yet, its counters and metrics
checkpoint-N/trainer_state.json  the Trainer's, written after the files of all ranks: it says that they are whole
"""

import json
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


def is_complete(checkpoint: str | Path) -> bool:
    """Whether a checkpoint was written to its end, and not left behind by a process that was killed."""
    try:
        json.loads(Path(checkpoint, "trainer_state.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return True


def last_complete_checkpoint(output_dir: str | Path) -> str | None:
    """
    The checkpoint to resume from.

    Args:
        output_dir (`str` or `Path`):
            A training run's output folder.

    Returns:
        `str` or `None`:
            The `checkpoint-N` of the highest N that is complete; `None` if there is none.
    """
    found = [(int(match[1]), path) for path in Path(output_dir).glob("*") if (match := _CHECKPOINT.match(path.name))]
    return next((str(path) for _, path in sorted(found, reverse=True) if is_complete(path)), None)


_CHECKPOINT = re.compile(r"checkpoint-(\d+)$")


def save_rank_state(checkpoint: str | Path, rank: int, state: dict[str, Any]) -> None:
    """Saves what one rank keeps: tensors, numbers and texts in dictionaries and lists."""
    Path(checkpoint).mkdir(parents=True, exist_ok=True)
    torch.save(state, Path(checkpoint, f"rollouts_{rank}.pth"))


def load_rank_state(checkpoint: str | Path, rank: int, device: torch.device) -> dict[str, Any] | None:
    """What [`save_rank_state`] saved, its tensors on `device`; `None` where this rank saved nothing."""
    path = Path(checkpoint, f"rollouts_{rank}.pth")
    location = "cpu" if device.type == "cpu" else device  # gloo's ranks say "cpu:1", which torch.load does not know
    return torch.load(path, map_location=location, weights_only=True) if path.exists() else None


class SaveOnSigterm(TrainerCallback):
    """
    Saves and stops at the end of the optimizer step in which SIGTERM comes, as a scheduler sends it before it kills.

    Used as a context manager around the training, outside of which the signal does what it did before. It leaves the
    signal alone in a thread that is not the main one, and where nothing is to be saved.

    Args:
        any_rank (`Callable[[bool], bool]`):
            Tells whether any rank says so: the signal reaches the ranks at different moments, and all must stop alike.
        is_on (`bool`):
            Whether to handle the signal.
    """

    def __init__(self, any_rank: Callable[[bool], bool], is_on: bool) -> None:
        self.stopped = False
        self._any_rank = any_rank
        self._is_on = is_on
        self._came = False
        self._previous: Any = None

    def __enter__(self) -> "SaveOnSigterm":
        self._came = self.stopped = False
        if self._is_on and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
            self._previous = None

    def _note(self, signum: int, frame: Any) -> None:
        self._came = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Asks for a checkpoint and for the end of the training, on all ranks if the signal came on one."""
        if self._is_on and self._any_rank(self._came):
            self.stopped = control.should_save = control.should_training_stop = True
