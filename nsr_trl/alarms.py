"""Alarms: what a run has logged goes in; which series look as if the run were going wrong comes out, with a sentence.

Each alarm is a pure function of the log. It says how far along the trouble is: 0 at the beginning of the run or at its
best, 1 where the alarm rings. The log is that of a checkpoint's trainer_state.json, so a resumed run remembers what
was before, and the log of any finished run can be asked as well.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .checks import is_number
from .resources import did_you_mean


WINDOW = 3
"""Logs over which a series is smoothed; at its beginning there are fewer."""

PASS = "eval_pass@"
"""Prefix of the metrics of Pass@k at evaluation."""

PAGE = "docs/alarms.md"

LEAST_RISE = 0.005
"""Of the share of solved prompts, to count as one."""

GOOD = 0.25
"""How far along a grave alarm may be at a step that is good."""

METRIC = "signed/alarm/"
"""Prefix of the metrics of alarms."""

Log = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Reading:
    """
    How a series stands.

    Attributes:
        extent (`float`):
            How far along the trouble is: the alarm rings at 1.
        text (`str`):
            What it is and what it was, with numbers.
    """

    extent: float
    text: str


NOTHING = Reading(0.0, "")


class History:
    """
    The beginning of a log; each series is read once, whichever beginning is asked.

    Args:
        log (`Sequence[Mapping[str, Any]]`):
            The whole log.

    Attributes:
        end (`int`):
            Entries that the beginning has; all of them, until it is set.
    """

    def __init__(self, log: Log) -> None:
        self.end = len(log)
        self._log = log
        self._series: dict[str, tuple[list[int], list[float]]] = {}  # places in the log, and the mean at each

    @property
    def entries(self) -> Log:
        """The entries of the beginning."""
        return self._log[: self.end]

    def smoothed(self, name: str) -> list[float]:
        """Means of a metric over the last `WINDOW` logs that have it, one for each of these logs."""
        if name not in self._series:
            numbers = ((place, _number(entry, name)) for place, entry in enumerate(self._log))
            found = {place: value for place, value in numbers if value is not None}
            values = list(found.values())
            windows = (values[max(0, end - WINDOW) : end] for end in range(1, len(values) + 1))
            self._series[name] = list(found), [sum(window) / len(window) for window in windows]
        places, means = self._series[name]
        return means[: bisect_left(places, self.end)]


def _number(entry: Mapping[str, Any], name: str) -> float | None:
    """A metric of an entry, where it is there and finite."""
    value = entry.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _ratio(name: str, what: str, unit: str, least: float) -> Callable[[History, float, float], Reading]:
    """Reads how many times its beginning a metric is; a threshold below 1 asks how far it has fallen."""

    def read(log: History, threshold: float, noise: float) -> Reading:
        means = log.smoothed(name)
        if len(means) < 2:
            return NOTHING
        start, now = max(means[0], least), max(means[-1], 1e-9)
        extent = math.log(now / start) / math.log(threshold)
        return Reading(extent, f"{what} is {means[-1]:.3g} {unit}, {means[0]:.3g} at the beginning")

    return read


def _rise(name: str, what: str) -> Callable[[History, float, float], Reading]:
    """Reads how much higher a share is than at its beginning."""

    def read(log: History, threshold: float, noise: float) -> Reading:
        means = log.smoothed(name)
        if len(means) < 2:
            return NOTHING
        extent = (means[-1] - means[0]) / max(threshold, noise)
        return Reading(extent, f"{what} is {means[-1]:.1%}, {means[0]:.1%} at the beginning")

    return read


def _level(names: Sequence[str], what: str) -> Callable[[History, float, float], Reading]:
    """Reads how high a share is, the highest of several."""

    def read(log: History, threshold: float, noise: float) -> Reading:
        series = {name.rpartition("/")[2]: log.smoothed(name) for name in names}
        now = {side: means[-1] for side, means in series.items() if len(means) >= WINDOW}
        if not now:
            return NOTHING
        side = max(now, key=lambda side: now[side])
        return Reading(now[side] / threshold, f"{what} {side} completions is {now[side]:.1%}")

    return read


def _correct_falling(log: History, threshold: float, noise: float) -> Reading:
    # of all prompts, where those drawn are not like them
    means = log.smoothed("signed/allocation/correct_ratio") or log.smoothed("signed/correct_ratio")
    if not means:
        return NOTHING
    best = max(means)
    extent = (best - means[-1]) / max(threshold * best, noise, 1e-9)
    return Reading(extent, f"the share of correct completions is {means[-1]:.1%}, {best:.1%} at its best")


def _none_correct(log: History, threshold: float, noise: float) -> Reading:
    ratios = [ratio for entry in log.entries if (ratio := _number(entry, "signed/correct_ratio")) is not None]
    num = next((i for i, ratio in enumerate(reversed(ratios)) if ratio > 0), len(ratios))
    return Reading(num / threshold, f"no completion was correct in {num} logs in a row")


def _unsolved_rising(log: History, threshold: float, noise: float) -> Reading:
    unsolved, solved = log.smoothed("signed/groups_unsolved"), log.smoothed("signed/groups_solved")
    if not unsolved or len(unsolved) != len(solved):
        return NOTHING
    lowest = min(range(len(unsolved)), key=unsolved.__getitem__)
    if solved[-1] - solved[lowest] < LEAST_RISE:
        return NOTHING
    return Reading(
        (unsolved[-1] - unsolved[lowest]) / max(threshold, noise),
        f"{unsolved[-1]:.1%} of the prompts are unsolved, {unsolved[lowest]:.1%} at their lowest, while the solved "
        f"rose from {solved[lowest]:.1%} to {solved[-1]:.1%}",
    )


def _pass_at_k_falling(log: History, threshold: float, noise: float) -> Reading:
    suffixes = {name.removeprefix(PASS) for entry in log.entries for name in entry if name.startswith(PASS)}
    k = max((int(suffix) for suffix in suffixes if suffix.isdigit()), default=1)
    name = f"{PASS}{k}"
    evaluations = [entry for entry in log.entries if None not in (_number(entry, name), _number(entry, "eval_pass@1"))]
    if len(evaluations) < 2:
        return NOTHING
    best, now = max(evaluations, key=lambda entry: entry[name]), evaluations[-1]
    if k == 1 or now["eval_pass@1"] <= best["eval_pass@1"]:
        return NOTHING
    return Reading(
        (best[name] - now[name]) / threshold,
        f"Pass@{k} is {now[name]:.1%}, {best[name]:.1%} at its best, while Pass@1 rose from "
        f"{best['eval_pass@1']:.1%} to {now['eval_pass@1']:.1%}",
    )


@dataclass(frozen=True)
class Alarm:
    """
    An alarm.

    Attributes:
        definition (`str`):
            When it rings, for humans.
        threshold (`float`):
            Its default.
        read (`Callable`):
            A log, the threshold, and the difference of shares that chance makes, to a [`Reading`].
        advice (`str`):
            What to change.
        is_grave (`bool`):
            Whether the model is being lost: then `on_alarm` acts, and otherwise it is a line of the log.
    """

    definition: str
    threshold: float
    read: Callable[[History, float, float], Reading]
    advice: str
    is_grave: bool


SIDES = ("correct", "incorrect")

ALARMS: dict[str, Alarm] = {
    "entropy_collapse": Alarm(
        "the entropy of what is trained is below this share of what it was at the beginning",
        0.3,
        _ratio("entropy", "the entropy", "nats", 0.02),
        "Lower `positive_weight` or `learning_rate`, or hold it with lambda_controller='entropy'",
        True,
    ),
    "entropy_explosion": Alarm(
        "the entropy of what is trained is this many times what it was at the beginning",
        2.0,
        _ratio("entropy", "the entropy", "nats", 0.1),
        "Lower `learning_rate`, or raise `positive_weight`",
        True,
    ),
    "correct_falling": Alarm(
        "the share of correct completions has lost this share of its best",
        0.4,
        _correct_falling,
        "Lower `learning_rate`, or raise `positive_weight`",
        True,
    ),
    "none_correct": Alarm(
        "no completion was correct in this many logs in a row",
        5,
        _none_correct,
        "Look at some completions (`log_completions`), at `outcome_requires` and at `correct_threshold`",
        True,
    ),
    "unsolved_rising": Alarm(
        "the share of unsolved prompts has risen by this much from its lowest, while that of solved ones rose",
        0.1,
        _unsolved_rising,
        "Raise `positive_weight`, or set on_alarm='handover'",
        True,
    ),
    "length": Alarm(
        "completions are this many times as long as at the beginning",
        2.0,
        _ratio("completions/mean_length", "the mean length", "tokens", 1.0),
        "Lower `learning_rate`, or set mask_truncated_completions=True if it is truncation that pays",
        False,
    ),
    "truncation": Alarm(
        "the share of truncated completions is higher by this much than at the beginning",
        0.3,
        _rise("completions/clipped_ratio", "the share of truncated completions"),
        "Raise `max_completion_length`, or lower `learning_rate`",
        True,
    ),
    "repetition": Alarm(
        "the share of repeated four-token sequences is higher by this much than at the beginning",
        0.2,
        _rise("signed/repetition", "the share of repeated four-token sequences"),
        "Lower `learning_rate`, or raise `positive_weight`",
        True,
    ),
    "undecided_rising": Alarm(
        "the share of undecided completions is higher by this much than at the beginning",
        0.1,
        _rise("signed/undecided_ratio", "the share of undecided completions"),
        "Look at the reasons (`verifier/undecided/*`) and at some completions (`log_completions`)",
        False,
    ),
    "clip": Alarm(
        "the clip stops this share of the tokens of either sign",
        0.2,
        _level([f"signed/clip_ratio/{side}" for side in SIDES], "the share of tokens that the clip stops in"),
        "Lower `learning_rate`, or take fewer optimizer steps per generation (`steps_per_generation`)",
        False,
    ),
    "correction": Alarm(
        "vLLM's importance-sampling correction masks or truncates this share of the tokens of either sign that train",
        0.2,
        _level(
            [f"signed/vllm_clip_ratio/{side}" for side in SIDES], "the share of tokens that the correction takes in"
        ),
        "See that top_p=1, top_k=0 and min_p=None, and look at `vllm_importance_sampling_mode` and its clip",
        False,
    ),
    "pass_at_k_falling": Alarm(
        "at evaluation, Pass@k of the largest k has fallen by this much from its best, while Pass@1 rose",
        0.03,
        _pass_at_k_falling,
        "Lower `positive_weight`, or stop: what is gained is paid with breadth",
        True,
    ),
}
"""Every alarm, by name."""


def check_thresholds(thresholds: Mapping[str, Any] | None) -> None:
    """
    Checks a config's thresholds.

    Raises:
        ValueError: If one is of no alarm, or out of range.
    """
    for name, value in (thresholds or {}).items():
        if name not in ALARMS:
            raise ValueError(
                f"`alarm_thresholds` must be of the alarms {', '.join(ALARMS)}; got {name!r}. "
                f"{did_you_mean(str(name), list(ALARMS))}"
            )
        below_one = name == "entropy_collapse"
        grows = name in ("entropy_explosion", "length")
        if value is not None and not (is_number(value) and value > 0 and not (below_one and value >= 1)):
            must_be = "a number between 0 and 1" if below_one else "a number above 0"
            raise ValueError(
                f"The threshold of the alarm {name} must be {must_be}, or null for none; got {value!r}. "
                f"Leave it out for {ALARMS[name].threshold:g}."
            )
        if value is not None and grows and value <= 1:
            raise ValueError(
                f"The threshold of the alarm {name} must be above 1, or null for none; got {value!r}. "
                f"Leave it out for {ALARMS[name].threshold:g}."
            )


@dataclass(frozen=True)
class Ring:
    """
    An alarm that rings.

    Attributes:
        name (`str`):
            Its name in `ALARMS`.
        extent (`float`):
            How far along the trouble is, 1 or more.
        sentence (`str`):
            What is wrong, since when, what to change and where to read on.
        is_new (`bool`):
            Whether it did not ring at the log before.
        is_grave (`bool`):
            Whether the model is being lost.
    """

    name: str
    extent: float
    sentence: str
    is_new: bool
    is_grave: bool


class AlarmWatch:
    """
    Looks at the log of a run.

    Args:
        thresholds (`Mapping[str, float | None]`, *optional*):
            Thresholds other than the defaults, by name of the alarm; `None` switches it off.
        num_prompts (`int`):
            Prompts of a rollout. A share over so many differs by chance, and by less no alarm rings.
    """

    def __init__(self, thresholds: Mapping[str, float | None] | None, num_prompts: int) -> None:
        chosen = {name: alarm.threshold for name, alarm in ALARMS.items()} | dict(thresholds or {})
        self._thresholds = {name: threshold for name, threshold in chosen.items() if threshold is not None}
        # three standard errors of a difference between one log and a window of them, of a share that is 1/2
        self._noise = 3 * 0.5 * math.sqrt(1 / num_prompts + 1 / (WINDOW * num_prompts))

    def read(self, name: str, log: History) -> Reading:
        """How an alarm stands at the end of the beginning of a log."""
        return ALARMS[name].read(log, self._thresholds[name], self._noise)

    def look(self, log: Log) -> list[Ring]:
        """
        Looks at a log.

        Args:
            log (`Sequence[Mapping[str, Any]]`):
                Entries with their `step`, as trainers keep them; the last one is new.

        Returns:
            `list[Ring]`: the alarms that ring now
        """
        rings, history = [], History(log)
        before = next((entry for entry in reversed(log[:-1]) if "loss" in entry), {})
        for name in self._thresholds:
            reading = self.read(name, history)
            if reading.extent < 1:
                continue
            alarm = ALARMS[name]
            sentence = (
                f"Alarm {name} at step {log[-1].get('step', 0)}: {reading.text}. {alarm.advice}. "
                f"{PAGE}#{name.replace('_', '-')}"
            )
            rings.append(Ring(name, reading.extent, sentence, f"{METRIC}{name}" not in before, alarm.is_grave))
        return rings

    def good_until(self, log: Log) -> int | None:
        """
        The last step at which no grave alarm had come a quarter of its way: what is smoothed shows late.

        Args:
            log (`Sequence[Mapping[str, Any]]`):
                As of [`look`].

        Returns:
            `int` or `None`: a step of the log; `None` where there is none, and where the log is empty
        """
        grave = [name for name in self._thresholds if ALARMS[name].is_grave]
        history = History(log)
        for end in range(len(log), 0, -1):
            history.end = end
            if "loss" in log[end - 1] and all(self.read(name, history).extent < GOOD for name in grave):
                return int(log[end - 1]["step"])
        return None


def describe_stop(stopped: str | None, good: str | None) -> str:
    """The sentence after an alarm has stopped a run; `good` is the checkpoint that it went back to."""
    if good is None:
        return f"Stopped by the alarm {stopped}; there is no good checkpoint to go back to."
    return (
        f"Stopped by the alarm {stopped}; the weights are those of {good} now. Change what the alarm names, and go on "
        f"from there with resume_from_checkpoint={good!r}."
    )
