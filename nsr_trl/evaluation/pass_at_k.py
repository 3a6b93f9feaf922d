"""Pass@k: counts of samples and of correct ones go in, estimates with intervals come out. Numbers only, no files.

P problems, n samples per problem, c of them correct, k attempts, R bootstrap resamples.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray


_NORMAL = NormalDist()

_ROUNDING = 1e-12
"""Means that differ by less are equal."""
_MAX_DRAWS = 2**18
"""Bootstrap draws held at once: few enough to stay in the cache."""
_MAX_COUNTS = 2**20
"""Counts of answers held at once."""


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


def majority_at_k(answers: ArrayLike, is_correct: ArrayLike, k: int) -> NDArray[np.float64]:
    """
    Estimate per problem that the answer most frequent among k samples is correct (maj@k, self-consistency).

    The samples of a problem are taken k at a time, in order, and the votes averaged; a rest of fewer than k is left
    out. Where answers tie, the value is the share of them that is correct: that of drawing one of them.

    Args:
        answers (`ArrayLike` of shape `(P, n)`):
            Each sample's answer as a number within its problem; equal numbers are equal answers, and a negative one
            is a sample without an answer, which does not vote.
        is_correct (`ArrayLike` of shape `(P, n)`):
            Whether each sample is correct.
        k (`int`):
            Number of votes, n at most.

    Returns:
        `np.ndarray` of shape `(P,)` and dtype `float64`

    Example:
    ```python
    >>> majority_at_k([[0, 1, 1, 2]], [[True, False, False, False]], k=2)  # (0, 1) tie: 1/2; (1, 2) tie: 0
    array([0.25])
    ```
    """
    answers, is_correct = np.asarray(answers), np.asarray(is_correct)
    num_votes, num_answers = answers.shape[1] // k, int(answers.max(initial=0)) + 1
    chunk = max(1, _MAX_COUNTS // (num_votes * num_answers))
    shares = []
    for start in range(0, len(answers), chunk):
        rows = slice(start, start + chunk), slice(num_votes * k)
        ballots, correct = answers[rows].reshape(-1, k), is_correct[rows].reshape(-1, k)  # (votes, k)
        is_vote = ballots >= 0
        # one number per (vote, answer), so that one count serves all votes
        keys = np.arange(len(ballots))[:, None] * num_answers + np.maximum(ballots, 0)
        received = np.bincount(keys[is_vote], minlength=len(ballots) * num_answers)[keys] * is_vote
        is_winner = is_vote & (received == received.max(axis=1, keepdims=True))
        shares.append((is_winner & correct).sum(axis=1) / np.maximum(is_winner.sum(axis=1), 1))
    return np.concatenate(shares).reshape(-1, num_votes).mean(axis=1)


def cover_at(num_samples: ArrayLike, num_correct: ArrayLike, share: float) -> NDArray[np.float64]:
    """
    Whether each problem is solved in at least such a share of its samples (Cover@tau of arXiv 2510.08325).

    Where Pass@k asks for one right sample of k, however many wrong ones stand beside it, this asks how reliably.

    Args:
        num_samples (`ArrayLike` of shape `(P,)` or a number):
            n.
        num_correct (`ArrayLike` of shape `(P,)` or a number):
            c.
        share (`float`):
            tau, above 0 and at most 1.

    Returns:
        `np.ndarray` of shape `(P,)` and dtype `float64`: 0 or 1

    Example:
    ```python
    >>> cover_at(4, [0, 1, 2, 4], share=0.5)
    array([0., 0., 1., 1.])
    ```
    """
    if not 0 < share <= 1:
        raise ValueError(
            f"The share of Cover@tau must be above 0 and at most 1; got {share}. Ask for one such as 0.5."
        )
    n, c = np.asarray(num_samples, dtype=np.float64), np.asarray(num_correct, dtype=np.float64)
    return np.asarray(c >= share * n - _ROUNDING, dtype=np.float64)


def bootstrap_interval(
    values: ArrayLike, confidence: float = 0.95, num_resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """
    Bootstrap interval of the mean, resampling problems: bias-corrected and accelerated (BCa, Efron 1987).

    It answers how far the mean would move with other problems of the same kind. The plain percentiles are too narrow
    for the 30 problems of a competition, most of them too hard or too easy: BCa moves them by the bias and the skew.
    Equal values, a single one for instance, give an interval of no width.

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
    estimate = estimate_mean(values, confidence, num_resamples, seed)
    return estimate.low, estimate.high


def estimate_mean(values: ArrayLike, confidence: float = 0.95, num_resamples: int = 10_000, seed: int = 0) -> Estimate:
    """Mean of one value per problem with its [`bootstrap_interval`]."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise _not_per_problem(values)
    return estimate_means(values[None], confidence, num_resamples, seed)[0]


def estimate_means(
    values: ArrayLike, confidence: float = 0.95, num_resamples: int = 10_000, seed: int = 0
) -> list[Estimate]:
    """As [`estimate_mean`], for several values per problem, of shape (K, P): all on the same resamples."""
    values = np.asarray(values, dtype=np.float64)
    means = resample_means(values, num_resamples, seed)
    return [estimate(*each, confidence) for each in zip(values, means, strict=True)]


def resample_means(values: ArrayLike, num_resamples: int = 10_000, seed: int = 0) -> NDArray[np.float64]:
    """
    Means over problems drawn anew, with replacement.

    Args:
        values (`ArrayLike` of shape `(K, P)`):
            K values per problem.
        num_resamples (`int`, *optional*, defaults to `10_000`):
            R.
        seed (`int`, *optional*, defaults to `0`):
            Of the draws: equal seeds draw the same problems, whatever the values.

    Returns:
        `np.ndarray` of shape `(K, R)`

    Raises:
        ValueError: If there are no problems.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise _not_per_problem(values)
    generator = np.random.default_rng(seed)
    num_problems = values.shape[1]
    means = np.empty((len(values), num_resamples))
    chunk = max(1, _MAX_DRAWS // num_problems)
    for start in range(0, num_resamples, chunk):
        rows = min(chunk, num_resamples - start)
        draws = generator.integers(num_problems, size=(rows, num_problems))
        draws += num_problems * np.arange(rows)[:, None]
        # how often each resample has each problem: one product then gives the means of all values
        counts = np.bincount(draws.ravel(), minlength=draws.size).reshape(draws.shape)
        means[:, start : start + rows] = values @ counts.T.astype(np.float64) / num_problems
    return means


def estimate(values: NDArray[np.float64], means: NDArray[np.float64], confidence: float = 0.95) -> Estimate:
    """
    The mean of one value per problem with its BCa interval.

    Args:
        values (`np.ndarray` of shape `(P,)`):
            The values.
        means (`np.ndarray` of shape `(R,)`):
            What came of the mean on each resample, as of [`resample_means`].
        confidence (`float`, *optional*, defaults to `0.95`):
            Probability mass of the interval.
    """
    value = values.mean()
    below = ((means < value - _ROUNDING).mean() + (means < value + _ROUNDING).mean()) / 2  # ties count half
    bias = _NORMAL.inv_cdf(float(np.clip(below, 1 / len(means), 1 - 1 / len(means))))
    deviations = values - value
    spread = float((deviations**2).sum())
    # from the jackknife; never beyond 1/6, which keeps the denominator below positive
    acceleration = float((deviations**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    places = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        shifted = bias + _NORMAL.inv_cdf(tail)
        places.append(_NORMAL.cdf(bias + shifted / (1 - acceleration * shifted)))
    low, high = np.quantile(means, places)
    return Estimate(float(value), float(low), float(high))


def _not_per_problem(values: NDArray[np.float64]) -> ValueError:
    return ValueError(
        f"An interval needs one value per problem, at least one; got an array of shape {values.shape}. "
        "Pass the per-problem estimates, not their mean."
    )
