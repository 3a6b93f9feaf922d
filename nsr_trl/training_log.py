"""The log of a run that a person reads: what a trainer reports comes in, a line of named numbers comes out.

On a terminal there is one bar below the lines. Elsewhere there are lines alone, without carriage returns. Files and
trackers get everything, as before.
"""

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import datasets
from tqdm import tqdm
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from transformers.utils import logging as transformers_logging

from .run.first_look import Look, advise, format_looks


logger = logging.getLogger(__name__)

SHOWN: dict[str, tuple[str, Callable[[float], str]]] = {
    # metric: name and how it is written; in this order, where it is there
    "signed/correct_ratio": ("correct", "{:.1%}".format),
    "signed/undecided_ratio": ("undecided", "{:.1%}".format),
    "verifier/no_answer": ("no answer", "{:.1%}".format),
    "entropy": ("entropy", "{:.3f}".format),
    "completions/mean_length": ("length", "{:,.0f}".format),
    "completions/clipped_ratio": ("cut off", "{:.1%}".format),
    "grad_norm": ("grad norm", "{:.3g}".format),
}
QUIET_AT_ZERO = {"signed/undecided_ratio", "verifier/no_answer", "completions/clipped_ratio"}
"""Shares that are shown when there is something to see."""


def step_line(
    logs: Mapping[str, Any], step: int, max_steps: int, tokens_per_second: float, seconds_left: float
) -> str:
    """The line of a step: six to eight named numbers."""
    parts = [f"step {step}/{max_steps}", *shown(logs)]
    if tokens_per_second:
        parts.append(f"{tokens_per_second:,.0f} tokens/s")
    parts.append(f"{duration(seconds_left)} left")
    return "  ".join(parts)


def shown(logs: Mapping[str, Any]) -> list[str]:
    """The numbers of a log that a person watches, named."""
    found = [(name, label, write) for name, (label, write) in SHOWN.items() if name in logs]
    return [
        f"{label} {write(float(logs[name]))}"
        for name, label, write in found
        if float(logs[name]) or name not in QUIET_AT_ZERO
    ]


def evaluation_line(logs: Mapping[str, Any], step: int) -> str | None:
    """The line of an evaluation while training; `None` where the log is of none."""
    passes = {name.removeprefix("eval_pass@"): value for name, value in logs.items() if name.startswith("eval_pass@")}
    if not passes:
        return None
    numbers = "  ".join(
        f"pass@{k} {float(value):.1%}" for k, value in sorted(passes.items(), key=lambda item: int(item[0]))
    )
    return f"step {step}  evaluated: {numbers}"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


class TrainingLog(TrainerCallback):
    """
    Writes a line per log and, on a terminal, keeps a bar below the lines.

    Args:
        lines, bar:
            Streams for the lines and for the bar; standard output and standard error by default.
        has_lines (`bool`, *optional*, defaults to `True`):
            Whether lines are written besides a bar.
    """

    def __init__(self, lines: Any = None, bar: Any = None, has_lines: bool = True):
        self._lines, self._bar_stream = lines or sys.stdout, bar or sys.stderr
        self.has_lines = has_lines
        self.bar: tqdm | None = None

    @classmethod
    def instead_of_others(cls, trainer: Any, has_lines: bool = True) -> "TrainingLog":
        """Gives a trainer this log in the place of the callbacks that print everything."""
        for other in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(other)
        log = cls(has_lines=has_lines)
        trainer.add_callback(log)
        return log

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Opens the bar."""
        self._began, self._first_step = time.monotonic(), state.global_step
        self._last_tokens, self._last_time = 0.0, self._began
        if state.is_world_process_zero and self._bar_stream.isatty():
            self.bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc="training", unit="step", file=self._bar_stream
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Moves the bar, and asks for a log of the last step, so that no run ends without one."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)
        if args.logging_strategy != "no" and (control.should_training_stop or state.global_step >= state.max_steps):
            control.should_log = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **kwargs: Any) -> None:
        """Writes what the step, or the evaluation, reported."""
        if not state.is_world_process_zero or not logs:
            return
        line = evaluation_line(logs, state.global_step)
        if line is None and "loss" in logs:
            now = time.monotonic()
            per_step = (now - self._began) / max(state.global_step - self._first_step, 1)
            tokens = float(logs.get("num_tokens", self._last_tokens))
            speed = (tokens - self._last_tokens) / max(now - self._last_time, 1e-9) if self._last_tokens else 0.0
            if tokens != self._last_tokens:
                self._last_tokens, self._last_time = tokens, now
            left = per_step * (state.max_steps - state.global_step)
            line = step_line(logs, state.global_step, state.max_steps, speed, left)
        if line is None:
            return
        if self.bar is not None:
            self.bar.set_postfix_str("  ".join(shown(logs)[:3]), refresh=False)
        if self.has_lines or self.bar is None:
            tqdm.write(line, file=self._lines)
            self._lines.flush()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Closes the bar."""
        if self.bar is not None:
            self.bar.close()


class FirstRollout(TrainerCallback):
    """
    Shows eight completions of the first rollout, and what to change where most of them say that something is wrong.

    Args:
        trainer ([`SignedRewardTrainer`]):
            The trainer.
        answer_format (`str`, *optional*, defaults to `"boxed"`):
            Where answers are read.
    """

    def __init__(self, trainer: Any, answer_format: str = "boxed"):
        self.trainer = trainer
        self.answer_format = answer_format
        self.has_looked = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Looks, once."""
        if self.has_looked:
            return
        self.has_looked = True
        looks = [self._look(row) for row in self.trainer.last_completions()]
        if not state.is_world_process_zero or not looks:
            return
        tqdm.write(f"first rollout, 8 of {len(looks)} completions:\n{format_looks(looks)}")
        for sentence in advise(looks, self.answer_format):
            logger.warning(sentence)

    def _look(self, row: Mapping[str, Any]) -> Look:
        return Look(
            str(row["completion"]),
            str(row.get("signed/outcome") or ""),
            str(row.get("verifier/answer") or ""),
            str(row.get("verifier/reason") or ""),
            str(row.get("verifier/rule") or ""),
            row.get("signed/weight"),
            reference=str(row.get("verifier/reference") or ""),
        )


def quieten(all_bars: bool = False) -> None:
    """Silences what libraries say that a user can do nothing about, and their bars where there is no terminal."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|trl|accelerate|torch|peft")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if all_bars or not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
        datasets.disable_progress_bars()
