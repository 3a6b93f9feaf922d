"""What a training run logged: a training folder comes in, the log by step comes out. Any trainer of transformers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .checkpoints import STATE, checkpoints


def read_log(folder: str | Path) -> list[dict[str, Any]]:
    """
    Reads the log of a training run.

    Args:
        folder (`str` or `Path`):
            A training folder: its own trainer_state.json is read or, without one, that of its last checkpoint.

    Returns:
        `list[dict[str, Any]]`: one entry per log, with its `"step"` and the metrics by name

    Raises:
        ValueError: If the folder holds no log.
    """
    folder = Path(folder)
    states = [path / STATE for path in (folder, *reversed(checkpoints(folder)))]
    state = next((path for path in states if path.exists()), None)
    if state is None:
        raise ValueError(
            f"A training folder must hold a trainer_state.json or a checkpoint with one; {str(folder)!r} "
            f"{'holds none' if folder.is_dir() else 'is not a folder'}. Name the output_dir of a training run that "
            "saved a checkpoint or called `trainer.save_state()`."
        )
    try:
        log = json.loads(state.read_text(encoding="utf-8"))["log_history"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"A trainer_state.json must be one that a trainer saved; {str(state)!r} is not ({error!r}). "
            "Name another training folder or checkpoint."
        ) from error
    return [entry for entry in log if "step" in entry]


RUN_FACTS = "nsr_trl_run.json"
"""File of a training folder with the facts for its card."""


def describe_folders(folders: Mapping[str, str | Path]) -> str | None:
    """
    A title for a figure of training runs: which run, by which objective, from which model.

    Args:
        folders (`Mapping[str, str | Path]`):
            Training folders by the name to show.

    Returns:
        `str` or `None`: `None` where the folders do not say, and where several runs have no model in common
    """
    found = {}
    for name, folder in folders.items():
        try:
            facts = json.loads(Path(folder, RUN_FACTS).read_text(encoding="utf-8"))
            found[name] = describe_training(name, facts["objective"], facts["base_model"] or facts["local_base"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
    if len(found) == 1:
        return next(iter(found.values()))
    bases = {title.rpartition(" from ")[2] for title in found.values()}
    return f"trained from {bases.pop()}" if len(bases) == 1 else None


def describe_training(name: str, objective: str, base: str | None) -> str:
    """One run in a few words."""
    return f"{name}: {objective}" + (f", trained from {base}" if base else "")
