"""Labelled answers and references beside the repository, where they are, and what a verdict on each may be."""

import json
from pathlib import Path

import pytest

from nsr_trl.verifier import read_reference


SHARED = Path(__file__).parents[2] / "shared"
ANSWERS = SHARED / "verifier"
MATH = SHARED / "data" / "math"

needs_answers = pytest.mark.skipif(not ANSWERS.is_dir(), reason=f"the labelled answers are not at {ANSWERS}")
needs_math = pytest.mark.skipif(not MATH.is_dir(), reason=f"the references of MATH are not at {MATH}")


def load(name: str) -> list[dict]:
    """Rows of one of the labelled sets; none where they are not."""
    if not ANSWERS.is_dir():
        return []
    return [json.loads(line) for line in (ANSWERS / f"{name}.dev.jsonl").read_text().splitlines()]


def response_of(row: dict) -> str:
    """The response of a row: as it is written, repeated text, or a bare answer in a box."""
    response = row["response"] if "response" in row else rf"\boxed{{{row['pred']}}}"
    return "".join(text * count for text, count in response["rep"]) if isinstance(response, dict) else response


def math_references() -> list[str]:
    """The answer in each of the 12,500 solutions of MATH; empty where there is none."""
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [row for name in ("train", "test") for row in parquet.read_table(MATH / f"{name}.parquet").to_pylist()]
    return [read_reference(row["reward_model"]["ground_truth"]["solution"]).answer for row in rows]
