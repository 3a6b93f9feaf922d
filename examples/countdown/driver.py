"""
Objectives compared at equal steps and at equal Pass@1, whatever the world.

A world makes a trainer and measures a model. The driver trains each objective from the same start with each seed,
measures along the way, and writes what came. Every run that is finished is skipped and one that was killed goes on, so
the same command is given again until it is done.

    OUT/OBJECTIVE-SEED/        a training folder
    OUT/OBJECTIVE-SEED.jsonl   what was measured, a step a line
    OUT/world.json             what all runs have in common
    OUT/results.json, results.md, equal_steps.png, along_the_run.png

P problems, S measured steps, K values of k, N seeds.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from accelerate.utils import release_memory
from numpy.typing import NDArray
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from transformers.utils import logging

from nsr_trl import SignedRewardTrainer
from nsr_trl.checkpoints import last_complete_checkpoint
from nsr_trl.evaluation.comparison import Side, note_on_runs
from nsr_trl.evaluation.matching import first_reaching, level_below_the_peak
from nsr_trl.evaluation.pass_at_k import Estimate, resample_means
from nsr_trl.evaluation.results import percent
from nsr_trl.training_log import quieten


OBJECTIVES = ("psr", "grpo", "w_reinforce", "nsr")


@dataclass(frozen=True)
class Measurement:
    """What a model can do: Pass@k by k and problem, and means of whatever else the world measures."""

    pass_at_k: Mapping[int, Sequence[float]]
    facts: Mapping[str, float] = field(default_factory=dict)


class World(Protocol):
    """Where objectives are compared."""

    steps: int
    measure_every: int

    @property
    def settings(self) -> dict[str, Any]:
        """What the runs of one study must have in common, as JSON values."""

    def trainer(self, objective: str, seed: int, output_dir: Path) -> SignedRewardTrainer:
        """A trainer at the common start, with checkpoints every `measure_every` steps."""

    def measure(self, trainer: SignedRewardTrainer, step: int) -> Measurement:
        """Measures the model as it is, on problems held out from training, always the same ones."""


class Measuring(TrainerCallback):
    """Measures before training and at its checkpoints, once they are saved, and keeps what it measured in a file."""

    def __init__(self, world: World, path: Path, first_step: int) -> None:
        self.world, self.path = world, path
        self.trainer: SignedRewardTrainer | None = None
        # beyond the checkpoint that a run goes on from, where a later one was damaged, is measured again
        self.by_step = {step: found for step, found in read_measurements(path).items() if step <= first_step}
        self.seconds = 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        self._measure(state.global_step)

    def on_save(self, args, state, control, **kwargs):
        if state.global_step % self.world.measure_every == 0 or state.global_step == state.max_steps:
            self._measure(state.global_step)

    def _measure(self, step: int) -> None:
        if step in self.by_step:
            return
        began, model = time.monotonic(), self.trainer.model
        was_training = model.training
        model.eval()
        found = self.world.measure(self.trainer, step)
        model.train(was_training)
        entropies = [entry["entropy"] for entry in self.trainer.state.log_history if "entropy" in entry]
        recent = entropies[-self.world.measure_every :]
        facts = {**found.facts, **({"entropy": float(np.mean(recent))} if recent else {})}
        self.by_step[step] = Measurement(found.pass_at_k, facts)
        write_measurements(self.path, self.by_step)
        self.seconds += time.monotonic() - began
        shown = "  ".join(f"Pass@{k} {100 * np.mean(values):.1f}" for k, values in found.pass_at_k.items())
        print(f"  step {step}  {shown}", flush=True)


def write_measurements(path: Path, by_step: Mapping[int, Measurement]) -> None:
    """Writes all steps of a run, or, where it is killed meanwhile, leaves the file as it was."""
    rows = [
        {
            "step": step,
            "pass_at_k": {k: [round(float(value), 6) for value in values] for k, values in found.pass_at_k.items()},
            "facts": found.facts,
        }
        for step, found in sorted(by_step.items())
    ]
    partial = path.with_suffix(".partial")
    partial.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    os.replace(partial, path)


def read_measurements(path: Path) -> dict[int, Measurement]:
    """Reads what a run measured so far, by step; nothing where there is no file."""
    if not path.exists():
        return {}
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {
        row["step"]: Measurement({int(k): values for k, values in row["pass_at_k"].items()}, row["facts"])
        for row in rows
    }


def check_world(world: World, path: Path) -> None:
    """Notes which world the folder is of; a ValueError where it is of another one."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(world.settings) + "\n", encoding="utf-8")
    before = json.loads(path.read_text(encoding="utf-8"))
    if changed := {
        name: (before.get(name), value) for name, value in world.settings.items() if before.get(name) != value
    }:
        said = ", ".join(f"{name} was {old} and is {new}" for name, (old, new) in changed.items())
        raise ValueError(
            f"The runs of a study must be alike but for objective and seed; in {str(path.parent)!r} {said}. "
            "Name another folder, or give the settings of the first command."
        )


def train(world: World, objective: str, seed: int, output_dir: Path) -> None:
    """Trains and measures one run, from where it is; nothing where it is done."""
    path = output_dir / f"{objective}-{seed}.jsonl"
    if world.steps in read_measurements(path):
        return
    began = time.monotonic()
    folder = output_dir / f"{objective}-{seed}"
    checkpoint = last_complete_checkpoint(folder)
    print(f"{objective}, seed {seed}{f', from {checkpoint}' if checkpoint else ''}", flush=True)
    measuring = Measuring(world, path, int(checkpoint.rpartition("-")[2]) if checkpoint else 0)
    trainer = measuring.trainer = world.trainer(objective, seed, folder)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(measuring)
    trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.stopped_by_signal:
        sys.exit("Stopped after a checkpoint. Give the same command again to go on.")
    print(f"  {time.monotonic() - began:.0f} s, of which {measuring.seconds:.0f} s measuring", flush=True)
    measuring.trainer = None
    trainer.accelerator.free_memory()
    del trainer
    release_memory()  # room for the next one


def run_study(world: World, objectives: Sequence[str], seeds: Iterable[int], output_dir: Path) -> None:
    """Trains what is not trained yet, then reports on all of it."""
    quieten(all_bars=True)
    logging.set_verbosity_error()
    check_world(world, output_dir / "world.json")
    seeds = list(seeds)
    for seed in seeds:  # seed by seed: an early look has every objective
        for objective in objectives:
            train(world, objective, seed, output_dir)
    runs = {o: {seed: read_measurements(output_dir / f"{o}-{seed}.jsonl") for seed in seeds} for o in objectives}
    report(runs, output_dir)


# -- what came of it


@dataclass(frozen=True)
class Trajectories:
    """
    The runs of one objective.

    Attributes:
        steps (array of shape `(S,)`), ks (array of shape `(K,)`):
            What was measured.
        values (array of shape `(N, S, K, P)`):
            Pass@k by seed, step, k and problem.
        facts (`dict[str, array of shape (N, S)]`):
            Whatever else was measured; NaN where it was not.
    """

    steps: NDArray
    ks: list[int]
    values: NDArray
    facts: dict[str, NDArray]

    @classmethod
    def of(cls, runs: Sequence[Mapping[int, Measurement]]) -> "Trajectories":
        steps = sorted(set.intersection(*map(set, runs)))
        ks = list(runs[0][steps[0]].pass_at_k)
        names = dict.fromkeys(name for run in runs for step in steps for name in run[step].facts)
        return cls(
            np.array(steps),
            ks,
            np.array([[[run[step].pass_at_k[k] for k in ks] for step in steps] for run in runs]),
            {
                name: np.array([[run[step].facts.get(name, np.nan) for step in steps] for run in runs])
                for name in names
            },
        )

    @property
    def curve(self) -> NDArray:
        """Pass@k, of shape (S, K), over seeds and problems."""
        return self.values.mean(axis=(0, 3))

    def matched(self, level: float) -> tuple[NDArray, NDArray]:
        """The step of shape (N,) and the values of shape (N, K, P) where each run first has this Pass@1."""
        places = [first_reaching(run[:, 0].mean(axis=1), level) for run in self.values]
        return (
            np.array([place.of(self.steps) for place in places]),
            np.array([place.of(run) for place, run in zip(places, self.values, strict=True)]),
        )


def estimates(values: NDArray) -> list[Estimate]:
    """Means of values of shape (N, K, P) by k; their intervals draw seeds, then problems, which all seeds share."""
    means = np.stack([resample_means(of_seed) for of_seed in values])  # (N, K, resamples)
    return Side.of(values, means, seed=0).estimates()


def report(runs: Mapping[str, Mapping[int, Mapping[int, Measurement]]], output_dir: Path) -> None:
    """Prints and writes tables, figures and the numbers behind them, of measurements by objective, seed and step."""
    all_trajectories = {objective: Trajectories.of(list(by_seed.values())) for objective, by_seed in runs.items()}
    first = next(iter(all_trajectories.values()))
    every_curve = {
        f"{objective}-{seed}": run[:, 0].mean(axis=1)
        for objective, trajectories in all_trajectories.items()
        for seed, run in zip(runs[objective], trajectories.values, strict=True)
    }
    text = [
        f"{first.values.shape[-1]} problems. Pass@k in percent with 95% bootstrap intervals of paired differences. "
        + note_on_runs({objective: len(by_seed) for objective, by_seed in runs.items()}),
        f"## At equal steps: {first.steps[-1]}",
        equal_steps_table(all_trajectories),
    ]
    results: dict = {"steps": first.steps.tolist(), "ks": first.ks}
    results["curves"] = {name: t.curve.round(5).tolist() for name, t in all_trajectories.items()}
    try:
        level = level_below_the_peak(every_curve)
    except ValueError as error:
        text += ["## At equal Pass@1", str(error)]
    else:
        results["matched_pass_at_1"] = level
        text += [f"## At equal Pass@1: {100 * level:.1f}", matched_table(all_trajectories, level)]
    (output_dir / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (output_dir / "results.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    print("\n\n".join(["", *text, ""]))
    draw(all_trajectories, output_dir)
    print(f"results.md, results.json, equal_steps.png and along_the_run.png are in {output_dir}/")


def equal_steps_table(all_trajectories: Mapping[str, Trajectories]) -> str:
    """Pass@k after the last step, and the largest k against the base."""
    first = next(iter(all_trajectories.values()))
    facts = list(dict.fromkeys(name for trajectories in all_trajectories.values() for name in trajectories.facts))
    header = ["", *(f"Pass@{k}" for k in first.ks), f"Pass@{first.ks[-1]} - base", *facts]
    rows = [["base", *_percents(first.curve[0]), "", *_facts(first, facts, 0)]]
    for objective, trajectories in all_trajectories.items():
        (lost,) = estimates(trajectories.values[:, -1, -1:] - trajectories.values[:, 0, -1:])
        rows.append(
            [objective, *_percents(trajectories.curve[-1]), percent(lost, "+"), *_facts(trajectories, facts, -1)]
        )
    return markdown([header, *rows])


def matched_table(all_trajectories: Mapping[str, Trajectories], level: float) -> str:
    """Pass@k where each run first has this Pass@1, and what two of the k are above the first objective."""
    (base_name, base), *_ = all_trajectories.items()
    _, of_base = base.matched(level)
    contrasted = {k: base.ks.index(k) for k in (base.ks[len(base.ks) // 2], base.ks[-1])}
    header = ["", "steps", *(f"Pass@{k}" for k in base.ks[1:]), *(f"Pass@{k} - {base_name}" for k in contrasted)]
    rows = []
    for objective, trajectories in all_trajectories.items():
        steps, values = trajectories.matched(level)
        differences = values - of_base
        cells = [percent(each, "+") for each in estimates(differences[:, list(contrasted.values())])]
        above = int((differences[:, -1].mean(axis=1) > 0).sum())
        row = [objective, f"{steps.mean():.0f}", *_percents(values.mean(axis=(0, 2))[1:])]
        rows.append(row + (["", "", ""] if objective == base_name else [*cells, f"{above} of {len(differences)}"]))
    return markdown([[*header, "seeds above"], *rows])


def _percents(values: Iterable[float]) -> list[str]:
    return [f"{100 * value:.1f}" for value in values]


def _facts(trajectories: Trajectories, names: Sequence[str], place: int) -> list[str]:
    means = [trajectories.facts[name][:, place].mean() if name in trajectories.facts else np.nan for name in names]
    return ["" if np.isnan(mean) else f"{mean:.2f}" for mean in means]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a Markdown table, the first of them its header."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def draw(all_trajectories: Mapping[str, Trajectories], output_dir: Path) -> None:
    """Draws Pass@k by k after the last step, and the largest k by Pass@1 along the run, a mean over seeds."""
    try:
        from nsr_trl.evaluation.plots import plot_curves, plot_trajectories
    except ImportError as error:
        print(error)
        return
    first = next(iter(all_trajectories.values()))
    curves = {"base": first.values[:, 0]} | {name: t.values[:, -1] for name, t in all_trajectories.items()}
    by_k = {name: dict(zip(first.ks, estimates(values), strict=True)) for name, values in curves.items()}
    plot_curves({f"after {first.steps[-1]} steps": by_k}, output_dir / "equal_steps.png")
    along = {name: (t.curve[:, 0], t.curve[:, -1]) for name, t in all_trajectories.items()}
    plot_trajectories(along, first.ks[-1], output_dir / "along_the_run.png")
