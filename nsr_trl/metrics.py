"""Metrics of a signed run, as sums and counts, so that micro-batches and ranks combine exactly.

Tensors come in, `{name: (sum, count)}` comes out; the [`Ledger`] adds them up and divides, once, when they are logged.
`METRICS` is the list of names and definitions, `TRL_METRICS` says what compaction makes of TRL's: the code and the
documentation are tested against both.

P problems, G completions per problem, B rows, T completion tokens. Outcomes are +1 correct, -1 incorrect, 0 undecided.
"""

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


SumCount = tuple[Tensor, Tensor]

SIGNS = {"correct": 1, "incorrect": -1}

METRICS: dict[str, str] = {
    "signed/correct_ratio": "share of sampled completions that are correct",
    "signed/incorrect_ratio": "share of sampled completions that are incorrect",
    "signed/undecided_ratio": "share of sampled completions that could not be decided; they have no signed weight",
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
    "signed/repetition": "share of four-token sequences that stood before in the last 256 tokens of their completion",
    "signed/positive_weight": "lambda, the weight of correct completions in force (objectives that have one)",
    "signed/unmet_ratio": "share of right answers that miss a requirement (`outcome_requires`)",
    "signed/auxiliary_share": "share of the absolute weights that auxiliary rewards carry (`auxiliary_weight`)",
    "signed/allocation/correct_ratio": "share of correct completions over all prompts, drawn or not: those sampled, "
    "weighed by 1/q (`prompt_allocation`)",
    "signed/allocation/effective_prompts": "effective number of prompts under the weights 1/q, as a share of those "
    "drawn (`prompt_allocation: unbiased`)",
    "signed/allocation/held_back_ratio": "share of the prompts drawn that are held back: their chance to be drawn is "
    "below the average (`prompt_allocation`)",
    "signed/allocation/held_back_correct_ratio": "share of correct completions of the prompts that are held back: it "
    "falls when they are forgotten (`prompt_allocation`)",
    "signed/vllm_clip_ratio/correct": "share of the trained tokens of correct completions that vLLM's "
    "importance-sampling correction masks or truncates (vLLM)",
    "signed/vllm_clip_ratio/incorrect": "share of the trained tokens of incorrect completions that vLLM's "
    "importance-sampling correction masks or truncates (vLLM)",
    "cost/rows": "share of sampled completions that the update runs (compaction)",
    "cost/tokens": "share of sampled tokens, prompts included, that the update runs (compaction)",
    "cost/micro_steps": "share of micro-steps that the update runs (compaction)",
    "cost/padding": "share of the update's token places that hold padding (compaction)",
    "cost/tokens_per_microbatch": "tokens that a micro-batch may hold (`max_tokens_per_microbatch: auto`)",
    "cost/generation_saved": "share of generation saved at equal variance of the gradient, by the squared weights of "
    "the prompts drawn (`prompt_allocation: unbiased`)",
    "cost/seconds/generation": "seconds per optimizer step in generation",
    "cost/seconds/rewards": "seconds per optimizer step in reward functions",
    "cost/seconds/logps": "seconds per optimizer step in old and reference log-probs",
    "cost/seconds/update": "seconds per optimizer step in forward and backward passes",
    "cost/tokens_per_second/generation": "completion tokens of all processes per second of generation",
    "cost/tokens_per_second/update": "tokens of all processes, prompts included, whether they train or not, per "
    "second of forward and backward passes",
    "cost/tokens_per_second/step": "the same tokens per second of the four phases together",
}

PHASES = ("generation", "rewards", "logps", "update")
"""The phases of a training step, as the main process times them."""

RATE = "cost/tokens_per_second/"
"""What the names of speeds begin with: tokens over the seconds of a phase."""

POLICY_METRICS = tuple(f"signed/{name}/{side}" for name in ("entropy", "logp") for side in SIGNS)
"""The metrics of `token_metrics` that any loss has."""

SURROGATE_METRICS = tuple(f"signed/{name}/{side}" for name in ("clip_ratio", "loss_share") for side in SIGNS)
"""The metrics of `token_metrics` that speak of the clipped surrogate, and of no other loss."""


SAME = "the same"
RUN = "over the rows that run"
CORRECTED = "token mean over the rows that run (TRL: mean of the means of micro-batches)"
OFF = "compaction is off"

TRL_METRICS: dict[str, str] = {
    "num_tokens": SAME,
    "completions/mean_length": SAME,
    "completions/min_length": SAME,
    "completions/max_length": SAME,
    "completions/clipped_ratio": SAME,
    "completions/mean_terminated_length": SAME,
    "completions/min_terminated_length": SAME,
    "completions/max_terminated_length": SAME,
    "tools/call_frequency": SAME,
    "tools/failure_frequency": SAME,
    "rewards/NAME/mean": SAME,
    "rewards/NAME/std": SAME,
    "reward": SAME,
    "reward_std": SAME,
    "frac_reward_zero_std": SAME,
    "step_time": SAME,
    "entropy_coef": SAME,
    "policy_loss": SAME,
    "entropy": CORRECTED,
    "clip_ratio/low_mean": CORRECTED,
    "clip_ratio/high_mean": CORRECTED,
    "clip_ratio/region_mean": CORRECTED,
    "cispo_clip_ratio": CORRECTED,
    "vespo/phi_seq_mean": CORRECTED,
    "clip_ratio/low_min": RUN,
    "clip_ratio/high_max": RUN,
    "sampling/sampling_logp_difference/mean": RUN,
    "sampling/sampling_logp_difference/max": RUN,
    "sampling/importance_sampling_ratio/min": RUN,
    "sampling/importance_sampling_ratio/mean": RUN,
    "sampling/importance_sampling_ratio/max": RUN,
    "kl": OFF,
    "aux_loss": OFF,
}
"""Every metric that TRL logs, and what it is under compaction. NAME stands for a reward function's."""

TOKEN_MEANS = tuple(name for name, what in TRL_METRICS.items() if what == CORRECTED)
"""TRL's means over the tokens of a micro-batch (over its rows, where the importance ratio is per sequence)."""


def correct_means(
    metrics: Mapping[str, list[float]],
    num_values: Mapping[str, int],
    num_tokens: int,
    num_rows: int,
    num_places: int,
    is_sequence_level: bool,
) -> dict[str, tuple[float, int]]:
    """
    Takes back what TRL has noted of a compacted micro-batch as if it weighed as much as any other.

    Args:
        metrics (`Mapping[str, list[float]]`):
            TRL's values by name, of which those of this micro-batch are the last. `TOKEN_MEANS` are taken out; the
            others become NaN, which is not averaged, where the micro-batch has dummies alone.
        num_values (`Mapping[str, int]`):
            How many values there were before this micro-batch.
        num_tokens (`int`):
            Tokens that the loss counts, over all ranks.
        num_rows (`int`):
            Rows, over all ranks.
        num_places (`int`):
            Rows and dummies, over all ranks.
        is_sequence_level (`bool`):
            Whether the importance ratio is one per row.

    Returns:
        `dict[str, tuple[float, int]]`: sums and counts of `TOKEN_MEANS`
    """
    sums = {}
    for name, values in metrics.items():
        noted = values[num_values.get(name, 0) :]
        if noted and name in TOKEN_MEANS:
            del values[-len(noted) :]
            of_rows = name == "vespo/phi_seq_mean" or (name != "entropy" and is_sequence_level)
            # TRL's mean over rows counts the dummies too, whose value is 0
            weight, count = (num_places, num_rows) if of_rows else (num_tokens, num_tokens)
            sums[name] = (sum(noted) * weight, len(noted) * count)
        elif noted and not num_rows:
            values[-len(noted) :] = [0.0 if name == "policy_loss" else math.nan] * len(noted)
    return {name: (total, count) for name, (total, count) in sums.items() if count}


class Ledger:
    """
    Sums and counts of a run: since the last log, over the whole training, and of the optimizer step under way.

    A name is of training or of evaluation by `mode`, `"train"` or `"eval"`. What is added is over all ranks already,
    but for what is [`pend`]ing.
    """

    def __init__(self) -> None:
        self._since_log: dict[str, dict[str, list[float]]] = {mode: _entries() for mode in ("train", "eval")}
        self.of_training = _entries()
        self._pending: Tensor | None = None  # (metrics, 2), this rank's part of an optimizer step
        self._inner_seconds = 0.0  # of the phases inside the one that is being timed

    def add(self, mode: str, sums: Mapping[str, Sequence]) -> None:
        """Adds `{name: (sum, count)}` to what the next log reports and, in training, to the whole."""
        for name, (total, count) in sums.items():
            entries = [self._since_log[mode][name]]
            if mode == "train":
                entries.append(self.of_training[name])
            for entry in entries:
                entry[0] += float(total)
                entry[1] += float(count)

    @contextlib.contextmanager
    def timed(self, mode: str, phase: str) -> Iterator[None]:
        """Adds the seconds inside it to a phase of the training step, less those of the phases that it contains."""
        outer, self._inner_seconds = self._inner_seconds, 0.0
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            if mode == "train":
                own = seconds - self._inner_seconds
                self.add(mode, {f"cost/seconds/{phase}": (own, 0)})
                self.add(mode, {f"{RATE}{of}": (0, own) for of in (phase, "step") if f"{RATE}{of}" in METRICS})
            self._inner_seconds = outer + seconds

    def pend(self, totals: Tensor) -> None:
        """Keeps this rank's part of sums and counts, of shape `(metrics, 2)`, until the optimizer step is reduced."""
        self._pending = totals if self._pending is None else self._pending + totals

    def take_pending(self) -> Tensor | None:
        """Hands the pending sums and counts over, to be reduced."""
        pending, self._pending = self._pending, None
        return pending

    def drain(self, mode: str) -> dict[str, float]:
        """The means since the last log, which is now; what has no count has no mean."""
        entries, self._since_log[mode] = self._since_log[mode], _entries()
        return {name: total / count for name, (total, count) in entries.items() if count}

    def forget(self, mode: str) -> None:
        """Forgets what was counted since the last log and, in training, before."""
        self._since_log[mode] = _entries()
        self._pending, self._inner_seconds = None, 0.0
        if mode == "train":
            self.of_training = _entries()

    def state(self) -> dict[str, Any]:
        """The state to save in a checkpoint."""
        return {"since_log": dict(self._since_log["train"]), "of_training": dict(self.of_training)}

    def take_back(self, state: Mapping[str, Any]) -> None:
        """Forgets what training has counted since [`state`] gave this, but for the seconds, which did pass."""
        for entries, known in (
            (self._since_log["train"], state["since_log"]),
            (self.of_training, state["of_training"]),
        ):
            for name in [name for name in entries if not name.startswith("cost/seconds/")]:
                del entries[name]
            entries.update({name: list(known[name]) for name in known if name not in entries})
        self._pending = None

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from what [`state`] gave."""
        self._since_log["train"].update(state["since_log"])
        self.of_training.update(state["of_training"])


def _entries() -> dict[str, list[float]]:
    return defaultdict(lambda: [0.0, 0.0])


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


def allocation_metrics(outcomes: Tensor, scales: Tensor) -> dict[str, SumCount]:
    """
    What the prompts drawn say of all, and those that are held back of themselves.

    Args:
        outcomes (`torch.Tensor` of shape `(P, G)`):
            Outcome of each completion.
        scales (`torch.Tensor` of shape `(P,)`):
            1/q of each prompt: the average chance to be drawn over its own.

    Returns:
        `dict[str, tuple[Tensor, Tensor]]`: scalar sums and counts by metric name.
    """
    rates = (outcomes > 0).float().mean(dim=1)
    is_held_back = scales > 1
    num_prompts = torch.tensor(len(scales))
    return {
        "signed/allocation/correct_ratio": ((scales * rates).sum(), scales.sum()),
        "signed/allocation/held_back_ratio": (is_held_back.sum(), num_prompts),
        "signed/allocation/held_back_correct_ratio": (rates[is_held_back].sum(), is_held_back.sum()),
    }


def unbiased_metrics(weights: Tensor, scales: Tensor) -> dict[str, SumCount]:
    """
    What weighing by 1/q costs and what drawing unequally saves.

    The variance of a mean over prompts is about that of one prompt's part over their number. Drawn with a chance of q
    times the average, that part has the second moment E[w^2 / q] over the dataset, and E[w^2] where all are drawn
    alike: both are estimated from the prompts drawn, as means of (w/q)^2 and of w^2/q.

    Args:
        weights (`torch.Tensor` of shape `(P, G)`):
            Weight of each completion under the objective, without 1/q.
        scales (`torch.Tensor` of shape `(P,)`):
            1/q of each prompt.

    Returns:
        `dict[str, tuple[Tensor, Tensor]]`: scalar sums and counts by metric name.
    """
    squares = weights.square().mean(dim=1)
    alike = (scales * squares).sum()
    return {
        "signed/allocation/effective_prompts": (scales.sum().square(), len(scales) * scales.square().sum()),
        "cost/generation_saved": (alike - (scales.square() * squares).sum(), alike),
    }


def repetition(completion_ids: Sequence[Sequence[int]], num_last: int = 256, length: int = 4) -> SumCount:
    """
    How much of the ends of completions is said again.

    Args:
        completion_ids (`Sequence[Sequence[int]]`):
            Token ids of each completion.
        num_last (`int`, *optional*, defaults to `256`):
            Tokens that are looked at, the last ones: what loops does so to the end.
        length (`int`, *optional*, defaults to `4`):
            Tokens of a sequence.

    Returns:
        `tuple[Tensor, Tensor]`: sequences that stood before in their completion, and sequences
    """
    ends = [torch.tensor(ids[-num_last:], dtype=torch.long) for ids in completion_ids]
    if not ends:
        return torch.tensor(0), torch.tensor(0)
    rows = torch.nn.utils.rnn.pad_sequence(ends, batch_first=True, padding_value=-1)
    if rows.size(1) < length:
        return torch.tensor(0), torch.tensor(0)
    pieces = rows.unfold(1, length, 1)  # (rows, sequences, length)
    keys = torch.zeros_like(pieces[..., 0])
    for column in pieces.unbind(-1):
        keys = keys * 1_000_003 + column  # wraps around: two that differ are alike once in 2^64
    is_whole = pieces[..., -1] >= 0
    keys, order = keys.sort(dim=1)
    is_whole = is_whole.gather(1, order)
    again = (keys[:, 1:] == keys[:, :-1]) & is_whole[:, 1:]
    return again.sum(), is_whole.sum()


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
        weights (`torch.Tensor` of shape `(B,)` or `(B, T)`):
            Signed weight of each row, or of each token (the advantage in the loss).
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
    mask, advantages = mask.float(), weights if weights.ndim == 2 else weights.unsqueeze(1)
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


def sampling_metrics(
    old_logps: Tensor, sampling_logps: Tensor, mask: Tensor, ratio: Tensor
) -> tuple[dict[str, SumCount], Tensor]:
    """
    How far vLLM's log-probs are from the model's, over the rows that run.

    Args:
        old_logps (`torch.Tensor` of shape `(B, T)`):
            Log-probabilities under the model.
        sampling_logps (`torch.Tensor` of shape `(B, T)`):
            Those that vLLM gave, NaN where it gave none.
        mask (`torch.Tensor` of shape `(B, T)`):
            1 on the tokens that the loss counts, of rows that run.
        ratio (`torch.Tensor` of shape `(B, T)` or `(B, 1)`):
            The correction's ratio, per token or per sequence.

    Returns:
        `tuple[dict[str, tuple[Tensor, Tensor]], Tensor]`:
            Sums and counts of the two means by TRL's names; and `[-min ratio, max ratio, max difference]`, of which
            the largest over ranks counts, minus infinity where there is none.
    """
    chosen = mask > 0
    ratios = ratio[chosen] if ratio.size(1) > 1 else ratio.squeeze(1)[chosen.any(1)]
    differences = (old_logps - sampling_logps).abs()[chosen & ~sampling_logps.isnan()]
    none = ratios.new_tensor([-torch.inf])
    largest = [torch.cat([values.float(), none]).max() for values in (-ratios, ratios, differences)]
    sums = {
        "sampling/importance_sampling_ratio/mean": (ratios.sum(), torch.tensor(len(ratios), device=ratios.device)),
        "sampling/sampling_logp_difference/mean": (
            differences.sum(),
            torch.tensor(len(differences), device=ratios.device),
        ),
    }
    return sums, torch.stack(largest)


def sampling_values(sums: Mapping[str, Sequence[float]], largest: Tensor) -> dict[str, float]:
    """Values by TRL's names of what [`sampling_metrics`] gave, over all ranks; NaN where there is none."""
    least_ratio, most_ratio, most_difference = largest.tolist()
    found = {name: total / count if count else math.nan for name, (total, count) in sums.items()}
    found |= {
        "sampling/importance_sampling_ratio/min": -least_ratio,
        "sampling/importance_sampling_ratio/max": most_ratio,
        "sampling/sampling_logp_difference/max": most_difference,
    }
    return {name: value if math.isfinite(value) else math.nan for name, value in found.items()}


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
