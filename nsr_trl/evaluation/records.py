"""The run folder of an evaluation: samples as they come, in a form that survives a crash and can be resumed.

- `config.json`: what the samples depend on; a folder only ever holds samples of one config
- `samples.jsonl`: one sample per line, appended
- `summary.json`: the result, once there is one
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """
    One completion with its verdict.

    Attributes:
        problem_id (`str`):
            Id of the problem.
        sample_index (`int`):
            0 to n - 1 within the problem.
        completion (`str`):
            The text sampled.
        outcome (`str`):
            `"correct"`, `"incorrect"` or `"undecided"`.
        answer (`str` or `None`):
            The answer read from the completion.
        reason (`str`):
            Why this outcome.
        num_tokens (`int`):
            Length in tokens, the end-of-sequence token included.
        truncated (`bool`):
            Whether the completion ran into its length limit.
    """

    problem_id: str
    sample_index: int
    completion: str
    outcome: str
    answer: str | None
    reason: str
    num_tokens: int
    truncated: bool


class RunFolder:
    """
    The folder of one evaluation, created if need be.

    Args:
        path (`str` or `Path`):
            The folder.
        config (`Mapping[str, Any]`):
            What the samples depend on, as JSON values.

    Raises:
        ValueError: If the folder holds samples of another config.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._samples = self.path / "samples.jsonl"
        self._check_config(json.loads(json.dumps(config)))
        self._cut_torn_line()

    def samples(self) -> Iterator[Sample]:
        """Yields the samples recorded so far, one by one: together they may not fit in memory."""
        if self._samples.exists():
            with self._samples.open(encoding="utf-8") as lines:
                for line in lines:
                    yield Sample(**json.loads(line))

    def append(self, samples: Iterable[Sample]) -> None:
        """Appends samples; once this returns they are on disk."""
        with self._samples.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(sample), ensure_ascii=False) + "\n" for sample in samples)
            file.flush()
            os.fsync(file.fileno())

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes the result."""
        self._write_json("summary.json", summary)

    def _check_config(self, config: dict[str, Any]) -> None:
        path = self.path / "config.json"
        if not path.exists():
            self._write_json(path.name, config)
            return
        recorded = json.loads(path.read_text(encoding="utf-8"))
        changes = [
            f"{key}: {recorded.get(key)!r} -> {config.get(key)!r}"
            for key in sorted(recorded.keys() | config.keys())
            if recorded.get(key) != config.get(key)
        ]
        if changes:
            raise ValueError(
                f"The samples in {self.path} must all come from one config; this run changes {'; '.join(changes)}. "
                "Choose another output folder, or restore the recorded config to resume."
            )

    def _cut_torn_line(self) -> None:
        """Drops a last line that a crash left unfinished, so that the next one starts on its own."""
        if not self._samples.exists():
            return
        with self._samples.open("rb+") as file:
            size = end = file.seek(0, os.SEEK_END)
            while end > 0:
                start = max(0, end - 2**16)
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n")
                if newline >= 0:
                    end = start + newline + 1
                    break
                end = start
            if end < size:
                file.truncate(end)

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        # written aside and moved, so that a crash leaves the old file or the new one, never half of it
        temporary = self.path / f"{name}.tmp"
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(self.path / name)


def find_runs(path: str | Path) -> dict[str, Path]:
    """
    Finds the run folders of an evaluation: one per dataset, or the folder itself.

    Args:
        path (`str` or `Path`):
            Output folder of an evaluation.

    Returns:
        `dict[str, Path]`: folder by name of the dataset

    Raises:
        ValueError: If there is none.
    """
    path = Path(path)
    if (path / "config.json").exists() and (path / "samples.jsonl").exists():
        return {path.resolve().name: path}
    folders = {file.parent.name: file.parent for file in sorted(path.glob("*/samples.jsonl"))}
    if not folders:
        raise ValueError(
            f"A run folder must hold the samples.jsonl of an evaluation, or folders that do; {str(path)!r} "
            f"{'holds none' if path.is_dir() else 'is not a folder'}. Name the --output-dir of an evaluation."
        )
    return folders


def read_problems(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Reads the problems of a run folder by id; empty where they were not recorded."""
    path = Path(folder) / "problems.jsonl"
    if not path.exists():
        return {}
    with path.open(encoding="utf-8") as lines:
        return {problem["id"]: problem for problem in map(json.loads, lines)}


def read_samples(folder: str | Path) -> Iterator[Sample]:
    """Yields the samples of a run folder, one by one, without a last line that is still being written."""
    with (Path(folder) / "samples.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield Sample(**json.loads(line))
