"""
What an update costs: the same completions and rewards through TRL's `GRPOTrainer` and `SignedRewardTrainer`.

    OMP_NUM_THREADS=1 python benchmarks/update_cost.py [--model PATH] [--limit 256] [--rows 8] [--rounds 3]

A seeded rollout deals completions of log-normal length (mean a quarter of `--limit`, at most `--limit`) and rewards at
a given correct ratio. Nothing is generated, so a step is the update: old log-probs where the schedule is off-policy,
forward, backward, optimizer. With `--generate` the model writes the completions, and a step is a whole one. Every
contender runs in a process of its own and the contenders take turns (A B A B). The figures are medians over all
generations but the first of each process: seconds per optimizer step, and peak memory. On a machine that other jobs
share, `--cpu-seconds` says more than the clock on the wall.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time

from contenders import Workload, time_generations
from transformers.utils import logging

from nsr_trl.quickstart.model import model_path


OBJECTIVES = ("nsr", "psr", "w_reinforce", "grpo", "qae")
ACCUMULATION = 4
VARIANTS: dict[str, dict] = {
    "": {},
    "auto": {"max_tokens_per_microbatch": "auto"},
    "varlen": {"model_init_kwargs": {"attn_implementation": "varlen"}},
}
"""Settings with which an objective may run besides its own."""


def run(job: dict) -> dict:
    """One contender on one correct ratio, in this process: seconds of each step and peak memory in MB."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    workload = Workload(
        limit=job["limit"],
        rows=job["rows"],
        micro_steps=ACCUMULATION,
        updates=job["updates"],
        correct_ratio=job["correct_ratio"],
        generates=job["generate"],
    )
    contender, _, variant = job["contender"].partition(" ")
    timing = time_generations(
        contender,
        job["model"],
        workload,
        job["steps"] // job["updates"],
        clock=time.process_time if job["cpu_seconds"] else time.perf_counter,
        **VARIANTS[variant],
    )
    return {"seconds": timing.seconds, "memory_mb": timing.peak_bytes / 2**20}


def plot(table: list[dict], path: str) -> None:
    """Bars of the speedup over TRL by objective, grouped by correct ratio; by variant, where there are any."""
    from matplotlib.figure import Figure

    speedups: dict[str, dict[str, float]] = {}  # by bar and group
    has_variants = any(" " in row["contender"] for row in table)
    for row in table:
        objective, _, variant = row["contender"].partition(" ")
        at = f"{row['correct_ratio']:.0%} correct"
        bar, group = (variant or "default", f"{objective}, {at}") if has_variants else (objective, at)
        if objective != "trl":
            speedups.setdefault(bar, {})[group] = row["speedup"]
    groups = list(dict.fromkeys(group for of_bar in speedups.values() for group in of_bar))
    figure = Figure(figsize=(5.5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(speedups)
    colors = itertools.cycle(("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"))
    for index, ((bar, found), color) in enumerate(zip(speedups.items(), colors, strict=False)):
        places = [place + (index - (len(speedups) - 1) / 2) * width for place in range(len(groups))]
        bars = axes.bar(places, [found[group] for group in groups], width * 0.9, label=bar, color=color)
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
    axes.axhline(1, color="0.4", linewidth=0.8)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel("times as fast as TRL")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.1)
    figure.legend(frameon=False, ncols=len(speedups), loc="outside upper center", fontsize=8)
    figure.savefig(path, dpi=200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(model_path()))
    parser.add_argument("--limit", type=int, default=256, help="longest completion, tokens")
    parser.add_argument("--rows", type=int, default=8, help="rows per micro-batch")
    parser.add_argument("--updates", type=int, default=1, help="optimizer steps per generation; 1 is on-policy")
    parser.add_argument("--steps", type=int, default=6, help="optimizer steps of a process")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--correct-ratios", type=float, nargs="+", default=[0.2, 0.6, 0.8])
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES))
    parser.add_argument(
        "--variants", nargs="+", choices=list(VARIANTS)[1:], default=[], help="each objective so as well"
    )
    parser.add_argument("--generate", action="store_true", help="let the model write the completions: whole steps")
    parser.add_argument("--cpu-seconds", action="store_true", help="count the CPU's seconds of each process")
    parser.add_argument("--json", help="file to write the figures to")
    parser.add_argument("--plot", help="file to draw the speedups to")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(run(json.loads(options.job))))
        return

    variants = ["", *(f" {variant}" for variant in options.variants)]
    contenders = ["trl", *(objective + variant for objective in options.objectives for variant in variants)]
    names = ("model", "limit", "rows", "updates", "steps", "generate", "cpu_seconds")
    shared = {name: getattr(options, name) for name in names}
    figures: dict[tuple[float, str], dict[str, list[float]]] = {}
    for _ in range(options.rounds):
        for ratio in options.correct_ratios:
            for contender in contenders:
                job = shared | {"correct_ratio": ratio, "contender": contender}
                done = subprocess.run(
                    [sys.executable, __file__, "--job", json.dumps(job)], capture_output=True, text=True, check=True
                )
                result = json.loads(done.stdout.splitlines()[-1])
                entry = figures.setdefault((ratio, contender), {"seconds": [], "memory_mb": []})
                entry["seconds"] += result["seconds"]
                entry["memory_mb"].append(result["memory_mb"])

    table = []
    print(f"{'correct':>7}  {'contender':18} {'s/step':>7} {'spread':>15}  {'TRL / ours':>10}  {'memory MB':>9}")
    for (ratio, name), entry in figures.items():
        median = statistics.median(entry["seconds"])
        low, _, high = statistics.quantiles(entry["seconds"], n=4)
        speedup = statistics.median(figures[ratio, "trl"]["seconds"]) / median
        memory = statistics.median(entry["memory_mb"])
        print(f"{ratio:7}  {name:18} {median:7.3f} [{low:6.3f}, {high:6.3f}] {speedup:11.2f}  {memory:9.0f}")
        table.append(
            {"correct_ratio": ratio, "contender": name, "seconds": median, "speedup": speedup, "memory_mb": memory}
        )
    if options.plot:
        plot(table, options.plot)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"options": vars(options), "figures": table}, file, indent=2)


if __name__ == "__main__":
    main()
