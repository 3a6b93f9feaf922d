"""
Two objectives on the same problems: train, evaluate, compare, plot.

    python examples/compare_objectives.py --output_dir out

This trains the model that ships with nsr-trl, on a CPU in minutes; `--model_name_or_path` names another. It prints the
paired difference of Pass@k with its interval and writes `pass_at_k.png`.
"""

from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoTokenizer
from trl import ModelConfig, TrlParser

from nsr_trl import Evaluation, Problem, SignedRewardConfig, SignedRewardTrainer, evaluate, math_reward, to_dataset
from nsr_trl.evaluation.comparison import compare
from nsr_trl.evaluation.plots import plot_pass_at_k
from nsr_trl.evaluation.samplers import TransformersSampler
from nsr_trl.quickstart.model import model_path
from nsr_trl.quickstart.problems import generate_problems


@dataclass
class ComparisonArguments:
    """What to compare, and on how much."""

    objectives: list[str] = field(default_factory=lambda: ["psr", "nsr"], metadata={"help": "Two objectives."})
    num_problems: int = field(default=200, metadata={"help": "Problems to evaluate on."})
    num_samples: int = field(default=32, metadata={"help": "Completions of each problem."})


def train_and_evaluate(
    objective: str, script: ComparisonArguments, args: SignedRewardConfig, model: str
) -> Evaluation:
    """Trains from the same start on the same problems in the same order, and measures what came of it."""
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    args = copy(args)
    args.objective, args.output_dir = objective, str(Path(args.output_dir) / objective)
    trainer = SignedRewardTrainer(
        model,
        math_reward,
        args,
        to_dataset([Problem(**row) for row in generate_problems(1024, args.seed, "train")], template="plain"),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model()
    return evaluate(
        TransformersSampler(trainer.model, tokenizer, max_new_tokens=args.max_completion_length),
        [Problem(**row) for row in generate_problems(script.num_problems, args.seed, "test")],
        num_samples=script.num_samples,
        template="plain",
        output_dir=Path(args.output_dir) / "evaluation",
    )


def main(script: ComparisonArguments, args: SignedRewardConfig, model: ModelConfig) -> None:
    model_name = model.model_name_or_path or str(model_path())
    first, second = script.objectives
    evaluations = {name: train_and_evaluate(name, script, args, model_name) for name in (first, second)}
    print(compare(evaluations[first], evaluations[second], base_name=first, run_name=second).table())
    plot_pass_at_k(evaluations, Path(args.output_dir) / "pass_at_k.png")


if __name__ == "__main__":
    parser = TrlParser((ComparisonArguments, SignedRewardConfig, ModelConfig))
    # the quickstart's settings, for its model
    parser.set_defaults(
        use_cpu=True,
        bf16=False,
        max_steps=16,
        per_device_train_batch_size=512,
        num_generations=8,
        max_completion_length=64,
        learning_rate=2e-4,
        lr_scheduler_type="constant",
        save_strategy="no",
        report_to="none",
        logging_steps=1,
    )
    main(*parser.parse_args_and_config())
