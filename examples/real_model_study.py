r"""
Four objectives on a model of your own: at equal steps, and where they have the same Pass@1.

    python examples/real_model_study.py --model_name_or_path Qwen/Qwen2.5-Math-1.5B --template qwen \
        --train train.parquet --test test.jsonl --output_dir study

The files hold a question and an answer a row. Without them the problems are sums of two digits, of which a model of
0.1B parameters gets some right (`--answer_format last`). The defaults are meant for one GPU of 80 GB and a model of 1B
to 2B parameters, minutes a run by estimate: it was run with 0.1B, four runs at once in five minutes. All fields of
`SignedRewardConfig`, and so of `GRPOConfig`, are flags. Measured on `--num_test` problems every `--save_steps` steps.
Finished runs are skipped and a killed one goes on: give the same command again. Each run keeps its last checkpoint,
with the optimizer's state, and its evaluations: `nsr-trl compare --match-pass-at-1 OUT/psr-0/evaluation
OUT/nsr-0/evaluation` reads them too.
"""

import random
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from countdown.driver import OBJECTIVES, Measurement, run_study
from transformers import AutoTokenizer
from trl import ModelConfig, TrlParser

from nsr_trl import (
    Problem,
    SignedRewardConfig,
    SignedRewardTrainer,
    evaluate,
    load_problems,
    math_reward,
    to_dataset,
)
from nsr_trl.evaluation.pass_at_k import pass_at_k
from nsr_trl.evaluation.samplers import TransformersSampler
from nsr_trl.problem import Prompting


@dataclass
class StudyArguments:
    """What to compare, on which problems."""

    objectives: list[str] = field(
        default_factory=lambda: list(OBJECTIVES), metadata={"help": "The first is the base."}
    )
    seeds: list[int] = field(default_factory=lambda: [0], metadata={"help": "Training seeds; three say more."})
    train: str | None = field(default=None, metadata={"help": "Training problems, .jsonl or .parquet."})
    test: str | None = field(default=None, metadata={"help": "Problems to measure on, none of which is trained on."})
    num_test: int = field(default=128, metadata={"help": "Problems to measure on."})
    num_samples: int = field(default=64, metadata={"help": "Completions of each; the largest k."})
    answer_format: str = field(
        default="boxed", metadata={"help": "Where the answer is: boxed, gsm8k, xml, last, auto."}
    )
    template: str | None = field(
        default=None, metadata={"help": "Prompt template; the model's chat template if none."}
    )


def digit_sums(is_test: bool) -> list[Problem]:
    """Sums of two digits, split in two by a fixed shuffle."""
    sums = [Problem(f"What is {a}+{b}?", str(a + b)) for a in range(1, 10) for b in range(1, 10)]
    random.Random(0).shuffle(sums)
    return sums[:24] if is_test else sums[24:]


@dataclass
class RealWorld:
    """A model and problems from files, measured by sampling."""

    script: StudyArguments
    args: SignedRewardConfig
    model: str

    def __post_init__(self) -> None:
        self.steps, self.measure_every = self.args.max_steps, int(self.args.save_steps)
        self.prompting = Prompting(template=self.script.template, answer_format=self.script.answer_format)
        self.tokenizer = AutoTokenizer.from_pretrained(self.model, padding_side="left")
        script = self.script
        self.train = load_problems(script.train) if script.train else digit_sums(is_test=False)
        self.test = (load_problems(script.test) if script.test else digit_sums(is_test=True))[: script.num_test]
        if both := {problem.id for problem in self.train} & {problem.id for problem in self.test}:
            raise ValueError(f"No problem may be in both --train and --test; {len(both)} are. Take them out of one.")

    @property
    def settings(self) -> dict:
        of_run = ("max_steps", "save_steps", "learning_rate", "per_device_train_batch_size", "num_generations")
        of_test = ("train", "test", "num_test", "num_samples", "template", "answer_format")
        return {
            "model": self.model,
            **{name: getattr(self.args, name) for name in (*of_run, "max_completion_length")},
            **{name: getattr(self.script, name) for name in of_test},
        }

    def trainer(self, objective: str, seed: int, output_dir: Path) -> SignedRewardTrainer:
        args = copy(self.args)
        args.objective, args.seed, args.output_dir = objective, seed, str(output_dir)
        reward = partial(math_reward, answer_format=self.script.answer_format)
        dataset = to_dataset(self.train, tokenizer=self.tokenizer, prompting=self.prompting)
        return SignedRewardTrainer(self.model, reward, args, dataset, processing_class=self.tokenizer)

    def measure(self, trainer: SignedRewardTrainer, step: int) -> Measurement:
        found = evaluate(
            TransformersSampler(trainer.model, self.tokenizer, max_new_tokens=self.args.max_completion_length),
            self.test,
            num_samples=self.script.num_samples,
            prompting=self.prompting,
            answer_format=self.script.answer_format,
            output_dir=Path(trainer.args.output_dir) / "evaluation" / f"checkpoint-{step}" / "test",
        )
        correct = [found.num_correct[problem.id] for problem in self.test]
        ks = [k for k in found.pass_at_k if k.bit_length() % 2]  # 1, 4, 16, 64
        return Measurement(
            {k: pass_at_k(found.num_samples, correct, k).tolist() for k in ks},
            {"distinct answers": found.distinct_answers, "tokens": found.mean_length},
        )


def main(script: StudyArguments, args: SignedRewardConfig, model: ModelConfig) -> None:
    if model.model_name_or_path is None:
        raise SystemExit("A study needs a model; name one with --model_name_or_path.")
    world = RealWorld(script, args, model.model_name_or_path)
    run_study(world, script.objectives, script.seeds, Path(args.output_dir))


if __name__ == "__main__":
    parser = TrlParser((StudyArguments, SignedRewardConfig, ModelConfig))
    parser.set_defaults(
        max_steps=40,
        save_steps=10,
        save_total_limit=1,
        per_device_train_batch_size=256,
        num_generations=8,
        max_completion_length=384,
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        report_to="none",
        logging_steps=1,
    )
    main(*parser.parse_args_and_config())
