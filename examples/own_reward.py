"""
A reward function of one's own: convert units, within one percent.

    python examples/own_reward.py --model_name_or_path Qwen/Qwen2.5-0.5B-Instruct --output_dir out --objective nsr

1.0 is correct and 0.0 incorrect. `None` is undecided and trains nothing: a completion that the function cannot judge
must not be penalised as wrong.
"""

import re

from datasets import Dataset
from trl import ModelConfig, TrlParser

from nsr_trl import SignedRewardConfig, SignedRewardTrainer


def close_enough(completions: list, meters: list[float], **kwargs) -> list[float | None]:
    """Judges the number before "m" at the end of each completion; the column `meters` holds the right one."""
    rewards: list[float | None] = []
    for completion, truth in zip(completions, meters, strict=True):
        stated = {float(number) for number in re.findall(r"(\d+(?:\.\d+)?) ?m\b", completion[-1]["content"])}
        if len(stated) > 1:
            rewards.append(None)  # several lengths: which of them is the answer?
        else:
            rewards.append(float(any(abs(length - truth) <= 0.01 * truth for length in stated)))
    return rewards


def main(args: SignedRewardConfig, model: ModelConfig) -> None:
    dataset = Dataset.from_list(
        [
            {"prompt": [{"role": "user", "content": f"How many meters are {feet} feet?"}], "meters": 0.3048 * feet}
            for feet in range(1, 201)
        ]
    )
    trainer = SignedRewardTrainer(model.model_name_or_path, close_enough, args, dataset)
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main(*TrlParser((SignedRewardConfig, ModelConfig)).parse_args_and_config())
