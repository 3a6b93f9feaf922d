"""
Trains with vLLM and writes what came of it: in the training process, of which there may be two, or on a server.

    python train_with_vllm.py JOB
    accelerate launch --config_file zero3.yaml train_with_vllm.py JOB

JOB is JSON: `model`, `out`, `objectives` and `settings` of the config; `lora`; `sync` false leaves vLLM as it started.
"""

import json
import sys
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import save_file
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


def sync_through_files(folder):
    """The server without a GPU: TRL's client sends weights from GPU to GPU, and here through a folder."""

    def update_named_params(client, metadata, named_params):
        weights = {name: weight.detach().clone().contiguous() for name, weight in named_params}
        save_file(weights, folder / "model.safetensors")
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
        client._post(f"{client.base_url}/collective_rpc", json=body)

    folder.mkdir()
    vllm_generation.VLLMClient.init_communicator = lambda client, device: None
    vllm_generation.VLLMClient.update_named_params = update_named_params


def served_weights(trainer):
    """What this process's vLLM samples with: some under the names of transformers, some fused."""
    worker = trainer.vllm_generation.llm.llm_engine.model_executor.driver_worker
    return dict(worker.model_runner.model.named_parameters())


def watch_sampling(trainer):
    """Per rollout, what vLLM's log-probs are beside the model's, over the rows that train."""
    seen, generate = [], trainer._generate_and_score_completions

    def observed(inputs):
        batch = generate(inputs)
        trains = batch["advantages"] != 0
        mask = batch["completion_mask"][trains].bool()
        difference = (batch["old_per_token_logps"] - batch["sampling_per_token_logps"])[trains].abs()[mask]
        ratio = batch["importance_sampling_ratio"][trains]
        ratio = ratio[mask] if ratio.size(1) > 1 else ratio
        seen.append(
            {
                "sampling/sampling_logp_difference/mean": difference.mean().item(),
                "sampling/sampling_logp_difference/max": difference.max().item(),
                "sampling/importance_sampling_ratio/min": ratio.min().item(),
                "sampling/importance_sampling_ratio/mean": ratio.mean().item(),
                "sampling/importance_sampling_ratio/max": ratio.max().item(),
            }
        )
        return batch

    trainer._generate_and_score_completions = observed
    return seen


def compare(trainer, before):
    """How far vLLM's weights are, after a last sync, from where they began and from the trainer's."""
    trainer.vllm_generation.sync_weights()
    served = served_weights(trainer)
    moved = max((weight - before[name]).abs().mean().item() for name, weight in served.items())
    off = [
        (served[name][: len(weight)] - weight.to(served[name].dtype)).abs().mean().item()  # vLLM pads the vocabulary
        for name, weight in trainer.vllm_generation._iter_named_params()
        if name in served
    ]
    checksum = torch.stack([weight.double().sum() for weight in served.values()]).sum().reshape(1)
    checksums = trainer.accelerator.gather(checksum).tolist()
    return {"moved": moved, "off": max(off), "num_compared": len(off), "checksums": checksums}


def main(job):
    is_server = job.get("settings", {}).get("vllm_mode") == "server"
    if not job.get("sync", True):
        vllm_generation.VLLMGeneration.sync_weights = lambda self: None
    if is_server:
        sync_through_files(Path(job["out"]) / "weights")
    else:
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
        before = None if is_server else {name: weight.clone() for name, weight in served_weights(trainer).items()}
        sampling = watch_sampling(trainer)
        trainer.train()
        results[objective] = {"logs": logs.rows[:-1], "sampling": sampling}
        if not is_server:
            results[objective] |= compare(trainer, before)
        trainer.save_model(f"{job['out']}/{objective}")
        if trainer.accelerator.is_main_process:
            (Path(job["out"]) / "results.json").write_text(json.dumps(results))
    trainer.accelerator.wait_for_everyone()  # gloo may abort a rank that leaves while another is still at work
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
