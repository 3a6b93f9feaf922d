"""
The verifier beside math-verify and TRL's `accuracy_reward`, in one run on one machine.

    python benchmarks/verifier.py [FOLDER]

FOLDER holds labelled answers (`responses`, `equivalence`, `mutants` and `hostile.dev.jsonl`). Prints throughput one
response at a time and in a batch of SAMPLES x RESPONSES, the latency of single calls, and what hostile answers cost a
batch. The peers run with their default time-outs. Workers and process pools are started before they are timed, and our
cache is emptied before each measurement; within a batch equal pairs are compared once, which is what it is for.
"""

import json
import os
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from math_verify import parse
from math_verify import verify as math_verify
from trl.rewards import accuracy_reward

from nsr_trl import verify, verify_batch
from nsr_trl.verifier import Outcome
from nsr_trl.verifier.sandbox import default_num_workers
from nsr_trl.verifier.verify import PARSERS, _compare_here, forget_decisions


FOLDER = Path(__file__).parents[2] / "shared" / "verifier"
RESPONSES, SAMPLES = 500, 8
HOSTILE_SHARE = 0.05


def load(folder, name):
    return [json.loads(line) for line in (folder / f"{name}.dev.jsonl").read_text().splitlines()]


def with_math_verify(row):
    response, gold = row
    return math_verify(parse(f"\\boxed{{{gold}}}"), parse(response))


def with_trl(rows):
    completions = [[{"role": "assistant", "content": response}] for response, _ in rows]
    return accuracy_reward(completions, [f"\\boxed{{{gold}}}" for _, gold in rows])


def seconds(function, *arguments):
    forget_decisions()
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def latencies(function, rows):
    """Milliseconds of each call, sorted."""
    forget_decisions()
    times = []
    for row in rows:
        began = time.perf_counter()
        function(*row)
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times)


def percentiles(times):
    picks = {"median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return ", ".join(f"{name} {times[int(share * (len(times) - 1))]:.3g}" for name, share in picks.items()) + " ms"


def report(title, num_rows, timings):
    print(f"\n{title}")
    ours = timings["nsr-trl"]
    for name, time_taken in timings.items():
        ratio = f"   {time_taken / ours:6.1f} x ours" if name != "nsr-trl" else ""
        print(f"  {name:<28}{time_taken:8.2f} s {num_rows / time_taken:10,.0f} per second{ratio}")


def main(folder=FOLDER):
    rng = random.Random(0)
    rows = [(row["response"], row["gold"]) for row in load(folder, "responses") if not row.get("contested")]
    rows = rng.sample(rows, RESPONSES)
    batch = rows * SAMPLES
    rng.shuffle(batch)
    columns = tuple(zip(*batch, strict=True))
    num_workers = default_num_workers()
    print(f"{RESPONSES} responses, {SAMPLES} samples of each, {num_workers} workers, {os.cpu_count()} cores")

    warm_up = [(rf"\boxed{{\sqrt{{{i}+2\sqrt2}}}}", r"1+\sqrt2") for i in range(3, 12)]
    warm_up += [(rf"\boxed{{\sum_{{k=1}}^{{n}} k^{i}}}", "n") for i in range(9)]  # the workers with a parser
    starting = seconds(verify_batch, *zip(*warm_up, strict=True))
    print(f"start of the workers: {starting:.2f} s")
    with ProcessPoolExecutor(num_workers) as pool:
        list(pool.map(with_math_verify, rows[: 8 * num_workers]))

        report(
            f"one at a time, {RESPONSES} responses",
            len(rows),
            {
                "nsr-trl": seconds(lambda: [verify(*row) for row in rows]),
                "math-verify": seconds(lambda: [with_math_verify(row) for row in rows]),
                "TRL accuracy_reward": seconds(with_trl, rows),
            },
        )
        report(
            f"a batch of {len(batch)}",
            len(batch),
            {
                "nsr-trl": seconds(verify_batch, *columns),
                f"math-verify, {num_workers} processes": seconds(
                    lambda: list(pool.map(with_math_verify, batch, chunksize=16))
                ),
                "TRL accuracy_reward": seconds(with_trl, batch),
            },
        )

    print("\nlatency of one call")
    print(f"  {'all responses':<40}{percentiles(latencies(verify, rows))}")
    pairs = [(row["pred"], row["gold"]) for name in ("equivalence", "mutants") for row in load(folder, name)]
    pairs += [(verify(*row).answer or "", row[1]) for row in rows]
    compared = [(f"\\boxed{{{pair[0]}}}", pair[1], *_compare_here(pair, PARSERS[0])) for pair in pairs]
    is_open = [(row[2].outcome is Outcome.UNDECIDED, row[3] is not None) for row in compared]
    for title, kind in (("left undecided at once", (True, False)), ("sent to the workers", (True, True))):
        chosen = [row[:2] for row, each in zip(compared, is_open, strict=True) if each == kind]
        print(f"  {f'{len(chosen)} pairs, {title}':<40}{percentiles(latencies(verify, chosen))}")

    hostile = [(row["response"], row["gold"]) for row in load(folder, "hostile")]
    hostile = [
        ("".join(text * n for text, n in response["rep"]) if isinstance(response, dict) else response, gold)
        for response, gold in hostile
    ]
    poisoned = list(batch)
    places = rng.sample(range(len(batch)), int(len(batch) * HOSTILE_SHARE))
    for index, place in enumerate(places):
        poisoned[place] = hostile[index % len(hostile)]
    poisoned_columns = tuple(zip(*poisoned, strict=True))
    print(f"\na batch of {len(batch)} with {HOSTILE_SHARE:.0%} hostile answers")
    for run in ("the first", "the second"):  # the first may start a worker more
        clean_seconds, poisoned_seconds = seconds(verify_batch, *columns), seconds(verify_batch, *poisoned_columns)
        ratio = poisoned_seconds / clean_seconds
        print(f"  {run}: clean {clean_seconds:.2f} s, hostile {poisoned_seconds:.2f} s, {ratio:.2f} x")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
