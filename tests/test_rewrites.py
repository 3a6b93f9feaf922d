"""Rewrites of references: none of the same meaning is incorrect, none of another is correct; few are undecided."""

import random
from collections import Counter

import pytest
from labelled import math_references, needs_math
from rewrites import FAMILIES, generated_references, kinds_of, rewrites

from nsr_trl.verifier import Outcome, verify_batch


def judge(references, keeps, capsys):
    """Judges all rewrites of references; prints the share decided by kind; returns the wrong ones and that share."""
    rows = [(family, reference, text) for reference in references for family, text in rewrites(reference, keeps)]
    verdicts = verify_batch([text for _, _, text in rows], [reference for _, reference, _ in rows])
    right, wrong = (Outcome.CORRECT, Outcome.INCORRECT) if keeps else (Outcome.INCORRECT, Outcome.CORRECT)
    counts, decided = Counter(), Counter()
    for (_, reference, _), verdict in zip(rows, verdicts, strict=True):
        for kind in kinds_of(reference):
            counts[kind] += 1
            decided[kind] += verdict.outcome is right
    with capsys.disabled():
        print(f"\n{len(rows):,} {'preserving' if keeps else 'changing'} rewrites, share decided:", end="")
        print("".join(f"\n  {kind:<12}{n:>9,}{decided[kind] / n:>9.2%}" for kind, n in counts.most_common()))
    faults = [
        (family.name, text, reference, str(verdict.rule))
        for (family, reference, text), verdict in zip(rows, verdicts, strict=True)
        if verdict.outcome is wrong
    ]
    return faults, decided["any"] / counts["any"]


def test_there_are_families_enough():
    assert sum(family.keeps for family in FAMILIES) >= 120
    assert sum(not family.keeps for family in FAMILIES) >= 40
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_every_family_applies_to_a_generated_reference():
    references = generated_references(random.Random(0), 60)
    applied = {family.name for each in references for keeps in (True, False) for family, _ in rewrites(each, keeps)}
    assert applied == {family.name for family in FAMILIES}


@pytest.mark.parametrize("keeps", [True, False])
def test_rewrites_of_generated_references_are_judged_by_their_meaning(keeps, capsys):
    faults, share = judge(generated_references(random.Random(1), 15), keeps, capsys)
    assert faults == []
    assert share > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("keeps", [True, False])
def test_more_rewrites_of_generated_references_are_judged_by_their_meaning(keeps, seed, capsys):
    faults, share = judge(generated_references(random.Random(100 + seed), 500), keeps, capsys)
    assert faults == []
    assert share > 0.99


@needs_math
@pytest.mark.parametrize("keeps", [True, False])
def test_rewrites_of_some_references_of_math_are_judged_by_their_meaning(keeps, capsys):
    references = sorted({reference for reference in math_references() if reference})
    faults, share = judge(random.Random(2).sample(references, 200), keeps, capsys)
    assert faults == []
    assert share > 0.99


@needs_math
@pytest.mark.slow
@pytest.mark.parametrize("keeps", [True, False])
def test_rewrites_of_all_references_of_math_are_judged_by_their_meaning(keeps, capsys):
    faults, share = judge(sorted({reference for reference in math_references() if reference}), keeps, capsys)
    assert faults == []
    assert share > 0.99
