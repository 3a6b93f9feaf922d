"""Shards of one evaluation, run on several machines, go in; the run folder of the whole comes out."""

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from .records import (
    CONFIG,
    SUMMARY,
    RunFolder,
    differences,
    find_runs,
    read_json,
    read_problems,
    read_samples,
)
from .results import Evaluation
from .runs import read_summary
from .tally import GROUPINGS, Tally


MOST_NAMES = 8
"""Missing shards that an error names."""


def merge_runs(output_dir: str | Path, shards: Sequence[str | Path]) -> dict[str, Evaluation]:
    """
    Joins the shards of an evaluation.

    Args:
        output_dir (`str` or `Path`):
            Folder to write; must be new or empty. Where the shards hold several datasets, it will as well.
        shards (`Sequence[str | Path]`):
            Output folders of `nsr-trl evaluate --shard`, all of them, in any order.

    Returns:
        `dict[str, Evaluation]`: the evaluation of each dataset.

    Raises:
        ValueError: If a shard is missing, given twice, incomplete or of another config, or the output folder is not
            empty.
    """
    output_dir = Path(output_dir)
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise ValueError(
            f"The folder of a merge must be new or empty; {str(output_dir)!r} is not. Name another, or remove it."
        )
    folders: dict[str, list[Path]] = {}
    for shard in shards:
        for name, folder in find_runs(shard).items():
            # a run folder given itself is of the one dataset, whatever its name
            folders.setdefault("" if folder == Path(shard) else name, []).append(folder)
    merged = {name: _check(members) for name, members in folders.items()}
    try:
        return {
            name or output_dir.resolve().name: _write(output_dir / name, members, *merged[name])
            for name, members in folders.items()
        }
    except BaseException:
        shutil.rmtree(output_dir)  # it was new: half a merge would only stand in the way of the next
        raise


def _check(folders: Sequence[Path]) -> tuple[dict[str, Any], list[int]]:
    """Returns the config that the shards have in common, and the k of their summaries."""
    configs = [read_json(folder / CONFIG) for folder in folders]
    shards = [config.pop("shard", None) for config in configs]
    for folder, shard in zip(folders, shards, strict=True):
        if shard is not None and not re.fullmatch(r"[1-9]\d*/[1-9]\d*", str(shard)):
            raise ValueError(f"{folder / CONFIG} must name its shard as in 1/4; got {shard!r}. Restore the file.")
    for folder, config in zip(folders, configs, strict=True):
        if changes := differences(configs[0], config):
            raise ValueError(
                f"Shards must all come from one config; {folder} differs from {folders[0]} in {'; '.join(changes)}. "
                "Merge the shards of one evaluation."
            )
    count = int(shards[0].partition("/")[2]) if shards[0] else 0
    expected = [f"{index}/{count}" for index in range(1, count + 1)]
    if not count or Counter(shards) != Counter(expected):
        given = ", ".join(
            f"{folder} ({shard or 'not a shard'})" for folder, shard in zip(folders, shards, strict=True)
        )
        missing = sorted(set(expected) - set(shards), key=expected.index)
        lacking = f" and lacks {_several(missing)}" if missing else ""
        raise ValueError(
            f"A merge needs every shard of an evaluation once; got {given}{lacking}. "
            "Name the output folder of each `nsr-trl evaluate --shard`."
        )
    incomplete = [str(folder) for folder in folders if not (folder / SUMMARY).exists()]
    if incomplete:
        raise ValueError(
            f"Shards must be complete; {', '.join(incomplete)} have no summary. "
            "Run their command again: it resumes where it stopped."
        )
    summaries = [read_summary(folder) for folder in folders]
    sizes = {summary.num_samples for summary in summaries}
    if len(sizes) > 1:
        given = ", ".join(f"{folder} {each.num_samples}" for folder, each in zip(folders, summaries, strict=True))
        raise ValueError(
            f"Shards must have the same samples per problem; got {given}. "
            "Run the commands of the smaller ones again with the largest --num-samples."
        )
    for folder, summary in zip(folders, summaries, strict=True):
        tally = Tally([problem["id"] for problem in read_problems(folder)], summary.num_samples)
        for sample in read_samples(folder, with_completions=False):
            tally.add(sample)
        if tally.num_missing:
            raise ValueError(
                f"Shards must hold every sample; {folder} lacks {tally.num_missing}. "
                "Run its command again: it draws what is missing."
            )
    return configs[0], sorted(summaries[0].pass_at_k)


def _several(names: Sequence[str]) -> str:
    """The first names, and how many others there are."""
    others = f" and {len(names) - MOST_NAMES} others" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + others


def _write(path: Path, folders: Sequence[Path], config: dict[str, Any], ks: list[int]) -> Evaluation:
    problems = [problem for folder in folders for problem in read_problems(folder)]
    tally = Tally([problem["id"] for problem in problems], read_summary(folders[0]).num_samples)
    with RunFolder(path, config, problems) as merged:
        for folder in folders:
            samples = read_samples(folder)
            while chunk := list(islice(samples, 1_000)):
                merged.append(chunk)
        for sample in read_samples(path, with_completions=False):
            tally.add(sample)
        evaluation = tally.evaluation(ks, {name: [problem.get(name) for problem in problems] for name in GROUPINGS})
        merged.write_summary(evaluation.to_dict())
    return evaluation
