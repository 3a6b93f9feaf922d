"""Rewards beside the sign: rewards of several functions go in, one group-normalised weight per completion comes out.

The same arithmetic as TRL's advantages, so that a format reward trains as it does there, beside the signed weight.

P problems, G completions per problem, B = P*G rows, F reward functions.
"""

import torch
from torch import Tensor


EPS = 1e-4
"""Added to a standard deviation, as in TRL."""


def auxiliary_weights(rewards: Tensor, reward_weights: Tensor, group_size: int, scale: str = "group") -> Tensor:
    """
    Weighs completions by how their rewards compare with those of their group.

    Args:
        rewards (`torch.Tensor` of shape `(B, F)`):
            Rewards, NaN where a function returned `None`.
        reward_weights (`torch.Tensor` of shape `(F,)`):
            What each function counts.
        group_size (`int`):
            G.
        scale (`str`, *optional*, defaults to `"group"`):
            TRL's `scale_rewards`: divide by the standard deviation of the group (`"group"`), of all (`"batch"`), or by
            nothing (`"none"`).

    Returns:
        `torch.Tensor` of shape `(B,)`:
            The sum of rewards less the group's mean, scaled; exactly 0 where a group's rewards are all alike and where
            a completion has none.
    """
    total = (rewards * reward_weights).nansum(dim=1)
    total = total.masked_fill(rewards.isnan().all(dim=1), torch.nan).view(-1, group_size)  # (P, G)
    differs = total - total.nanmean(dim=1, keepdim=True)
    of_group = _deviation(total, dim=1)  # (P, 1)
    alike = torch.isclose(of_group, total.new_zeros(1))
    if scale == "group":
        differs = differs / (of_group + EPS)
    elif scale == "batch":
        differs = differs / (_deviation(total.view(1, -1), dim=1) + EPS)
    return differs.masked_fill(alike | total.isnan(), 0.0).view(-1)


def _deviation(values: Tensor, dim: int) -> Tensor:
    """Unbiased standard deviation of what is not NaN, the dimension kept; 0 of fewer than two."""
    num = (~values.isnan()).sum(dim=dim, keepdim=True)
    squares = (values - values.nanmean(dim=dim, keepdim=True)).square().nansum(dim=dim, keepdim=True)
    return (squares / (num - 1).clamp(min=1)).sqrt()
