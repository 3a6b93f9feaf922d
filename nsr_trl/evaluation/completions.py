"""What a training run logged with `log_completions`: tables by step go in, problems and samples come out."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..choices import OUTCOMES
from .records import Sample


_TABLE = re.compile(r"completions_(\d+)\.parquet")


def find_completions(path: str | Path) -> dict[str, Path]:
    """
    Finds the tables of completions at a path.

    Args:
        path (`str` or `Path`):
            A training folder, or its folder `completions`.

    Returns:
        `dict[str, Path]`: table by `"step N"`, by step; empty if there is none
    """
    tables = [*Path(path).glob("completions_*.parquet"), *Path(path).glob("completions/completions_*.parquet")]
    by_step = sorted((int(match[1]), table) for table in tables if (match := _TABLE.fullmatch(table.name)))
    return {f"step {step}": table for step, table in by_step}


def read_completions(table: Path) -> tuple[list[dict[str, Any]], list[Sample]]:
    """
    Reads one table.

    Args:
        table (`Path`):
            A `completions_N.parquet` of TRL.

    Returns:
        `tuple[list[dict[str, Any]], list[Sample]]`:
            The prompts as problems, and the completions as their samples, with the reason why and the weight they had

    Raises:
        ValueError: If it is no such table.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(table).to_pylist()
        return _read(rows)
    except (pyarrow.ArrowInvalid, KeyError, TypeError) as error:
        raise ValueError(
            f"A table of completions must be one that a trainer logged; {str(table)!r} is not ({error}). Leave it out."
        ) from error


def _read(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Sample]]:
    problems: dict[str, dict[str, Any]] = {}
    counts: dict[str, int] = {}
    samples = []
    for row in rows:
        prompt = _text(row["prompt"])
        id = hashlib.sha256(prompt.encode(errors="replace")).hexdigest()[:16]
        reference = row.get("verifier/reference")
        problems.setdefault(id, {"id": id, "question": prompt, "answer": reference, "level": None, "subject": None})
        counts[id] = counts.get(id, -1) + 1
        outcome = row.get("signed/outcome")
        facts = [row.get("verifier/reason") or "", *_weights(row), *_rewards(row)]
        samples.append(
            Sample(
                problem_id=id,
                sample_index=counts[id],
                completion=_text(row["completion"]),
                outcome=outcome if outcome in OUTCOMES else "undecided",
                answer=row.get("verifier/answer") or None,
                reason=", ".join(filter(None, facts)),
                num_tokens=0,  # the table does not tell
                truncated=False,
                rule=row.get("verifier/rule") or "",
            )
        )
    return list(problems.values()), samples


def _weights(row: Mapping[str, Any]) -> Iterator[str]:
    for name in ("signed/weight", "advantage"):
        if isinstance(row.get(name), float):
            yield f"{name.removeprefix('signed/')} {row[name]:+.3g}"
            return


def _rewards(row: Mapping[str, Any]) -> Iterator[str]:
    """The reward of each function, unless the outcome says all of it."""
    of_functions = {
        name: value
        for name, value in row.items()
        if isinstance(value, float) and "/" not in name and name not in ("advantage", "step")
    }
    if len(of_functions) > 1 or not set(of_functions.values()) <= {0.0, 1.0}:
        yield from (f"{name} {value:.3g}" for name, value in of_functions.items())


def _text(value: Any) -> str:
    """A text, or the contents of a conversation's messages."""
    if isinstance(value, str):
        return value
    return "\n\n".join(_text(message["content"]) for message in value)
