"""
Trains a causal LM, by Hub id or path, on the sign of its answers to MATH.

    python examples/train_math.py --model_name_or_path Qwen/Qwen2.5-Math-1.5B --output_dir math-nsr --objective nsr \
        --per_device_train_batch_size 8 --num_generations 8 --max_completion_length 1024 --max_steps 100

Every field of `SignedRewardConfig` (and so of `GRPOConfig`) and of TRL's `ModelConfig` is a flag; `--config FILE.yaml`
reads them from a file. `--dataset` takes a Hub id or a local parquet, JSON or CSV file.
"""

from dataclasses import dataclass, field

from transformers import AutoTokenizer
from trl import ModelConfig, TrlParser, get_peft_config, get_quantization_config

from nsr_trl import SignedRewardConfig, SignedRewardTrainer, load_problems, math_reward, to_dataset


@dataclass
class MathArguments:
    """What to train on."""

    dataset: str = field(
        default="DigitalLearningGmbH/MATH-lighteval",
        metadata={"help": "Hub dataset id, or a local parquet, JSON or CSV file."},
    )
    split: str | None = field(default=None, metadata={"help": "Split of a Hub dataset; 'train' where there is one."})
    num_problems: int | None = field(default=None, metadata={"help": "Train on the first so many problems."})
    template: str | None = field(
        default=None, metadata={"help": "Prompt template by name; the model's own chat template if not set."}
    )


def main(data: MathArguments, args: SignedRewardConfig, model: ModelConfig) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model.model_name_or_path, padding_side="left")
    problems = load_problems(data.dataset, split=data.split, limit=data.num_problems)

    args.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
    } | (args.model_init_kwargs or {})

    trainer = SignedRewardTrainer(
        model=model.model_name_or_path,
        reward_funcs=math_reward,
        args=args,
        train_dataset=to_dataset(problems, template=data.template, tokenizer=tokenizer),
        processing_class=tokenizer,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model()
    trainer.create_model_card(dataset_name=data.dataset)
    if args.push_to_hub:
        trainer.push_to_hub(dataset_name=data.dataset)


if __name__ == "__main__":
    main(*TrlParser((MathArguments, SignedRewardConfig, ModelConfig)).parse_args_and_config())
