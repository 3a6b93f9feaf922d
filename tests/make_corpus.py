"""Writes the labelled corpus, `data/verifier.jsonl`: rewrites of generated references, and what decides each of them.

`python tests/make_corpus.py` after a change of families or rules; the difference shows what the change decides.
"""

import json
import random
from collections import Counter
from pathlib import Path

from rewrites import generated_references, rewrites

from nsr_trl.verifier import verify_batch


CORPUS = Path(__file__).parent / "data" / "verifier.jsonl"
MOST_PER_FAMILY = 8


def corpus() -> list[dict[str, str]]:
    """Rows with a response, its reference, whether the meaning is kept, and the family; most kinds of each family."""
    rng = random.Random(7)
    counts: Counter[str] = Counter()
    rows = []
    for reference in rng.sample(references := generated_references(rng, 60), len(references)):
        for keeps in (True, False):
            for family, response in rewrites(reference, keeps):
                counts[family.name] += 1
                if counts[family.name] <= MOST_PER_FAMILY:
                    meaning = "same" if keeps else "different"
                    rows.append(
                        {"response": response, "reference": reference, "meaning": meaning, "family": family.name}
                    )
    return sorted(rows, key=lambda row: (row["family"], row["reference"], row["response"]))


def main() -> None:
    rows = corpus()
    verdicts = verify_batch([row["response"] for row in rows], [row["reference"] for row in rows])
    lines = [json.dumps({**row, "rule": str(each.rule)}) for row, each in zip(rows, verdicts, strict=True)]
    CORPUS.parent.mkdir(exist_ok=True)
    CORPUS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines):,} rows of {len({row['family'] for row in rows})} families are in {CORPUS}")


if __name__ == "__main__":
    main()
