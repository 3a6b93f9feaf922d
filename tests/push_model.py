"""
Trains a tiny model for two steps and pushes it: python push_model.py MODEL OUT, with HF_ENDPOINT set.
"""

import sys

from datasets import Dataset

from nsr_trl import SignedRewardConfig, SignedRewardTrainer


if __name__ == "__main__":
    model, out = sys.argv[1:3]
    args = SignedRewardConfig(
        output_dir=out,
        objective="nsr",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=8,
        max_completion_length=8,
        max_steps=2,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        push_to_hub=True,
        hub_model_id="someone/tiny",
    )
    prompts = Dataset.from_dict({"prompt": [f"{n}+{n}=" for n in range(8)]})
    trainer = SignedRewardTrainer(model, lambda completions, **_: [0.0 for _ in completions], args, prompts)
    trainer.train()
    trainer.push_to_hub()
