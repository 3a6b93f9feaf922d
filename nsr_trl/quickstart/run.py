"""The quickstart in reading order: evaluate a tiny model, train it on the sign of its answers, evaluate it again.

The trainer, the verifier and the evaluation are those of a 7B run; only the model and the problems are small. In: an
objective, a seed, a folder. Out, in the folder: the model with its card, `pass_at_k.png`, the completions of every
step and the evaluated samples before and after.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from ..checkpoints import last_complete_checkpoint
from ..config import SignedRewardConfig
from ..data import to_dataset
from ..decoration import decorating
from ..evaluation.comparison import compare
from ..evaluation.runner import Evaluation, evaluate
from ..evaluation.samplers import TransformersSampler
from ..problem import Problem
from ..rewards import math_reward
from ..run_card import FIGURE, write_card
from ..trainer import SignedRewardTrainer
from ..training_log import TrainingLog, quieten
from .model import model_path
from .problems import generate_problems


MAX_STEPS = 16
NUM_GENERATIONS = 8
NUM_ROWS = 512  # completions per step
NUM_TEST_PROBLEMS = 200
NUM_SAMPLES = 64  # per problem, for Pass@64
MAX_COMPLETION_LENGTH = 64


MARK = "quickstart.json"


class OutputExistsError(ValueError):
    """The output folder holds something that the run would overwrite."""


class StoppedError(RuntimeError):
    """The run was stopped by a signal, after a checkpoint."""


def run_quickstart(
    objective: str = "w_reinforce", seed: int = 0, output_dir: str | Path = "quickstart-run"
) -> dict[str, Evaluation]:
    """
    Trains the shipped model on arithmetic and measures Pass@1 to Pass@64 on held-out problems before and after.

    Args:
        objective (`str`, *optional*, defaults to `"w_reinforce"`):
            Name of the objective, as in [`SignedRewardConfig`].
        seed (`int`, *optional*, defaults to `0`):
            Seed of the problems, the samples and the training.
        output_dir (`str` or `Path`, *optional*, defaults to `"quickstart-run"`):
            Folder to write: new, empty, or that of the same quickstart, which then goes on where it was stopped.

    Returns:
        `dict[str, Evaluation]`: the evaluations `"before"` and `"after"`.

    Raises:
        OutputExistsError: If the folder holds other files.
        StoppedError: If Ctrl-C or SIGTERM came while it trained.
    """
    output_dir = Path(output_dir)
    claim(output_dir, {"objective": objective, "seed": seed})
    started = time.monotonic()
    quieten(all_bars=True)
    logging.set_verbosity_error()
    torch.set_num_threads(1)  # the model is too small to share out: on a busy machine more threads only wait

    tokenizer = AutoTokenizer.from_pretrained(model_path(), padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32)
    num_train_problems = MAX_STEPS * NUM_ROWS // NUM_GENERATIONS  # each is seen once
    train_problems = [Problem(**row) for row in generate_problems(num_train_problems, seed, "train")]
    test_problems = [Problem(**row) for row in generate_problems(NUM_TEST_PROBLEMS, seed, "test")]
    num_parameters = sum(p.numel() for p in model.parameters())
    print(f"A {num_parameters / 1e6:.2f}M-parameter model on problems such as {train_problems[0].question!r}.")
    print(
        "It knows how, and slips as its texts did. It is told of each answer only whether it is right.\n\n"
        "What to look at: Pass@1, one try, should rise far beyond its interval, and "
        f"Pass@{NUM_SAMPLES}, one right of {NUM_SAMPLES} tries,\n"
        "should stay: what the model gets right now and then, it comes to get right at once. How objectives differ\n"
        "at large k, a run this short does not show; `nsr-trl study` does.\n"
    )

    def evaluate_now(name: str) -> Evaluation:
        return evaluate(
            TransformersSampler(model, tokenizer, max_new_tokens=MAX_COMPLETION_LENGTH, batch_size=512),
            test_problems,
            num_samples=NUM_SAMPLES,
            template="plain",
            output_dir=output_dir / "evaluation" / name,
            seed=seed,
        )

    evaluations = {"before": evaluate_now("before")}

    trainer = SignedRewardTrainer(
        model=model,
        reward_funcs=math_reward,
        args=quickstart_config(objective, seed, output_dir),
        train_dataset=to_dataset(train_problems, template="plain"),
        processing_class=tokenizer,
    )
    TrainingLog.instead_of_others(trainer, has_lines=not sys.stderr.isatty())
    print(f"Training with objective={objective!r}: {trainer.signed_objective.formula}.")
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(output_dir))
    if trainer.stopped_by_signal:
        raise StoppedError(f"after {trainer.state.global_step} of {MAX_STEPS} steps")
    trainer.save_model()
    trainer.save_state()
    evaluations["after"] = evaluate_now("after")

    facts = replace(
        trainer.card_facts(f"quickstart-{objective}", "procedural arithmetic"),
        local_base="nsr-trl quickstart",
        example_prompt=repr(test_problems[0].question),
    )
    with decorating("The card", output_dir / "README.md", output_dir):
        write_card(output_dir, facts, trainer.state.log_history)

    table = compare(*evaluations.values(), base_name="before", run_name="after").table()
    print(f"\n{table}\n")
    print(
        f"{NUM_TEST_PROBLEMS} held-out problems x {NUM_SAMPLES} samples, {time.monotonic() - started:.0f} s in all. "
        "Another machine draws other samples: its figures differ as those of two seeds do."
    )
    figure = f"{FIGURE}, " if (output_dir / FIGURE).exists() else ""
    print(f"The model, its card (README.md), {figure}completions/ and evaluation/ are in {output_dir}/")
    if not figure:
        print("Figures need matplotlib: pip install 'nsr-trl[plot]'")
    return evaluations


def claim(output_dir: Path, settings: dict[str, Any]) -> None:
    """
    Makes a folder this quickstart's own, or finds that it is already.

    Raises:
        OutputExistsError: If it holds files of something else.
    """
    mark = output_dir / MARK
    if not output_dir.exists() or not any(output_dir.iterdir()):
        output_dir.mkdir(parents=True, exist_ok=True)
        mark.write_text(json.dumps(settings) + "\n", encoding="utf-8")
        return
    try:
        found = json.loads(mark.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found != settings:
        holds = "files" if found is None else f"the quickstart of {found}, and this is that of {settings}"
        raise OutputExistsError(
            f"the output folder must be new or empty, or the same quickstart's; {str(output_dir)!r} holds {holds}. "
            "Name another with --output-dir, or remove it."
        )
    print(f"Going on in {output_dir}/")


def quickstart_config(objective: str, seed: int, output_dir: str | Path, **others: Any) -> SignedRewardConfig:
    """On-policy full fine-tuning in float32 on the CPU; `others` are further fields, or other values of these."""
    settings: dict[str, Any] = {
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "max_steps": MAX_STEPS,
        "per_device_train_batch_size": NUM_ROWS,
        "num_generations": NUM_GENERATIONS,
        "max_completion_length": MAX_COMPLETION_LENGTH,
        "learning_rate": 2e-4,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.01,
        "save_steps": 4,
        "save_total_limit": 1,
        "logging_steps": 1,
        "log_completions": True,
        "num_completions_to_print": 0,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return SignedRewardConfig(output_dir=str(output_dir), objective=objective, seed=seed, **(settings | others))
