"""The study's numbers: trajectories of all worlds go in; means over worlds with intervals come out, in points of 100.

W worlds, M measured steps, O objectives, N seeds, K values of k.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..evaluation.matching import first_reaching, level_below_the_peak


LEAST_GAIN = 0.25
"""An objective whose Pass@1 gains less than this share of the best one's is not matched: it would set the level."""


@dataclass(frozen=True, slots=True)
class Mean:
    """
    A mean over worlds.

    Attributes:
        value (`float`):
            The mean.
        half_width (`float`):
            Of its 95% t interval; NaN with one world.
    """

    value: float
    half_width: float

    @property
    def is_above(self) -> bool:
        """Whether the interval leaves out 0 on this side; never with one world."""
        return self.value - self.half_width > 0

    @property
    def is_below(self) -> bool:
        """Whether the interval leaves out 0 on the other side."""
        return self.value + self.half_width < 0

    def text(self, sign: str = "", digits: int = 1) -> str:
        """The mean with its half width, `sign="+"` for a difference."""
        half_width = "" if math.isnan(self.half_width) else f" ±{self.half_width:.{digits}f}"
        return f"{round(self.value, digits) + 0.0:{sign}.{digits}f}{half_width}"  # not -0.0


def mean_over_worlds(values: NDArray[np.float64]) -> Mean:
    """The mean of `(W, N)` values: seeds are averaged inside their world, and the interval is over worlds."""
    by_world = values.mean(axis=1)
    num = len(by_world)
    if num == 1:
        return Mean(float(by_world[0]), math.nan)
    half_width = t_quantile(num - 1) * by_world.std(ddof=1) / math.sqrt(num)
    return Mean(float(by_world.mean()), float(half_width))


def t_quantile(df: int, confidence: float = 0.95) -> float:
    """How many standard errors a two-sided t interval has to each side (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""

    def within(t: float) -> float:
        angle = math.atan(t / math.sqrt(df))
        term = math.cos(angle) if df % 2 else 1.0
        total = term if df > 1 else 0.0
        for i in range(3 if df % 2 else 2, df, 2):
            term *= math.cos(angle) ** 2 * (i - 1) / i
            total += term
        total *= math.sin(angle)
        return 2 / math.pi * (angle + total) if df % 2 else total

    low, high = 0.0, 1000.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) < confidence else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class Summary:
    """
    Means over worlds.

    Attributes:
        names (`list[str]`):
            Objectives.
        ks (`list[int]`), steps (`list[int]`):
            The k, and the measured steps.
        base (`list[Mean]`):
            Pass@k before training, by k.
        equal (`dict[str, list[Mean]]`):
            Pass@k after the last step, by objective and k.
        from_base (`dict[str, list[Mean]]`):
            The same minus the base.
        equal_pairs (`dict[tuple[str, str], list[Mean]]`):
            The first minus the second objective, by k.
        level (`Mean`):
            Pass@1 at which they are matched.
        matched (`dict[str, list[Mean]]`), matched_pairs (`dict[tuple[str, str], list[Mean]]`):
            As `equal` and `equal_pairs`, where each run first reaches the level.
        num_ahead (`dict[tuple[str, str], int]`):
            Runs in which the first has more than the second at the largest k, matched.
        matched_steps (`dict[str, Mean]`):
            Steps to get there.
        not_matched (`list[str]`):
            Objectives that gain too little at k = 1 to be matched.
        controls (`dict[str, dict[str, Mean]]`):
            By objective, after the last step, and under `"base"`: entropy and KL in nats, effective strategies,
            P(clean), and the share of rows with a weight over the whole run.
        num_runs (`int`):
            W x N.
    """

    names: list[str]
    ks: list[int]
    steps: list[int]
    base: list[Mean]
    equal: dict[str, list[Mean]]
    from_base: dict[str, list[Mean]]
    equal_pairs: dict[tuple[str, str], list[Mean]]
    level: Mean
    matched: dict[str, list[Mean]]
    matched_pairs: dict[tuple[str, str], list[Mean]]
    num_ahead: dict[tuple[str, str], int]
    matched_steps: dict[str, Mean]
    not_matched: list[str]
    controls: dict[str, dict[str, Mean]]
    num_runs: int


def summarize(
    names: Sequence[str],
    ks: Sequence[int],
    steps: Sequence[int],
    pass_at_k: NDArray[np.float64],
    controls: dict[str, NDArray[np.float64]],
) -> Summary:
    """
    Compares objectives at equal steps and at equal Pass@1.

    Args:
        names (`Sequence[str]`):
            The O objectives.
        ks (`Sequence[int]`):
            The K values of k, the first of them 1.
        steps (`Sequence[int]`):
            The M measured steps, the first of them 0.
        pass_at_k (`np.ndarray` of shape `(W, M, O, N, K)`):
            Pass@k, 0 to 1.
        controls (`dict[str, np.ndarray]`):
            Of shape `(W, M, O, N)`.

    Returns:
        [`Summary`]
    """
    names = list(names)
    points = 100 * np.moveaxis(pass_at_k, 3, 1)  # (W, N, M, O, K)

    def by_k(values: NDArray[np.float64]) -> list[Mean]:
        return [mean_over_worlds(values[..., k]) for k in range(len(ks))]

    def by_pair(of: dict[str, NDArray[np.float64]]) -> dict[tuple[str, str], list[Mean]]:
        return {(one, other): by_k(of[one] - of[other]) for one in of for other in of if one != other}

    base = points[:, :, 0, 0]  # the same for every objective: (W, N, K)
    last = {name: points[:, :, -1, i] for i, name in enumerate(names)}
    gains = points[..., 0].max(axis=2) - points[:, :, 0, :, 0]  # (W, N, O)
    is_matched = (gains >= LEAST_GAIN * gains.max(axis=2, keepdims=True)).all(axis=(0, 1)) & (gains > 0).all((0, 1))
    kept = [name for name, is_kept in zip(names, is_matched, strict=True) if is_kept]

    levels = np.zeros(points.shape[:2])
    at_level = {name: np.zeros_like(base) for name in kept}
    steps_to_level = {name: np.zeros(points.shape[:2]) for name in kept}
    for run in np.ndindex(*points.shape[:2]) if kept else ():
        curves = {name: points[run][:, names.index(name)] for name in kept}  # (M, K)
        levels[run] = level_below_the_peak({name: curve[:, 0] for name, curve in curves.items()})
        for name, curve in curves.items():
            place = first_reaching(curve[:, 0], float(levels[run]))
            at_level[name][run], steps_to_level[name][run] = place.of(curve), place.of(steps)

    of_controls: dict[str, dict[str, Mean]] = {name: {} for name in ("base", *names)}
    for control, values in controls.items():
        if control != "rows":
            of_controls["base"][control] = mean_over_worlds(values[:, 0, 0])
        for i, name in enumerate(names):
            over_run = values[:, 1:, i].mean(axis=1) if control == "rows" else values[:, -1, i]
            of_controls[name][control] = mean_over_worlds(over_run)
    return Summary(
        names=names,
        ks=list(ks),
        steps=list(steps),
        base=by_k(base),
        equal={name: by_k(values) for name, values in last.items()},
        from_base={name: by_k(values - base) for name, values in last.items()},
        equal_pairs=by_pair(last),
        level=mean_over_worlds(levels),
        matched={name: by_k(values) for name, values in at_level.items()},
        matched_pairs=by_pair(at_level),
        num_ahead={
            (one, other): int((at_level[one][..., -1] > at_level[other][..., -1]).sum())
            for one in kept
            for other in kept
            if one != other
        },
        matched_steps={name: mean_over_worlds(values) for name, values in steps_to_level.items()},
        not_matched=[name for name in names if name not in kept],
        controls=of_controls,
        num_runs=points.shape[0] * points.shape[1],
    )
