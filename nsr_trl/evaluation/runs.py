"""Finished evaluations on disk: folders come in, evaluations by dataset and run come out."""

from collections.abc import Sequence
from pathlib import Path

from .records import SUMMARY, find_runs, read_json
from .results import Evaluation


def name_runs(paths: Sequence[str | Path], names: Sequence[str] | None = None) -> dict[str, Path]:
    """
    Gives every folder the name that tables and figures show.

    Args:
        paths (`Sequence[str | Path]`):
            The folders.
        names (`Sequence[str]`, *optional*):
            One name for each. Defaults to the shortest ends of the paths that tell them apart.

    Returns:
        `dict[str, Path]`: folder by name, in the order given

    Raises:
        ValueError: If there are more or fewer names than folders, or two are equal.
    """
    folders = [Path(path) for path in paths]
    if names is None:
        parts = [folder.resolve().parts for folder in folders]
        num_parts = next((n for n in range(1, max(map(len, parts))) if len({p[-n:] for p in parts}) == len(parts)), 1)
        names = ["/".join(p[-num_parts:]) for p in parts]
    if len(names) != len(folders) or len(set(names)) != len(names):
        raise ValueError(
            f"Every run needs a name of its own; got {len(folders)} runs and the names {', '.join(names)}. "
            "Give one name per run, no two alike."
        )
    return dict(zip(names, folders, strict=True))


def read_evaluations(runs: dict[str, Path]) -> dict[str, dict[str, Evaluation]]:
    """
    Reads the summaries of runs.

    Args:
        runs (`dict[str, Path]`):
            Output folder of an evaluation by name of the run.

    Returns:
        `dict[str, dict[str, Evaluation]]`:
            Evaluation by dataset and run. Runs of one dataset each are taken to be of the same one.

    Raises:
        ValueError: If a folder holds no run, or a run has no readable summary.
    """
    found = {name: find_runs(path) for name, path in runs.items()}
    if all(len(folders) == 1 for folders in found.values()) and len({*map(tuple, found.values())}) > 1:
        found = {name: dict(zip([""], folders.values(), strict=True)) for name, folders in found.items()}
    evaluations: dict[str, dict[str, Evaluation]] = {}
    for name, folders in found.items():
        for dataset, folder in folders.items():
            evaluations.setdefault(dataset, {})[name] = read_summary(folder)
    return evaluations


def read_summary(folder: Path) -> Evaluation:
    """Reads the result of a run folder; a ValueError tells what it lacks."""
    path = folder / SUMMARY
    if not path.exists():
        raise ValueError(
            f"A run must be finished before its result is read; {str(folder)!r} has no {SUMMARY}. Finish it by the "
            "same `nsr-trl evaluate` command, or join its shards with `nsr-trl merge`."
        )
    try:
        return Evaluation.from_dict(read_json(path))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"A {SUMMARY} must be one that `nsr-trl evaluate` wrote; {str(path)!r} is not ({error}). "
            "Write it anew by the same `nsr-trl evaluate` command."
        ) from error
