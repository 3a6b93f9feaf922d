"""The study in reading order: draw worlds, pretrain a base in each, train every objective on it, compare.

In: objectives and how to train them. Out: tables; in the folder, if there is one, `study.json`, `README.md` and two
figures.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..objective import Objective, build_objective
from .report import markdown, tables, words
from .summary import Summary, summarize
from .training import KS, Settings, train
from .world import World


@dataclass(frozen=True)
class Preset:
    """A world by how often its author succeeds, and how many steps it is trained for where none are given."""

    author_success: float
    steps: int


PRESETS = {"low": Preset(0.3, 200), "mid": Preset(0.7, 100)}

OBJECTIVES = ("psr", "nsr", "w_reinforce", "reinforce", "grpo")
"""What is compared where nothing else is asked for."""

FIGURES = ("pass_at_k.png", "over_pass_at_1.png")


class OutputExistsError(ValueError):
    """The output folder holds something that the study would overwrite."""


def build_objectives(names: Sequence[str], args: Mapping[str, Mapping[str, Any]] | None = None) -> list[Objective]:
    """
    The objectives of a study.

    Args:
        names (`Sequence[str]`):
            Names, or `module:function`, as [`~objective.build_objective`] takes them.
        args (`Mapping[str, Mapping[str, Any]]`, *optional*):
            By name: the objective's parameters, or `positive_weight`, `negative_weight` and `focal_gamma`.

    Raises:
        ValueError: If one is unknown or named twice, or parameters are none of a named objective's.
    """
    args = args or {}
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Objectives must be named once each; {twice[0]} is named twice. Leave one out.")
    if others := [name for name in args if name not in names]:
        raise ValueError(
            f"Parameters must be of an objective of the study, {', '.join(names)}; got some of {others[0]!r}. "
            "Add it to the objectives, or leave its parameters out."
        )
    objectives = []
    for name in names:
        parameters = dict(args.get(name, {}))
        fields = {field: parameters.pop(field, None) for field in ("positive_weight", "negative_weight")}
        focal_gamma = parameters.pop("focal_gamma", 0.0)
        objectives.append(build_objective(name, **fields, args=parameters or None, focal_gamma=focal_gamma))
    return objectives


def run_study(
    objectives: Sequence[Objective],
    preset: str = "low",
    num_worlds: int = 5,
    num_seeds: int = 2,
    settings: Settings | None = None,
    output_dir: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> Summary:
    """
    Trains objectives in several worlds, and says how they compare at equal steps and at equal Pass@1.

    Args:
        objectives (`Sequence[Objective]`):
            What to compare, by [`build_objectives`].
        preset (`str`, *optional*, defaults to `"low"`):
            A name of `PRESETS`: the base's pass rate.
        num_worlds (`int`, *optional*, defaults to `5`):
            Worlds, over which the intervals are.
        num_seeds (`int`, *optional*, defaults to `2`):
            Training seeds in each.
        settings ([`Settings`], *optional*):
            How to train; the preset's when not given.
        output_dir (`str` or `Path`, *optional*):
            A folder to write, new or empty.
        say (`Callable[[str], None]`, *optional*, defaults to `print`):
            What is told the tables.

    Returns:
        [`Summary`]

    Raises:
        OutputExistsError: If the folder holds files.
        ValueError: If a group is too small for an objective, or as [`train`].
    """
    chosen = PRESETS[preset]
    settings = Settings(steps=chosen.steps) if settings is None else settings
    for objective in objectives:
        if settings.group_size < objective.least_group:
            raise ValueError(
                f"{objective.name} ({objective.formula}) needs groups of {objective.least_group} or more; got "
                f"{settings.group_size}. Raise --group-size, or leave it out."
            )
    folder = None if output_dir is None else claim(Path(output_dir))
    started = time.monotonic()
    worlds = []
    for seed in range(num_worlds):
        if sys.stderr.isatty():
            print(f"world {seed + 1} of {num_worlds} ...", end="\r", file=sys.stderr, flush=True)
        worlds.append(train(World(seed, chosen.author_success), objectives, num_seeds, settings))
    seconds = time.monotonic() - started
    names = [objective.name for objective in objectives]
    pass_at_k = np.stack([trajectories.pass_at_k for trajectories in worlds])
    controls = {
        name: np.stack([trajectories.controls[name] for trajectories in worlds]) for name in worlds[0].controls
    }
    summary = summarize(names, KS, worlds[0].steps, pass_at_k, controls)
    facts = {
        "preset": preset,
        "author_success": chosen.author_success,
        "worlds": num_worlds,
        "seeds": num_seeds,
        "objectives": {objective.name: objective.formula for objective in objectives},
        **asdict(settings),
        "learning_rate": settings.learning_rate_in_force,
        "seconds": round(seconds, 1),
    }
    say(tables(summary, facts) + "\n")
    say("\n".join(words(summary, facts)))
    if folder is not None:
        content = facts | {
            "ks": list(KS),
            "measured_steps": summary.steps,
            "axes": ["world", "step", "objective", "seed", "k"],
            "pass_at_k": pass_at_k.round(6).tolist(),
            "controls": {name: _rounded(values) for name, values in controls.items()},
        }
        (folder / "study.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
        figures = _draw(summary, pass_at_k, folder, say)
        (folder / "README.md").write_text(markdown(summary, facts, figures), encoding="utf-8")
        say(f"{', '.join(['README.md', 'study.json', *figures])} are in {folder}/")
    return summary


def _draw(
    summary: Summary, pass_at_k: NDArray[np.float64], folder: Path, say: Callable[[str], None]
) -> tuple[str, ...]:
    """The names of the figures that could be drawn: all, or none without matplotlib."""
    try:
        from .figures import draw
    except ImportError as error:
        say(str(error))
        return ()
    draw(summary, pass_at_k, [folder / name for name in FIGURES])
    return FIGURES


def _rounded(values: NDArray[np.float64]) -> Any:
    return np.nan_to_num(values, nan=0.0).round(6).tolist()  # no share of rows before the first step


def claim(folder: Path) -> Path:
    """
    Makes a folder, or finds that it is empty.

    Raises:
        OutputExistsError: If it holds files, or is one.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        holds = "holds files" if folder.is_dir() else "is a file"
        raise OutputExistsError(
            f"the output folder must be new or empty; {str(folder)!r} {holds}. Name another with --output-dir."
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder
