"""
Trains with vLLM in the training process and writes what came of it. The same script for one process and for two.

    python train_colocate.py JOB
    accelerate launch --config_file zero3.yaml train_colocate.py JOB

JOB is JSON: `model`, `out`, `objectives` and `settings` of the config; `lora`; `sync` false leaves vLLM as it started.
"""

import json
import sys
from itertools import islice
from pathlib import Path

import torch
from transformers import PrinterCallback, TrainerCallback
from trl.generation import vllm_generation

from nsr_trl import Problem, SignedRewardConfig, SignedRewardTrainer, math_reward, to_dataset
from nsr_trl.quickstart.problems import sample_problems


class Logs(TrainerCallback):
    def __init__(self):
        self.rows = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.rows.append(logs)


def share_engine():
    """One engine for all trainers of the process: it takes long to start, and every trainer loads its weights."""
    engines, start = [], vllm_generation.LLM

    def engine(**settings):
        if not engines:
            engines.append(start(**settings))
        return engines[0]

    vllm_generation.LLM = engine


def main(job):
    if not job.get("sync", True):
        vllm_generation.VLLMGeneration.sync_weights = lambda self: None
    share_engine()
    problems = [Problem(p.question, p.answer) for p in islice(sample_problems(0, "train", 2), 64)]
    defaults = {
        "output_dir": job["out"],
        "compact": "on",
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": 0.2,
        "vllm_max_model_length": 128,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "num_generations": 8,
        "max_completion_length": 48,
        "max_steps": 4,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    results = {}
    for objective in job["objectives"]:
        logs = Logs()
        peft_config = None
        if job.get("lora"):
            from peft import LoraConfig

            peft_config = LoraConfig(r=8, target_modules="all-linear", init_lora_weights=True)
        trainer = SignedRewardTrainer(
            job["model"],
            math_reward,
            SignedRewardConfig(objective=objective, **(defaults | job.get("settings", {}))),
            to_dataset(problems, template="plain"),
            callbacks=[logs],
            peft_config=peft_config,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        trainer.vllm_generation.sync_weights()
        worker = trainer.vllm_generation.llm.llm_engine.model_executor.driver_worker
        served = [parameter.double().sum() for parameter in worker.model_runner.model.parameters()]
        checksums = trainer.accelerator.gather(torch.stack(served).sum().reshape(1)).tolist()
        results[objective] = {"logs": logs.rows[:-1], "checksums": checksums}
        trainer.save_model(f"{job['out']}/{objective}")
        if trainer.accelerator.is_main_process:
            (Path(job["out"]) / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
