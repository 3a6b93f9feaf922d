"""Signed objective: which completions teach the policy, and in which direction.

Outcomes come in, signed weights go out. The trainer puts the weights where GRPO has its advantages, so the loss is
TRL's clipped surrogate `max(-A rho, -A clip(rho, 1 - eps, 1 + eps))` with A the weight (arXiv 2506.01347, App. C.1).
This is GRPO without the group mean, without the group standard deviation and without partial credit: what is left is
the sign of a verified answer.

Four objectives weigh by the sign alone; the others read the whole group and stand in `family`, a formula each. Here
are their names, parameters and errors, and the way to one's own.

P problems, G completions per problem, B = P*G rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import family
from .checks import is_count, is_number
from .resources import did_you_mean, import_function


CORRECT, UNDECIDED, INCORRECT = 1, 0, -1
"""Outcome codes: the paper's r in {-1, +1}, and 0 where the verifier does not know."""


def require(outcomes: Tensor, rewards: Tensor) -> Tensor:
    """
    Takes "correct" from completions that miss a requirement: right *and* well formed is correct.

    Args:
        outcomes (`torch.Tensor` of shape `(B,)`):
            Outcomes of the answers.
        rewards (`torch.Tensor` of shape `(B, requirements)`):
            Rewards of the requirements: met above 0, NaN where that is not known.

    Returns:
        `torch.Tensor` of shape `(B,)` and dtype `int8`:
            `INCORRECT` where the answer is or a requirement is missed, else `UNDECIDED` where the answer is or a
            requirement is not known, else `CORRECT`.
    """
    met = torch.where(rewards > 0, CORRECT, INCORRECT).masked_fill(rewards.isnan(), UNDECIDED)  # (B, requirements)
    all_of = torch.cat([outcomes.unsqueeze(1), met.to(torch.int8)], dim=1)
    return all_of.amin(dim=1).to(torch.int8)  # -1 < 0 < 1: the least of them


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


@dataclass(frozen=True)
class Objective:
    """
    A named rule from outcomes to signed weights.

    Attributes:
        name (`str`):
            The name a config gives it.
        formula (`str`):
            What it does, for humans, with the parameters in force.
        weigh (`Callable[[Tensor], Tensor]` or `None`):
            Outcomes of shape `(P, G)` to signed float32 weights of shape `(P, G)`. A row of the argument is a group,
            so a rule may depend on the group's correct count. `None` keeps TRL's advantages.
        positive_weight (`float`, *optional*):
            Lambda, where the weight of a correct completion is one number.
        least_group (`int`, *optional*, defaults to `1`):
            Completions of a prompt that it needs.
    """

    name: str
    formula: str
    weigh: Callable[[Tensor], Tensor] | None
    positive_weight: float | None = None
    least_group: int = 1


POLARITIES: dict[str, tuple[float, float]] = {
    "psr": (1.0, 0.0),  # Eq. 3
    "nsr": (0.0, 1.0),  # Eq. 4
    "w_reinforce": (0.1, 1.0),  # Eq. 9, lambda = 0.1
    "reinforce": (1.0, 1.0),  # Eq. 1 and 2
}
"""Objectives that weigh by sign alone: name -> (positive weight, negative weight)."""


@dataclass(frozen=True)
class Member:
    """
    An objective that reads the group.

    Attributes:
        weights (`Callable`):
            A formula of `family`.
        formula (`str`):
            What it weighs by, for humans.
        defaults (`Mapping[str, float]`):
            Its parameters.
        least_group (`Callable[..., int]`):
            Parameters to the completions of a prompt without which it trains nothing, or not what it says.
    """

    weights: family.Formula
    formula: str
    defaults: Mapping[str, float]
    least_group: Callable[..., int] = lambda **args: 2


FAMILY: dict[str, Member] = {
    "dr_grpo": Member(family.dr_grpo, "r - p", {}),
    "rloo": Member(family.rloo, "(r - p) n/(n-1)", {}),
    "maxrl": Member(family.maxrl, "MaxRL: (1-p)/p on right, -1 on wrong", {}),
    "maclaurin": Member(
        family.maclaurin, "gradient of log p to its order", {"order": 4}, lambda order: max(int(order), 2)
    ),
    "pkpo": Member(family.pkpo, "gradient of Pass@k", {"k": 4}, lambda k: max(int(k), 2)),
    "passk": Member(family.passk, "Pass@k training", {"k": 4}, lambda k: int(k) + 1),
    "qae": Member(family.qae, "quantile advantage", {"quantile": 0.4}),
    "ngrpo": Member(family.ngrpo, "GRPO with a virtual right completion", {"ddof": 0}, lambda ddof: 1),
    "a_grae": Member(family.a_grae, "GRPO by difficulty and stage (A-GRAE)", {"alpha": 1.0}),
    "asymre": Member(family.asymre, "r - (p + delta_v)", {"delta_v": -0.1}),
    "lead": Member(
        family.lead, "GRPO by difficulty (LEAD)", {"floor": 0.4, "ceiling": 1.5, "slope": 10.0, "midpoint": 0.75}
    ),
}
"""Objectives that read the group, by name."""

OBJECTIVE_NAMES: tuple[str, ...] = (*POLARITIES, "grpo", *FAMILY)


_MUST_BE: dict[str, tuple[Callable[[Any], bool], str]] = {
    "k": (is_count, "a whole number, 1 or more"),
    "order": (is_count, "a whole number, 1 or more"),
    "quantile": (lambda value: is_number(value) and 0 < value < 1, "a number between 0 and 1"),
    "ddof": (lambda value: not isinstance(value, bool) and value in (0, 1), "0 (the paper's) or 1 (the code's)"),
    "alpha": (lambda value: is_number(value) and 0 < value <= 1, "a number above 0, at most 1"),
    "delta_v": (lambda value: is_number(value) and -1 <= value <= 1, "a number from -1 to 1"),
    "floor": (lambda value: is_number(value) and value >= 0, "a number >= 0"),
    "ceiling": (lambda value: is_number(value) and value > 0, "a number above 0"),
    "slope": (is_number, "a finite number"),
    "midpoint": (is_number, "a finite number"),
}
"""What the parameters of the family must be."""

_own: dict[str, tuple[Callable[..., Tensor], str]] = {}
"""Objectives that `register_objective` added: name -> (rule, what it does)."""


def register_objective(name: str, weigh: Callable[..., Tensor], formula: str | None = None) -> None:
    """
    Gives a rule of one's own a name, by which `SignedRewardConfig(objective=name)` finds it in this process.

    In a recipe, or with several processes, name it by its path instead: `objective: my_weights:weigh`.

    Args:
        name (`str`):
            A name that no other objective has.
        weigh (`Callable[..., torch.Tensor]`):
            Outcomes of shape `(P, G)`, +1 for correct, -1 for incorrect and 0 for undecided, to signed weights of that
            shape; `objective_args` are its keyword arguments. Weights of undecided completions are set to 0.
        formula (`str`, *optional*):
            What it does, in a few words, for the log and the card; its name when not given.

    Raises:
        ValueError: If the name is taken, or is none.

    Example:
    ```python
    def only_rare(outcomes, most=0.25):
        rate = (outcomes > 0).float().mean(dim=1, keepdim=True)
        return outcomes.float() * (rate <= most)

    register_objective("only_rare", only_rare, "the sign, on prompts that are rarely solved")
    SignedRewardConfig(objective="only_rare", objective_args={"most": 0.5})
    ```
    """
    if not name.isidentifier() or name in OBJECTIVE_NAMES:
        raise ValueError(
            f"An objective's name must be a word that no shipped objective has; got {name!r}. Choose another."
        )
    _own[name] = weigh, formula or name


def build_objective(
    name: str,
    positive_weight: float | None = None,
    negative_weight: float | None = None,
    args: Mapping[str, Any] | None = None,
    focal_gamma: float = 0.0,
) -> Objective:
    """
    Looks an objective up by name.

    Args:
        name (`str`):
            One of `OBJECTIVE_NAMES`, a name given with [`register_objective`], or `module:function` of a rule of one's
            own.
        positive_weight (`float`, *optional*):
            Magnitude of the weight on correct completions, the paper's lambda. Only `w_reinforce` takes another value
            than its own.
        negative_weight (`float`, *optional*):
            Magnitude of the weight on incorrect completions. Only `w_reinforce` takes another value than its own.
        args (`Mapping[str, Any]`, *optional*):
            The objective's parameters, such as `{"k": 8}`.
        focal_gamma (`float`, *optional*, defaults to `0.0`):
            Weights are multiplied by (1 - p)^focal_gamma. Above 0, `grpo` is computed from outcomes.

    Returns:
        [`Objective`]

    Raises:
        ValueError: If the name is unknown, a weight is not a finite magnitude, both are zero, a weight contradicts the
            name, a parameter is unknown or out of range, or a rule of one's own does not do.

    Example:
    ```python
    >>> import torch
    >>> from nsr_trl.objective import build_objective

    >>> build_objective("maxrl").weigh(torch.tensor([[1, -1, -1, 0]])).tolist()  # p = 1/3: (1 - p) / p = 2
    [[2.0, -1.0, -1.0, 0.0]]
    ```
    """
    if not is_number(focal_gamma) or focal_gamma < 0:
        raise ValueError(f"`focal_gamma` must be a number >= 0; got {focal_gamma!r}. Leave it out for none.")
    if name in POLARITIES:
        _refuse_args(name, args)
        objective = _by_sign(name, positive_weight, negative_weight)
    elif name == "grpo":
        _refuse_args(name, args)
        objective = Objective("grpo", "GRPO: group-normalised advantages", None, least_group=2)
    elif name in FAMILY:
        objective = _of_family(name, args or {})
    else:
        objective = _of_ones_own(name, args or {})
    for field, value in (("positive_weight", positive_weight), ("negative_weight", negative_weight)):
        if value is not None and name not in POLARITIES:
            raise ValueError(
                f"`{field}` is not used under objective={name!r}; got {value}. Leave it out (`{field}: null` over a "
                "recipe that sets it), or choose objective='w_reinforce' for weights of your own."
            )
    if not focal_gamma:
        return objective
    formula = f"(1-p)^{focal_gamma:g} x ({objective.formula})"
    return replace(objective, formula=formula, weigh=family.focal(rule_of(objective), focal_gamma))


def rule_of(objective: Objective) -> Callable[[Tensor], Tensor]:
    """Its rule over outcomes; for `grpo`, which has none because TRL computes it from rewards, that of outcomes."""
    return objective.weigh or family.by_counts(family.grpo)


def reads_batch(objective: Objective) -> bool:
    """Whether the weights of a group depend on the other groups of a batch, tried on a few."""
    rule, groups = rule_of(objective), torch.tensor(TRIAL, dtype=torch.int8)
    return not torch.equal(rule(groups), torch.cat([rule(group) for group in groups.split(1)]))


def _refuse_args(name: str, args: Mapping[str, Any] | None) -> None:
    if args:
        raise ValueError(
            f"objective={name!r} takes no `objective_args`; got {dict(args)}. Leave them out, or choose one of "
            f"{', '.join(other for other, member in FAMILY.items() if member.defaults)}."
        )


def _by_sign(name: str, positive_weight: float | None, negative_weight: float | None) -> Objective:
    positive = _weight(name, "positive_weight", positive_weight, POLARITIES[name][0])
    negative = _weight(name, "negative_weight", negative_weight, POLARITIES[name][1])
    if positive == negative == 0:
        raise ValueError(
            "One of `positive_weight` and `negative_weight` must be above 0; got 0 and 0, which trains nothing. "
            "Set positive_weight=0.1 and negative_weight=1.0 for the paper's W-REINFORCE."
        )
    terms = ((positive, "L_PSR"), (negative, "L_NSR"))
    formula = " + ".join(term if weight == 1 else f"{weight:g} {term}" for weight, term in terms if weight)
    weigh = family.by_counts(family.signs, positive_weight=positive, negative_weight=negative)
    return Objective(name, formula, weigh, positive)


def _weight(name: str, field: str, value: float | None, own: float) -> float:
    """The weight in force: the given one, or the objective's own."""
    if value is None:
        return own
    if not is_number(value) or value < 0:
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


def _of_family(name: str, args: Mapping[str, Any]) -> Objective:
    member = FAMILY[name]
    for parameter, value in args.items():
        if parameter not in member.defaults:
            known = ", ".join(member.defaults) or "none"
            raise ValueError(
                f"`objective_args` under objective={name!r} must be of {known}; got {parameter!r}. "
                f"{did_you_mean(str(parameter), list(member.defaults))}"
            )
        holds, must_be = _MUST_BE[parameter]
        if not holds(value):
            default = member.defaults[parameter]
            raise ValueError(
                f"`{parameter}` of objective={name!r} must be {must_be}; got {value!r}. Leave it out for {default:g}."
            )
    in_force = {**member.defaults, **args}
    shown = ", ".join(f"{parameter}={value:g}" for parameter, value in in_force.items())
    formula = member.formula + (f" ({shown})" if shown else "")
    weigh = family.by_counts(member.weights, **in_force)
    return Objective(name, formula, weigh, least_group=member.least_group(**in_force))


TRIAL = ((1, 1, -1, -1), (1, -1, -1, 0), (-1, -1, -1, -1), (1, 1, 1, 1), (0, 0, 0, 0))
"""Outcomes of groups on which a rule is tried."""


def _of_ones_own(name: str, args: Mapping[str, Any]) -> Objective:
    if name in _own:
        rule, formula = _own[name]
    elif isinstance(name, str) and ":" in name:
        rule, formula = import_function(name, "`objective` must be"), name
    else:
        names = [*OBJECTIVE_NAMES, *_own]
        raise ValueError(
            f"`objective` must be one of {', '.join(names)}, or module:function of your own; got {name!r}. "
            f"{did_you_mean(str(name), names)}"
        )
    rule = partial(rule, **args)

    def weigh(outcomes: Tensor) -> Tensor:
        weights = rule(outcomes)
        if not isinstance(weights, Tensor) or weights.shape != outcomes.shape or not weights.isfinite().all():
            came = f"shape {tuple(weights.shape)}" if isinstance(weights, Tensor) else f"a {type(weights).__name__}"
            came = "NaN or infinity" if came == f"shape {tuple(outcomes.shape)}" else came
            raise ValueError(
                f"objective={name!r} must return finite weights of the shape of its outcomes, "
                f"{tuple(outcomes.shape)}; got {came}. Mind groups that are all right, all wrong or all undecided."
            )
        return weights.float().where(outcomes != 0, 0.0)

    try:
        weigh(torch.tensor(TRIAL, dtype=torch.int8))
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"objective={name!r} must take outcomes of shape (P, G), int8, and its `objective_args`; got {dict(args)} "
            f"and {type(error).__name__}: {error}. Correct the function or the arguments."
        ) from error
    shown = ", ".join(f"{parameter}={value}" for parameter, value in args.items())
    return Objective(name, formula + (f" ({shown})" if shown else ""), weigh)
