"""The study's two figures: Pass@k by k at equal steps, and Pass@k by Pass@1 along the runs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..evaluation.pass_at_k import Estimate
from ..evaluation.plots import plot_curves, plot_trajectories
from .report import label
from .summary import Mean, Summary


def draw(summary: Summary, pass_at_k: NDArray[np.float64], paths: Sequence[str | Path]) -> None:
    """
    Draws both figures.

    Args:
        summary ([`~summary.Summary`]):
            The study's numbers.
        pass_at_k (`np.ndarray` of shape `(W, M, O, N, K)`):
            Pass@k along the runs, of which the mean is drawn.
        paths (`Sequence[str]`):
            Files to write, the two of them.
    """
    plot_curves(
        {
            "at equal steps": {label(name): _curve(summary, means, 0) for name, means in summary.equal.items()}
            | {"base": _curve(summary, summary.base, 0)},
            "minus the base": {label(name): _curve(summary, means) for name, means in summary.from_base.items()},
        },
        paths[0],
    )
    along = pass_at_k.mean(axis=(0, 3))  # (M, O, K)
    trajectories = {label(name): (along[:, i, 0], along[:, i, -1]) for i, name in enumerate(summary.names)}
    plot_trajectories(trajectories, summary.ks[-1], paths[1])


def _curve(summary: Summary, means: Sequence[Mean], band: float = 1.0) -> dict[int, Estimate]:
    """Means by k, with `band` of their intervals: worlds differ in what no difference between objectives shows."""
    curve = {}
    for k, mean in zip(summary.ks, means, strict=True):
        half_width = 0.0 if np.isnan(mean.half_width) else band * mean.half_width
        curve[k] = Estimate(mean.value / 100, (mean.value - half_width) / 100, (mean.value + half_width) / 100)
    return curve
