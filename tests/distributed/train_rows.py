"""
Trains the tiny model on fixed rows and writes what came of it, run after run: a start takes longer than a run.

    python train_rows.py MODEL OUT RUNS
    torchrun --nproc_per_node 2 train_rows.py MODEL OUT RUNS

RUNS is JSON: settings by name; the results of a run are in OUT/name. The rows are a function of the prompt and of the
place in its group, so every division over ranks trains on the same.
"""

import json
import os
import sys
from pathlib import Path

import torch
from datasets import Dataset
from sharding import ShardedTrainer
from transformers import TrainerCallback

from nsr_trl import SignedRewardConfig


NUM_ROWS, GROUP = 16, 4


def rollout(prompts, trainer):
    ids = []
    for row, prompt in enumerate(prompts):
        seed = sum(prompt.encode()) + 31 * (row % GROUP)
        length = 1 + seed % 7
        ids.append([5 + (seed * (i + 3)) % 60 for i in range(length)])
    prompt_ids = trainer.processing_class(text=prompts)["input_ids"]
    return {"prompt_ids": prompt_ids, "completion_ids": ids, "logprobs": [[0.0] * len(row) for row in ids]}


def reward(completion_ids, **kwargs):
    """Correct, incorrect or undecided by the tokens alone."""
    return [[1.0, 0.0, 0.0, None][sum(ids) % 4] for ids in completion_ids]


class Logs(TrainerCallback):
    def __init__(self):
        self.rows = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.rows.append(
            {k: v for k, v in logs.items() if k in ("loss", "grad_norm") or "signed/" in k or "pass@" in k}
        )


def train(model, out, settings):
    out.mkdir(exist_ok=True)
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    prompts = Dataset.from_dict({"prompt": [f"{n}+{3 * n}=" for n in range(8)]})
    logs = Logs()
    defaults = {
        "output_dir": str(out),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": NUM_ROWS // 2 // world_size,
        "per_device_eval_batch_size": NUM_ROWS // 2 // world_size,
        "gradient_accumulation_steps": 2,
        "num_iterations": 2,
        "num_generations": GROUP,
        "max_steps": 4,
        "learning_rate": 0.5,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    args = SignedRewardConfig(**(defaults | settings))
    trainer = ShardedTrainer(model, reward, args, prompts, prompts, rollout_func=rollout, callbacks=[logs])
    trainer.train()
    trainer.evaluate()
    assert trainer.accelerator.num_processes == world_size
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # gathered from all ranks where they hold shards
    if state:
        torch.save({k: v.cpu() for k, v in state.items()}, out / f"parameters-{trainer.accelerator.process_index}.pt")
    if trainer.accelerator.is_main_process:
        (out / "logs.json").write_text(json.dumps(logs.rows))
    # a rank that leaves while another is still at work may be aborted by gloo
    trainer.accelerator.wait_for_everyone()
    return trainer


if __name__ == "__main__":
    model, out, runs = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    for name, settings in runs.items():
        trainer = train(model, out / name, settings)
    trainer.accelerator.end_training()
