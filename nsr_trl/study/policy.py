"""The policy of the study: a network from a problem's bits to a strategy and an execution, many runs in one tensor.

R runs, P problems, S = 40 strategies, E = 4 executions, K values of k.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .world import CLEAN, NUM_BITS, NUM_EXECUTIONS, NUM_STRATEGIES, World


NUM_HIDDEN = 128
PRETRAINING_STEPS = 400
PRETRAINING_TEXTS = 256  # per step, each seen once
PRETRAINING_RATE = 5e-3  # falling to 0

Parameters = list[Tensor]
"""Weights and biases of the two layers: (R, 30, 128), (R, 128), (R, 128, 44), (R, 44)."""


class LogProbs(NamedTuple):
    """Log-probabilities of the two tokens of an answer: `(R, P, S)` and `(R, P, E)`."""

    strategy: Tensor
    execution: Tensor


def log_probs(parameters: Parameters, bits: Tensor) -> LogProbs:
    """
    What the policies of all runs think of problems.

    Args:
        parameters (`list[torch.Tensor]`):
            Of all runs.
        bits (`torch.Tensor` of shape `(R, P, 30)`, or `(P, 30)` for the same problems in each run):
            The problems.
    """
    into, into_bias, out, out_bias = parameters
    bits = bits.expand(len(into), *bits.shape[-2:])
    hidden = functional.gelu(torch.einsum("rpi,rih->rph", bits, into) + into_bias[:, None])
    logits = torch.einsum("rph,rho->rpo", hidden, out) + out_bias[:, None]
    strategy, execution = logits.split([NUM_STRATEGIES, NUM_EXECUTIONS], dim=-1)
    return LogProbs(strategy.log_softmax(-1), execution.log_softmax(-1))


def pretrain(world: World) -> Parameters:
    """The base: one policy (R = 1) that imitates the published texts of a world."""
    generator = world.generator("base")
    parameters = []
    for num_in, num_out in ((NUM_BITS, NUM_HIDDEN), (NUM_HIDDEN, NUM_STRATEGIES + NUM_EXECUTIONS)):
        bound = num_in**-0.5  # as torch.nn.Linear begins
        parameters += [
            bound * (2 * torch.rand(1, num_in, num_out, generator=generator) - 1),
            bound * (2 * torch.rand(1, num_out, generator=generator) - 1),
        ]
    for parameter in parameters:
        parameter.requires_grad_()
    optimizer = torch.optim.AdamW(parameters, lr=PRETRAINING_RATE)
    for step in range(PRETRAINING_STEPS):
        optimizer.param_groups[0]["lr"] = PRETRAINING_RATE * (1 - step / PRETRAINING_STEPS)
        bits, strategies, executions = world.texts(PRETRAINING_TEXTS, generator)
        of = log_probs(parameters, bits)
        loss = functional.nll_loss(of.strategy[0], strategies) + functional.nll_loss(of.execution[0], executions)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def solve_rate(of: LogProbs, works: Tensor, has_slips: bool = True) -> Tensor:
    """p(correct) of each problem, exact, `(R, P)`: a strategy that works, carried out cleanly."""
    right = (of.strategy.exp() * works).sum(-1)
    return right * of.execution[..., CLEAN].exp() if has_slips else right


def pass_at_k(rates: Tensor, ks: Sequence[int]) -> Tensor:
    """Mean over problems of 1 - (1 - p)^k, `(R, K)`: no sampling error."""
    return torch.stack([1 - ((1 - rates.double()) ** k).mean(-1) for k in ks], dim=-1)


def controls(of: LogProbs, base: LogProbs, works: Tensor, has_slips: bool = True) -> dict[str, Tensor]:
    """
    What moves with Pass@k, mean over problems, `(R,)` each.

    Returns:
        `dict[str, torch.Tensor]`:
            `entropy` of an answer and `kl` from the base's in nats; `strategies`, the effective number (exp of the
            entropy) of those that a problem's correct answers use; `clean`, the probability of a clean execution.
    """
    tokens = list(zip(of, base, strict=True))[: 2 if has_slips else 1]
    entropy = sum(-(own.exp() * own).sum(-1) for own, _ in tokens)
    kl = sum((own.exp() * (own - others)).sum(-1) for own, others in tokens)
    among_right = of.strategy.masked_fill(~works, -torch.inf).softmax(-1)  # (R, P, S)
    strategies = torch.special.entr(among_right).sum(-1).exp()
    clean = of.execution[..., CLEAN].exp()
    values = {"entropy": entropy, "kl": kl, "strategies": strategies, "clean": clean}
    return {name: torch.as_tensor(value).mean(-1) for name, value in values.items()}
