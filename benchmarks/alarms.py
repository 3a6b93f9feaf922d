"""
What the alarms see: the shipped model trained so that it goes wrong, and what `on_alarm="stop"` saves of it.

    OMP_NUM_THREADS=1 python benchmarks/alarms.py [--scenarios hot-nsr ...] [--steps 24] [--rows 256] [--json FILE]

Every scenario is trained twice from the same seed, with `on_alarm="warn"` and with `"stop"`, and all models are
evaluated on the same held-out problems. A line says which alarm spoke at which step, where the weights went back to,
and Pass@k of the base, of what was saved and of what would have been left.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback

from nsr_trl import Problem, SignedRewardTrainer, evaluate, math_reward, to_dataset
from nsr_trl.alarms import METRIC
from nsr_trl.evaluation.samplers import TransformersSampler
from nsr_trl.quickstart.model import model_path
from nsr_trl.quickstart.problems import generate_problems
from nsr_trl.quickstart.run import quickstart_config, quieten


def long_reward(completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
    """Right is what is long: 35 tokens or more, where the model writes about 26."""
    return [float(len(ids) >= 35) for ids in completion_ids]


SCENARIOS: dict[str, dict[str, Any]] = {
    "warm-nsr": {"objective": "nsr", "learning_rate": 6e-4},
    "hot-nsr": {"objective": "nsr", "learning_rate": 1e-3},
    "hotter-nsr": {"objective": "nsr", "learning_rate": 3e-3},
    "hot-psr": {"objective": "psr", "learning_rate": 2e-3},
    "off-policy-nsr": {"objective": "nsr", "learning_rate": 1e-3, "num_iterations": 4},
    "long-is-right": {"objective": "psr", "learning_rate": 1e-3, "reward": long_reward},
}


def train(scenario: dict[str, Any], num_steps: int, num_rows: int, on_alarm: str, folder: str) -> SignedRewardTrainer:
    """One run of a scenario, into a folder."""
    settings = dict(scenario)
    reward = settings.pop("reward", math_reward)
    problems = [Problem(**row) for row in generate_problems(num_steps * num_rows // 8, 0, "train")]
    args = quickstart_config(
        settings.pop("objective"),
        0,
        folder,
        max_steps=num_steps,
        per_device_train_batch_size=num_rows,
        save_steps=1,
        save_total_limit=2,
        log_completions=False,
        on_alarm=on_alarm,
        **settings,
    )
    trainer = SignedRewardTrainer(
        model=AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32),
        reward_funcs=reward,
        args=args,
        train_dataset=to_dataset(problems, template="plain"),
        processing_class=AutoTokenizer.from_pretrained(model_path(), padding_side="left"),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer


def pass_at_k(model: Any, num_problems: int, num_samples: int) -> dict[int, float]:
    """Percent by k, on held-out problems."""
    tokenizer = AutoTokenizer.from_pretrained(model_path(), padding_side="left")
    problems = [Problem(**row) for row in generate_problems(num_problems, 0, "test")]
    sampler = TransformersSampler(model, tokenizer, max_new_tokens=64, batch_size=512)
    with tempfile.TemporaryDirectory() as folder:
        found = evaluate(sampler, problems, num_samples=num_samples, template="plain", output_dir=Path(folder, "run"))
    return {k: round(100 * estimate.value, 1) for k, estimate in found.pass_at_k.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--rows", type=int, default=256, help="completions of a step, 8 a problem")
    parser.add_argument("--problems", type=int, default=100, help="held-out problems")
    parser.add_argument("--samples", type=int, default=32, help="of each")
    parser.add_argument("--json", help="file to write the figures to")
    options = parser.parse_args()
    quieten()
    torch.set_num_threads(1)

    def measure(model: Any) -> dict[int, float]:
        return pass_at_k(model, options.problems, options.samples)

    base = measure(AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32))
    print(f"base: {base}", flush=True)
    results: dict[str, Any] = {"base": base}
    for name in options.scenarios:
        with tempfile.TemporaryDirectory() as folder:
            warned, stopped = (
                train(SCENARIOS[name], options.steps, options.rows, what, f"{folder}/{what}")
                for what in ("warn", "stop")
            )
            spoke: dict[str, int] = {}
            for entry in warned.state.log_history:
                for metric in entry:
                    if metric.startswith(METRIC):
                        spoke.setdefault(metric.removeprefix(METRIC), entry["step"])
            results[name] = {
                "spoke": spoke,
                "stopped": stopped.stopped_by_alarm,
                "saved": measure(stopped.model),
                "left": measure(warned.model),
            }
        print(f"{name}: {results[name]}", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps({"options": vars(options), "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
