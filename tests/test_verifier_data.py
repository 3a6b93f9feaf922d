"""Labelled answers of other projects and of models: no wrong answer is accepted, no right one refused."""

import json
import time
from pathlib import Path

import pytest

from nsr_trl.verifier import Outcome, verify
from nsr_trl.verifier.equivalence import compare


FOLDER = Path(__file__).parents[2] / "shared" / "verifier"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the labelled answers are not at {FOLDER}")


def load(name):
    return [json.loads(line) for line in (FOLDER / f"{name}.dev.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "least_decided"),
    [("equivalence", 0.74), ("mutants", 0.63), ("responses", 0.90)],
)
def test_decided_answers_are_decided_as_labelled(name, least_decided):
    rows = [row for row in load(name) if not row.get("contested") and not row.get("no_box")]
    num_decided = 0
    for row in rows:
        if "response" in row:
            outcome = verify(row["response"], row["gold"]).outcome
        else:
            outcome, _ = compare(row["pred"], row["gold"])
        if outcome != Outcome.UNDECIDED:
            num_decided += 1
            assert (outcome == Outcome.CORRECT) == row["label"], row["id"]
    assert num_decided / len(rows) >= least_decided


def test_hostile_responses_get_a_quick_verdict_that_is_not_wrong():
    for row in load("hostile"):
        response = row["response"]
        if isinstance(response, dict):
            response = "".join(text * count for text, count in response["rep"])
        start = time.perf_counter()
        outcome = verify(response, row["gold"]).outcome
        assert time.perf_counter() - start < 5, row["id"]
        if not row.get("contested"):
            assert outcome == Outcome.UNDECIDED or (outcome == Outcome.CORRECT) == row["label"], row["id"]
