"""
Four objectives in the countdown world, through the trainer, at equal steps and at equal Pass@1.

    python examples/countdown/study.py --output-dir countdown-study

The base model is made first (six minutes of one core), then each run takes a minute and a half. Give the same command
again after an interruption; name one objective and one seed to make a single run.
"""

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from driver import OBJECTIVES, Measurement, run_study
from model import make_base
from problems import Countdown, countdown_reward, draw_problems
from transformers import AutoModelForCausalLM, AutoTokenizer

from nsr_trl import Problem, SignedRewardConfig, SignedRewardTrainer, to_dataset
from nsr_trl.quickstart.model import collate


KS = (1, 4, 16, 64, 256)


@dataclass
class CountdownWorld:
    """512 training problems, half of them of three numbers; 120 of three and 200 of four are held out."""

    base: Path
    steps: int = 240
    measure_every: int = 15
    learning_rate: float = 5e-5
    num_train: int = 512
    num_test: tuple[int, int] = (120, 200)

    @property
    def settings(self) -> dict:
        return {name: getattr(self, name) for name in ("steps", "measure_every", "learning_rate", "num_train")}

    def trainer(self, objective: str, seed: int, output_dir: Path) -> SignedRewardTrainer:
        problems = [p for size in (3, 4) for p in draw_problems(self.num_train // 2, size, seed, is_held_out=False)]
        return SignedRewardTrainer(
            AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32),
            countdown_reward,
            SignedRewardConfig(
                str(output_dir),
                objective=objective,
                seed=seed,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                max_steps=self.steps,
                per_device_train_batch_size=24 * 8,
                num_generations=8,
                max_completion_length=11,
                learning_rate=self.learning_rate,
                lr_scheduler_type="constant",
                weight_decay=0.01,
                save_steps=self.measure_every,
                save_total_limit=1,
                logging_steps=1,
                report_to="none",
                disable_tqdm=True,
            ),
            to_dataset([Problem(p.prompt, str(p.target)) for p in problems], template="plain"),
            processing_class=AutoTokenizer.from_pretrained(self.base, padding_side="left"),
        )

    @cached_property
    def held_out(self) -> list[Countdown]:
        return [p for size, n in zip((3, 4), self.num_test, strict=True) for p in draw_problems(n, size, 0, True)]

    def measure(self, trainer: SignedRewardTrainer, step: int) -> Measurement:
        """Pass@k without sampling: the probabilities of all right completions, added up."""
        solved, kept = solution_probabilities(trainer.model, trainer.processing_class, self.held_out)
        return Measurement({k: (1 - (1 - solved) ** k).tolist() for k in KS}, {"solutions kept": float(kept.mean())})


@torch.no_grad()
def solution_probabilities(model, tokenizer, problems: list[Countdown]) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The probability of a right completion at temperature 1, of shape (P,), and how many solutions share it.

    The second is the exponential of the entropy over the solutions of a problem, given that it is solved.
    """
    owners = torch.tensor([index for index, problem in enumerate(problems) for _ in problem.solutions])
    rows = [
        (tokenizer.encode(problem.prompt), [*tokenizer.encode(text), tokenizer.eos_token_id])
        for problem in problems
        for text in problem.solutions
    ]
    logps = torch.cat([_logps(model, rows[start : start + 512]) for start in range(0, len(rows), 512)]).double()
    solved = torch.zeros(len(problems), dtype=torch.double).index_add_(0, owners, logps.exp())
    shares = logps.exp() / solved[owners]
    entropy = torch.zeros_like(solved).index_add_(0, owners, -torch.xlogy(shares, shares))
    return solved.clamp(max=1.0), entropy.exp()


def _logps(model, rows) -> torch.Tensor:
    batch = collate(rows, model.config.pad_token_id)
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[:, :-1].float()
    targets = batch.labels[:, 1:]
    logps = logits.log_softmax(-1).gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return (logps * (targets != -100)).sum(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--pretraining-steps", type=int, default=3500)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    base = arguments.output_dir / "base"
    if not (base / "tokenizer.json").exists():
        make_base(base, num_steps=arguments.pretraining_steps)
    world = CountdownWorld(base, arguments.steps, learning_rate=arguments.learning_rate)
    run_study(world, arguments.objectives, arguments.seeds, arguments.output_dir)


if __name__ == "__main__":
    main()
