"""What the outcome reward looks like: rewards of each rollout come in, sentences for a person come out, once each.

A reward is cut at a threshold, and much can go wrong there unseen: a scale that was shifted, a grade that counts as
correct and should not, a column that no answer can match. B rows of a rollout, over all ranks.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .resources import did_you_mean


MOSTLY = 0.5
"""Share of completions without an answer from which they are most."""

MOST_VALUES = 4
"""Values of a reward that are shown on either side of the threshold."""


def find_outcome_reward(names: Sequence[str], chosen: str | None, objective: str, needs_sign: bool) -> int | None:
    """
    The reward function that decides the sign.

    Args:
        names (`Sequence[str]`):
            Of the reward functions.
        chosen (`str`, *optional*):
            `args.outcome_reward`.
        objective (`str`):
            Name of the objective.
        needs_sign (`bool`):
            Whether it weighs by outcomes; `grpo` does without.

    Returns:
        `int` or `None`: its column, `None` where no sign is needed and several could give it

    Raises:
        ValueError: If not exactly one has the name, or none is chosen among several.
    """
    if chosen is None and len(names) == 1:
        return 0
    if chosen is None and not needs_sign:
        return None
    if chosen is None or names.count(chosen) != 1:
        is_misspelt = chosen is not None and chosen not in names
        raise ValueError(
            f"objective={objective!r} takes the sign from exactly one of the reward functions {', '.join(names)}; got "
            f"outcome_reward={chosen!r}. {f'{did_you_mean(str(chosen), names)} ' if is_misspelt else ''}"
            "Set `outcome_reward` to the name of the one that says whether the answer is correct."
        )
    return names.index(chosen)


def check_outcome_rewards(rewards: Tensor, correct_threshold: float) -> None:
    """
    Refuses an outcome reward that was shifted so that a right answer gets nothing and a wrong one a penalty.

    GRPO ignores the zero point of a binary reward, so people shift it, to {0, -1} say, "to penalise only". Here the
    threshold is the zero point, and such a reward would train against every completion, right ones included.

    Args:
        rewards (`torch.Tensor` of shape `(B,)`):
            Outcome rewards, NaN where undecided.
        correct_threshold (`float`):
            A completion is correct when its reward is above this value: the default, which nobody has chosen.

    Raises:
        ValueError: If the rewards take several values and none is above 0.
    """
    values = rewards[~rewards.isnan()].unique()
    if len(values) > 1 and not (values > 0).any():
        raise ValueError(
            f"The outcome reward must be above correct_threshold={correct_threshold:g} on correct completions; so far "
            f"it took the values {_several(values)} and never exceeded the threshold, so every completion would be "
            'trained on as incorrect. Return 1 for correct and 0 for incorrect, and set objective="nsr" to train on '
            "the incorrect ones only; or set `correct_threshold` if the scale is meant."
        )


@dataclass
class OutcomeWatch:
    """
    Looks at the outcome rewards of the first rollouts.

    Args:
        name (`str`):
            Of the reward function.
        threshold (`float`):
            A completion is correct when its reward is above this value.
        is_chosen (`bool`):
            Whether a person set the threshold: then a scale that looks shifted is meant.
        num_rollouts (`int`):
            Rollouts after which it says what to look at, if they were all alike; 0 for never.
    """

    name: str
    threshold: float
    is_chosen: bool
    num_rollouts: int
    num_seen: int = 0
    num_decided: int = 0
    num_correct: int = 0
    num_rows: int = 0
    num_unanswered: float = 0.0
    has_cut: bool = False
    has_missed: bool = False
    has_warned: bool = False

    def look(self, rewards: Tensor, unanswered: float = 0.0) -> Iterator[str]:
        """
        Looks at the rewards of a rollout.

        Args:
            rewards (`torch.Tensor` of shape `(B,)`):
                Outcome rewards, NaN where undecided.
            unanswered (`float`, *optional*, defaults to `0.0`):
                Share of completions in which the verifier found no answer, where it says so.

        Yields:
            `str`: what a person should know, each thing once in a run

        Raises:
            ValueError: If the reward looks shifted and the threshold was not chosen, as in [`check_outcome_rewards`].
        """
        decided = rewards[~rewards.isnan()]
        above = decided > self.threshold
        self.num_seen += 1
        self.num_rows += len(rewards)
        self.num_decided += len(decided)
        self.num_correct += int(above.sum())
        self.num_unanswered += unanswered * len(rewards)
        if not self.num_correct and not self.is_chosen:
            check_outcome_rewards(rewards, self.threshold)
        if not len(decided) and not self.has_missed:
            self.has_missed = True
            yield (
                f"The outcome reward {self.name} decided none of {len(rewards)} completions. "
                "If this goes on, check that the dataset's column of references is the one it reads."
            )
        elif len(decided) and not self.has_cut:
            self.has_cut = True
            values = decided.unique()
            low, high = values[values <= self.threshold], values[values > self.threshold]
            yield (
                f"Outcome reward {self.name}: values {_several(low) or 'none'} | {_several(high) or 'none'}; "
                f"above correct_threshold={self.threshold:g} counts as correct."
            )
            if len(high) > 1 and not len(low):
                yield (
                    f"Every value of the outcome reward so far, {_several(high)}, is above correct_threshold="
                    f"{self.threshold:g}, so every completion counts as correct. Set `correct_threshold` to the value "
                    "above which an answer is right."
                )
        if self.num_seen == self.num_rollouts and not self.has_warned and (sentence := self._verdict()):
            self.has_warned = True
            yield sentence

    def _verdict(self) -> str | None:
        """Sentences after the first rollouts, if something looks wrong."""
        first = f"In the first {self.num_seen} rollouts"
        if self.num_unanswered > MOSTLY * self.num_rows:
            return (
                f"{first} the verifier found no answer in {self.num_unanswered / self.num_rows:.0%} of the "
                "completions. Look at some of them (log_completions=True): does the prompt ask for the form of answer "
                "that the reward reads, such as \\boxed{}, and does `max_completion_length` leave room for it?"
            )
        if self.num_decided and not self.num_correct:
            return (
                f"{first} none of {self.num_decided:,} completions was correct. Look at some of them "
                "(log_completions=True): can the dataset's references be matched, does the prompt ask for the form of "
                f"answer that the reward reads, is correct_threshold={self.threshold:g} below what a right answer "
                "gets?"
            )
        if self.num_decided and self.num_correct == self.num_decided:
            return (
                f"{first} all of {self.num_decided:,} completions were correct. Look at some of them "
                "(log_completions=True): are the problems too easy, or is "
                f"correct_threshold={self.threshold:g} below what a wrong answer gets?"
            )
        return None

    def state(self) -> dict[str, Any]:
        """The state to save in a checkpoint."""
        return {name: value for name, value in vars(self).items() if name.startswith(("num_", "has_"))}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from what [`state`] gave; the number of rollouts to look at stays that of this run."""
        for name, value in state.items():
            if name != "num_rollouts":
                setattr(self, name, value)


@contextlib.contextmanager
def none_is_expected() -> Iterator[None]:
    """Holds back TRL's advice on rows without any reward: undecided is an outcome here, counted in the metrics."""
    trl_logger = logging.getLogger("trl.trainer.grpo_trainer")

    def keep(record: logging.LogRecord) -> bool:
        return "All reward functions returned None" not in record.getMessage()

    trl_logger.addFilter(keep)
    try:
        yield
    finally:
        trl_logger.removeFilter(keep)


def _several(values: Tensor) -> str:
    """Some of the values, in order; the lowest and the highest where there are many."""
    shown = [f"{value:g}" for value in torch.sort(values).values.tolist()]
    if len(shown) > 2 * MOST_VALUES:
        shown = [*shown[:MOST_VALUES], "...", *shown[-MOST_VALUES:]]
    return ", ".join(shown)
