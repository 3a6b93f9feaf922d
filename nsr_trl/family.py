"""The family: weights that read the group. How many of its completions are right goes in, two weights come out.

Every formula is a pure function of `c`, the right completions of each group, and `n`, the decided ones, both float32
of shape `(P, 1)`; it returns the weight of a right and of a wrong completion of each group, of the same shape. What
depends on the prompt is then a table of `c` and `n`, and the sign of an outcome picks the column ([`by_counts`]).
p = c / n is the group's pass rate.

Undecided completions are in neither `c` nor `n`. Where a formula divides by zero, with one decided completion or
where all agree, its docstring says what the weight is; it is never NaN.

P problems, G completions per problem.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


Weights = tuple[Tensor, Tensor]
"""Weight of right and of wrong completions, `(P, 1)` each."""

Formula = Callable[..., Weights]

EPS = 1e-6
"""Added to a standard deviation, as in verl."""


def by_counts(formula: Formula, **args: Any) -> Callable[[Tensor], Tensor]:
    """
    Makes a rule over outcomes of a formula over counts.

    Args:
        formula (`Callable`):
            Takes `c` and `n` of shape `(P, 1)`, returns the weights of right and of wrong completions.
        **args (`Any`):
            The formula's parameters.

    Returns:
        `Callable[[torch.Tensor], torch.Tensor]`:
            Outcomes of shape `(P, G)` to float32 weights of shape `(P, G)`, 0 on undecided completions.
    """

    def weigh(outcomes: Tensor) -> Tensor:
        c, n = count(outcomes)
        right, wrong = formula(c, n, **args)
        return torch.where(outcomes > 0, right, wrong).where(outcomes != 0, 0.0) + 0.0  # not -0.0

    return weigh


def focal(weigh: Callable[[Tensor], Tensor], gamma: float) -> Callable[[Tensor], Tensor]:
    """Multiplies the weights of a rule by (1 - p)^gamma: solved prompts weigh less (F-GRPO, arXiv 2602.06717)."""

    def weigh_focally(outcomes: Tensor) -> Tensor:
        c, n = count(outcomes)
        return (weigh(outcomes) * (1 - c / n) ** gamma).where(outcomes != 0, 0.0)

    return weigh_focally


def count(outcomes: Tensor) -> tuple[Tensor, Tensor]:
    """Right and decided completions of each group, float32 of shape `(P, 1)`."""
    c = (outcomes > 0).sum(dim=1, keepdim=True).float()
    return c, (outcomes != 0).sum(dim=1, keepdim=True).float()


def share_of_draws(a: Tensor, n: Tensor, m: Tensor | int) -> Tensor:
    """C(a, m) / C(n, m): the chance that m drawn from n, without putting back, are all among a of them."""
    share = torch.ones_like(a)
    m = torch.as_tensor(m, device=a.device)
    for i in range(int(m.max()) if m.numel() else 0):
        share = torch.where(i < m, share * (a - i).clamp(min=0) / (n - i).clamp(min=1), share)
    return share


def signs(c: Tensor, n: Tensor, positive_weight: float, negative_weight: float) -> Weights:
    """The sign alone: +positive_weight, -negative_weight, whatever the group (arXiv 2506.01347, Eq. 1 to 4 and 9)."""
    return torch.full_like(c, positive_weight), torch.full_like(c, -negative_weight)


def grpo(c: Tensor, n: Tensor) -> Weights:
    """
    (r - p) / (s + eps), s the unbiased standard deviation: GRPO of outcomes (arXiv 2402.03300).

    0 where all agree, hence with one decided completion.
    """
    p = c / n
    s = (p * (1 - p) * n / (n - 1)).sqrt()
    differs = (c > 0) & (c < n)
    return ((1 - p) / (s + EPS)).where(differs, 0.0), (-p / (s + EPS)).where(differs, 0.0)


def dr_grpo(c: Tensor, n: Tensor) -> Weights:
    """Dr. GRPO, r - p (arXiv 2503.20783). 0 with one decided completion, which is its own mean."""
    p = c / n
    return 1 - p, -p


def rloo(c: Tensor, n: Tensor) -> Weights:
    """
    (r - p) n / (n - 1): the mean of the *other* completions as the baseline (arXiv 2402.14740).

    Unbiased for the gradient of Pass@1. 0 with one decided completion, which has no others.
    """
    right, wrong = dr_grpo(c, n)
    scale = (n / (n - 1)).where(n > 1, 0.0)
    return right * scale, wrong * scale


def maxrl(c: Tensor, n: Tensor) -> Weights:
    """
    (1 - p) / p, -1; 0 in a group with none right (arXiv 2602.02710).

    W-REINFORCE whose lambda is the prompt's own (1 - p) / p. 1/n of the sum of weight times score is unbiased for the
    gradient of log p cut off after n - 1 terms of log p = -sum (1-p)^k / k. `advantage_type="maxrl"` of
    tajwarfahim/maxrl is another formula. With one decided completion 0.
    """
    p = c / n
    return ((1 - p) / p).where(c > 0, 0.0), -(c > 0).float()


def maclaurin(c: Tensor, n: Tensor, order: int) -> Weights:
    """
    1, -sum over k = 2..min(order, n - c) of C(n-c-1, k-1) / C(n-1, k-1) (tajwarfahim/maxrl).

    1/n of the sum of weight times score is unbiased for the gradient of log p cut off after `order` terms of
    log p = -sum (1-p)^k / k. With n below `order` the sum ends at n. Hardest on groups that are all wrong. With one
    decided completion PSR.
    """
    wrong = -sum((share_of_draws(n - c - 1, n - 1, k - 1) for k in range(2, order + 1)), torch.zeros_like(c))
    return torch.ones_like(c), wrong


def pkpo(c: Tensor, n: Tensor, k: int) -> Weights:
    """
    PKPO with the leave-one-out baseline: n C(n-c, k-1) / C(n, k), 0 (arXiv 2505.15201).

    1/n of the sum of weight times score is unbiased for the gradient of Pass@k. With n below k that of Pass@n; with
    one decided completion PSR. The released variants scale differently.
    """
    k_of_group = n.clamp(max=k)
    # n C(n-c, k-1) / C(n, k) = k C(n-c, k-1) / C(n-1, k-1)
    return k_of_group * share_of_draws(n - c, n - 1, k_of_group - 1), torch.zeros_like(c)


def passk(c: Tensor, n: Tensor, k: int) -> Weights:
    """
    (1 - R) / S, (1 - R - C(n-c-1, k-1) / C(n-1, k-1)) / S (arXiv 2508.10751, RUCAIBox/Passk_Training).

    R = 1 - C(n-c, k) / C(n, k) is the group's Pass@k, S = sqrt(R (1 - R)) its deviation; 0 where S is 0, hence where
    fewer than k + 1 are decided. verl's `grpo_passk` (arXiv 2503.19595) is another formula.
    """
    k_of_group = n.clamp(max=k)
    missed = share_of_draws(n - c, n, k_of_group)  # 1 - R
    deviation = (missed * (1 - missed)).sqrt()
    wrong = missed - share_of_draws(n - c - 1, n - 1, k_of_group - 1)
    varies = deviation > 0
    return (missed / deviation).where(varies, 0.0), (wrong / deviation).where(varies, 0.0)


def qae(c: Tensor, n: Tensor, quantile: float) -> Weights:
    """
    If p <= 1 - K: 1 / (s + eps), 0; if p > 1 - K: 0, -1 / (s + eps) (arXiv 2509.22611, junkangwu/QAE).

    The baseline is the quantile K of the group's rewards, so that hard prompts train on what is right and easy ones
    on what is wrong. 0 where all agree, hence with one decided completion.
    """
    p = c / n
    s = (p * (1 - p) * n / (n - 1)).sqrt()
    differs = (c > 0) & (c < n)
    is_hard = c <= (1 - quantile) * n + EPS
    return (1 / (s + EPS)).where(differs & is_hard, 0.0), (-1 / (s + EPS)).where(differs & ~is_hard, 0.0)


def ngrpo(c: Tensor, n: Tensor, ddof: int) -> Weights:
    """
    (r - m) / d with m and d of the group and one virtual right completion; 0 if all are right (arXiv 2509.18851).

    d divides by n + 1 - `ddof`: 0 as the paper writes it, 1 as `torch.std` in nangongrui-ngr/NGRPO does. Learns from
    groups that are all wrong. With one decided completion that is wrong m = 1/2, and the weight -1 (at `ddof` 0).
    """
    m = (c + 1) / (n + 1)
    d = (m * (1 - m) * (n + 1) / (n + 1 - ddof)).sqrt()
    differs = c < n
    return ((1 - m) / d).where(differs, 0.0), (-m / d).where(differs, 0.0)


def a_grae(c: Tensor, n: Tensor, alpha: float) -> Weights:
    """
    GRPO x [w / (2 sqrt p) + (1 - w) / (2 sqrt(1 - p))], right also x min(1, alpha w) (arXiv 2602.05548, Eq. 11 to 13).

    w is the share of right completions among the decided ones of the whole batch. 0 where GRPO is 0.
    """
    right, wrong = grpo(c, n)
    p, w = c / n, c.sum() / n.sum()
    scale = w / (2 * p.sqrt()) + (1 - w) / (2 * (1 - p).sqrt())
    differs = (c > 0) & (c < n)
    return (right * scale * (alpha * w).clamp(max=1)).where(differs, 0.0), (wrong * scale).where(differs, 0.0)


def asymre(c: Tensor, n: Tensor, delta_v: float) -> Weights:
    """
    AsymRE, r - (p + delta_v) (arXiv 2506.20520). With one decided completion -delta_v.

    Below 0 the baseline lies under the mean and right completions weigh more; above 0 it is unstable off-policy (its
    theorem).
    """
    p = c / n
    return 1 - p - delta_v, -p - delta_v


def lead(c: Tensor, n: Tensor, floor: float, ceiling: float, slope: float, midpoint: float) -> Weights:
    """
    GRPO x w(p) on right, x w(1 - p) on wrong, w(r) = floor + (ceiling - floor) / (1 + e^{slope (r - midpoint)})
    (GRPO-LEAD, arXiv 2504.09696). 0 where GRPO is 0.
    """
    right, wrong = grpo(c, n)
    p = c / n

    def scale(rate: Tensor) -> Tensor:
        return floor + (ceiling - floor) * torch.sigmoid(-slope * (rate - midpoint))

    return (right * scale(p)).where(right > 0, 0.0), (wrong * scale(1 - p)).where(wrong < 0, 0.0)
