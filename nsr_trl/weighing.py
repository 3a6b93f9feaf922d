"""What the rewards of a rollout come to: rewards go in; outcomes, weights, metrics and sentences come out.

The outcome reward is cut at its threshold, requirements are added, the objective in force weighs the outcomes, and
other rewards are added to the weight where the config says so. What was drawn more often than others then weighs less.
All ranks do the same with the rewards of all.

P problems, G completions per problem, B = P*G rows over all ranks, F reward functions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .auxiliary import auxiliary_weights
from .config import controller_of, threshold_of
from .metrics import allocation_metrics, unbiased_metrics
from .objective import CORRECT, INCORRECT, UNDECIDED, outcomes_from_rewards, require, rule_of
from .outcome_reward import OutcomeWatch, find_outcome_reward
from .resources import did_you_mean


OUTCOME_NAMES = {CORRECT: "correct", UNDECIDED: "undecided", INCORRECT: "incorrect"}
OUTCOME_COLUMN, WEIGHT_COLUMN, AUXILIARY_COLUMN = "signed/outcome", "signed/weight", "signed/auxiliary"
"""Columns of the completions table."""


@dataclass(frozen=True)
class Weighed:
    """
    A rollout, weighed.

    Attributes:
        outcomes (`torch.Tensor` of shape `(B,)`):
            Outcomes, requirements included.
        weights (`torch.Tensor` of shape `(B,)`, *optional*):
            What each completion weighs in the loss; `None` where TRL's advantages are kept.
        scales (`torch.Tensor` of shape `(B,)`, *optional*):
            By which TRL's advantages are multiplied where they are kept; in the weights they are already.
        columns (`dict[str, list]`):
            For the table of completions, B values each.
        sums (`dict[str, tuple]`):
            Sums and counts by metric name.
        sentences (`tuple[str, ...]`):
            What a person should know.
    """

    outcomes: Tensor
    weights: Tensor | None
    columns: dict[str, list]
    sums: dict[str, tuple[Any, Any]]
    sentences: tuple[str, ...]
    scales: Tensor | None = None


class Weighing:
    """
    Weighs the rollouts of a run.

    Args:
        args ([`SignedRewardConfig`]):
            The run's.
        names (`Sequence[str]`):
            Of the reward functions.

    Attributes:
        controller ([`~controllers.Controller`]):
            Holds the objective in force.
        outcome_reward (`str`, *optional*):
            Name of the reward function that decides the sign, where one does.

    Raises:
        ValueError: If the outcome reward, or a requirement, is not exactly one of the reward functions.
    """

    def __init__(self, args: Any, names: Sequence[str]) -> None:
        self._args = args
        self._names = list(names)
        self.controller = controller_of(args)
        self._at_first = dict(self.controller.seen)
        objective = self.controller.objective
        needs_sign = objective.weigh is not None or args.prompt_allocation != "none"
        self._outcome = find_outcome_reward(names, args.outcome_reward, objective.name, needs_sign)
        self.outcome_reward = None if self._outcome is None else names[self._outcome]
        self._required = [_find(name, names) for name in args.outcome_requires or ()]
        self._others = [index for index in range(len(names)) if index != self._outcome]
        uses_all = objective.weigh is None or bool(args.auxiliary_weight)
        self._untrained = [names[i] for i in self._others if not uses_all and i not in self._required]
        if args.auxiliary_weight and not self._others:
            raise ValueError(
                f"`auxiliary_weight` weighs the rewards besides the outcome reward; got {args.auxiliary_weight:g} and "
                f"the reward functions {', '.join(names)}. Leave it out, or pass another reward function."
            )
        weights = [1.0] * len(names) if args.reward_weights is None else list(args.reward_weights)
        self._reward_weights = torch.tensor([weights[index] for index in self._others])
        self._watch = OutcomeWatch(
            self.outcome_reward or "",
            threshold_of(args),
            is_chosen=args.correct_threshold is not None or objective.weigh is None,
            num_rollouts=args.check_after_rollouts,
        )

    def weigh(
        self,
        rewards: Tensor,
        group_size: int,
        progress: tuple[int, int] | None,
        unanswered: float = 0.0,
        scales: Tensor | None = None,
    ) -> Weighed | None:
        """
        Weighs a rollout.

        Args:
            rewards (`torch.Tensor` of shape `(B, F)`):
                Rewards over all ranks, NaN where a function returned `None`.
            group_size (`int`):
                G.
            progress (`tuple[int, int]`, *optional*):
                Optimizer steps taken, of how many; `None` during evaluation, which moves nothing.
            unanswered (`float`, *optional*, defaults to `0.0`):
                Share of the completions without an answer, where the verifier says so.
            scales (`torch.Tensor` of shape `(P,)`, *optional*):
                1/q of each prompt, where they were drawn with unequal chances.

        Returns:
            [`Weighed`] or `None`: `None` where no reward gives a sign

        Raises:
            ValueError: If the outcome reward looks shifted, as in [`check_outcome_rewards`].
        """
        if self._outcome is None:
            return None
        sentences: list[str] = []
        answer_rewards = rewards[:, self._outcome]  # (B,)
        if progress is not None:
            sentences += self._watch.look(answer_rewards, unanswered)
        answers = outcomes_from_rewards(answer_rewards, self._watch.threshold, self._args.undecided_as_incorrect)
        outcomes = answers
        sums: dict[str, tuple[Any, Any]] = {}
        if self._required:
            outcomes = require(answers, rewards[:, self._required])
            right = answers == CORRECT
            sums["signed/unmet_ratio"] = ((right & (outcomes != CORRECT)).sum(), right.sum())
        groups = outcomes.view(-1, group_size)  # (P, G)
        columns: dict[str, list] = {OUTCOME_COLUMN: [OUTCOME_NAMES[outcome] for outcome in outcomes.tolist()]}
        if progress is not None:
            self.controller.begin_rollout(*progress)
            if sentence := self.controller.see_outcomes(groups):
                sentences.append(sentence)
        objective = self.controller.objective
        row_scales = None  # (B,)
        if scales is not None:
            scales = scales.to(rewards)
            sums |= allocation_metrics(groups, scales)
            if self._args.prompt_allocation == "unbiased":
                sums |= unbiased_metrics(rule_of(objective)(groups), scales)
                row_scales = scales.repeat_interleave(group_size)
        if objective.weigh is None:
            return Weighed(outcomes, None, columns, sums, tuple(sentences), row_scales)
        weights = objective.weigh(groups).view(-1)
        if objective.positive_weight is not None:
            sums["signed/positive_weight"] = (objective.positive_weight, 1)
        if self._args.auxiliary_weight:
            for index in self._others:
                if (endless := rewards[:, index].isinf()).any():
                    raise ValueError(
                        f"A reward that is trained on must be a finite number, or None; {self._names[index]} gave "
                        f"{rewards[endless, index][0]:g}. Bound it, or set auxiliary_weight=0."
                    )
            auxiliary = self._args.auxiliary_weight * auxiliary_weights(
                rewards[:, self._others], self._reward_weights.to(rewards), group_size, self._args.scale_rewards
            )
            total = weights.abs().sum() + auxiliary.abs().sum()
            sums["signed/auxiliary_share"] = (auxiliary.abs().sum(), total)
            columns[AUXILIARY_COLUMN] = auxiliary.tolist()
            weights = weights + auxiliary
        if row_scales is not None:
            weights = weights * row_scales
        columns[WEIGHT_COLUMN] = weights.tolist()
        return Weighed(outcomes, weights, columns, sums, tuple(sentences))

    def doubt(self) -> str | None:
        """Which reward functions train nothing, and what to set; `None` where all train."""
        if not self._untrained:
            return None
        are = "is logged and trains" if len(self._untrained) == 1 else "are logged and train"
        names = ", ".join(self._untrained)
        return f"{names} {are} nothing; set `auxiliary_weight` or `outcome_requires` to train on them."

    def begin_anew(self) -> None:
        """Puts the weights back to where a run begins."""
        self.controller.load(self._at_first)

    def state(self) -> dict[str, Any]:
        """The state to save in a checkpoint."""
        return {"watch": self._watch.state(), "controller": dict(self.controller.seen)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from what [`state`] gave."""
        self._watch.load(state["watch"])
        self.controller.load(state["controller"])


def _find(name: str, names: Sequence[str]) -> int:
    if list(names).count(name) != 1:
        raise ValueError(
            f"`outcome_requires` must name reward functions, of which there are {', '.join(names)}; got {name!r}. "
            f"{'' if name in names else f'{did_you_mean(name, names)} '}"
            "Name one of them, or pass that function as well."
        )
    return list(names).index(name)
