"""Prompts that carry a signal: outcomes by prompt come in; the prompts of the next rollout come out, with weights 1/q.

A group whose completions are all right has no gradient under NSR: it was generated for nothing. A prompt's gradient is
about as large as the weights of its completions, so the variance of the estimate per sampled token is least where a
prompt is drawn in proportion to the root of the weights' expected square: sqrt(E[1 - p]) under NSR, sqrt(E[p]) under
PSR, p the prompt's pass rate. (A longer completion costs more and has more gradient, alike under a loss that sums over
tokens, so lengths cancel.) What is drawn with a chance of q times the average carries the weight 1/q, so that the
estimate stays unbiased; and every prompt keeps a floor, so that what is forgotten is found.

Everything is computed when a rollout begins, in float64 on the CPU, from numbers that all ranks have.

N prompts in the dataset, P in a rollout, G completions per prompt.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


HALF_LIFE = 2.0
"""Passes over the dataset, as many prompts generated as it has, after which a completion counts half: models move."""

PRIOR_COMPLETIONS = 1.0
"""Completions that the mean pass rate of all prompts counts for in that of each."""


class PassRates:
    """
    What is known of the pass rate of each prompt: a Beta posterior over completions that fade with time.

    The prior of a prompt is the mean rate of those that were seen: what was not seen for long is taken for average.

    Args:
        num_prompts (`int`):
            N.

    Attributes:
        right (`torch.Tensor` of shape `(N,)`), wrong (`torch.Tensor` of shape `(N,)`):
            Completions of each prompt, faded. Undecided ones are in neither.
    """

    def __init__(self, num_prompts: int) -> None:
        self.right = torch.zeros(num_prompts, dtype=torch.float64)
        self.wrong = torch.zeros(num_prompts, dtype=torch.float64)

    def see(self, prompts: Tensor, outcomes: Tensor) -> None:
        """Adds the outcomes `(P, G)` of the rollout of these prompts `(P,)`, after the others have faded."""
        fading = 0.5 ** (len(prompts) / (HALF_LIFE * len(self.right)))
        for counts, sign in ((self.right, 1), (self.wrong, -1)):
            counts.mul_(fading).index_add_(0, prompts, (outcomes.cpu() == sign).sum(1).double())

    def posterior(self) -> tuple[Tensor, Tensor]:
        """The parameters of Beta distributions, `(N,)` each: of the right and of the wrong."""
        num = self.right + self.wrong
        rates = self.right[num > 0] / num[num > 0]
        mean = (rates.sum() + 1) / (len(rates) + 2)  # 1/2 where nothing was seen, and never 0 or 1
        return self.right + PRIOR_COMPLETIONS * mean, self.wrong + PRIOR_COMPLETIONS * (1 - mean)


def expected_signal(right: Tensor, wrong: Tensor, group_size: int, weigh: Callable[[Tensor], Tensor]) -> Tensor:
    """
    The size of the gradient to expect from a group of each prompt.

    Args:
        right (`torch.Tensor` of shape `(N,)`):
            First parameter of the Beta posterior of each prompt's pass rate.
        wrong (`torch.Tensor` of shape `(N,)`):
            The second.
        group_size (`int`):
            G.
        weigh (`Callable[[torch.Tensor], torch.Tensor]`):
            An objective's rule: outcomes `(groups, G)` to weights of that shape, a group by itself.

    Returns:
        `torch.Tensor` of shape `(N,)`:
            Root of the expected mean square of the weights, over the number of right completions of G.
    """
    num_right = torch.arange(group_size + 1)  # c
    outcomes = torch.where(torch.arange(group_size) < num_right.unsqueeze(1), 1, -1).to(torch.int8)  # (G + 1, G)
    squares = weigh(outcomes).double().square().mean(1)  # (G + 1,)
    a, b = right.unsqueeze(1), wrong.unsqueeze(1)
    c, d = num_right.double(), group_size - num_right.double()
    # the Beta-binomial distribution of c: C(G, c) B(a + c, b + d) / B(a, b)
    log_chances = _log_beta(a + c, b + d) - _log_beta(a, b) - _log_beta(c + 1, d + 1)
    chances = log_chances.exp() / (group_size + 1)  # (N, G + 1)
    return (chances @ squares).sqrt()


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return a.lgamma() + b.lgamma() - (a + b).lgamma()


def inclusion_chances(signal: Tensor, num: int, floor: float) -> Tensor:
    """
    The chance of each prompt to be among those drawn.

    Args:
        signal (`torch.Tensor` of shape `(N,)`):
            To which they are to be proportional, above the floor.
        num (`int`):
            P, at most N.
        floor (`float`):
            Share of the average chance, P/N, that every prompt keeps.

    Returns:
        `torch.Tensor` of shape `(N,)`: from `floor * P/N` to 1, P in sum
    """
    total = signal.sum()
    shares = signal / total if total > 0 else torch.full_like(signal, 1 / len(signal))
    wanted = (1 - floor) * shares + floor / len(signal)
    is_sure = torch.zeros(len(signal), dtype=torch.bool)
    while True:  # what is above 1 goes to the others
        chances = wanted * ((num - is_sure.sum()) / wanted[~is_sure].sum())
        beyond = (chances >= 1) & ~is_sure
        if not beyond.any():
            return chances.masked_fill(is_sure, 1.0)
        is_sure |= beyond


def pick(chances: Tensor, num: int, order: Tensor, start: float) -> Tensor:
    """
    Draws prompts by their chances, each at most once (systematic sampling).

    The chances are laid end to end in the given order, and `num` marks at equal distances fall on the prompts drawn.

    Args:
        chances (`torch.Tensor` of shape `(N,)`):
            At most 1 each, `num` in sum.
        num (`int`):
            P.
        order (`torch.Tensor` of shape `(N,)`):
            A permutation.
        start (`float`):
            Where the first mark is, from 0 to below 1. If it is uniform, each prompt is drawn by its chance.

    Returns:
        `torch.Tensor` of shape `(P,)`: prompts
    """
    ends = chances[order].cumsum(0)
    marks = (start + torch.arange(num, dtype=torch.float64)) * (ends[-1] / num)
    return order[torch.searchsorted(ends, marks, right=True).clamp(max=len(order) - 1)]


@dataclass(frozen=True)
class Draw:
    """
    The prompts of a rollout.

    Attributes:
        prompts (`torch.Tensor` of shape `(P,)`):
            Their rows in the dataset.
        scales (`torch.Tensor` of shape `(P,)`):
            1/q, float32: the average chance of a prompt over that of this one. In the mean over draws they are 1.
    """

    prompts: Tensor
    scales: Tensor


class PromptAllocation:
    """
    Draws the prompts of the rollouts of a run.

    Args:
        num_prompts (`int`):
            N.
        floor (`float`):
            Share of the average chance that every prompt keeps: no scale is above its inverse.
        seed (`int`):
            Of the draws.
    """

    def __init__(self, num_prompts: int, floor: float, seed: int) -> None:
        self._num_prompts, self._floor, self._seed = num_prompts, floor, seed
        self._generator = torch.Generator()
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forgets what was seen."""
        self.rates = PassRates(self._num_prompts)
        self._generator.manual_seed(self._seed)

    def draw(self, num: int, group_size: int, weigh: Callable[[Tensor], Tensor]) -> Draw:
        """
        Draws the prompts of a rollout by what is known when it begins.

        Args:
            num (`int`):
                P, at most N.
            group_size (`int`):
                G.
            weigh (`Callable[[torch.Tensor], torch.Tensor]`):
                The rule of the objective in force.
        """
        signal = expected_signal(*self.rates.posterior(), group_size, weigh)
        chances = inclusion_chances(signal, num, self._floor)
        order = torch.randperm(self._num_prompts, generator=self._generator)
        start = torch.rand((), dtype=torch.float64, generator=self._generator).item()
        prompts = pick(chances, num, order, start)
        return Draw(prompts, (num / self._num_prompts / chances[prompts]).float())

    def state(self) -> dict[str, Any]:
        """The state to save in a checkpoint."""
        return {"right": self.rates.right, "wrong": self.rates.wrong, "generator": self._generator.get_state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """
        Goes on from what [`state`] gave.

        Raises:
            ValueError: If it is of another number of prompts.
        """
        if len(state["right"]) != self._num_prompts:
            raise ValueError(
                f"`prompt_allocation` goes on with the prompts that it has seen; the checkpoint's dataset has "
                f"{len(state['right']):,} and this one {self._num_prompts:,}. Resume with the same dataset, or begin "
                "a new run with that checkpoint as its model."
            )
        self.rates.right, self.rates.wrong = state["right"].cpu(), state["wrong"].cpu()
        self._generator.set_state(state["generator"].cpu())
