"""Signed objective: which completions teach the policy, and in which direction.

Outcomes come in, signed weights go out. The trainer puts the weights where GRPO has its advantages, so the loss is
TRL's clipped surrogate `max(-A rho, -A clip(rho, 1 - eps, 1 + eps))` with A the weight (arXiv 2506.01347, App. C.1).
This is GRPO without the group mean, without the group standard deviation and without partial credit: what is left is
the sign of a verified answer.

P problems, G completions per problem, B = P*G rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor


CORRECT, UNDECIDED, INCORRECT = 1, 0, -1
"""Outcome codes: the paper's r in {-1, +1}, and 0 where the verifier does not know."""


def outcomes_from_rewards(
    rewards: Tensor, correct_threshold: float = 0.5, undecided_as_incorrect: bool = False
) -> Tensor:
    """
    Reads the sign of each completion off its outcome reward.

    Args:
        rewards (`torch.Tensor` of shape `(B,)`):
            Outcome rewards in any scale; NaN where the reward function returned `None`.
        correct_threshold (`float`, *optional*, defaults to `0.5`):
            A completion is correct when its reward is *above* this value.
        undecided_as_incorrect (`bool`, *optional*, defaults to `False`):
            Whether NaN is read as incorrect.

    Returns:
        `torch.Tensor` of shape `(B,)` and dtype `int8`:
            `CORRECT`, `INCORRECT`, or `UNDECIDED` where the reward is NaN.
    """
    outcomes = torch.where(rewards > correct_threshold, CORRECT, INCORRECT)
    undecided = INCORRECT if undecided_as_incorrect else UNDECIDED
    return outcomes.masked_fill(rewards.isnan(), undecided).to(torch.int8)


def constant_weights(positive_weight: float, negative_weight: float) -> Callable[[Tensor], Tensor]:
    """Weighs by sign alone: `+positive_weight` on correct, `-negative_weight` on incorrect, 0 on undecided rows."""

    def weigh(outcomes: Tensor) -> Tensor:
        return positive_weight * (outcomes == CORRECT).float() - negative_weight * (outcomes == INCORRECT).float()

    return weigh


@dataclass(frozen=True)
class Objective:
    """
    A named rule from outcomes to signed weights.

    Attributes:
        name (`str`):
            The name a config gives it.
        formula (`str`):
            What it minimises, for humans.
        weigh (`Callable[[Tensor], Tensor]` or `None`):
            Outcomes of shape `(P, G)` to signed float32 weights of shape `(P, G)`. A row of the argument is a group,
            so a rule may depend on the group's correct count. `None` keeps TRL's advantages.
    """

    name: str
    formula: str
    weigh: Callable[[Tensor], Tensor] | None


POLARITIES: dict[str, tuple[float, float]] = {
    "psr": (1.0, 0.0),  # Eq. 3
    "nsr": (0.0, 1.0),  # Eq. 4
    "w_reinforce": (0.1, 1.0),  # Eq. 9, lambda = 0.1
    "reinforce": (1.0, 1.0),  # Eq. 1 and 2
}
"""Objectives that weigh by sign alone: name -> (positive weight, negative weight)."""

OBJECTIVE_NAMES: tuple[str, ...] = (*POLARITIES, "grpo")


def build_objective(
    name: str, positive_weight: float | None = None, negative_weight: float | None = None
) -> Objective:
    """
    Looks an objective up by name.

    Args:
        name (`str`):
            One of `OBJECTIVE_NAMES`.
        positive_weight (`float`, *optional*):
            Magnitude of the weight on correct completions, the paper's lambda. Only `w_reinforce` takes another value
            than its own.
        negative_weight (`float`, *optional*):
            Magnitude of the weight on incorrect completions. Only `w_reinforce` takes another value than its own.

    Returns:
        [`Objective`]

    Raises:
        ValueError: If the name is unknown, a weight is not a finite magnitude, both are zero, or a weight contradicts
            the name.
    """
    if name not in OBJECTIVE_NAMES:
        raise ValueError(
            f"`objective` must be one of {', '.join(OBJECTIVE_NAMES)}; got {name!r}. "
            "For other weights, set `positive_weight` and `negative_weight` with objective='w_reinforce'."
        )
    if name == "grpo":
        for field, value in (("positive_weight", positive_weight), ("negative_weight", negative_weight)):
            if value is not None:
                raise ValueError(
                    f"`{field}` is not used under objective='grpo'; got {value}. "
                    "Choose objective='w_reinforce' for weights of your own."
                )
        return Objective("grpo", "GRPO: group-normalised advantages", None)

    positive = _weight(name, "positive_weight", positive_weight, POLARITIES[name][0])
    negative = _weight(name, "negative_weight", negative_weight, POLARITIES[name][1])
    if positive == negative == 0:
        raise ValueError(
            "One of `positive_weight` and `negative_weight` must be above 0; got 0 and 0, which trains nothing. "
            "Set positive_weight=0.1 and negative_weight=1.0 for the paper's W-REINFORCE."
        )
    terms = ((positive, "L_PSR"), (negative, "L_NSR"))
    formula = " + ".join(term if weight == 1 else f"{weight:g} {term}" for weight, term in terms if weight)
    return Objective(name, formula, constant_weights(positive, negative))


def _weight(name: str, field: str, value: float | None, own: float) -> float:
    """The weight in force: the given one, or the objective's own."""
    if value is None:
        return own
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise ValueError(
            f"`{field}` must be a finite magnitude >= 0; got {value!r}. "
            "The sign comes from the outcome, so write 1.0 rather than -1.0."
        )
    if name != "w_reinforce" and value != own:
        raise ValueError(
            f"`{field}` is fixed at {own} under objective={name!r}; got {value}. "
            "Choose objective='w_reinforce' for weights of your own."
        )
    return value
