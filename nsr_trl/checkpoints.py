"""Checkpoints: which of a folder's are whole and whose they are, and how one is marked when it has been written.

checkpoint-N/nsr_trl_rank_RANK.pth     this rank's rollouts that are not trained on yet, its counters and metrics
checkpoint-N/nsr_trl_checkpoint.json   the manifest, written last: whose checkpoint it is, and every file's size

A checkpoint without a manifest is whole if this package wrote nothing into it, and what transformers writes last is
there: one of `GRPOTrainer`'s, say. Figures and tables of a run look for its checkpoints too, and need no torch.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np


if TYPE_CHECKING:
    import torch
    from transformers import TrainingArguments


MANIFEST = "nsr_trl_checkpoint.json"
STATE = "trainer_state.json"
CHECKSUM_BYTES = 2**24
"""Files up to this size have a checksum in the manifest; of larger ones the size must do."""

_CHECKPOINT = re.compile(r"checkpoint-(\d+)$")


def checkpoints(output_dir: str | Path) -> list[Path]:
    """The checkpoint folders of a run, the first one first, whole or not."""
    return sorted((path for path in Path(output_dir).glob("*") if _CHECKPOINT.match(path.name)), key=number)


def number(checkpoint: str | Path) -> int:
    """The optimizer steps after which a checkpoint was saved, as its name says."""
    match = _CHECKPOINT.match(Path(checkpoint).name)
    assert match, checkpoint
    return int(match[1])


def damage(checkpoint: str | Path) -> list[str]:
    """
    What is wrong with a checkpoint.

    Args:
        checkpoint (`str` or `Path`):
            A checkpoint folder.

    Returns:
        `list[str]`: a phrase for every file that is missing or damaged; none if the checkpoint is whole
    """
    checkpoint = Path(checkpoint)
    manifest = _read_json(checkpoint / MANIFEST)
    if manifest is None:
        if (checkpoint / MANIFEST).exists():
            return [f"{MANIFEST} is damaged"]
        if any(checkpoint.glob("nsr_trl_rank_*.pth")):
            return ["it was not written to its end"]
        if _read_json(checkpoint / STATE) is None:
            return [f"{STATE} is {'damaged' if (checkpoint / STATE).exists() else 'missing'}"]
        return [f"{path.name} is empty" for path in sorted(checkpoint.iterdir()) if path.is_file() and _is_empty(path)]
    return [fault for name, entry in manifest["files"].items() if (fault := _fault(checkpoint / name, name, entry))]


def is_complete(checkpoint: str | Path) -> bool:
    """Whether a checkpoint was written to its end, and is as it was written."""
    return Path(checkpoint).is_dir() and not damage(checkpoint)


def last_complete_checkpoint(
    output_dir: str | Path, say: Callable[[str], object] = lambda line: None, before: float = math.inf
) -> str | None:
    """
    The checkpoint to resume from.

    Args:
        output_dir (`str` or `Path`):
            A training run's output folder.
        say (`Callable`, *optional*):
            Called with a sentence for every later checkpoint that is passed over.
        before (`float`, *optional*):
            Only those of fewer optimizer steps.

    Returns:
        `str` or `None`:
            The `checkpoint-N` of the highest N that is complete; `None` if there is none.
    """
    for path in reversed([path for path in checkpoints(output_dir) if number(path) < before]):
        faults = damage(path)
        if not faults:
            return str(path)
        say(f"{path} is passed over: {', '.join(faults)}.")
    return None


def run_of(checkpoint: str | Path) -> dict[str, str]:
    """Whose checkpoint it is, as [`mark_complete`] was told; nothing where that is not known."""
    return (_read_json(Path(checkpoint, MANIFEST)) or {}).get("run", {})


def find_checkpoint(given: str | bool | None, output_dir: str | Path, say: Callable[[str], object]) -> str | None:
    """
    The checkpoint that a run is to resume from.

    Args:
        given (`str` or `bool`, *optional*):
            What `train` is given: a folder, or `True` for the last whole one of `output_dir`.
        output_dir (`str` or `Path`):
            A training run's output folder.
        say (`Callable`):
            Called with a sentence for every checkpoint that is passed over.

    Returns:
        `str` or `None`: a folder, or `None` where the run is to start anew

    Raises:
        ValueError: If there is none, or the given one is not whole.
    """
    if not given:
        return None
    if given is True:
        found, why = last_complete_checkpoint(output_dir, say), ""
    else:
        faults = damage(given) if Path(given).is_dir() else ["there is no such folder"]
        found, why = None if faults else str(given), f" ({', '.join(faults)})"
    if found is None:
        raise ValueError(
            f"A run resumes from a checkpoint that was written to its end; got resume_from_checkpoint={given!r} and "
            f"output_dir={str(output_dir)!r}, where there is none{why}. Name another checkpoint, or start without it."
        )
    return found


def find_strangers(
    run: Mapping[str, str], checkpoint: str | None, output_dir: str | Path, may_delete: bool
) -> list[Path]:
    """
    Checks whose checkpoints a run would go on from, or leave its own among.

    Args:
        run (`Mapping[str, str]`):
            What makes a checkpoint one of this run.
        checkpoint (`str`, *optional*):
            The one to resume from; `None` for a run that starts anew.
        output_dir (`str` or `Path`):
            The run's output folder.
        may_delete (`bool`):
            Whether a run that starts anew may delete another run's checkpoints.

    Returns:
        `list[Path]`: other runs' checkpoints, to be deleted

    Raises:
        ValueError: If the checkpoint is another run's, or the folder holds some that may not be deleted.
    """
    candidates = checkpoints(output_dir) if checkpoint is None else [Path(checkpoint)]
    strangers = {path: theirs for path in candidates if (theirs := differences(run, run_of(path)))}
    if not strangers or (checkpoint is None and may_delete):
        return list(strangers)
    path, theirs = next(iter(strangers.items()))
    both = f"there: {_listed(theirs)}; here: {_listed({what: run[what] for what in theirs})}"
    if checkpoint is not None:
        raise ValueError(
            f"A run resumes from a checkpoint of its own; {path} is of another run ({both}). Resume with that run's "
            "settings; or begin a new run, in another output_dir, with that checkpoint as its model."
        )
    raise ValueError(
        f"A run must find no other run's checkpoints in its output folder; got {path} ({both}). Go on with that run "
        "by its own settings and resume_from_checkpoint=True (--resume_from_checkpoint true); or start this one in "
        "another output_dir, or with overwrite_output_dir=True (--overwrite_output_dir true), which deletes them."
    )


def leftovers(output_dir: str | Path) -> str | None:
    """
    What a run that starts anew finds of an earlier one.

    Args:
        output_dir (`str` or `Path`):
            The run's output folder.

    Returns:
        `str` or `None`: a sentence that says what is there and how to go on with it; `None` if nothing is
    """
    last = last_complete_checkpoint(output_dir)
    if last is not None:
        return (
            f"{last} is there from an earlier run; this one starts anew and overwrites what has the same name. "
            "resume_from_checkpoint=True (--resume_from_checkpoint true) goes on from it; another output_dir keeps it."
        )
    if any(Path(output_dir).glob("*model*.safetensors")):  # an adapter's too
        return (
            f"{output_dir} holds an earlier run's model and no checkpoint to resume from; this one overwrites it. "
            "Another output_dir keeps it."
        )
    return None


def differences(run: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    """The facts of another run that differ; facts that only one of them has are left out."""
    return {what: other[what] for what in run if what in other and run[what] != other[what]}


def _listed(facts: Mapping[str, str]) -> str:
    return ", ".join(f"{what} {value}" for what, value in facts.items())


def unmark(checkpoint: str | Path) -> None:
    """Removes the marks of completeness from a checkpoint that is about to be written or deleted."""
    for name in (MANIFEST, STATE):
        Path(checkpoint, name).unlink(missing_ok=True)


def sync(checkpoint: str | Path) -> None:
    """Flushes a checkpoint to the disk, so that a power failure leaves no empty files."""
    for folder, _, names in os.walk(checkpoint):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                os.fsync(file.fileno())
        _sync_names(folder)


def _sync_names(folder: str | Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):  # some file systems do not know it of folders
        os.fsync(descriptor)
    os.close(descriptor)


def mark_complete(checkpoint: str | Path, run: Mapping[str, str]) -> None:
    """
    Writes the manifest of a checkpoint whose files are all there.

    Args:
        checkpoint (`str` or `Path`):
            A checkpoint folder.
        run (`Mapping[str, str]`):
            Whose it is: what must be the same for another run to go on from it.
    """
    checkpoint = Path(checkpoint)
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != MANIFEST)
    manifest = {"run": dict(run), "files": {str(path.relative_to(checkpoint)): _describe(path) for path in files}}
    unfinished = checkpoint / f"{MANIFEST}.unfinished"
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(checkpoint / MANIFEST)
    _sync_names(checkpoint)


@contextlib.contextmanager
def being_written(checkpoint: str | Path, args: "TrainingArguments", accelerator: Any) -> Iterator[None]:
    """
    Sees to it that a checkpoint has no mark of completeness while it is written, and older ones stay until it has.

    Args:
        checkpoint (`str` or `Path`):
            The folder that is written inside this context, by all ranks.
        args (`TrainingArguments`):
            Whose `save_total_limit` does not hold inside.
        accelerator (`accelerate.Accelerator`):
            Lets the ranks wait for each other.
    """
    if args.should_save:
        unmark(checkpoint)
    limit, args.save_total_limit = args.save_total_limit, None
    try:
        yield
    finally:
        args.save_total_limit = limit
    accelerator.wait_for_everyone()  # the files of all ranks are there
    if accelerator.is_local_main_process:
        sync(checkpoint)
    accelerator.wait_for_everyone()


def rotate(output_dir: str | Path, limit: int | None, keep: Iterable[str | Path | None]) -> None:
    """Deletes the oldest checkpoints, down to `limit` of them, but none of `keep`."""
    kept = {Path(path).resolve() for path in keep if path is not None}
    by_age = sorted(checkpoints(output_dir), key=lambda path: path.stat().st_mtime)
    surplus = len(by_age) - limit if limit and limit > 0 else 0
    for path in by_age:
        if surplus <= 0:
            break
        if path.resolve() not in kept:
            delete(path)
            surplus -= 1


def delete(checkpoint: str | Path) -> None:
    """Deletes a checkpoint; one whose deletion is cut off is not complete."""
    unmark(checkpoint)
    shutil.rmtree(checkpoint, ignore_errors=True)


def check_folder(output_dir: str | Path, num_bytes: float = 0) -> None:
    """
    Tries whether a run can write to its output folder, before a model is loaded.

    Args:
        output_dir (`str` or `Path`):
            The folder, which is made where it is missing.
        num_bytes (`float`, *optional*, defaults to `0`):
            What a checkpoint takes.

    Raises:
        ValueError: If the folder cannot be written, or the disk is too full.
    """
    output_dir = Path(output_dir)
    trial = output_dir / f".nsr_trl_{os.getpid()}"
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(b"\0" * 4096)
        trial.unlink()
        free = shutil.disk_usage(output_dir).free
    except OSError as error:
        raise ValueError(
            f"A run must be able to write to its output folder; {str(output_dir)!r} cannot be written "
            f"({error.strerror}). Name another with output_dir, or make room or give the right to write there."
        ) from error
    if free < num_bytes:
        raise ValueError(
            f"A checkpoint of this run takes {num_bytes / 1e9:,.1f} GB; the disk of {str(output_dir)!r} has "
            f"{free / 1e9:,.1f} GB left. Make room, or name an output_dir on another disk."
        )


def _describe(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    return {"size": size} | ({"sha256": _checksum(path)} if size <= CHECKSUM_BYTES else {})


def _fault(path: Path, name: str, entry: Mapping[str, Any]) -> str | None:
    """The damage of a file of a manifest, in words."""
    if not path.is_file():
        return f"{name} is missing"
    size = path.stat().st_size
    if size != entry["size"]:
        return f"{name} has {size:,} of {entry['size']:,} bytes"
    if "sha256" in entry and _checksum(path) != entry["sha256"]:
        return f"{name} is damaged"
    return None


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_empty(path: Path) -> bool:
    return path.stat().st_size == 0


def _read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or `None` where there is no whole one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def save_rank_state(checkpoint: str | Path, rank: int, state: dict[str, Any]) -> None:
    """Saves what one rank keeps: tensors, numbers and texts in dictionaries and lists."""
    import torch

    Path(checkpoint).mkdir(parents=True, exist_ok=True)
    torch.save(_plain(state), Path(checkpoint, f"nsr_trl_rank_{rank}.pth"))


def _plain(value: Any) -> Any:
    """The same with Python's numbers in the place of numpy's, which `weights_only` refuses to load."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def load_rank_state(checkpoint: str | Path, rank: int, device: "torch.device") -> dict[str, Any] | None:
    """What [`save_rank_state`] saved, its tensors on `device`; `None` where this rank saved nothing."""
    import torch

    path = Path(checkpoint, f"nsr_trl_rank_{rank}.pth")
    location = "cpu" if device.type == "cpu" else device  # gloo's ranks say "cpu:1", which torch.load does not know
    return torch.load(path, map_location=location, weights_only=True) if path.exists() else None
