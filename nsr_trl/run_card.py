"""The card of a training folder: what the run recorded, evaluated and logged goes in, README.md and figures come out.

RUN/nsr_trl_run.json                  what the run knows of itself, written by the trainer
RUN/evaluation/before, RUN/evaluation/after   evaluations of the base and of the trained model, where there are any
RUN/evaluation/steps/RUN, .../OTHER   evaluations of its checkpoints, and of those of runs to compare it with
RUN/README.md and its figures   written here, and written alike when written again
"""

import json
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .card import CardFacts, build_card
from .checkpoints import checkpoints
from .config import threshold_of
from .dynamics import RUN_FACTS as FACTS
from .dynamics import describe_training, read_log
from .evaluation.comparison import compare
from .evaluation.matched import compare_at_pass_at_1, read_trajectories
from .evaluation.records import CONFIG, PROBLEMS, SUMMARY, find_runs
from .evaluation.results import Evaluation
from .evaluation.runs import read_evaluations
from .evaluation.series import TRAINING, read_all_series
from .metrics import PHASES
from .secrets import HIDDEN, without_secrets, words_without_secrets


BEFORE, AFTER = "before", "after"
STEPS, ITSELF = "steps", "run"
FIGURE, DYNAMICS, OVER_STEPS = "pass_at_k.png", "training_dynamics.png", "pass_at_k_over_steps.png"


def write_card(folder: str | Path, facts: CardFacts, log: Sequence[Mapping[str, Any]], draws: bool = True) -> None:
    """
    Records what a run knows of itself and writes its card.

    Args:
        folder (`str` or `Path`):
            The training folder.
        facts ([`~card.CardFacts`]):
            What the run knows, without evaluations and figures, which are looked for in the folder.
        log (`Sequence[Mapping[str, Any]]`):
            What the run logged, by step; may be empty.
        draws (`bool`, *optional*, defaults to `True`):
            Whether to draw the figures, which takes seconds.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record = json.dumps(without_secrets(asdict(facts)), indent=2, ensure_ascii=False)
    (folder / FACTS).write_text(record + "\n", encoding="utf-8")
    evaluations = _evaluations(folder)
    both = {name: runs for name, runs in evaluations.items() if runs.keys() >= {BEFORE, AFTER}}
    facts = replace(
        facts,
        comparisons=tuple(
            compare(runs[BEFORE], runs[AFTER], base_name=BEFORE, run_name=AFTER, dataset=name)
            for name, runs in both.items()
        ),
        evaluations={name: runs[AFTER] for name, runs in evaluations.items()},
    )
    title = describe_training(facts.model_name, facts.objective, facts.base_model or facts.local_base)
    facts = replace(facts, **_over_steps(folder, facts.model_name, draws))
    drawn = _draw(folder, evaluations, {facts.model_name: log}, title) if draws else {}
    build_card(replace(facts, **drawn)).save(folder / "README.md")


def rebuild_card(
    folder: str | Path,
    evaluation: str | Path | None = None,
    base_evaluation: str | Path | None = None,
    task: Any = None,
    steps: Sequence[str | Path] = (),
) -> Path:
    """
    Writes the card of a training run anew.

    Args:
        folder (`str` or `Path`):
            The training folder.
        evaluation (`str` or `Path`, *optional*):
            Evaluation of the trained model, as `nsr-trl evaluate` wrote it. Its summaries are copied into the folder,
            so that the evidence goes where the model goes.
        base_evaluation (`str` or `Path`, *optional*):
            Evaluation of the model that was trained.
        task ([`~task.Task`], *optional*):
            What it was trained on, where the run does not know: one of a notebook, say.
        steps (`Sequence[str | Path]`, *optional*):
            Evaluations of the checkpoints of this run, as `nsr-trl evaluate --checkpoints` wrote them, and of other
            runs, with which it is compared at equal Pass@1. Their summaries are copied likewise.

    Returns:
        `Path`: the card

    Raises:
        ValueError: If the folder is not one of a training run, or an evaluation is not finished.
    """
    folder = Path(folder)
    try:
        facts = CardFacts(**json.loads((folder / FACTS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"A card is made of what a training run recorded in {FACTS}; {str(folder)!r} has no readable one "
            f"({error}). Name the output_dir of a run of SignedRewardTrainer that saved a checkpoint or made a card."
        ) from error
    if task is not None:
        facts = replace(facts, settings={**facts.settings, **task.card_rows()}, dataset_name=task.dataset_name)
    given = {name: path for name, path in ((BEFORE, base_evaluation), (AFTER, evaluation)) if path is not None}
    read_evaluations(
        {name: Path(path) for name, path in given.items()}
    )  # that they are finished, before any is copied
    read_all_series({str(path): Path(path) for path in steps})
    for name, path in given.items():
        _copy_summaries(Path(path), folder / "evaluation" / name)
    for name, path in zip((ITSELF, *(Path(path).resolve().name for path in steps[1:])), steps, strict=False):
        for checkpoint in checkpoints(path):
            target = folder / "evaluation" / STEPS / name / checkpoint.name
            if any(checkpoint.glob(f"*/{SUMMARY}")):
                _copy_summaries(checkpoint, target)
            if (checkpoint / TRAINING).exists() and checkpoint.resolve() != target.resolve():
                shutil.copyfile(checkpoint / TRAINING, target / TRAINING)
    try:
        log = read_log(folder)
    except ValueError:  # a run without a checkpoint or a saved state
        log = []
    write_card(folder, facts, log)
    return folder / "README.md"


def _copy_summaries(evaluation: Path, target: Path) -> None:
    for dataset, source in find_runs(evaluation).items():
        copy = target / dataset
        if source.resolve() != copy.resolve():
            copy.mkdir(parents=True, exist_ok=True)
            for file in (CONFIG, PROBLEMS, SUMMARY):
                shutil.copyfile(source / file, copy / file)


def describe_run(
    trainer: Any,
    base: str | None,
    totals: Mapping[str, Sequence[float]],
    model_name: str | None,
    dataset_name: str | None,
) -> CardFacts:
    """
    What a trainer knows of its run.

    Args:
        trainer ([`SignedRewardTrainer`]):
            The trainer.
        base (`str`, *optional*):
            Hub id or path of the model that was trained.
        totals (`Mapping[str, Sequence[float]]`):
            Sums and counts of the training by metric, those before a resume included.
        model_name (`str`, *optional*):
            Title of the card; the name of the output folder when not given.
        dataset_name (`str`, *optional*):
            What the model was trained on.
    """
    args, objective = trainer.args, trainer.signed_objective
    is_local = not base or Path(base).exists()
    num_prompts = args.generation_batch_size // trainer.num_generations
    task = {} if trainer.task is None else trainer.task.card_rows()
    return CardFacts(
        model_name=model_name or Path(args.output_dir).resolve().name,
        objective=objective.name,
        formula=objective.formula,
        is_signed=objective.weigh is not None,
        reads_group=objective.weigh is not None and objective.positive_weight is None,
        citation=trainer._paper["citation"],
        tags=tuple(trainer._tag_names),
        settings={
            "optimizer steps": trainer.state.global_step,
            "prompts x completions per generation": f"{num_prompts} x {trainer.num_generations}",
            "prompts drawn": None
            if args.prompt_allocation == "none"
            else f"{args.prompt_allocation}, by the signal expected, floor {args.allocation_floor:g}",
            "learning rate": f"{args.learning_rate:g}",
            "loss": f"{args.loss_type}, epsilon {trainer.epsilon_low:g}, {trainer.epsilon_high:g}, KL {args.beta:g}",
            "sampling temperature": trainer.temperature,
            "completion tokens at most": trainer.max_completion_length,
            "outcome reward": trainer.weighing.outcome_reward,
            "correct also requires": ", ".join(args.outcome_requires or ()) or None,
            "weight of the other rewards": args.auxiliary_weight or None,
            "stopped by the alarm": trainer.stopped_by_alarm,
            "moving weights": trainer.weighing.controller.describe(),
            "correct above": threshold_of(args),
            "undecided trained as": "incorrect" if args.undecided_as_incorrect else None,
            "seed": args.seed,
            **task,
        },
        base_model=None if is_local else base,
        local_base=Path(base).resolve().name if base and is_local else None,
        dataset_name=dataset_name or (trainer.task and trainer.task.dataset_name),
        hub_model_id=trainer.hub_model_id,
        command=command_line(sys.argv),
        trained=_trained({name: entry for name, entry in totals.items() if entry[1]}),
    )


def _trained(totals: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """Counts and costs of all updates, formatted for the card."""
    rows = {
        "completions sampled": ("signed/correct_ratio", lambda total, count: f"{count:,.0f}"),
        "of them correct": ("signed/correct_ratio", _amount),
        "incorrect": ("signed/incorrect_ratio", _amount),
        "undecided": ("signed/undecided_ratio", _amount),
        "correct over all prompts, weighed by 1/q": ("signed/allocation/correct_ratio", _share),
        "generation saved at equal variance of the gradient": ("cost/generation_saved", _share),
        "completions that the updates ran": ("cost/rows", _amount),
        "tokens that the updates ran, prompts included": ("cost/tokens", _amount),
    } | {f"time in {phase}": (f"cost/seconds/{phase}", _duration) for phase in PHASES}
    return {label: show(*totals[name]) for label, (name, show) in rows.items() if name in totals}


def _amount(total: float, count: float) -> str:
    return f"{total:,.0f} ({total / count:.1%})"


def _share(total: float, count: float) -> str:
    return f"{total / count:.1%}"


def _duration(seconds: float, count: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.0f} s"


def command_line(argv: Sequence[str]) -> str | None:
    """
    The command of a process as a user would type it.

    Args:
        argv (`Sequence[str]`):
            `sys.argv` of the process.

    Returns:
        `str` or `None`:
            The command without folders of the program and without secrets; `None` in a notebook or a shell.
    """
    program, *arguments = argv or [""]
    path = Path(program)
    if (path.suffix != ".py" and path.name != "nsr-trl") or "ipykernel" in program:
        return None
    if path.parts[-2:] == ("nsr_trl", "train.py"):
        words = ["nsr-trl", "train"]
    elif path.parts[-2:] == ("nsr_trl", "__main__.py") or path.name == "nsr-trl":
        words = ["nsr-trl"]
    else:
        words = ["python", path.name]
    return shlex.join([*words, *words_without_secrets(arguments)]).replace(f"'{HIDDEN}'", HIDDEN)


def _evaluations(folder: Path) -> dict[str, dict[str, Evaluation]]:
    """The evaluations of the trained model, and of its base on the same dataset, by dataset and name."""
    runs = {name: folder / "evaluation" / name for name in (BEFORE, AFTER)}
    runs = {name: path for name, path in runs.items() if any(path.glob(f"**/{SUMMARY}"))}
    return {name: found for name, found in read_evaluations(runs).items() if AFTER in found} if AFTER in runs else {}


def _over_steps(folder: Path, model_name: str, draws: bool) -> dict[str, Any]:
    """The run over its steps, and compared at equal Pass@1 with the runs whose evaluations lie beside its own."""
    found = sorted((folder / "evaluation" / STEPS).glob("*"), key=lambda path: (path.name != ITSELF, path.name))
    if not found or found[0].name != ITSELF:
        return {}
    names = {path: model_name if path.name == ITSELF else path.name for path in found}
    trajectories = read_trajectories({name: path for path, name in names.items()})
    matched, unmatched = [], []
    for dataset, by_run in trajectories.items():
        if model_name not in by_run:
            continue
        for name, other in by_run.items():
            if name != model_name:
                try:
                    of_run = by_run[model_name]
                    matched.append(
                        compare_at_pass_at_1([other], [of_run], base_name=name, run_name=model_name, dataset=dataset)
                    )
                except ValueError as error:
                    unmatched.append(f"Not compared with {name}: {error}")
    facts: dict[str, Any] = {"matched": tuple(matched), "unmatched": tuple(unmatched)}
    if not draws:
        return facts
    try:
        from .evaluation.plots import plot_over_steps
    except ImportError:
        return facts
    series = {d: {name: t.evaluations for name, t in by_run.items()} for d, by_run in trajectories.items()}
    plot_over_steps(series, folder / OVER_STEPS)
    return facts | {"over_steps": OVER_STEPS}


def _draw(
    folder: Path,
    evaluations: Mapping[str, Mapping[str, Evaluation]],
    logs: Mapping[str, Sequence[Mapping[str, Any]]],
    title: str,
) -> dict[str, Any]:
    """Draws what there is to draw, where matplotlib is at hand; returns the figures' names."""
    try:
        from .evaluation.plots import has_dynamics, plot_dynamics, plot_panels
    except ImportError:
        return {}
    drawn: dict[str, Any] = {}
    if evaluations:
        plot_panels(evaluations, folder / FIGURE)
        drawn["figure"] = FIGURE
    if any(map(has_dynamics, logs.values())):
        plot_dynamics(logs, folder / DYNAMICS, title)
        drawn["dynamics"] = DYNAMICS
    return drawn
