"""Compaction: which rows run where, so that zero-weight rows and padding cost nothing.

In: the lengths of all rows of a generation batch and whether each one trains. Out: a [`Plan`], which names for every
micro-step of every rank the rows that it runs, and which micro-steps run nothing at all. All ranks derive the same
plan from the same table, so nothing is communicated here.

R ranks, S micro-steps in W optimizer windows, B rows per rank and micro-step before compaction: N = R*S*B rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


DUMMY = -1
"""Row number of a spare place: a row of zeros that trains nothing, so that every rank runs as many rows."""

TRIAL_LENGTH = 6
"""Tokens of a row in the trial of [`packs_apart`]."""


@dataclass(frozen=True)
class Plan:
    """
    The work of one generation batch.

    Attributes:
        micro_steps (`list[Tensor | None]`):
            S entries: `None` for a micro-step that no rank runs, or the row numbers of shape `(R, rows)`, `DUMMY` in
            spare places. The micro-steps that run are the last of their window, because the last one of a window is
            where gradients are reduced and the optimizer steps.
        num_kept (`int`):
            Rows that train.
    """

    micro_steps: list[Tensor | None]
    num_kept: int

    @property
    def num_run(self) -> int:
        """Micro-steps that run."""
        return sum(rows is not None for rows in self.micro_steps)

    def __str__(self) -> str:
        lines = [f"{self.num_kept} rows in {self.num_run} of {len(self.micro_steps)} micro-steps"]
        for step, rows in enumerate(self.micro_steps):
            shown = "-" if rows is None else " | ".join(" ".join(map(str, rank)) for rank in rows.tolist())
            lines.append(f"{step:4}: {shown}")
        return "\n".join(lines)


def make_plan(
    lengths: Tensor,
    windows: Tensor,
    is_kept: Tensor,
    *,
    num_ranks: int,
    num_micro_steps: int,
    num_windows: int,
    rows_per_micro_batch: int,
    max_tokens: int | None,
    is_packed: bool,
    fill_in_order: bool,
    micro_step_places: float | None = None,
) -> Plan:
    """
    Deals the rows of each optimizer window that train to as few micro-batches as possible, or to the cheapest ones.

    Within a window rows are sorted by length, so that a micro-batch holds rows of like length. The ranks take turns at
    the long ones: their sums are alike where they meet at the end of the window, and where they meet at every
    micro-step (ZeRO-3, FSDP) the longest row sets the pace in any case.

    Args:
        lengths (`torch.Tensor` of shape `(N,)`):
            Tokens of each row, prompt and completion, 1 or more.
        windows (`torch.Tensor` of shape `(N,)`):
            Optimizer window of each row, 0 to W - 1, the same number of rows in each.
        is_kept (`torch.Tensor` of shape `(N,)`):
            Whether a row trains.
        num_ranks (`int`):
            R.
        num_micro_steps (`int`):
            S.
        num_windows (`int`):
            W, a divisor of S.
        rows_per_micro_batch (`int`):
            B.
        max_tokens (`int`, *optional*):
            Tokens of a rank's micro-batch. `None` keeps B rows in every micro-batch.
        is_packed (`bool`):
            Whether a micro-batch runs as one sequence, so that its padding takes no place.
        fill_in_order (`bool`):
            Move the rows that train up to the first windows, so that nothing runs in the last ones and no optimizer
            step is taken there. Otherwise every row stays in its window, and a window without rows runs dummies: the
            optimizer steps on a gradient of zero there, as it does without compaction.
        micro_step_places (`float`, *optional*):
            What a micro-step costs besides its places, in places, so that rows are cut where places and micro-steps
            together cost least. `None` for as few micro-steps as `max_tokens` allows.

    Returns:
        [`Plan`]
    """
    assert num_micro_steps % num_windows == 0, (num_micro_steps, num_windows)
    slots = num_micro_steps // num_windows
    window_size = slots * rows_per_micro_batch * num_ranks
    kept = is_kept.nonzero().flatten()
    kept = kept[windows[kept].argsort(stable=True)]
    window_of_kept = torch.arange(len(kept)) // window_size if fill_in_order else windows[kept]

    micro_steps: list[Tensor | None] = []
    for window in range(num_windows):
        rows = kept[window_of_kept == window]
        assert len(rows) <= window_size, (len(rows), window_size)
        rows = rows[lengths[rows].argsort(descending=True, stable=True)]
        batches: list[Tensor | None] = []
        for num_rows in _cut(
            lengths[rows], num_ranks, slots, rows_per_micro_batch, max_tokens, is_packed, micro_step_places
        ):
            # the rank that got the longest rows gets the shortest next
            batches.append(_deal(rows[: num_rows * num_ranks], num_ranks, num_rows, len(batches) % 2 == 1))
            rows = rows[num_rows * num_ranks :]
        if not batches and not fill_in_order:
            batches.append(torch.full((num_ranks, 1 if max_tokens else rows_per_micro_batch), DUMMY))
        micro_steps += [None] * (slots - len(batches)) + batches
    return Plan(micro_steps, len(kept))


def _cut(
    lengths: Tensor,
    num_ranks: int,
    slots: int,
    rows_per_micro_batch: int,
    max_tokens: int | None,
    is_packed: bool,
    micro_step_places: float | None,
) -> list[int]:
    """Rows per rank of each micro-batch of a window, whose rows are sorted by length, longest first."""
    if max_tokens is None:
        return [rows_per_micro_batch] * -(-len(lengths) // (rows_per_micro_batch * num_ranks))
    if micro_step_places is not None and not is_packed:
        # a rank takes as many rows as the others, and all wait for the one with the longest
        cheapest = cheapest_sizes(lengths[::num_ranks].tolist(), max_tokens, slots, micro_step_places)
        if cheapest is not None:
            return cheapest
    sizes: list[int] = []
    while len(lengths):
        size = _rows_that_fit(lengths, max_tokens, is_packed)
        # the rest has to fit into the remaining slots, and needs no more places than it has rows
        size = max(size, -(-len(lengths) // (num_ranks * (slots - len(sizes)))))
        sizes.append(min(size, -(-len(lengths) // num_ranks)))
        lengths = lengths[sizes[-1] * num_ranks :]
    return sizes


def cheapest_sizes(
    lengths: Sequence[int], max_tokens: int, most_micro_steps: int, micro_step_places: float
) -> list[int] | None:
    """
    Cuts sorted rows where the token places and what micro-steps cost besides are least together.

    A dynamic program over the cuts: `least[i, k]` is the fewest places that the first i rows take in k micro-batches,
    each as wide as its longest row.

    Args:
        lengths (`Sequence[int]`):
            Tokens of each row, 1 or more, longest first.
        max_tokens (`int`):
            Places of a micro-batch; one of a single row may exceed them.
        most_micro_steps (`int`):
            Micro-batches, at most.
        micro_step_places (`float`):
            What a micro-step costs besides its places, in places.

    Returns:
        `list[int]` or `None`: rows of each micro-batch; `None` if they do not fit into so many

    Example:
    ```python
    >>> cheapest_sizes([10, 9, 2, 2], max_tokens=40, most_micro_steps=4, micro_step_places=5)  # 20 + 4 places, not 40
    [2, 2]
    >>> cheapest_sizes([10, 9, 2, 2], max_tokens=40, most_micro_steps=4, micro_step_places=20)
    [4]
    ```
    """
    num_rows, most = len(lengths), min(most_micro_steps, len(lengths))
    least = torch.full((num_rows + 1, most + 1), torch.inf, dtype=torch.float64)
    begins = torch.zeros(num_rows + 1, most + 1, dtype=torch.long)  # row with which the last of k micro-batches begins
    least[0, 0] = 0
    for row, length in enumerate(lengths):
        num_fitting = min(max(max_tokens // length, 1), num_rows - row)
        ends = slice(row + 1, row + 1 + num_fitting)
        places = length * torch.arange(1, num_fitting + 1).unsqueeze(1)  # (ends, 1)
        found = least[row, :-1] + places  # (ends, k)
        is_less = found < least[ends, 1:]
        least[ends, 1:] = found.where(is_less, least[ends, 1:])
        begins[ends, 1:].masked_fill_(is_less, row)
    costs = least[num_rows] + micro_step_places * torch.arange(most + 1)
    num_micro_steps = int(costs.argmin())
    if costs[num_micro_steps] == torch.inf:
        return None
    sizes: list[int] = []
    end = num_rows
    for k in range(num_micro_steps, 0, -1):
        begin = int(begins[end, k])
        sizes.insert(0, end - begin)
        end = begin
    return sizes


def _rows_that_fit(lengths: Tensor, max_tokens: int, is_packed: bool) -> int:
    """Rows per rank, at least one, of a micro-batch that begins with the first row, the longest."""
    if is_packed:  # the first rank gets the longest rows
        return max(int((lengths.cumsum(0) <= max_tokens).sum()), 1)
    return max(max_tokens // int(lengths[0]), 1)


def _deal(rows: Tensor, num_ranks: int, num_rows: int, is_reversed: bool) -> Tensor:
    """Deals rows, longest first, in runs of like length: `(R, num_rows)`, `DUMMY` where there is none left."""
    places = torch.full((num_ranks * num_rows,), DUMMY)
    places[: len(rows)] = rows
    places = places.view(num_ranks, num_rows)
    return places.flip(0) if is_reversed else places


def take_rows(values: Tensor, indices: Tensor) -> Tensor:
    """Takes rows by their numbers: `(N, ...)` to `(rows, ...)`, zeros for `DUMMY`."""
    taken = values.new_zeros(len(indices), *values.shape[1:])
    is_real = indices != DUMMY
    taken[is_real] = values[indices[is_real]]
    return taken


def renumber(indices: Tensor, numbers: Tensor) -> Tensor:
    """Looks row numbers up in another numbering; `DUMMY` stays `DUMMY`."""
    return take_rows(numbers + 1, indices) - 1


def cut_micro_batches(rows: Mapping[str, Tensor], indices: Sequence[Tensor | None]) -> list[dict[str, Tensor] | None]:
    """
    Cuts the rows of a rank, which are in the order in which it runs them, into micro-batches without needless padding.

    Args:
        rows (`Mapping[str, Tensor]`):
            Row tensors by TRL's batch keys: `prompt_*` of shape `(rows, P)` padded on the left, others of shape
            `(rows,)`, `(rows, 1)` or `(rows, T)` padded on the right.
        indices (`Sequence[Tensor | None]`):
            Row numbers of each micro-step; `None` where nothing runs.

    Returns:
        `list[dict[str, Tensor] | None]`
    """
    micro_batches: list[dict[str, Tensor] | None] = []
    start = 0
    for numbers in indices:
        if numbers is None:
            micro_batches.append(None)
            continue
        batch = {key: values[start : start + len(numbers)] for key, values in rows.items()}
        start += len(numbers)
        batch["prompt_mask"][numbers == DUMMY, -1] = 1  # a row without any attended token has no finite attention
        prompt_width = int(batch["prompt_mask"].sum(1).max())
        completion_width = max(int(batch["completion_mask"].sum(1).max()), 2)  # TRL reads one column as one per row
        for key, values in batch.items():
            if key.startswith("prompt_"):
                batch[key] = values[:, -prompt_width:]
            elif values.ndim == 2:
                batch[key] = values[:, :completion_width]
        micro_batches.append(batch)
    return micro_batches


def token_shares(
    plan: Plan, lengths: Tensor, num_windows: int, tokens_per_window: float | None = None
) -> list[Tensor | None]:
    """
    Weights that turn the token means of micro-batches into the token mean of an optimizer window.

    The mean over ranks of the weighted sum over micro-steps is the mean over all tokens that the window trains.

    Args:
        plan ([`Plan`]):
            The plan.
        lengths (`torch.Tensor` of shape `(N,)`):
            Tokens of each row that the loss counts.
        num_windows (`int`):
            W.
        tokens_per_window (`float`, *optional*):
            Tokens to divide by instead of those that the window trains.

    Returns:
        `list[Tensor | None]`:
            S entries: `None` for a micro-step that no rank runs, or weights of shape `(R,)`.

    Example:
    ```python
    >>> plan = Plan([None, torch.tensor([[0], [1]])], num_kept=2)  # row 0 on the first rank, row 1 on the second
    >>> token_shares(plan, torch.tensor([3, 1]), num_windows=1)  # 2 ranks x 3/4 and 1/4 of the tokens
    [None, tensor([1.5000, 0.5000])]
    ```
    """
    slots = len(plan.micro_steps) // num_windows
    counts = [
        None if rows is None else take_rows(lengths, rows.flatten()).view(rows.shape).sum(1).float()
        for rows in plan.micro_steps
    ]
    shares: list[Tensor | None] = []
    for start in range(0, len(counts), slots):
        window = counts[start : start + slots]
        total = tokens_per_window or max(sum(float(count.sum()) for count in window if count is not None), 1.0)
        shares += [None if count is None else len(count) * count / total for count in window]
    return shares


def run_aligned(
    model: Callable[..., Any], *, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, **kwargs: Any
) -> Any:
    """
    Runs a micro-batch with every row moved to the left, so that it is as wide as its longest row.

    TRL pads prompts on the left and completions on the right: a micro-batch is then as wide as its longest prompt and
    its longest completion together, and in the padding on the left nothing can be attended to. The output is as if the
    model had been called with that padding, and positions begin at 0 as they do in generation.

    Args:
        model (`Callable`):
            A model whose output has `log_probs` and maybe `entropy`, of the next token, under `labels`.
        input_ids (`torch.Tensor` of shape `(rows, T)`):
            Tokens.
        attention_mask (`torch.Tensor` of shape `(rows, T)`):
            1 on the tokens of a row, which stand together.
        labels (`torch.Tensor` of shape `(rows, T)`):
            Tokens to score, -100 elsewhere and on the first token of a row, which no token comes before.
        **kwargs:
            Passed on to the model.

    Returns:
        The model's output, with `log_probs` and `entropy` of shape `(rows, T - 1)`, 0 where no token comes next.
    """
    lengths = attention_mask.sum(1, keepdim=True)  # (rows, 1)
    offsets = torch.arange(int(lengths.max()), device=input_ids.device)
    is_token = offsets < lengths  # (rows, width)
    places = (attention_mask.argmax(1, keepdim=True) + offsets).clamp(max=input_ids.size(1) - 1)
    aligned = {
        "input_ids": input_ids.gather(1, places) * is_token,
        "attention_mask": is_token.to(attention_mask.dtype),
        "labels": labels.gather(1, places).masked_fill(~is_token, -100),
    }
    output = run_at_safe_width(model, **aligned, **kwargs)
    has_next = attention_mask.bool()[:, :-1] & attention_mask.bool()[:, 1:]  # (rows, T - 1)
    for name in ("log_probs", "entropy"):
        if (found := output.get(name)) is not None:
            output[name] = found.new_zeros(has_next.shape).masked_scatter(has_next, found[is_token[:, 1:]])
    return output


def run_at_safe_width(
    model: Callable[..., Any], *, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, **kwargs: Any
) -> Any:
    """
    Runs a micro-batch with one more column of padding where its width would make cuDNN's attention return NaN.

    Its backward pass does so where a mask is given, the width is 64 beyond a multiple of 128, and a row has nothing to
    attend to or very low scores (cuDNN 9.19 and 9.20, the default of torch 2.11 to 2.13 on an H100;
    https://github.com/pytorch/pytorch/issues/196678). The arguments are those of [`run_aligned`].
    """
    if not has_unsafe_width(input_ids):
        return model(input_ids=input_ids, attention_mask=attention_mask, labels=labels, **kwargs)
    shape = input_ids.shape
    of_tokens = {key: value for key, value in kwargs.items() if getattr(value, "shape", None) == shape}
    of_tokens |= {"input_ids": input_ids, "attention_mask": attention_mask}
    wider = {key: torch.nn.functional.pad(value, (0, 1)) for key, value in of_tokens.items()}
    labels = torch.nn.functional.pad(labels, (0, 1), value=-100)
    output = model(**(kwargs | wider), labels=labels)
    for name in ("log_probs", "entropy"):
        if (found := output.get(name)) is not None:
            output[name] = found[:, :-1]
    return output


def has_unsafe_width(input_ids: Tensor) -> bool:
    """Whether [`run_at_safe_width`] widens the micro-batch."""
    return input_ids.is_cuda and input_ids.size(1) % 128 == 64


def run_unpadded(
    model: Callable[..., Any], *, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, **kwargs: Any
) -> Any:
    """
    Runs a padded micro-batch as one sequence without padding, for attention that takes sequences of any length.

    Every row begins anew at position 0, and the model is told where (`cu_seq_lens_*`, `max_length_*`: transformers'
    arguments for flash-attention). The output is as if it had been called with the padding.

    Args:
        model (`Callable`):
            A model whose output has `log_probs` and maybe `entropy`, of the next token, under `labels`.
        input_ids (`torch.Tensor` of shape `(rows, T)`):
            Tokens.
        attention_mask (`torch.Tensor` of shape `(rows, T)`):
            1 on the tokens of a row, which stand together.
        labels (`torch.Tensor` of shape `(rows, T)`):
            Tokens to score, -100 elsewhere and on the first token of a row, which no token comes before.
        **kwargs:
            Passed on to the model.

    Returns:
        The model's output, with `log_probs` and `entropy` of shape `(rows, T - 1)`.
    """
    is_token = attention_mask.bool()
    positions = attention_mask.cumsum(1) - 1
    flat = {"input_ids": input_ids, "position_ids": positions, "labels": labels}
    lengths = attention_mask.sum(1)  # (rows,)
    ends = torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
    longest = int(lengths.max())
    rows = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
    output = model(**{name: values[is_token].unsqueeze(0) for name, values in flat.items()}, **rows, **kwargs)
    for name in ("log_probs", "entropy"):
        if (found := output.get(name)) is not None:
            found = torch.nn.functional.pad(found.squeeze(0), (1, 0))  # one for every token, the first included
            output[name] = found.new_zeros(is_token.shape).masked_scatter(is_token, found)[:, 1:]
    return output


def logps_of_rows(
    compute: Callable[[Tensor, Tensor, int], tuple[Tensor, Any, Any]],
    is_chosen: Tensor,
    num_rows: int,
    input_ids: Tensor,
    attention_mask: Tensor,
    logits_to_keep: int,
    batch_size: int,
) -> Tensor:
    """
    Computes the log-probs of some rows, longest first, so that a chunk holds rows of like length and little padding.

    Args:
        compute (`Callable`):
            TRL's `_get_per_token_logps_and_entropies`: tokens, mask and number of columns to log-probs of these.
        is_chosen (`torch.Tensor` of shape `(rows,)`):
            The rows.
        num_rows (`int`):
            Rows to run, at least as many as are chosen; the first row takes the place of those that lack.
        input_ids (`torch.Tensor` of shape `(rows, T)`):
            Tokens, prompts padded on the left and completions on the right.
        attention_mask (`torch.Tensor` of shape `(rows, T)`):
            1 on tokens.
        logits_to_keep (`int`):
            Columns of the completions, the last ones.
        batch_size (`int`):
            Rows of a chunk.

    Returns:
        `torch.Tensor` of shape `(rows, logits_to_keep)`: 0 on the other rows
    """
    logps = torch.zeros(len(input_ids), logits_to_keep, device=input_ids.device)
    rows = is_chosen.nonzero().flatten()
    rows = rows[attention_mask[rows].sum(1).argsort(descending=True)]
    rows = torch.cat([rows, rows.new_zeros(num_rows - len(rows))])
    num_prompt = input_ids.size(1) - logits_to_keep
    for chunk in rows.split(batch_size) if num_rows else ():
        mask = attention_mask[chunk]  # (chunk, T)
        start = num_prompt - max(int(mask[:, :num_prompt].sum(1).max()), 1)
        kept = max(int(mask[:, num_prompt:].sum(1).max()), 1)
        window = slice(start, num_prompt + kept)
        found, _, _ = compute(input_ids[chunk, window], mask[:, window], kept)
        logps[chunk, :kept] = found.to(logps.dtype)
    logps[~is_chosen] = 0.0
    return logps


def packs_apart(model: Callable[..., Any], vocab_size: int, dtype: torch.dtype, device: torch.device) -> bool:
    """
    Tries whether rows that are packed into one sequence stay apart: attention may, and convolutions do not.

    Two short rows run packed and apart. The first one has nothing before it, so what differs there is rounding; the
    second one must not differ by much more.

    Args:
        model (`Callable`):
            A model as [`run_unpadded`] takes it, with attention for rows of any length.
        vocab_size (`int`):
            Of the model.
        dtype (`torch.dtype`):
            What it computes in.
        device (`torch.device`):
            Where it is.

    Returns:
        `bool`
    """
    tokens = (torch.arange(2 * TRIAL_LENGTH, device=device) * 7919 % vocab_size).view(2, TRIAL_LENGTH)
    labels = tokens.clone()
    labels[:, 0] = -100
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}
    scores = [run(model, **inputs, fused_lm_head=True)["log_probs"].float() for run in (run_unpadded, run_aligned)]
    rounding, leak = (scores[0] - scores[1]).abs().mean(dim=1).tolist()
    return leak <= 4 * rounding + max(4 * torch.finfo(dtype).eps, 1e-3)
