"""
Trains for many steps on random rows, often with few or none to train on a rank, and checks after every optimizer
step that the ranks agree, where each holds all parameters; sharded ones only have to keep going.

    torchrun --nproc_per_node 2 fuzz_plan.py MODEL OUT NUM_STEPS
    accelerate launch --config_file zero3.yaml fuzz_plan.py MODEL OUT NUM_STEPS
"""

import random
import sys

import torch
from datasets import Dataset
from sharding import ShardedTrainer
from transformers import PrinterCallback, TrainerCallback

from nsr_trl import SignedRewardConfig


class Agreement(TrainerCallback):
    """Fails as soon as the parameters of the ranks differ."""

    def on_step_end(self, args, state, control, model=None, **kwargs):
        checksum = torch.stack([p.detach().double().sum() for p in model.parameters()]).sum().reshape(1)
        sums = self.trainer.accelerator.gather(checksum)
        assert (sums == sums[0]).all(), f"step {state.global_step}: {sums.tolist()}"


def rollout(prompts, trainer):
    """1 to 12 tokens a row, from a generator of the rank."""
    ids = [[RNG.randrange(5, 60) for _ in range(RNG.randint(1, 12))] for _ in prompts]
    return {
        "prompt_ids": trainer.processing_class(text=prompts)["input_ids"],
        "completion_ids": ids,
        "logprobs": [[0.0] * len(row) for row in ids],
    }


def reward(completions, **kwargs):
    """Correct at a rate that changes from batch to batch and from rank to rank, down to none and up to all."""
    rate = RNG.choice([0.0, 0.0, 0.05, 0.3, 0.7, 1.0])
    return [1.0 if RNG.random() < rate else RNG.choice([0.0, 0.0, None]) for _ in completions]


if __name__ == "__main__":
    model, out, num_steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    args = SignedRewardConfig(
        output_dir=out,
        objective=["psr", "nsr"][num_steps % 2],
        compact="on",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        steps_per_generation=4,
        num_generations=4,
        max_steps=num_steps,
        learning_rate=1e-3,
        logging_steps=100,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    prompts = Dataset.from_dict({"prompt": [f"{n}+{n}=" for n in range(64)]})
    agreement = Agreement()
    trainer = ShardedTrainer(model, reward, args, prompts, rollout_func=rollout)
    trainer.remove_callback(PrinterCallback)
    if not (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled):
        agreement.trainer = trainer
        trainer.add_callback(agreement)
    RNG = random.Random(trainer.accelerator.process_index)
    trainer.train()
    assert trainer.state.global_step == num_steps
    assert all(
        torch.isfinite(p).all() for p in (trainer.accelerator.get_state_dict(trainer.model_wrapped) or {}).values()
    )
