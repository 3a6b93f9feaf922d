"""
Seconds per generation of `SignedRewardTrainer` against TRL's `GRPOTrainer`, interleaved A B A B in one process.

    OMP_NUM_THREADS=1 python benchmarks/step_time.py [--rounds 6] [--rows 64] [--windows 1] [--cpu-seconds]
    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 benchmarks/step_time.py ...

Whole steps: the model writes the completions, rewards are computed, and each of `--windows` optimizer steps trains its
share of the rows. With one window, `objective="grpo"` does on the same rollouts what TRL does, bit for bit, so the
ratio is the cost of the wrapping: outcomes, metrics by sign and their reduction. Prints medians over all generations
but the first of each run, and the mean ratio to TRL's in the same round with its 95% t interval over rounds. On a
machine that other jobs share, the CPU's seconds of the process say more than those of the clock on the wall.
"""

import argparse
import json
import math
import platform
import statistics
import tempfile
import time
from itertools import chain

import numpy as np
from accelerate import PartialState
from contenders import StepTimes, build_trainer
from datasets import disable_progress_bars
from transformers.utils import logging

from nsr_trl import Problem, math_reward, to_dataset
from nsr_trl.quickstart.model import model_path
from nsr_trl.quickstart.problems import generate_problems
from nsr_trl.study.summary import mean_over_worlds


def generation_seconds(contender: str, options: argparse.Namespace) -> list[float]:
    times = StepTimes(time.process_time if options.cpu_seconds else time.perf_counter)
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(
            contender,
            folder,
            model=options.model,
            reward_funcs=math_reward,
            train_dataset=to_dataset([Problem(**row) for row in generate_problems(512, 0, "train")], template="plain"),
            callbacks=[times],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=options.rows // options.windows,
            gradient_accumulation_steps=1,
            steps_per_generation=options.windows,
            max_completion_length=64,
            max_steps=options.generations * options.windows,
            learning_rate=1e-5,
        )
        trainer.train()
    starts = range(options.windows, len(times.seconds), options.windows)  # the first generation warms up
    return [sum(times.seconds[start : start + options.windows]) for start in starts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--generations", type=int, default=4, help="of each contender in a round")
    parser.add_argument("--rows", type=int, default=64, help="completions of a process per generation, in groups of 8")
    parser.add_argument("--windows", type=int, default=1, help="optimizer steps of a generation")
    parser.add_argument("--objectives", nargs="+", default=["grpo", "w_reinforce"])
    parser.add_argument("--model", default=str(model_path()))
    parser.add_argument("--cpu-seconds", action="store_true", help="count the CPU's seconds of this process")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()

    seconds: dict[str, list[list[float]]] = {name: [] for name in ("trl", *options.objectives)}  # by round
    for _ in range(options.rounds):
        for name, rounds in seconds.items():
            rounds.append(generation_seconds(name, options))
    state = PartialState()
    if state.is_main_process:
        for name, rounds in seconds.items():
            print(f"{name:12} {statistics.median(chain.from_iterable(rounds)):.3f} s  {ratio(rounds, seconds['trl'])}")
        facts = {"machine": platform.processor() or platform.machine(), "processes": state.num_processes}
        print(json.dumps({**facts, **vars(options)}))
    state.destroy_process_group()


def ratio(rounds: list[list[float]], trl: list[list[float]]) -> str:
    """The ratio of a round's medians, as a geometric mean over rounds."""
    logs = [math.log(statistics.median(a) / statistics.median(b)) for a, b in zip(rounds, trl, strict=True)]
    mean = mean_over_worlds(np.array([logs]).T)  # a round stands for a world; one alone has no interval
    low, high = (math.exp(mean.value + side * mean.half_width) for side in (-1, 1))
    return f"{math.exp(mean.value):.3f} [{low:.3f}, {high:.3f}] of TRL's"


if __name__ == "__main__":
    main()
