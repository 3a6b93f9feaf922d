"""The run folder of an evaluation: samples as they come, in a form that survives a crash and can be resumed.

- `config.json`: what the samples depend on; a folder only ever holds samples of one config
- `problems.jsonl`: the problems, so that the folder can be read without the dataset
- `samples.jsonl`: one sample per line, appended
- `summary.json`: the result, once there is one
"""

import errno
import fcntl
import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from ..choices import OUTCOMES
from .visible import one_line


CONFIG, PROBLEMS, SAMPLES, SUMMARY = "config.json", "problems.jsonl", "samples.jsonl", "summary.json"

_NEWLINE = ord("\n")
_TEXT = rb'"(?:[^"\\]|\\.)*"'
_HEAD = re.compile(
    rb'\{"problem_id": (%b), "sample_index": (\d+), "outcome": (%b), "answer": (null|%b), "reason": (%b), '
    rb'"num_tokens": (\d+), "truncated": (true|false), (?:"rule": (%b), )?"completion": "'
    % (_TEXT, _TEXT, _TEXT, _TEXT, _TEXT)
)
"""A line up to its completion: reading it so takes half the time of a JSON parser on the same part."""


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
        rule (`str`, *optional*, defaults to `""`):
            Rule of the verifier that decided; empty in the records of older versions.
    """

    problem_id: str
    sample_index: int
    completion: str
    outcome: str
    answer: str | None
    reason: str
    num_tokens: int
    truncated: bool
    rule: str = ""


class RunFolder:
    """
    The folder of one evaluation, open for writing: created if need be, and locked until it is closed.

    Args:
        path (`str` or `Path`):
            The folder.
        config (`Mapping[str, Any]`):
            What the samples depend on, as JSON values.
        problems (`Sequence[Mapping[str, Any]]`):
            The problems as JSON values, with their `id`; written once.

    Raises:
        ValueError: If the folder holds samples of another config.
        BlockingIOError: If another process writes into the folder.
        OSError: If the disk is full.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any], problems: Sequence[Mapping[str, Any]]) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path / SAMPLES, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            self._lock()
            self._check_config(json.loads(json.dumps(config)))
            if not (self.path / PROBLEMS).exists():
                self._write(PROBLEMS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in problems))
            self._cut_torn_line()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets another process write into the folder."""
        os.close(self._file)

    def append(self, samples: Iterable[Sample]) -> None:
        """Appends samples; once this returns they are on disk, and if it fails none of them is."""
        samples = list(samples)
        for sample in samples:
            if fault := _fault(sample):
                raise ValueError(
                    f"A sample must have the fields of one to be recorded; that of problem {sample.problem_id!r} has "
                    f"{fault}. Correct the sampler: nothing of this batch was written."
                )
        size = os.fstat(self._file).st_size
        lines = "".join(map(_line, samples)).encode(errors="replace")
        with _explained(self.path / SAMPLES):
            try:
                while lines:
                    lines = lines[os.write(self._file, lines) :]
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, size)
                raise

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes the result."""
        self._write_json(SUMMARY, summary)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"A run folder must have one writer; another process is writing into {self.path}. "
                "Wait for it to end, or choose another output folder."
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):  # a file system without locks
                raise

    def _check_config(self, config: dict[str, Any]) -> None:
        if not (self.path / CONFIG).exists():
            self._write_json(CONFIG, config)
            return
        _check_same(self.path, differences(read_json(self.path / CONFIG), config))

    def _cut_torn_line(self) -> None:
        """Drops a last line that a crash left unfinished, so that the next one starts on its own."""
        size = end = os.fstat(self._file).st_size
        while end > 0:
            start = max(0, end - 2**16)
            newline = os.pread(self._file, end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            os.ftruncate(self._file, end)

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        self._write(name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def _write(self, name: str, text: str) -> None:
        # written aside and moved, so that a crash leaves the old file or the new one, never half of it
        temporary = self.path / f"{name}.tmp"
        with _explained(self.path / name):
            try:
                temporary.write_text(text, encoding="utf-8")
                temporary.replace(self.path / name)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise


def check_folder(path: str | Path, known: Mapping[str, Any]) -> None:
    """
    Refuses a run folder as [`RunFolder`] would, as far as a part of the config tells: before a model is loaded.

    Args:
        path (`str` or `Path`):
            The folder, which need not exist.
        known (`Mapping[str, Any]`):
            Entries of the config that are known so far.

    Raises:
        ValueError: If it cannot be a folder, or holds samples of another config.
    """
    path = Path(path).absolute()
    nearest = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ValueError(
            f"A run folder must be one that can be written; {nearest} "
            f"{'cannot be written' if nearest.is_dir() else 'is not a folder'}. Name another with --output-dir."
        )
    if (path / CONFIG).exists():
        _check_same(path, differences(_restricted(read_json(path / CONFIG), known), known))


def _restricted(recorded: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded values of the known entries."""
    both = {key: (recorded[key], value) for key, value in known.items() if key in recorded}
    return {
        key: _restricted(before, value) if isinstance(before, dict) and isinstance(value, dict) else before
        for key, (before, value) in both.items()
    }


def _check_same(path: Path, changes: Sequence[str]) -> None:
    if changes:
        raise ValueError(
            f"The samples in {path} must all come from one config; this run changes {'; '.join(changes)}. "
            "Choose another output folder, or restore the recorded config to resume."
        )


def find_runs(path: str | Path) -> dict[str, Path]:
    """
    Finds the run folders at a path: the path itself, or else those directly in it.

    Args:
        path (`str` or `Path`):
            A run folder, or a folder of them as `nsr-trl evaluate` writes it.

    Returns:
        `dict[str, Path]`: the folders by name, sorted.

    Raises:
        ValueError: If there is none.
    """
    path = Path(path)
    if (path / PROBLEMS).is_file():  # not the config: the folder of a model has one of that name
        return {path.resolve().name: path}
    runs = {problems.parent.name: problems.parent for problems in sorted(path.glob(f"*/{PROBLEMS}"))}
    if not runs:
        raise ValueError(
            f"A run must be a folder with a {PROBLEMS}, or hold such folders; {str(path)!r} does not. {_advise(path)}"
        )
    return runs


def _advise(path: Path) -> str:
    """What to name in the place of a folder that is no run."""
    if evaluated := sorted(path.glob(f"checkpoint-*/*/{PROBLEMS}")):
        return (
            f"It holds evaluations of checkpoints: name one, such as {evaluated[-1].parents[1]}, or take all of them: "
            "nsr-trl compare --match-pass-at-1, nsr-trl plot --over-steps."
        )
    if any(path.glob("checkpoint-*")):
        return (
            f"It is a training folder: evaluate its model with nsr-trl evaluate --model {shlex.quote(str(path))}. "
            "nsr-trl show reads its completions where it was trained with log_completions."
        )
    return "Name the output folder of an evaluation."


def read_json(path: Path) -> dict[str, Any]:
    """Reads one of the JSON files of a run folder; a ValueError names the file if it is damaged."""
    content = path.read_bytes()
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(
            f"{path} must hold a JSON object; it {'is empty' if not content.strip() else f'holds {content!r:.60}'}. "
            "Restore the file, or evaluate into another folder."
        )
    return value


def read_problems(folder: str | Path) -> list[dict[str, Any]]:
    """
    Reads the problems of a run folder: `id`, `question`, `answer`, `level` and `subject` of each.

    Raises:
        ValueError: If there is none, or a line is not a problem.
    """
    path = Path(folder) / PROBLEMS
    problems: dict[str, dict[str, Any]] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                problem = json.loads(line)
                fault = _problem_fault(problem, problems)
            except ValueError:
                fault = f"{line!r:.80}"
            if fault:
                raise ValueError(
                    f"Every line of {path} must be a problem; line {number} is {fault}. Restore the file; or remove "
                    "it, and the same `nsr-trl evaluate` command writes it anew."
                )
            problems[problem["id"]] = problem
    if not problems:
        raise ValueError(
            f"{path} must hold the problems of the run; it is empty. Restore the file; or remove it, and the same "
            "`nsr-trl evaluate` command writes it anew."
        )
    return list(problems.values())


def read_samples(folder: str | Path, with_completions: bool = True) -> Iterator[Sample]:
    """
    Yields the samples of a run folder one by one, for together they may not fit in memory.

    Nothing is written, so that a run may be read while it goes on: a last line without its end is left out.

    Args:
        folder (`str` or `Path`):
            The run folder.
        with_completions (`bool`, *optional*, defaults to `True`):
            `False` leaves `completion` empty, which is much faster.

    Raises:
        ValueError: If a line is not a sample.
    """
    path = Path(folder) / SAMPLES
    if not path.exists():
        return
    known = {problem["id"] for problem in read_problems(folder)}
    read = _read if with_completions else partial(_read_head, values=_Values())
    with path.open("rb", buffering=2**18) as lines:
        for number, line in enumerate(lines, start=1):
            if line[-1] != _NEWLINE:
                return
            try:
                sample = read(line)
                fault = None if sample.problem_id in known else f"of an unknown problem: {line!r:.80}"
            except (ValueError, TypeError, RecursionError) as error:
                fault = str(error) if isinstance(error, _FieldError) else f"{line!r:.80}"
            if fault:
                raise ValueError(
                    f"A line of {path} must be a sample; line {number} is {fault}. "
                    "Remove the line, and the sample is drawn again."
                )
            yield sample


def differences(recorded: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Names each entry that differs between two configs, with both values."""
    changes = []
    for key in sorted(recorded.keys() | config.keys()):
        before, after = recorded.get(key), config.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changes += [f"{key}.{change}" for change in differences(before, after)]
        elif before != after:
            changes.append(f"{key}: {before!r} -> {after!r}")
    return changes


class _FieldError(ValueError):
    """A line cannot be read; the message says why."""


def _read(line: bytes) -> Sample:
    sample = Sample(**json.loads(line))
    if fault := _fault(sample):
        raise _FieldError(f"one with {fault}")
    return sample


def _fault(sample: Sample) -> str | None:
    """The first field that is not what it must be, with its value."""
    is_valid = (
        ("problem_id", type(sample.problem_id) is str),
        ("sample_index", type(sample.sample_index) is int and sample.sample_index >= 0),
        ("outcome", sample.outcome in OUTCOMES),
        ("answer", sample.answer is None or type(sample.answer) is str),
        ("reason", isinstance(sample.reason, str)),
        ("num_tokens", type(sample.num_tokens) is int and sample.num_tokens >= 0),
        ("truncated", type(sample.truncated) is bool),
        ("rule", isinstance(sample.rule, str)),
        ("completion", type(sample.completion) is str),
    )
    wrong = next((name for name, holds in is_valid if not holds), None)
    return None if wrong is None else f"{wrong} = {one_line(repr(getattr(sample, wrong)), 80)}"


def _problem_fault(problem: Any, others: Mapping[str, Any]) -> str | None:
    if not isinstance(problem, dict) or not isinstance(problem.get("id"), str):
        return f"{one_line(repr(problem), 80)}, without an id"
    if problem["id"] in others:
        return f"the second of id {one_line(problem['id'], 80)}"
    wrong = next((k for k, v in problem.items() if not (v is None or isinstance(v, str))), None)
    return None if wrong is None else f"one with {one_line(wrong, 40)} = {one_line(repr(problem[wrong]), 80)}"


class _Values(dict[bytes, Any]):
    """JSON values by their text, each parsed once: answers repeat, and so do the other fields."""

    def __missing__(self, text: bytes) -> Any:
        value = self[text] = json.loads(text)
        return value


def _read_head(line: bytes, values: _Values) -> Sample:
    head = _HEAD.match(line)
    if head is None:  # written by another program
        return replace(_read(line), completion="")
    id, index, outcome, answer, reason, num_tokens, truncated, rule = map(values.__getitem__, head.groups(b'""'))
    if outcome not in OUTCOMES:
        raise _FieldError(f"one with outcome = {one_line(repr(outcome), 80)}")
    return Sample(id, index, "", outcome, answer, reason, num_tokens, truncated, rule)


def _line(sample: Sample) -> str:
    fields = asdict(sample)
    fields["completion"] = fields.pop("completion")  # last, where a reader may leave it out
    return json.dumps(fields, ensure_ascii=False) + "\n"


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            f"The run folder must have room for what is written; writing {path} failed: {error.strerror}. "
            "Make room and run the same command again: what is recorded is kept."
        ) from error
