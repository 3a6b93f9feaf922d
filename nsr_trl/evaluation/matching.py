"""Runs compared where they have the same Pass@1, so that what differs at larger k is not how fast they went.

A trajectory is Pass@1 by step, S of them in order of step. A run is taken where it *first* reaches a level, between
two steps by linear interpolation; whatever else was measured at these steps is interpolated alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Place:
    """
    A place on a trajectory.

    Attributes:
        index (`int`):
            The measured step at or before it, as an index.
        share (`float`):
            How far it is on the way to the next one, from 0 (at `index` itself) to 1.
    """

    index: int
    share: float = 0.0

    def of(self, values: ArrayLike) -> NDArray[np.float64]:
        """
        What was measured, at this place.

        Args:
            values (array of shape `(S, ...)`):
                Anything by step: the steps themselves, Pass@k by k, or Pass@k by problem.

        Returns:
            `np.ndarray` of the shape of one step
        """
        values = np.asarray(values, dtype=np.float64)
        here = values[self.index]
        return here + self.share * (values[self.index + 1] - here) if self.share else here


def first_reaching(pass_at_1: ArrayLike, level: float) -> Place:
    """
    Where a trajectory first reaches a level.

    Args:
        pass_at_1 (array of shape `(S,)`):
            Pass@1 by step.
        level (`float`):
            Pass@1 to reach.

    Returns:
        [`Place`]

    Raises:
        ValueError: If the trajectory starts above the level, or never reaches it.

    Example:
    ```python
    >>> first_reaching([0.1, 0.3, 0.2, 0.5], 0.25)  # three quarters of the way from 0.1 to 0.3
    Place(index=0, share=0.75)
    ```
    """
    curve = np.asarray(pass_at_1, dtype=np.float64)
    if not (curve[0] <= level <= curve.max()):
        raise ValueError(
            "A run can be matched from the Pass@1 that it starts with to the greatest that it reaches, "
            f"{100 * curve[0]:.2f} to {100 * curve.max():.2f} percent; got {100 * level:.2f}. "
            "Choose a level in between."
        )
    after = int(np.argmax(curve >= level))
    if after == 0:
        return Place(0)
    before = curve[after - 1]
    share = float((level - before) / (curve[after] - before))
    return Place(after - 1, share) if share < 1 else Place(after)


def matchable_levels(pass_at_1: Mapping[str, ArrayLike]) -> tuple[float, float]:
    """
    The Pass@1 at which runs can be matched: where all of them have started, and which all of them reach.

    Args:
        pass_at_1 (`Mapping[str, array of shape (S,)]`):
            Trajectories by run, each with steps of its own.

    Returns:
        `tuple[float, float]`: the least and the greatest level

    Raises:
        ValueError: If a trajectory is empty or has a value that is not finite, or if there is no such level.
    """
    curves = {name: np.asarray(curve, dtype=np.float64) for name, curve in pass_at_1.items()}
    for name, curve in curves.items():
        if not curve.size or not np.isfinite(curve).all():
            num_measured = np.isfinite(curve).sum()
            raise ValueError(
                f"Matching needs the Pass@1 of every step; {name} has it at {num_measured} of {curve.size}. "
                "Evaluate its checkpoints at k = 1."
            )
    highest_start = max(curves, key=lambda name: curves[name][0])
    lowest_peak = min(curves, key=lambda name: curves[name].max())
    low, high = float(curves[highest_start][0]), float(curves[lowest_peak].max())
    if low > high:
        raise ValueError(
            f"Runs can be matched at a Pass@1 that all of them reach; {highest_start} starts at {100 * low:.2f} "
            f"percent and {lowest_peak} never has more than {100 * high:.2f}. Add an earlier step of "
            f"{highest_start}, such as the model before training, or a later one of {lowest_peak}."
        )
    return low, high


def level_below_the_peak(pass_at_1: Mapping[str, ArrayLike], share: float = 0.9) -> float:
    """
    A Pass@1 at which to match runs: a share of the way from where they start to the lowest of their peaks.

    Not the peak itself: a run is there for a moment, and chance decides when.

    Args:
        pass_at_1 (`Mapping[str, array of shape (S,)]`):
            As in [`matchable_levels`].
        share (`float`, *optional*, defaults to `0.9`):
            The share of the way, from 0 to 1.

    Returns:
        `float`

    Raises:
        ValueError: As [`matchable_levels`].
    """
    low, high = matchable_levels(pass_at_1)
    return low + share * (high - low)
