"""
Trains the tiny model with a checkpoint after every optimizer step, from the last complete one if there is any.

    python train_and_resume.py MODEL OUT SETTINGS
    torchrun --nproc_per_node 2 train_and_resume.py MODEL OUT SETTINGS

Writes OUT/parameters-RANK.pt at the end of the last step, and OUT/stopped where a signal came first. With the setting
`crash`, a method of `GRPOTrainer` and a number, the call of that number ends in an exception. With `right_until`, a
number of rollouts, nothing is right after so many. OUT/alarm says which alarm ended the run.
"""

import json
import os
import sys
from pathlib import Path

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOTrainer

from nsr_trl import SignedRewardConfig, SignedRewardTrainer
from nsr_trl.checkpoints import last_complete_checkpoint


def reward(completion_ids, **kwargs):
    return [[1.0, 0.0, 0.0, None][sum(ids) % 4] for ids in completion_ids]


def right_until(num_rollouts):
    """A reward that is right now and then in the first rollouts, and never again."""
    calls = []

    def reward_that_ends(completion_ids, **kwargs):
        calls.append(1)
        return [float(sum(ids) % 2 and len(calls) <= num_rollouts) for ids in completion_ids]

    return reward_that_ends


class Steps(TrainerCallback):
    """Says on stdout when a step has begun, for whoever waits to kill this process."""

    def on_step_begin(self, args, state, control, **kwargs):
        print(f"step {state.global_step} of process {os.getpid()}", flush=True)


def crash_in(trainer, method, call):
    """Has a call of one of TRL's methods end in an exception, after its work is done."""
    original, calls = getattr(GRPOTrainer, method), []

    def crash(self, *args, **kwargs):
        calls.append(method)
        result = original(self, *args, **kwargs)
        if len(calls) == call:
            raise RuntimeError(f"injected into {method}")
        return result

    setattr(GRPOTrainer, method, crash)


def train(model, out, settings):
    """Trains to the end, or until SIGTERM; returns the parameters by name."""
    defaults = {
        "output_dir": str(out / "run"),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "objective": "w_reinforce",
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "steps_per_generation": 4,  # two optimizer steps per generation
        "num_iterations": 2,  # each taken twice
        "num_generations": 4,
        "max_completion_length": 6,
        "max_steps": 14,  # the third epoch of 2 x 4 steps ends it
        "learning_rate": 1e-2,
        "logging_steps": 3,
        "save_steps": 1,
        "save_total_limit": 1,
        "report_to": "none",
        "disable_tqdm": True,
    }
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    prompts = Dataset.from_dict({"prompt": [f"{n}+{n}=" for n in range(8 * world_size)]})
    crash = settings.pop("crash", None)
    scored_by = right_until(settings.pop("right_until")) if "right_until" in settings else reward
    args = SignedRewardConfig(**(defaults | settings))
    trainer = SignedRewardTrainer(model, scored_by, args, prompts, callbacks=[Steps()])
    if crash:
        crash_in(trainer, *crash)
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(args.output_dir))
    if trainer.stopped_by_alarm:
        (out / "alarm").write_text(trainer.stopped_by_alarm)
    # of a sharded model the whole state; every rank has it, or the main process alone
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped) or {}
    if trainer.stopped_by_signal:
        (out / "stopped").touch()
    elif state:
        torch.save(state, out / f"parameters-{trainer.accelerator.process_index}.pt")
    # a rank that leaves while another is still at work may be aborted by gloo
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()
    return state


if __name__ == "__main__":
    train(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
