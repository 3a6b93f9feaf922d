"""
Seconds per training step of `SignedRewardTrainer` against TRL's `GRPOTrainer`, interleaved A B A B in one process.

    OMP_NUM_THREADS=1 python benchmarks/step_time.py [--rounds 5] [--steps 4] [--rows 64] [--cpu-seconds]

Under `objective="grpo"` both do the same work on the same rollouts, bit for bit, so the ratio is the cost of the
wrapping: outcomes, metrics by sign and their reduction. Prints medians over all steps but the first of each run.
On a machine that other jobs share, the CPU's seconds of the process say more than those of the clock on the wall.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time

from contenders import StepTimes, build_trainer
from datasets import disable_progress_bars
from transformers.utils import logging

from nsr_trl import Problem, math_reward, to_dataset
from nsr_trl.quickstart.model import model_path
from nsr_trl.quickstart.problems import generate_problems


def step_seconds(contender: str, options: argparse.Namespace) -> list[float]:
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
            per_device_train_batch_size=options.rows,
            max_completion_length=64,
            max_steps=options.steps,
            learning_rate=1e-5,
        )
        trainer.train()
    return times.seconds[1:]  # the first step warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rows", type=int, default=64, help="completions per step, in groups of 8")
    parser.add_argument("--model", default=str(model_path()))
    parser.add_argument("--cpu-seconds", action="store_true", help="count the CPU's seconds of this process")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()

    seconds: dict[str, list[float]] = {name: [] for name in ("trl", "grpo", "w_reinforce")}
    for _ in range(options.rounds):
        for name in seconds:
            seconds[name] += step_seconds(name, options)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        quartiles = statistics.quantiles(values, n=4)
        print(
            f"{name:12} {medians[name]:.3f} s/step [{quartiles[0]:.3f}, {quartiles[2]:.3f}]  "
            f"ratio to TRL's {medians[name] / medians['trl']:.3f}"
        )
    print(json.dumps({"machine": platform.processor() or platform.machine(), "medians": medians, **vars(options)}))


if __name__ == "__main__":
    main()
