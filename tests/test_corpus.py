"""The labelled corpus of this project: what each answer means, and the rule that says so."""

import json

import pytest
from make_corpus import CORPUS

from nsr_trl.verifier import Outcome, verify_batch


@pytest.fixture(scope="module")
def rows():
    rows = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    verdicts = verify_batch([row["response"] for row in rows], [row["reference"] for row in rows])
    return list(zip(rows, verdicts, strict=True))


def test_the_corpus_is_large_enough_and_covers_the_rules(rows):
    assert len(rows) >= 1_500
    assert len({row["family"] for row, _ in rows}) >= 160
    assert len({row["rule"] for row, _ in rows}) >= 25


def test_no_verdict_of_the_corpus_contradicts_the_meaning(rows):
    wrong = {"same": Outcome.INCORRECT, "different": Outcome.CORRECT}
    assert [row for row, verdict in rows if verdict.outcome is wrong[row["meaning"]]] == []


def test_every_row_of_the_corpus_is_decided_by_its_rule(rows):
    assert [(row, str(verdict.rule)) for row, verdict in rows if verdict.rule != row["rule"]] == []
