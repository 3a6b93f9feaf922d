"""How a run that is told to stop ends: at the end of an optimizer step, with a checkpoint."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class StopOnSignal(TrainerCallback):
    """
    Saves and stops at the end of the optimizer step in which SIGTERM or SIGINT (Ctrl-C) comes; a second one stops now.

    Used as a context manager around the training, outside of which the signals do what they did before. It leaves them
    alone in a thread that is not the main one, and where nothing is to be saved.

    Args:
        largest (`Callable[[int], int]`):
            The largest of the numbers that the ranks say: a signal reaches them at different moments, and all must
            stop alike.
        is_on (`bool`):
            Whether to handle the signals.
        speaks (`bool`):
            Whether this process answers a signal with a line on stderr.

    Attributes:
        signal (`signal.Signals`, *optional*):
            What stopped the last training, if anything did.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, largest: Callable[[int], int], is_on: bool, speaks: bool) -> None:
        self.signal: signal.Signals | None = None
        self._largest = largest
        self._is_on = is_on
        self._speaks = speaks
        self._came: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopOnSignal":
        self._came = self.signal = None
        if self._is_on and threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._came is not None:  # the second one
            self._restore()
            signal.raise_signal(number)
            return
        self._came = signal.Signals(number)
        if self._speaks:
            text = f"{self._came.name}: a checkpoint is saved at the end of this optimizer step. Again to stop now.\n"
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode())

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Asks for a checkpoint and for the end of the training, on all ranks if the signal came on one."""
        if self._is_on and (number := self._largest(self._came or 0)):
            self.signal = signal.Signals(number)
            control.should_save = control.should_training_stop = True
