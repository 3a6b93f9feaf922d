"""
Problems of one's own: a file with a question and an answer a line.

    python examples/own_dataset.py --model_name_or_path Qwen/Qwen2.5-0.5B-Instruct --output_dir out --objective nsr

This reads `problems.jsonl` beside it. Parquet, JSON, CSV and datasets on the Hub are read alike; `question_column` and
`answer_column` name columns that are called something else. From the shell: `nsr-trl train --dataset FILE`.
"""

from pathlib import Path

from transformers import AutoTokenizer
from trl import ModelConfig, TrlParser

from nsr_trl import SignedRewardConfig, SignedRewardTrainer, load_problems, math_reward, to_dataset


def main(args: SignedRewardConfig, model: ModelConfig) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model.model_name_or_path, padding_side="left")
    problems = load_problems(Path(__file__).with_name("problems.jsonl"))
    # a model without a chat template needs a plain-text prompt
    template = None if tokenizer.chat_template else "simple"
    trainer = SignedRewardTrainer(
        model.model_name_or_path,
        math_reward,
        args,
        to_dataset(problems, template=template, tokenizer=tokenizer),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main(*TrlParser((SignedRewardConfig, ModelConfig)).parse_args_and_config())
