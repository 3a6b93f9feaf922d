"""
Seconds per training step of `SignedRewardTrainer` against TRL's `GRPOTrainer`, interleaved A B A B in one process.

    OMP_NUM_THREADS=1 python benchmarks/step_time.py [--rounds 5] [--steps 4] [--rows 64] [--model PATH]

Under `objective="grpo"` both do the same work on the same rollouts, bit for bit, so the ratio is the cost of the
wrapping: outcomes, metrics by sign and their reduction. Prints medians over all steps but the first of each run.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time

from datasets import disable_progress_bars
from transformers import PrinterCallback, TrainerCallback
from transformers.utils import logging
from trl import GRPOConfig, GRPOTrainer

from nsr_trl import Problem, SignedRewardConfig, SignedRewardTrainer, math_reward, to_dataset
from nsr_trl.quickstart.model import model_path
from nsr_trl.quickstart.problems import generate_problems


class StepTimes(TrainerCallback):
    def __init__(self):
        self.seconds = []

    def on_step_begin(self, args, state, control, **kwargs):
        self.start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(time.perf_counter() - self.start)


def step_seconds(trainer_class, config_class, options, **settings) -> list[float]:
    times = StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_class(
            options.model,
            math_reward,
            config_class(
                output_dir=folder,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                per_device_train_batch_size=options.rows,
                max_completion_length=64,
                max_steps=options.steps,
                learning_rate=1e-5,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
                **settings,
            ),
            to_dataset([Problem(**row) for row in generate_problems(512, 0, "train")], template="plain"),
            callbacks=[times],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return times.seconds[1:]  # the first step warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rows", type=int, default=64, help="completions per step, in groups of 8")
    parser.add_argument("--model", default=str(model_path()))
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()

    contenders = {
        "GRPOTrainer": (GRPOTrainer, GRPOConfig, {}),
        "SignedRewardTrainer grpo": (SignedRewardTrainer, SignedRewardConfig, {"objective": "grpo"}),
        "SignedRewardTrainer w_reinforce": (SignedRewardTrainer, SignedRewardConfig, {}),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, (trainer_class, config_class, settings) in contenders.items():
            seconds[name] += step_seconds(trainer_class, config_class, options, **settings)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        quartiles = statistics.quantiles(values, n=4)
        print(
            f"{name:32} {medians[name]:.3f} s/step [{quartiles[0]:.3f}, {quartiles[2]:.3f}]  "
            f"ratio to GRPOTrainer {medians[name] / medians['GRPOTrainer']:.3f}"
        )
    print(json.dumps({"machine": platform.processor() or platform.machine(), "medians": medians, **vars(options)}))


if __name__ == "__main__":
    main()
