"""Weights that move: steps, outcomes and entropies come in, the objective in force comes out.

An [`~objective.Objective`] is a pure function of outcomes; what changes during a run is which one is in force. Here
stands all that changes it: a schedule of lambda, a controller of lambda, or one objective handing over to another. All
ranks see the same numbers and so move alike. What a controller has seen goes with a checkpoint, as plain numbers.

P problems, G completions per problem.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from .checks import is_number, is_whole, plain
from .objective import OBJECTIVE_NAMES, Objective, build_objective, rule_of
from .resources import did_you_mean


class Controller:
    """
    Holds the objective in force; this one never changes it.

    Args:
        objective ([`Objective`]):
            In force when the run begins.

    Attributes:
        objective ([`Objective`]):
            In force now. Its formula is that of the whole run, and stays.
        seen (`dict[str, float]`):
            What goes with a checkpoint.
        reads_batch (`bool`):
            Whether it moves by the mean over the prompts of a rollout.
    """

    reads_batch = False

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.seen: dict[str, float] = {}

    def begin_rollout(self, step: int, max_steps: int) -> None:
        """Is told of the optimizer steps that were taken, of how many, before a rollout is weighed."""

    def see_outcomes(self, outcomes: Tensor) -> str | None:
        """Is shown the outcomes `(P, G)` of a rollout over all ranks, before they are weighed; may have a sentence."""

    def see_entropy(self, entropy: float) -> None:
        """Is shown the mean entropy in nats over the tokens of an optimizer step."""

    def hand_over(self, why: str) -> str | None:
        """Is asked to change to the objective that it keeps ready; says so in a sentence if it has one."""

    def load(self, seen: Mapping[str, float]) -> None:
        """Goes on from what `seen` was."""
        self.seen = dict(seen)

    def describe(self) -> str | None:
        """What moved and its present value, for the card; `None` if nothing moves."""
        return None


class _MovingWeight(Controller):
    """Moves lambda, the weight of correct completions."""

    def __init__(self, build: Callable[[float], Objective], start: float, rule: str) -> None:
        super().__init__(build(start))
        self._build = build
        self._rule = rule
        self.move(start)

    def move(self, weight: float) -> None:
        """Changes lambda."""
        formula = f"lambda L_PSR + L_NSR, lambda {self._rule}"
        self.objective = replace(self._build(weight), formula=formula)
        self.seen["weight"] = weight

    def load(self, seen: Mapping[str, float]) -> None:
        """As [`Controller.load`]."""
        super().load(seen)
        self.move(seen["weight"])

    def describe(self) -> str:
        """As [`Controller.describe`]."""
        return f"{self._rule}; {self.seen['weight']:.3g} at the end"


class Schedule(_MovingWeight):
    """Lambda as a function of the optimizer step, `SHAPES` of the way from one value to another."""

    def __init__(self, build: Callable[[float], Objective], kind: str, **settings: float) -> None:
        self._from, self._to, self._over = settings["from"], settings["to"], settings["over"]
        self._shape = SHAPES[kind]
        how_long = f"{self._over:g} optimizer steps" if self._over > 1 else f"{self._over:.0%} of the run"
        rule = f"from {self._from:g} to {self._to:g}, {kind} over {how_long}"
        super().__init__(build, self._from, rule if kind != "constant" else f"constant at {self._from:g}")

    def begin_rollout(self, step: int, max_steps: int) -> None:
        """Moves lambda to where it is at this step."""
        length = self._over if self._over > 1 else self._over * max_steps
        self.move(self._from + (self._to - self._from) * self._shape(min(1.0, step / max(length, 1))))


SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda x: 0.0,
    "linear": lambda x: x,
    "cosine": lambda x: (1 - math.cos(math.pi * x)) / 2,
    "step": lambda x: float(x >= 1),
}
"""Share of the time that has passed -> share of the way that lambda has gone."""


class Balance(_MovingWeight):
    """
    lambda = (1 - p) / p, p the share of right completions among the decided ones, smoothed over rollouts.

    The ratio of weights with the least variance for a batch of one pass rate; per prompt it is `maxrl`.
    """

    reads_batch = True

    def __init__(self, build: Callable[[float], Objective], smoothing: float, low: float, high: float) -> None:
        self._smoothing, self._low, self._high = smoothing, low, high
        super().__init__(build, low, f"(1-p)/p of the batch, smoothed by {smoothing:g}, within {low:g} and {high:g}")
        self.seen |= {"right": 0.0, "wrong": 0.0}

    def see_outcomes(self, outcomes: Tensor) -> None:
        """Moves lambda to the balance of what was seen so far, this rollout included."""
        for name, num in (("right", (outcomes > 0).sum()), ("wrong", (outcomes < 0).sum())):
            self.seen[name] = self._smoothing * self.seen[name] + float(num)
        right, wrong = self.seen["right"], self.seen["wrong"]
        if right or wrong:
            self.move(min(self._high, max(self._low, wrong / right if right else math.inf)))


class HoldEntropy(_MovingWeight):
    """
    Lowers lambda while the entropy is below a target, raises it while it is above: what is reinforced sharpens.

    lambda moves by the factor e^rate at each optimizer step. Without a target it holds the entropy of the first one.
    """

    def __init__(
        self,
        build: Callable[[float], Objective],
        start: float,
        target: float | None,
        rate: float,
        low: float,
        high: float,
    ) -> None:
        self._rate, self._low, self._high = rate, low, high
        shown = "that of the first step" if target is None else f"{target:g} nats"
        super().__init__(build, start, f"holds the entropy at {shown}, by {rate:g} a step within {low:g} and {high:g}")
        if target is not None:
            self.seen["target"] = target

    def see_entropy(self, entropy: float) -> None:
        """Moves lambda a step towards the target."""
        target = self.seen.setdefault("target", entropy)
        factor = math.exp(math.copysign(self._rate, entropy - target)) if entropy != target else 1.0
        self.move(min(self._high, max(self._low, self.seen["weight"] * factor)))


class Handover(Controller):
    """
    Changes from one objective to another, once, when the share of unsolved prompts rises or when it is asked to.

    The smoothed share is compared with the lowest it has been since `warmup` rollouts: what A-GRAE (arXiv 2602.05548)
    saw before NSR became unstable was a sudden rise of fully unsolved prompts.
    """

    def __init__(self, before: Objective, after: Objective, rise: float | None, smoothing: float, warmup: int) -> None:
        formula = f"{before.formula}; after the handover {after.formula}"
        self._before, self._after = replace(before, formula=formula), replace(after, formula=formula)
        self._rise, self._smoothing, self._warmup = rise, smoothing, warmup
        self.reads_batch = rise is not None
        super().__init__(self._before)
        self.seen = {"unsolved": 0.0, "prompts": 0.0, "rollouts": 0, "lowest": 1.0, "has_changed": 0}

    def see_outcomes(self, outcomes: Tensor) -> str | None:
        """Hands over where the smoothed share of unsolved prompts has risen."""
        seen = self.seen
        decided = (outcomes != 0).any(dim=1)
        unsolved = decided & ~(outcomes > 0).any(dim=1)
        seen["unsolved"] = self._smoothing * seen["unsolved"] + float(unsolved.sum())
        seen["prompts"] = self._smoothing * seen["prompts"] + float(decided.sum())
        seen["rollouts"] += 1
        if self._rise is None or not seen["prompts"] or seen["rollouts"] <= self._warmup:
            return None
        share = seen["unsolved"] / seen["prompts"]
        seen["lowest"] = min(seen["lowest"], share)
        if share <= seen["lowest"] + self._rise:
            return None
        return self.hand_over(f"the share of unsolved prompts is {share:.1%}, {seen['lowest']:.1%} at its lowest")

    def hand_over(self, why: str) -> str | None:
        """Changes to the other objective, if that is still to come."""
        if self.seen["has_changed"]:
            return None
        self.seen["has_changed"] = 1
        self.objective = self._after
        return f"Handed over from {self._before.name} to {self._after.name}: {why}."

    def load(self, seen: Mapping[str, float]) -> None:
        """As [`Controller.load`]."""
        super().load(seen)
        self.objective = self._after if seen["has_changed"] else self._before

    def describe(self) -> str:
        """As [`Controller.describe`]."""
        changed = "handed over" if self.seen["has_changed"] else "not handed over"
        return f"{self._before.name}, then {self._after.name}; {changed}"


@dataclass(frozen=True)
class Setting:
    """A setting of a schedule or controller: its default, whether a value will do, and what it must be."""

    default: Any
    holds: Callable[[Any], bool]
    must_be: str


def _magnitude(default: float | None) -> Setting:
    return Setting(default, lambda value: is_number(value) and value >= 0, "a finite number >= 0")


def _share(default: float) -> Setting:
    return Setting(default, lambda value: is_number(value) and 0 <= value < 1, "a number from 0 to below 1")


_SCHEDULE = {
    "from": _magnitude(None),
    "to": _magnitude(None),
    "over": Setting(1.0, lambda value: is_number(value) and value > 0, "a share of the run, or steps above 1"),
}

SCHEDULES: dict[str, dict[str, Setting]] = {
    kind: {"from": _SCHEDULE["from"]} if kind == "constant" else _SCHEDULE for kind in SHAPES
}
"""Kinds of `positive_weight_schedule`, with their settings."""

CONTROLLERS: dict[str, dict[str, Setting]] = {
    "balance": {"smoothing": _share(0.9), "low": _magnitude(0.01), "high": _magnitude(10.0)},
    "entropy": {
        "target": Setting(None, lambda value: is_number(value) and value > 0, "a number of nats above 0"),
        "rate": Setting(0.05, lambda value: is_number(value) and 0 < value <= 1, "a number above 0, at most 1"),
        "low": _magnitude(0.0),
        "high": _magnitude(2.0),
    },
    "handover": {
        "to": Setting("w_reinforce", lambda value: value in OBJECTIVE_NAMES, f"one of {', '.join(OBJECTIVE_NAMES)}"),
        "rise": _share(0.05),
        "smoothing": _share(0.9),
        "warmup": Setting(10, lambda value: is_whole(value) and value >= 0, "a whole number"),
    },
}
"""Kinds of `lambda_controller`, with their settings."""


def build_controller(
    objective: Objective,
    positive_weight: float | None = None,
    negative_weight: float | None = None,
    focal_gamma: float = 0.0,
    schedule: Mapping[str, Any] | None = None,
    controller: Mapping[str, Any] | str | None = None,
    hands_over: bool = False,
) -> Controller:
    """
    Makes what holds the objective in force.

    Args:
        objective ([`Objective`]):
            The run's.
        positive_weight (`float`, *optional*):
            What it was built with.
        negative_weight (`float`, *optional*):
            What it was built with.
        focal_gamma (`float`, *optional*, defaults to `0.0`):
            What it was built with.
        schedule (`Mapping[str, Any]`, *optional*):
            `kind`, one of `SCHEDULES`, and its settings.
        controller (`Mapping[str, Any]` or `str`, *optional*):
            `kind`, one of `CONTROLLERS`, and its settings; or the kind alone.
        hands_over (`bool`, *optional*, defaults to `False`):
            Whether something else may ask for a handover.

    Returns:
        [`Controller`]

    Raises:
        ValueError: If a kind or setting is unknown or out of range, or does not go with the objective.
    """
    if schedule is not None and controller is not None:
        raise ValueError(
            "One thing at most can move the weight; got both `positive_weight_schedule` and `lambda_controller`. "
            "Leave one out."
        )
    controller = {"kind": controller} if isinstance(controller, str) else controller
    if hands_over and controller is None and schedule is None:
        controller = {"kind": "handover", "rise": None}
    if controller is None:
        field, given, kinds = "positive_weight_schedule", schedule, SCHEDULES
    else:
        field, given, kinds = "lambda_controller", controller, CONTROLLERS
    if given is None:
        return Controller(objective)
    kind, settings = _read(field, given, kinds)
    if hands_over and kind != "handover":
        raise ValueError(
            f"on_alarm='handover' changes the objective, which nothing else can then move; got {field}={given}. "
            "Leave that out, or set on_alarm='stop'."
        )
    if kind == "handover":
        if objective.weigh is None:
            raise ValueError(
                "A handover must begin with a signed objective; got objective='grpo'. Set objective='nsr', say."
            )
        to = settings.pop("to")
        after = build_objective(to, focal_gamma=focal_gamma)
        if (after.name, after.positive_weight) == (objective.name, objective.positive_weight):
            raise ValueError(
                f"A handover must go to another objective; got {to!r} on both sides. Name another, as in "
                """lambda_controller='{"kind": "handover", "to": "grpo"}'."""
            )
        return Handover(objective, replace(after, weigh=rule_of(after)), **settings)

    def build(weight: float) -> Objective:
        return build_objective("w_reinforce", weight, negative_weight, focal_gamma=focal_gamma)

    if objective.name != "w_reinforce":
        raise ValueError(
            f"`{field}` moves lambda, which objective='w_reinforce' has; got objective={objective.name!r}. "
            "Change one of them."
        )
    start = 0.1 if positive_weight is None else float(positive_weight)
    if kind == "balance":
        _check_bounds(settings)
        return Balance(build, **settings)
    if kind == "entropy":
        _check_bounds(settings)
        return HoldEntropy(build, min(settings["high"], max(settings["low"], start, 1e-3)), **settings)
    settings["from"] = start if settings["from"] is None else settings["from"]
    if kind != "constant" and settings["to"] is None:
        raise ValueError(f"`positive_weight_schedule` must say where lambda goes; got {schedule}. Set `to`.")
    return Schedule(build, kind, **({"to": settings["from"], "over": 1.0} | settings))


def _read(
    field: str, given: Mapping[str, Any], kinds: Mapping[str, Mapping[str, Setting]]
) -> tuple[str, dict[str, Any]]:
    """(Kind, settings with their defaults) of what a config says."""
    kind = str(given.get("kind")) if isinstance(given, Mapping) else str(given)
    if kind not in kinds:
        raise ValueError(
            f"`{field}` must have a `kind`, one of {', '.join(kinds)}; got {given!r}. "
            f"{did_you_mean(kind, list(kinds))}"
        )
    known = kinds[kind]
    for name, value in given.items():
        if name == "kind":
            continue
        if name not in known:
            raise ValueError(
                f"The settings of {field}={kind!r} must be of {', '.join(known)}; got {name!r}. "
                f"{did_you_mean(str(name), list(known))}"
            )
        if not (value is None and (known[name].default is None or name == "rise")) and not known[name].holds(value):
            raise ValueError(
                f"`{name}` of {field}={kind!r} must be {known[name].must_be}; got {value!r}. "
                f"Leave it out for {known[name].default}."
            )
    own = {name: plain(value) for name, value in given.items() if name != "kind"}
    return kind, {name: setting.default for name, setting in known.items()} | own


def _check_bounds(settings: Mapping[str, Any]) -> None:
    if not settings["low"] < settings["high"]:
        raise ValueError(
            f"`low` of `lambda_controller` must be below `high`; got {settings['low']:g} and {settings['high']:g}. "
            "Change one of them."
        )
