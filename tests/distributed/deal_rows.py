"""
Deals rows over processes of gloo, without a trainer and without a model, and prints what each rank got as JSON.

    torchrun --nproc_per_node 2 deal_rows.py
"""

import json
import os
import sys

import torch
import torch.distributed as dist

from nsr_trl.dealing import deal


MESSAGES: list[torch.Size] = []


def batch_of(rank):
    """Four rows of a rank: prompts of 1 or 2 tokens, completions of 1 to 4, every token its row's number."""
    rows = torch.arange(4) + 4 * rank
    prompt_lengths, completion_lengths = 1 + rows % 2, 1 + rows % 4
    width = int(completion_lengths.max()) + rank  # ranks pad to their own longest
    columns = torch.arange(width)
    return {
        "prompt_ids": (rows + 1).unsqueeze(1) * (torch.arange(2) >= 2 - prompt_lengths.unsqueeze(1)),
        "prompt_mask": (torch.arange(2) >= 2 - prompt_lengths.unsqueeze(1)).long(),
        "completion_ids": (rows + 1).unsqueeze(1) * (columns < completion_lengths.unsqueeze(1)),
        "completion_mask": (columns < completion_lengths.unsqueeze(1)).long(),
        "advantages": torch.tensor([-1.0, 0.0, -1.0, 0.5]) if rank == 0 else torch.tensor([0.0, -1.0, 0.0, 0.0]),
        "old_per_token_logps": -0.5 * (columns < completion_lengths.unsqueeze(1)),
        "importance_sampling_ratio": rows.unsqueeze(1) / 4,
        "outcomes": torch.tensor([-1, 1, -1, 1], dtype=torch.int8),
        "num_items_in_batch": torch.tensor(20),
    }


def gather(tensor):
    MESSAGES.append(tensor.shape)
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor)
    return torch.cat(parts)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    micro_batches, costs = deal(
        batch_of(rank),
        torch.zeros(4, dtype=torch.long),
        gather=gather,
        rank=rank,
        num_ranks=dist.get_world_size(),
        num_micro_steps=2,
        num_windows=1,
        rows_per_micro_batch=2,
        max_completion_length=4,
        max_tokens=None,
        by_rows=False,
        is_packed=False,
        as_reference=False,
    )
    found = [
        None
        if batch is None
        else {key: value.tolist() if hasattr(value, "tolist") else value for key, value in batch.items()}
        for batch in micro_batches
    ]
    sys.stdout.write(f"{rank} {json.dumps([*found, len(MESSAGES)])}\n")
    sys.stdout.flush()
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)
