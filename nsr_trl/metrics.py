"""Metrics of a signed run, as sums and counts, so that micro-batches and ranks combine exactly.

Tensors come in, `{name: (sum, count)}` comes out; whoever logs divides the summed sums by the summed counts, once.
`METRICS` is the list of names and definitions: the code and the documentation are tested against it.

P problems, G completions per problem, B rows, T completion tokens. Outcomes are +1 correct, -1 incorrect, 0 undecided.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


SumCount = tuple[Tensor, Tensor]

SIGNS = {"correct": 1, "incorrect": -1}

METRICS: dict[str, str] = {
    "signed/correct_ratio": "share of sampled completions that are correct",
    "signed/incorrect_ratio": "share of sampled completions that are incorrect",
    "signed/undecided_ratio": "share of sampled completions that could not be decided; they train nothing",
    "signed/groups_solved": "share of prompts whose completions are all correct",
    "signed/groups_solved_once": "share of prompts with at least one correct completion",
    "signed/groups_unsolved": "share of prompts with no correct completion",
    "signed/length/correct": "mean length in tokens of correct completions, answers of tools included",
    "signed/length/incorrect": "mean length in tokens of incorrect completions, answers of tools included",
    "signed/entropy/correct": "mean entropy in nats of the policy over the tokens of correct completions",
    "signed/entropy/incorrect": "mean entropy in nats of the policy over the tokens of incorrect completions",
    "signed/logp/correct": "mean log-probability in nats of the sampled tokens of correct completions",
    "signed/logp/incorrect": "mean log-probability in nats of the sampled tokens of incorrect completions",
    "signed/clip_ratio/correct": "share of the tokens of correct completions that the clip stops (clipped losses)",
    "signed/clip_ratio/incorrect": "share of the tokens of incorrect completions that the clip stops (clipped losses)",
    "signed/loss_share/correct": "share of the absolute loss that correct completions carry (clipped losses)",
    "signed/loss_share/incorrect": "share of the absolute loss that incorrect completions carry (clipped losses)",
    "signed/vllm_clip_ratio/correct": "share of the trained tokens of correct completions that vLLM's "
    "importance-sampling correction masks or truncates (vLLM)",
    "signed/vllm_clip_ratio/incorrect": "share of the trained tokens of incorrect completions that vLLM's "
    "importance-sampling correction masks or truncates (vLLM)",
    "cost/rows": "share of sampled completions that the update runs (compaction)",
    "cost/tokens": "share of sampled tokens, prompts included, that the update runs (compaction)",
    "cost/micro_steps": "share of micro-steps that the update runs (compaction)",
    "cost/padding": "share of the update's token places that hold padding (compaction)",
    "cost/seconds/generation": "seconds per optimizer step in generation",
    "cost/seconds/rewards": "seconds per optimizer step in reward functions",
    "cost/seconds/logps": "seconds per optimizer step in old and reference log-probs",
    "cost/seconds/update": "seconds per optimizer step in forward and backward passes",
}

PHASES = ("generation", "rewards", "logps", "update")
"""What a training step spends its time in, as the main process sees it."""

POLICY_METRICS = tuple(f"signed/{name}/{side}" for name in ("entropy", "logp") for side in SIGNS)
"""The metrics of `token_metrics` that any loss has."""

SURROGATE_METRICS = tuple(f"signed/{name}/{side}" for name in ("clip_ratio", "loss_share") for side in SIGNS)
"""The metrics of `token_metrics` that speak of the clipped surrogate, and of no other loss."""


def outcome_metrics(outcomes: Tensor, lengths: Tensor) -> dict[str, SumCount]:
    """
    What the rollout looked like: of all completions sampled, before any training.

    Args:
        outcomes (`torch.Tensor` of shape `(P, G)`):
            Outcome of each completion.
        lengths (`torch.Tensor` of shape `(P, G)`):
            Completion lengths in tokens.

    Returns:
        `dict[str, tuple[Tensor, Tensor]]`: scalar sums and counts by metric name.
    """
    correct, incorrect = outcomes > 0, outcomes < 0
    num_rows, num_groups = torch.tensor(outcomes.numel()), torch.tensor(outcomes.size(0))
    solved_once = correct.any(dim=1)
    return {
        "signed/correct_ratio": (correct.sum(), num_rows),
        "signed/incorrect_ratio": (incorrect.sum(), num_rows),
        "signed/undecided_ratio": ((outcomes == 0).sum(), num_rows),
        "signed/groups_solved": (correct.all(dim=1).sum(), num_groups),
        "signed/groups_solved_once": (solved_once.sum(), num_groups),
        "signed/groups_unsolved": ((~solved_once).sum(), num_groups),
        "signed/length/correct": (lengths[correct].sum(), correct.sum()),
        "signed/length/incorrect": (lengths[incorrect].sum(), incorrect.sum()),
    }


def token_metrics(
    outcomes: Tensor,
    weights: Tensor,
    mask: Tensor,
    logps: Tensor,
    entropies: Tensor,
    log_ratio: Tensor,
    epsilon_low: float,
    epsilon_high: float,
) -> dict[str, SumCount]:
    """
    How the policy treats the tokens it is trained on, split by the sign of their completion.

    Args:
        outcomes (`torch.Tensor` of shape `(B,)`):
            Outcome of each row.
        weights (`torch.Tensor` of shape `(B,)`):
            Signed weight of each row (the advantage in the loss).
        mask (`torch.Tensor` of shape `(B, T)`):
            1 on the tokens that the loss counts.
        logps (`torch.Tensor` of shape `(B, T)`):
            Log-probabilities in nats of the sampled tokens under the policy.
        entropies (`torch.Tensor` of shape `(B, T)`):
            Entropies in nats of the policy.
        log_ratio (`torch.Tensor` of shape `(B, T)` or `(B, 1)`):
            Log of the importance ratio rho, per token or per sequence.
        epsilon_low (`float`):
            Rho is clipped below at `1 - epsilon_low`.
        epsilon_high (`float`):
            Rho is clipped above at `1 + epsilon_high`.

    Returns:
        `dict[str, tuple[Tensor, Tensor]]`: scalar sums and counts by metric name.
    """
    mask, advantages = mask.float(), weights.unsqueeze(1)
    ratio = log_ratio.exp()
    clipped = ((ratio < 1 - epsilon_low) & (advantages < 0)) | ((ratio > 1 + epsilon_high) & (advantages > 0))
    surrogate = torch.min(ratio * advantages, ratio.clamp(1 - epsilon_low, 1 + epsilon_high) * advantages)
    # a padding position may hold anything, NaN included: mask it out by selection, not by a product
    loss = surrogate.abs().expand_as(mask).where(mask > 0, 0.0)
    per_token = {"entropy": entropies, "logp": logps, "clip_ratio": clipped.float()}

    sides = {side: (mask * (outcomes == sign).unsqueeze(1)) > 0 for side, sign in SIGNS.items()}
    sums: dict[str, SumCount] = {
        f"signed/{name}/{side}": (values.expand_as(mask).where(chosen, 0.0).sum(), chosen.sum())
        for name, values in per_token.items()
        for side, chosen in sides.items()
    }
    for side, chosen in sides.items():
        sums[f"signed/loss_share/{side}"] = (loss.where(chosen, 0.0).sum(), loss.sum())
    return sums


def correction_metrics(
    outcomes: Tensor, mask: Tensor, ratio: Tensor, clip_min: float | None, clip_max: float | None
) -> dict[str, SumCount]:
    """
    What the importance-sampling correction for vLLM takes from the tokens that train, split by sign.

    Args:
        outcomes (`torch.Tensor` of shape `(B,)`):
            Outcome of each row.
        mask (`torch.Tensor` of shape `(B, T)`):
            1 on the tokens that train.
        ratio (`torch.Tensor` of shape `(B, T)` or `(B, 1)`):
            The ratio by which the correction multiplies the loss, per token or per sequence: 0 where it masks,
            `clip_min` or `clip_max` where it truncates.
        clip_min (`float`, *optional*):
            Lower bound of the ratio.
        clip_max (`float`, *optional*):
            Upper bound of the ratio.

    Returns:
        `dict[str, tuple[Tensor, Tensor]]`: scalar sums and counts by metric name.
    """
    clipped = ratio == 0
    if clip_min is not None:
        clipped = clipped | (ratio <= clip_min)
    if clip_max is not None:
        clipped = clipped | (ratio >= clip_max)
    sums: dict[str, SumCount] = {}
    for side, sign in SIGNS.items():
        chosen = (mask * (outcomes == sign).unsqueeze(1)) > 0
        sums[f"signed/vllm_clip_ratio/{side}"] = ((clipped & chosen).sum(), chosen.sum())
    return sums


def cost_metrics(
    micro_steps: Sequence[Tensor | None], lengths: Tensor, is_packed: bool = False
) -> dict[str, SumCount]:
    """
    What a compacted update costs.

    Args:
        micro_steps (`Sequence[Tensor | None]`):
            For every micro-step the rows that run, of shape `(ranks, rows)`, negative in spare places; or `None`.
        lengths (`torch.Tensor` of shape `(B,)`):
            Tokens of each row, prompt and completion.
        is_packed (`bool`, *optional*, defaults to `False`):
            Whether a micro-batch runs as one sequence without padding.

    Returns:
        `dict[str, tuple[Tensor, Tensor]]`: scalar sums and counts by metric name.
    """
    num_run = num_rows = num_tokens = num_places = torch.tensor(0)
    for rows in (rows for rows in micro_steps if rows is not None):
        is_real = rows >= 0
        tokens = lengths[rows] * is_real  # (ranks, rows)
        num_run = num_run + 1
        num_rows = num_rows + is_real.sum()
        num_tokens = num_tokens + tokens.sum()
        num_places = num_places + tokens.max(dim=1).values.sum() * rows.size(1)
    if is_packed:
        num_places = num_tokens
    return {
        "cost/rows": (num_rows, torch.tensor(len(lengths))),
        "cost/tokens": (num_tokens, lengths.sum()),
        "cost/micro_steps": (num_run, torch.tensor(len(micro_steps))),
        "cost/padding": (num_places - num_tokens, num_places),
    }
