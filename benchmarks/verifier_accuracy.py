"""
What the verifier, math-verify and TRL's `accuracy_reward` say of answers whose meaning is known.

    python benchmarks/verifier_accuracy.py [NUM_REWRITES]

The labelled sets and the references of MATH lie beside the repository, where they are; the corpus is in `tests/data`.
Of MATH, NUM_REWRITES rewrites are drawn (1,000 by default, preserving and changing each) by the families of
`tests/rewrites.py`. Prints for each set and verifier the rows decided rightly, wrong answers accepted, right ones
refused, and those left undecided. The peers run with their defaults; what math-verify cannot read counts as refused,
as it would in training.
"""

import json
import random
import sys
from pathlib import Path

from math_verify import parse
from math_verify import verify as math_verify
from trl.rewards import accuracy_reward

from nsr_trl import verify_batch


sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from labelled import load, math_references, response_of
from make_corpus import CORPUS
from rewrites import rewrites


def with_nsr_trl(responses, golds):
    outcomes = [verdict.outcome for verdict in verify_batch(responses, golds)]
    return [{"correct": True, "incorrect": False}.get(outcome) for outcome in outcomes]


def with_math_verify(responses, golds):
    return [math_verify(parse(f"${gold}$"), parse(response)) for response, gold in zip(responses, golds, strict=True)]


def with_trl(responses, golds):
    completions = [[{"role": "assistant", "content": response}] for response in responses]
    rewards = accuracy_reward(completions, [f"${gold}$" for gold in golds])
    return [None if reward is None else reward == 1 for reward in rewards]


VERIFIERS = {"nsr-trl": with_nsr_trl, "math-verify": with_math_verify, "TRL accuracy_reward": with_trl}


def labelled(name):
    """Responses, references and labels of the rows that are not matters of policy."""
    rows = [row for row in load(name) if not row.get("contested") and not row.get("no_box")]
    return [(response_of(row), row["gold"], row["label"]) for row in rows]


def corpus():
    rows = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    return [(row["response"], row["reference"], row["meaning"] == "same") for row in rows]


def of_math(keeps, num_rows):
    rng = random.Random(0)
    references = sorted({reference for reference in math_references() if reference})
    rng.shuffle(references)
    rows = [(text, each, keeps) for each in references[:num_rows] for _, text in rewrites(each, keeps)]
    return rng.sample(rows, min(num_rows, len(rows)))


def main(num_rewrites):
    sets = {name: labelled(name) for name in ("equivalence", "mutants", "responses")}
    sets |= {"corpus": corpus()}
    sets |= {"MATH, preserving": of_math(True, num_rewrites), "MATH, changing": of_math(False, num_rewrites)}
    print(f"{'':<20}{'':<22}{'right':>9}{'accepted':>10}{'refused':>9}{'undecided':>11}")
    for name, rows in sets.items():
        if not rows:
            continue
        responses, golds, labels = zip(*rows, strict=True)
        for verifier, judge in VERIFIERS.items():
            said = list(zip(judge(responses, golds), labels, strict=True))
            right = sum(outcome is label for outcome, label in said)
            accepted = sum(outcome is True and not label for outcome, label in said)
            refused = sum(outcome is False and label for outcome, label in said)
            undecided = sum(outcome is None for outcome, _ in said)
            title = f"{name} ({len(rows):,})" if verifier == "nsr-trl" else ""
            print(
                f"{title:<26}{verifier:<22}{right / len(rows):>8.2%}{accepted:>8}{refused:>9}{undecided:>10}",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
