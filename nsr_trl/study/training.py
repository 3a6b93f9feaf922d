"""Training in the study: all runs of a world in one tensor, with the trainer's weights and the trainer's loss.

O objectives x N seeds = R runs, P problems a step, G completions a problem, T = 2 tokens a completion (1 without
slips), M measured steps, K values of k.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..objective import CORRECT, INCORRECT, Objective, rule_of
from .policy import LogProbs, Parameters, controls, log_probs, pass_at_k, pretrain, solve_rate
from .world import CLEAN, Problems, World


KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
EVERY = 5  # steps between two measurements, or as many more as whole batches of several updates have
NUM_TRAIN_PROBLEMS = 512
NUM_TEST_PROBLEMS = 800
CLIP = 0.2  # TRL's epsilon
MAX_GRAD_NORM = 1.0
WEIGHT_DECAY = 0.01


class NormalizedSGD(torch.optim.SGD):
    """Steps of one length: the gradient of each run over its norm."""

    def step(self, closure: Any = None) -> Any:
        """Takes one."""
        parameters = self.param_groups[0]["params"]
        _scale(parameters, 1 / _norms(parameters).clamp(min=1e-12))
        return super().step(closure)


MakeOptimizer = Callable[[Parameters, float], torch.optim.Optimizer]

OPTIMIZERS: Mapping[str, tuple[MakeOptimizer, float]] = {
    "adamw": (lambda parameters, lr: torch.optim.AdamW(parameters, lr=lr, weight_decay=WEIGHT_DECAY), 1e-3),
    "sgd": (lambda parameters, lr: torch.optim.SGD(parameters, lr=lr), 1.0),
    "normalized_sgd": (lambda parameters, lr: NormalizedSGD(parameters, lr=lr), 0.1),
}
"""Optimizers by name: how to make one, and its learning rate where none is given."""


@dataclass(frozen=True)
class Settings:
    """
    How the runs are trained.

    Attributes:
        steps (`int`): Optimizer steps.
        optimizer (`str` or `Callable`): A name of `OPTIMIZERS`, or what makes one of parameters and learning rate.
        learning_rate (`float`, *optional*): Of all runs; the optimizer's own when not given.
        group_size (`int`): G.
        num_problems (`int`): P, problems per step.
        num_updates (`int`): Optimizer steps on each batch of completions; more than 1 is off-policy, and clipped.
        is_exact (`bool`): Whether each step follows the exact expectation over answers to all training problems.
        has_slips (`bool`): Whether an answer has its second token.
    """

    steps: int = 200
    optimizer: str | MakeOptimizer = "adamw"
    learning_rate: float | None = None
    group_size: int = 8
    num_problems: int = 32
    num_updates: int = 1
    is_exact: bool = False
    has_slips: bool = True

    def __post_init__(self) -> None:
        rate = self.learning_rate
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise ValueError(
                f"--learning-rate must be a number above 0; got {rate}. Leave it out for the optimizer's own."
            )
        if self.num_problems > NUM_TRAIN_PROBLEMS:
            raise ValueError(
                f"--num-problems must be at most the {NUM_TRAIN_PROBLEMS} problems there are to train on; got "
                f"{self.num_problems}. Take fewer."
            )

    @property
    def learning_rate_in_force(self) -> float:
        """The learning rate, or the optimizer's own."""
        if self.learning_rate is None:
            assert isinstance(self.optimizer, str), "an optimizer without a name needs a learning rate"
            return OPTIMIZERS[self.optimizer][1]
        return self.learning_rate

    def make_optimizer(self, parameters: Parameters) -> torch.optim.Optimizer:
        """The optimizer of the runs; each of its steps must leave them apart."""
        make = OPTIMIZERS[self.optimizer][0] if isinstance(self.optimizer, str) else self.optimizer
        return make(parameters, self.learning_rate_in_force)


@dataclass
class Trajectories:
    """
    What was measured on held-out problems.

    Attributes:
        steps (`list[int]`):
            The M steps, from 0, the base.
        pass_at_k (`np.ndarray` of shape `(M, O, N, K)`):
            Pass@k, 0 to 1, for the k of `KS`.
        controls (`dict[str, np.ndarray of shape (M, O, N)]`):
            As in [`~policy.controls`]; and `rows`, the share of completions that had a weight since the last
            measurement, 0 to 1.
    """

    steps: list[int]
    pass_at_k: NDArray[np.float64]
    controls: dict[str, NDArray[np.float64]]


def surrogate(logps: Tensor, old_logps: Tensor, weights: Tensor, clip: float = CLIP) -> Tensor:
    """
    TRL's clipped loss, mean over tokens, with a weight where it has an advantage.

    Args:
        logps (`torch.Tensor` of shape `(R, P, G, T)`):
            Log-probabilities of the tokens now.
        old_logps (`torch.Tensor` of shape `(R, P, G, T)`):
            The same when they were drawn.
        weights (`torch.Tensor` of shape `(R, P, G)`):
            Signed weights.
        clip (`float`, *optional*, defaults to `0.2`):
            How far the ratio may move a token.

    Returns:
        `torch.Tensor` of shape `(R,)`
    """
    ratio = (logps - old_logps).exp()
    weights = weights.unsqueeze(-1)
    return -torch.min(ratio * weights, ratio.clamp(1 - clip, 1 + clip) * weights).flatten(1).mean(1)


def expected_loss(rates: Tensor, weights: Tensor, num_tokens: int) -> Tensor:
    """
    The expectation of [`surrogate`] over all answers, whose gradient is the exact one.

    With p the chance of a right answer, the expected sum of weight times score over the T tokens is the gradient of
    w_right p + w_wrong (1 - p), and TRL's mean over tokens divides it by T.

    Args:
        rates (`torch.Tensor` of shape `(R, P)`):
            p, with its gradient.
        weights (`torch.Tensor` of shape `(R, P, 2)`):
            Expected weight of a right and of a wrong answer, without a gradient.
        num_tokens (`int`):
            T.

    Returns:
        `torch.Tensor` of shape `(R,)`
    """
    right, wrong = weights.unbind(-1)
    return -(right * rates + wrong * (1 - rates)).mean(1) / num_tokens


def expected_weights(objective: Objective, rates: Tensor, group_size: int) -> Tensor:
    """
    What an objective weighs a right and a wrong answer by on average over the rest of its group.

    Args:
        objective ([`Objective`]):
            One whose weights read nothing beyond the group.
        rates (`torch.Tensor` of shape `(..., P)`):
            p of each problem.
        group_size (`int`):
            G. The other G - 1 answers are right with the chance p each.

    Returns:
        `torch.Tensor` of shape `(..., P, 2)`

    Raises:
        ValueError: If the weights read the other groups of the batch.
    """
    rule = rule_of(objective)
    num_right = torch.arange(group_size + 1)
    outcomes = torch.where(torch.arange(group_size) < num_right[:, None], CORRECT, INCORRECT).to(torch.int8)
    table = rule(outcomes)  # (G + 1, G): right ones first
    if not torch.allclose(table, torch.cat([rule(group[None]) for group in outcomes])):
        raise ValueError(
            "An exact gradient needs weights that read one group at a time; those of "
            f"{objective.name!r} change with the other groups of the batch. Leave it out, or sample."
        )
    others = torch.arange(group_size, dtype=torch.float64)  # right ones among the G - 1 others
    binomial = torch.distributions.Binomial(group_size - 1, rates.double().clamp(0, 1).unsqueeze(-1))
    chances = binomial.log_prob(others).exp()  # (..., P, G)
    right, wrong = table[1:, 0].double(), table[:-1, -1].double()
    return (chances @ torch.stack([right, wrong], dim=-1)).to(rates.dtype)


def train(
    world: World, objectives: Sequence[Objective], num_seeds: int, settings: Settings, base: Parameters | None = None
) -> Trajectories:
    """
    Trains every objective with every seed on the problems of a world, and measures them on the way.

    The runs of one seed see the same problems in the same order, and draw with the same random numbers.

    Args:
        world ([`~world.World`]):
            The world.
        objectives (`Sequence[Objective]`):
            What to train, O of them.
        num_seeds (`int`):
            N, seeds of order and answers.
        settings ([`Settings`]):
            How.
        base (`list[torch.Tensor]`, *optional*):
            Where to begin; pretrained on the world's texts when not given.

    Returns:
        [`Trajectories`]

    Raises:
        ValueError: If a run diverges, or an objective does not do for exact gradients.
    """
    base = pretrain(world) if base is None else base
    train_problems = world.problems(NUM_TRAIN_PROBLEMS, world.generator("training problems"))
    test_problems = world.problems(NUM_TEST_PROBLEMS, world.generator("test problems"))
    base_on_test = log_probs(base, test_problems.bits)
    num_runs = len(objectives) * num_seeds
    parameters = [parameter.repeat(num_runs, *[1] * (parameter.dim() - 1)).requires_grad_() for parameter in base]
    optimizer = settings.make_optimizer(parameters)
    batches = _draw(world.generator("training"), num_seeds, settings)
    steps: list[int] = []
    measured: dict[str, list[Tensor]] = {}
    rows: list[Tensor] = []  # share of completions with a weight, (R,) by batch since the last measurement

    def measure(step: int) -> None:
        with torch.no_grad():
            of = log_probs(parameters, test_problems.bits)
            rates = solve_rate(of, test_problems.works, settings.has_slips)
            values = {"pass_at_k": pass_at_k(rates, KS)}
            values |= controls(of, base_on_test, test_problems.works, settings.has_slips)
            values["rows"] = torch.stack(rows).mean(0) if rows else torch.full((num_runs,), torch.nan)
        if not rates.isfinite().all():
            run = int((~rates.isfinite()).any(1).nonzero()[0])
            raise ValueError(
                f"A run must stay finite; {objectives[run // num_seeds].name} diverged before step {step} at learning "
                f"rate {settings.learning_rate_in_force:g}. Lower it with --learning-rate."
            )
        rows.clear()
        steps.append(step)
        for name, value in values.items():
            measured.setdefault(name, []).append(value.double().view(len(objectives), num_seeds, *value.shape[1:]))

    measure(0)
    while steps[-1] < settings.steps:
        step = steps[-1]
        while step < settings.steps and step - steps[-1] < EVERY:
            if settings.is_exact:
                loss_of = _exact(objectives, num_seeds, train_problems, settings)
            else:
                loss_of, share = _sampled(objectives, num_seeds, train_problems, settings, parameters, next(batches))
                rows.append(share)
            for _ in range(min(settings.num_updates, settings.steps - step)):
                optimizer.zero_grad()
                loss_of(parameters).sum().backward()  # runs share no parameter
                _clip_by_run(parameters)
                optimizer.step()
                step += 1
        measure(step)
    arrays = {name: torch.stack(values).numpy() for name, values in measured.items()}
    return Trajectories(steps, arrays.pop("pass_at_k"), arrays)


def _draw(generator: torch.Generator, num_seeds: int, settings: Settings) -> Iterator[tuple[Tensor, Tensor]]:
    """Batch by batch: problems `(N, P)`, each once an epoch, and numbers in [0, 1) to draw with, `(N, P, G, 2)`."""
    size = settings.num_problems
    while True:
        order = torch.stack([torch.randperm(NUM_TRAIN_PROBLEMS, generator=generator) for _ in range(num_seeds)])
        for start in range(0, NUM_TRAIN_PROBLEMS - size + 1, size):
            yield (
                order[:, start : start + size],
                torch.rand(num_seeds, size, settings.group_size, 2, generator=generator),
            )


def draw_tokens(logps: Tensor, numbers: Tensor) -> Tensor:
    """Draws tokens by where numbers `(R, P, G)` in [0, 1) fall among the probabilities `(R, P, V)`: `(R, P, G)`."""
    bounds = logps.exp().cumsum(-1).unsqueeze(-2)  # (R, P, 1, V)
    return (bounds <= numbers.unsqueeze(-1)).sum(-1).clamp(max=logps.shape[-1] - 1)


def logps_of_tokens(of: LogProbs, tokens: Sequence[Tensor]) -> Tensor:
    """Log-probabilities of drawn tokens, T of shape `(R, P, G)`: `(R, P, G, T)`."""
    return torch.stack([logps.gather(-1, drawn) for logps, drawn in zip(of, tokens, strict=False)], dim=-1)


def weigh(objectives: Sequence[Objective], outcomes: Tensor) -> Tensor:
    """Signed weights of the outcomes of all runs, `(R, P, G)`, as the trainer weighs the batch of each."""
    num_seeds = len(outcomes) // len(objectives)
    return torch.stack([rule_of(objectives[run // num_seeds])(batch) for run, batch in enumerate(outcomes)])


LossOf = Callable[[Parameters], Tensor]
"""Parameters of all runs to their losses, `(R,)`."""


@torch.no_grad()
def _sampled(
    objectives: Sequence[Objective],
    num_seeds: int,
    problems: Problems,
    settings: Settings,
    parameters: Parameters,
    batch: tuple[Tensor, Tensor],
) -> tuple[LossOf, Tensor]:
    """The loss on completions drawn now, and the share of these that have a weight, `(R,)`."""
    chosen, numbers = (part.repeat(len(objectives), *[1] * (part.dim() - 1)) for part in batch)
    bits, works = problems.bits[chosen], problems.works[chosen]
    of = log_probs(parameters, bits)
    num_tokens = 2 if settings.has_slips else 1
    tokens = [draw_tokens(logps, numbers[..., i]) for i, logps in enumerate(of[:num_tokens])]
    is_right = works.gather(-1, tokens[0])
    if settings.has_slips:
        is_right &= tokens[1] == CLEAN
    weights = weigh(objectives, torch.where(is_right, CORRECT, INCORRECT).to(torch.int8))
    old_logps = logps_of_tokens(of, tokens)

    def loss_of(parameters: Parameters) -> Tensor:
        return surrogate(logps_of_tokens(log_probs(parameters, bits), tokens), old_logps, weights)

    return loss_of, (weights != 0).float().mean((1, 2))


def _exact(objectives: Sequence[Objective], num_seeds: int, problems: Problems, settings: Settings) -> LossOf:
    """The loss in expectation over the answers to all training problems."""

    def loss_of(parameters: Parameters) -> Tensor:
        of = log_probs(parameters, problems.bits)
        rates = solve_rate(of, problems.works, settings.has_slips)
        by_run = zip(rates.detach().split(num_seeds), objectives, strict=True)
        weights = torch.cat([expected_weights(objective, r, settings.group_size) for r, objective in by_run])
        return expected_loss(rates, weights, 2 if settings.has_slips else 1)

    return loss_of


def _norms(parameters: Parameters) -> Tensor:
    """Norm of the gradient of each run, `(R,)`."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return torch.cat([gradient.flatten(1) for gradient in gradients], dim=1).norm(dim=1)


def _scale(parameters: Parameters, factors: Tensor) -> None:
    for parameter in parameters:
        assert parameter.grad is not None
        parameter.grad *= factors.view(-1, *[1] * (parameter.dim() - 1))


def _clip_by_run(parameters: Parameters) -> None:
    _scale(parameters, (MAX_GRAD_NORM / _norms(parameters).clamp(min=1e-12)).clamp(max=1))
