"""
How good the compaction plan is at scale, by simulation: no model, no processes.

    python benchmarks/scale_plan.py

Rows of log-normal length (mean a quarter of 4,096 tokens, at most 4,096), 60% of them without a weight; a micro-batch
holds 8 rows of full length; 4 optimizer windows. Places are tokens and padding. DDP waits for the rank with the most
places in a window; ZeRO-3 waits for the widest micro-batch of every micro-step. Both are given as a share of what TRL
runs: every row, padded to the longest of the generation batch.
"""

import time

import torch

from nsr_trl.compaction import DUMMY, make_plan


LIMIT, PROMPT, ROWS_PER_MICRO_BATCH = 4096, 128, 8


def main() -> None:
    print(f"{'ranks':>6} {'rows':>8} {'micro-steps':>12} {'of':>5} {'padding':>8} {'DDP':>7} {'ZeRO-3':>7} {'s':>6}")
    for num_rows in (8_192, 32_768, 131_072):
        for num_ranks in (8, 64, 256, 1_024):
            num_micro_steps = num_rows // (num_ranks * ROWS_PER_MICRO_BATCH)
            torch.manual_seed(0)
            lengths = torch.distributions.LogNormal(0, 0.7).sample((num_rows,)) / 1.28 * LIMIT / 4
            lengths = lengths.clamp(1, LIMIT).long()
            prompts = torch.randint(PROMPT // 2, PROMPT, (num_rows,))
            num_windows = min(num_micro_steps, 4)
            start = time.perf_counter()
            plan = make_plan(
                prompts + lengths,
                torch.randperm(num_rows) // (num_rows // num_windows),
                torch.rand(num_rows) < 0.4,
                num_ranks=num_ranks,
                num_micro_steps=num_micro_steps,
                num_windows=num_windows,
                rows_per_micro_batch=ROWS_PER_MICRO_BATCH,
                max_tokens=ROWS_PER_MICRO_BATCH * (PROMPT + LIMIT),
                is_packed=False,
                fill_in_order=False,
            )
            seconds = time.perf_counter() - start
            tokens, places = torch.tensor(0), torch.zeros(num_windows, num_ranks)
            at_every_step = 0.0
            for index, rows in enumerate(plan.micro_steps):
                if rows is None:
                    continue
                is_real = rows != DUMMY
                width = ((prompts + lengths)[rows] * is_real).max(1).values
                places[index * num_windows // num_micro_steps] += width * rows.size(1)
                at_every_step += float(width.max() * rows.size(1))
                tokens = tokens + ((prompts[rows] + lengths[rows]) * is_real).sum()
            plain = num_rows / num_ranks * (prompts.max() + lengths.max())
            print(
                f"{num_ranks:6} {num_rows:8} {plan.num_run:12} {num_micro_steps:5} {1 - tokens / places.sum():8.1%} "
                f"{places.max(1).values.sum() / plain:7.3f} {at_every_step / plain:7.3f} {seconds:6.2f}"
            )


if __name__ == "__main__":
    main()
