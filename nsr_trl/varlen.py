"""
Attention over rows that are packed into one sequence, by torch alone: `attn_implementation="varlen"`.

A packed micro-batch ([`~compaction.run_unpadded`]) is one sequence of T tokens, of which each row attends to itself
alone. On CUDA in half precision torch's `varlen_attn` does it in one call, anywhere else its SDPA does it row by row.
Whatever is not packed, generation above all, goes through transformers' SDPA.
"""

import contextlib
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils.generic import is_flash_attention_requested


VARLEN = "varlen"

_varlen_attn: Any = None
with contextlib.suppress(ImportError):  # before torch 2.10
    from torch.nn.attention.varlen import varlen_attn as _varlen_attn
_IS_OF_TORCH_2_10 = _varlen_attn is not None and "is_causal" in inspect.signature(_varlen_attn).parameters

OF_SOME_LAYERS = ("sliding_window", "softcap", "s_aux")
"""What attention of some models has besides, and this has not."""


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """
    Attends as transformers' attention functions do.

    Args:
        module (`torch.nn.Module`):
            The layer's attention.
        query (`torch.Tensor` of shape `(1, heads, T, D)`):
            States of all rows; of any other shape where nothing is packed.
        key (`torch.Tensor` of shape `(1, key heads, T, D)`):
            As well.
        value (`torch.Tensor` of shape `(1, key heads, T, D)`):
            As well.
        attention_mask (`torch.Tensor`, *optional*):
            Of what is not packed.
        scaling (`float`, *optional*):
            Of the scores.
        dropout (`float`, *optional*, defaults to `0.0`):
            Of the weights.
        cu_seq_lens_q (`torch.Tensor` of shape `(rows + 1,)`, *optional*):
            Where rows begin, and T: what is packed comes with it.
        max_length_q (`int`, *optional*):
            Tokens of the longest row.
        **kwargs:
            What the layer has besides.

    Returns:
        `tuple[Tensor, None]`: `(1, T, heads, D)`, and no weights

    Raises:
        ValueError: If a layer with a sliding window, a cap or sinks is packed.
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if more := [name for name in OF_SOME_LAYERS if kwargs.get(name) is not None]:
        raise _has_more(more)
    groups = query.size(1) // key.size(1)
    states = query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)  # (1, heads, T, D) each
    if query.is_cuda and not dropout and (dtype := _half_precision(query)) is not None:
        flat = [of.squeeze(0).transpose(0, 1).to(dtype).contiguous() for of in states]  # (T, heads, D)
        causal: Any = {"is_causal": True} if _IS_OF_TORCH_2_10 else {"window_size": (-1, 0), "scale": scaling}
        ends, longest = [cu_seq_lens_q] * 2, [max_length_q] * 2  # of queries and of keys
        return _varlen_attn(*flat, *ends, *longest, **causal).unsqueeze(0), None
    of_rows = zip(*(of.split(cu_seq_lens_q.diff().tolist(), dim=2) for of in states), strict=True)
    outputs = [
        scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling) for q, k, v in of_rows
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _half_precision(query: Tensor) -> torch.dtype | None:
    """The half precision that attention runs in, if it does and torch has attention over rows of any length."""
    dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else query.dtype
    return dtype if _varlen_attn is not None and dtype in (torch.bfloat16, torch.float16) else None


def mask(**kwargs: Any) -> Tensor | None:
    """The mask of SDPA; none of packed rows, which transformers knows by their positions, and which need no T x T."""
    num_queries = kwargs["q_length"] if "q_length" in kwargs else len(kwargs["cache_position"])  # transformers 5.0
    is_packed = kwargs["attention_mask"] is None and not kwargs["allow_is_causal_skip"]
    return None if is_packed and num_queries == kwargs["kv_length"] else sdpa_mask(**kwargs)


def takes_packed_rows(config: Any) -> bool:
    """
    Whether a model, by its config, has attention that takes rows of any length: this one, or flash-attention.

    Raises:
        ValueError: If it is this one, and layers of the model see a sliding window.
    """
    if config._attn_implementation != VARLEN:
        return is_flash_attention_requested(config)
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    if window is not None and (kinds is None or "sliding_attention" in kinds):
        raise _has_more(["sliding_window"])
    return True


def _has_more(names: Sequence[str]) -> ValueError:
    return ValueError(
        f"attn_implementation={VARLEN!r} is plain causal attention; this model's has {', '.join(names)}. "
        "Use 'sdpa', or flash-attention."
    )


AttentionInterface.register(VARLEN, attend)
AttentionMaskInterface.register(VARLEN, mask)
