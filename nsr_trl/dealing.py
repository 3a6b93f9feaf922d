"""Dealing: a generation batch of each rank goes in, the micro-batches that each rank runs come out.

The plan says which rows run where ([`make_plan`]); here every rank tells the others the lengths of its rows, sends
them those that train, and takes those that it runs. All ranks call it together; what is communicated goes through
`gather`.

R ranks, S micro-steps in W optimizer windows, B rows per rank and micro-step before compaction: N = R*S*B rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .budget import MeasuredBudget
from .compaction import DUMMY, cut_micro_batches, make_plan, renumber, take_rows, token_shares
from .metrics import SumCount, cost_metrics


Gather = Callable[[Tensor], Tensor]
"""`(rows, ...)` of each rank, the same number on all, to `(R*rows, ...)` in the order of the ranks."""


@dataclass(frozen=True)
class Table:
    """
    What all ranks know of all rows, `(N,)` each, on the CPU.

    Attributes:
        prompt_lengths (`torch.Tensor`), completion_lengths (`torch.Tensor`):
            Tokens of the prompt and of the completion.
        loss_lengths (`torch.Tensor`):
            Tokens of the completion that the loss counts.
        windows (`torch.Tensor`):
            Optimizer window, 0 to W - 1.
        is_kept (`torch.Tensor`):
            Whether the row trains.
    """

    prompt_lengths: Tensor
    completion_lengths: Tensor
    loss_lengths: Tensor
    windows: Tensor
    is_kept: Tensor

    @property
    def lengths(self) -> Tensor:
        """Tokens of the whole row."""
        return self.prompt_lengths + self.completion_lengths


def deal(
    batch: Mapping[str, Any],
    windows: Tensor,
    *,
    gather: Gather,
    rank: int,
    num_ranks: int,
    num_micro_steps: int,
    num_windows: int,
    rows_per_micro_batch: int,
    max_completion_length: int,
    max_tokens: int | None,
    by_rows: bool,
    is_packed: bool,
    as_reference: bool,
    budget: MeasuredBudget | None = None,
) -> tuple[list[dict[str, Any] | None], dict[str, SumCount]]:
    """
    Deals a generation batch over ranks and micro-steps.

    Args:
        batch (`Mapping[str, Any]`):
            TRL's generation batch of this rank: row tensors of shape `(S*B, ...)`, prompts padded on the left, the
            rest on the right, whose `advantages` are 0 on rows that do not train; and scalars.
        windows (`torch.Tensor` of shape `(S*B,)`):
            Optimizer window of each row, 0 to W - 1.
        gather (`Callable`):
            Gathers a tensor of each rank on all.
        rank (`int`):
            This rank.
        num_ranks (`int`):
            R.
        num_micro_steps (`int`):
            S.
        num_windows (`int`):
            W.
        rows_per_micro_batch (`int`):
            B.
        max_completion_length (`int`):
            Tokens of a completion, at most: with the longest prompt the length that a micro-batch must hold B times.
        max_tokens (`int`, *optional*):
            Tokens of a micro-batch of one rank, where that is not wanted.
        by_rows (`bool`):
            Whether every micro-batch keeps B rows, for a loss that divides by them.
        is_packed (`bool`):
            Whether a micro-batch runs as one sequence, so that its padding takes no place.
        as_reference (`bool`):
            Whether the rows that train fill the windows in order, and the loss counts their tokens alone.
        budget ([`MeasuredBudget`], *optional*):
            Says how full micro-batches may be and what a micro-step costs, by what was measured.

    Returns:
        `tuple[list[dict[str, Any] | None], dict[str, tuple[Tensor, Tensor]]]`:
            S entries, `None` where no rank runs anything, else a batch of this rank with the scalars and

            - `is_empty`: whether all of its rows are dummies, on all ranks;
            - `token_weight`: what its token mean weighs among those of its window ([`token_shares`]);
            - `num_tokens`, `num_rows`, `num_places`: tokens that the loss counts, rows, and rows with dummies, over
              all ranks;
            - `token_places`: places of tokens, padding included, of the rank that has most;

            and what the update costs ([`cost_metrics`]), with the measured budget.
    """
    rows = {key: value for key, value in batch.items() if isinstance(value, Tensor) and value.ndim > 0}
    scalars = {key: value for key, value in batch.items() if key not in rows}
    table, widths, is_kept = _tabulate(rows, windows, gather)
    max_tokens = max_tokens or rows_per_micro_batch * (int(table.prompt_lengths.max()) + max_completion_length)
    if budget is not None:
        budget.begin_rollout(gather, is_kept.device)
        max_tokens = budget.of(max_tokens)
    plan = make_plan(
        table.lengths,
        table.windows,
        table.is_kept,
        num_ranks=num_ranks,
        num_micro_steps=num_micro_steps,
        num_windows=num_windows,
        rows_per_micro_batch=rows_per_micro_batch,
        max_tokens=None if by_rows else max_tokens,
        is_packed=is_packed,
        fill_in_order=as_reference,
        micro_step_places=None if budget is None else budget.trial_places,
    )
    tokens_per_window = None
    if as_reference and plan.num_kept:
        # the mean length of the rows that train times the rows of the generation
        num_items = table.loss_lengths[table.is_kept].float().mean() * len(table.is_kept)
        scalars["num_items_in_batch"] = num_items.to(is_kept.device)
        tokens_per_window = float(num_items) / num_windows

    # the rows that this rank runs, numbered among the kept rows of all ranks
    numbers = table.is_kept.cumsum(0) - 1  # (N,)
    mine = [None if step is None else renumber(step[rank], numbers) for step in plan.micro_steps]  # S x (rows,)
    taken = torch.cat([step for step in mine if step is not None] or [numbers[:0]])  # (rows of all micro-steps,)
    own = {key: values[is_kept] for key, values in rows.items()}
    counts = table.is_kept.view(num_ranks, -1).sum(1).tolist()  # R kept rows
    micro_batches = cut_micro_batches(_exchange(own, widths, counts, taken.to(is_kept.device), gather), mine)
    shares = token_shares(plan, table.loss_lengths, num_windows, tokens_per_window)
    for step, micro_batch, share in zip(plan.micro_steps, micro_batches, shares, strict=True):
        if step is not None and micro_batch is not None and share is not None:
            token_weight = float(share[rank]) * num_micro_steps / num_windows
            micro_batch |= scalars | _facts(step, table, is_packed) | {"token_weight": token_weight}
    costs = cost_metrics(plan.micro_steps, table.lengths, is_packed)
    if budget is not None:
        costs["cost/tokens_per_microbatch"] = torch.tensor(max_tokens), torch.tensor(1)
    return micro_batches, costs


def _tabulate(rows: Mapping[str, Tensor], windows: Tensor, gather: Gather) -> tuple[Table, dict[str, int], Tensor]:
    """
    The table of all ranks' rows, and for this rank which rows train.

    Returns:
        `tuple[Table, dict[str, int], Tensor]`:
            the table; columns of each row tensor on the rank where it is widest, 1 where a row is a number; and
            whether each row of this rank trains, `(S*B,)`
    """
    loss_mask = rows["completion_mask"] * rows.get("tool_mask", 1)  # (S*B, T)
    is_kept = (rows["advantages"] != 0) & (loss_mask.sum(1) > 0)
    lengths = [rows["prompt_mask"].sum(1), rows["completion_mask"].sum(1), loss_mask.sum(1)]
    columns = torch.stack([*lengths, windows.to(is_kept.device), is_kept.long()], dim=1)  # (S*B, 5)
    keys = sorted(rows)  # every rank tells them in the same order
    widths = columns.new_tensor([rows[key][0].numel() for key in keys])
    told = gather(torch.cat([columns, widths.expand(len(columns), -1)], dim=1)).cpu()  # (N, 5 + keys)
    prompts, completions, losses, all_windows, kept = told[:, :5].unbind(1)
    table = Table(prompts, completions, losses, all_windows, kept.bool())
    return table, dict(zip(keys, told[:, 5:].amax(0).tolist(), strict=True)), is_kept


def _facts(step: Tensor, table: Table, is_packed: bool) -> dict[str, Any]:
    """The counts of a micro-step `(R, rows)` over all ranks."""
    is_real = step != DUMMY
    tokens = table.lengths[step] * is_real  # (R, rows)
    places = tokens.sum(1) if is_packed else tokens.amax(1) * step.size(1)  # (R,)
    return {
        "is_empty": not is_real.any().item(),
        "num_tokens": int((table.loss_lengths[step] * is_real).sum()),
        "num_rows": int(is_real.sum()),
        "num_places": step.numel(),
        "token_places": int(places.max()),
    }


def split(micro_batch: dict[str, Any], max_tokens: int) -> list[dict[str, Any]]:
    """
    Splits a micro-batch that [`deal`] gave, where one process runs, into some that hold fewer tokens each.

    Args:
        micro_batch (`dict[str, Any]`):
            Its rows, longest first, and its scalars.
        max_tokens (`int`):
            Token places of each part, but for one of a single row.

    Returns:
        `list[dict[str, Any]]`: micro-batches whose losses and gradients sum to those of the whole
    """
    num_rows = len(micro_batch["advantages"])
    if micro_batch["token_places"] <= max_tokens or num_rows == 1:
        return [micro_batch]
    rows = {key: values for key, values in micro_batch.items() if isinstance(values, Tensor) and values.ndim > 0}
    halves = cut_micro_batches(rows, torch.arange(num_rows).tensor_split(2))
    parts = []
    for half in halves:
        assert half is not None
        lengths = half["prompt_mask"].sum(1) + half["completion_mask"].sum(1)
        num_tokens = int((half["completion_mask"] * half.get("tool_mask", 1)).sum())
        facts = {
            "num_tokens": num_tokens,
            "num_rows": len(lengths),
            "num_places": len(lengths),
            "token_places": len(lengths) * int(lengths.max()),
            "token_weight": micro_batch["token_weight"] * num_tokens / max(micro_batch["num_tokens"], 1),
        }
        parts += split(micro_batch | half | facts, max_tokens)
    return parts


def _exchange(
    rows: Mapping[str, Tensor], widths: Mapping[str, int], counts: list[int], taken: Tensor, gather: Gather
) -> dict[str, Tensor]:
    """
    Sends this rank's kept rows to all ranks, in one message, and takes from all of theirs the rows that it runs.

    `counts` are the kept rows of each rank, `taken` the numbers of the rows to take among all of them.
    """
    if len(counts) == 1:
        return {key: take_rows(values, taken) for key, values in rows.items()}
    most = max(*counts, 1)  # every rank sends as many
    place = torch.cat([torch.arange(count) + rank * most for rank, count in enumerate(counts)])  # (kept rows,)
    taken = renumber(taken, place.to(taken.device))
    message = torch.cat([_as_bytes(key, rows[key], width) for key, width in widths.items()], dim=1)
    message = torch.nn.functional.pad(message, (0, 0, 0, most - len(message)))  # (most, bytes)
    received = take_rows(gather(message), taken)  # (rows to run, bytes)
    parts = received.split([width * rows[key].itemsize for key, width in widths.items()], dim=1)
    return {
        key: values if rows[key].ndim == 2 else values.flatten()
        for key, part in zip(widths, parts, strict=True)
        for values in [part.contiguous().view(rows[key].dtype)]
    }


def _as_bytes(key: str, values: Tensor, width: int) -> Tensor:
    """Row tensors, `(rows,)` or `(rows, columns)`, padded on TRL's side to a width: `(rows, bytes)`."""
    values = values.unsqueeze(1) if values.ndim == 1 else values
    missing = width - values.size(1)
    padded = torch.nn.functional.pad(values, (missing, 0) if key.startswith("prompt_") else (0, missing))
    return padded.contiguous().view(torch.uint8)
