"""Pass@k: counts of samples and of correct ones go in, estimates with intervals come out. Numbers only, no files.

P problems, n samples per problem, c of them correct, k attempts, R bootstrap resamples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


_MAX_DRAWS = 2**23
"""Bootstrap draws held in memory at once."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    A mean over problems with its confidence interval.

    Attributes:
        value (`float`):
            The mean.
        low (`float`):
            Lower end of the interval.
        high (`float`):
            Upper end of the interval.
    """

    value: float
    low: float
    high: float


def pass_at_k(num_samples: ArrayLike, num_correct: ArrayLike, k: int) -> NDArray[np.float64]:
    """
    Unbiased estimate per problem that at least one of k samples is correct: 1 - C(n - c, k) / C(n, k).

    Computed as a product of k ratios, so that no binomial coefficient overflows.

    Args:
        num_samples (`ArrayLike` of shape `(P,)` or a number):
            n, may differ between problems.
        num_correct (`ArrayLike` of shape `(P,)` or a number):
            c.
        k (`int`):
            Number of attempts.

    Returns:
        `np.ndarray` of shape `(P,)` and dtype `float64`

    Raises:
        ValueError: If a problem has fewer than k samples, or c is not between 0 and n.

    Example:
    ```python
    >>> pass_at_k([4, 4, 4], [0, 1, 3], k=2)  # 1 - C(3, 2) / C(4, 2) = 1 - 3/6
    array([0. , 0.5, 1. ])
    ```
    """
    n, c = np.broadcast_arrays(np.asarray(num_samples, dtype=np.int64), np.asarray(num_correct, dtype=np.int64))
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}. Ask for pass@1 or more.")
    if n.size and n.min() < k:
        raise ValueError(
            f"pass@{k} needs at least {k} samples per problem; a problem has {n.min()}. "
            f"Sample at least {k} completions of each problem, or leave {k} out of `k`."
        )
    is_wrong = (c < 0) | (c > n)
    if is_wrong.any():
        raise ValueError(
            f"The correct samples of a problem number between 0 and its samples; got {c[is_wrong][0]} of "
            f"{n[is_wrong][0]}. Pass the samples first and the correct ones second."
        )
    attempt = np.arange(k).reshape(-1, *[1] * n.ndim)
    return 1.0 - (np.maximum(n - c - attempt, 0) / (n - attempt)).prod(axis=0)


def bootstrap_interval(
    values: ArrayLike, confidence: float = 0.95, num_resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """
    Percentile bootstrap interval of the mean, resampling problems.

    It answers how far the mean would move with other problems of the same kind. A single problem gives an interval of
    no width.

    Args:
        values (`ArrayLike` of shape `(P,)`):
            One value per problem.
        confidence (`float`, *optional*, defaults to `0.95`):
            Probability mass of the interval.
        num_resamples (`int`, *optional*, defaults to `10_000`):
            R.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the resampling; equal seeds resample the same problems.

    Returns:
        `tuple[float, float]`:
            Lower and upper end.

    Raises:
        ValueError: If there are no values.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(
            f"An interval needs one value per problem, at least one; got an array of shape {values.shape}. "
            "Pass the per-problem estimates, not their mean."
        )
    generator = np.random.default_rng(seed)
    means = np.empty(num_resamples)
    chunk = max(1, _MAX_DRAWS // values.size)
    for start in range(0, num_resamples, chunk):
        rows = min(chunk, num_resamples - start)
        means[start : start + rows] = values[generator.integers(values.size, size=(rows, values.size))].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def estimate_mean(values: ArrayLike, confidence: float = 0.95, num_resamples: int = 10_000, seed: int = 0) -> Estimate:
    """Mean of one value per problem with its [`bootstrap_interval`]."""
    values = np.asarray(values, dtype=np.float64)
    return Estimate(float(values.mean()), *bootstrap_interval(values, confidence, num_resamples, seed))


def paired_difference(
    after: ArrayLike, before: ArrayLike, confidence: float = 0.95, num_resamples: int = 10_000, seed: int = 0
) -> Estimate:
    """
    Mean of `after - before` on the same problems, in the same order, with its [`bootstrap_interval`].

    Pairing removes the spread of difficulty between problems, so the interval is narrower than those of the two means.

    Raises:
        ValueError: If the two do not have one value per problem each.
    """
    after, before = np.asarray(after, dtype=np.float64), np.asarray(before, dtype=np.float64)
    if after.shape != before.shape:
        raise ValueError(
            f"A paired difference needs the same problems on both sides; got shapes {after.shape} and {before.shape}. "
            "Evaluate both on one list of problems."
        )
    return estimate_mean(after - before, confidence, num_resamples, seed)
