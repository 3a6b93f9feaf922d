"""Dealing, without a trainer: which rows a rank runs, and what they carry."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nsr_trl.dealing import deal


SCRIPT = Path(__file__).parent / "distributed" / "deal_rows.py"


def deal_alone(batch, **overrides):
    arguments = {
        "gather": lambda tensor: tensor,
        "rank": 0,
        "num_ranks": 1,
        "num_micro_steps": 2,
        "num_windows": 1,
        "rows_per_micro_batch": 2,
        "max_completion_length": 4,
        "max_tokens": 100,
        "by_rows": False,
        "is_packed": False,
        "as_reference": False,
    }
    return deal(batch, torch.zeros(len(batch["advantages"]), dtype=torch.long), **(arguments | overrides))


def batch(lengths, weights):
    columns = torch.arange(max(lengths))
    mask = (columns < torch.tensor(lengths).unsqueeze(1)).long()
    return {
        "prompt_ids": torch.ones(len(lengths), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(lengths), 1, dtype=torch.long),
        "completion_ids": mask * torch.arange(1, len(lengths) + 1).unsqueeze(1),
        "completion_mask": mask,
        "advantages": torch.tensor(weights),
        "num_items_in_batch": mask.sum(),
    }


def test_rows_without_a_weight_are_not_dealt_and_the_longest_come_first():
    (nothing, found), costs = deal_alone(batch([1, 4, 2, 3], [1.0, 0.0, -1.0, -1.0]))
    assert nothing is None
    assert found["completion_ids"].tolist() == [[4, 4, 4], [3, 3, 0], [1, 0, 0]]
    assert found["advantages"].tolist() == [-1.0, -1.0, 1.0]
    facts = {name: found[name] for name in ("is_empty", "num_tokens", "num_rows", "num_places")}
    assert facts == {"is_empty": False, "num_tokens": 6, "num_rows": 3, "num_places": 3}
    assert found["token_weight"] == 2.0  # one of two micro-steps runs, with all the tokens of the window
    assert found["num_items_in_batch"] == 10  # the count of all rows, fixed before any is dropped
    assert [part.item() for part in costs["cost/rows"]] == [3, 4]


def test_a_row_without_a_token_that_the_loss_counts_is_not_dealt():
    """A completion that was cut off and masked, or is a tool's answer throughout."""
    rows = batch([1, 4, 2, 3], [1.0, 1.0, -1.0, -1.0])
    rows["tool_mask"] = torch.ones_like(rows["completion_mask"])
    rows["tool_mask"][1] = 0
    (_, found), _ = deal_alone(rows)
    assert found["completion_ids"][:, 0].tolist() == [4, 3, 1]


def test_where_nothing_trains_a_dummy_runs_and_counts_nothing():
    (nothing, found), costs = deal_alone(batch([1, 2], [0.0, 0.0]), rows_per_micro_batch=1)
    assert nothing is None
    assert found["advantages"].tolist() == [0.0]
    assert (found["is_empty"], found["num_tokens"], found["num_rows"], found["num_places"]) == (True, 0, 0, 1)
    assert costs["cost/tokens"][0] == 0


def test_as_in_the_papers_code_the_rows_that_train_fill_the_windows_and_their_tokens_count():
    rows = batch([1, 4, 2, 3], [0.0, 0.0, -1.0, -1.0])
    (first, second), _ = deal_alone(rows, num_windows=2, as_reference=True)
    assert second is None
    assert first["completion_ids"][:, 0].tolist() == [4, 3]
    assert first["num_items_in_batch"] == 10.0  # mean length 2.5 of the rows left x 4 rows
    assert first["token_weight"] == pytest.approx(5 / 5)  # their 5 tokens over 2.5 x the 2 rows of a window


@pytest.mark.processes
@pytest.mark.distributed
def test_two_ranks_share_the_rows_of_both():
    """Kept are rows 0, 2, 3 of the first rank and row 5 of the second: of 2, 4, 6 and 4 tokens, prompts included."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line[:2] in ("0 ", "1 "))
    assert len(lines) == 2, done.stderr[-2000:]
    first, second = (json.loads(lines[rank]) for rank in ("0", "1"))
    assert first[0] is second[0] is None
    # the longest two on the first rank: rows 3 (tokens 4) and 2 (tokens 3); 5 (tokens 6) and 0 (tokens 1) on the other
    assert first[1]["completion_ids"] == [[4, 4, 4, 4], [3, 3, 3, 0]]
    assert first[1]["prompt_ids"] == [[4, 4], [0, 3]]
    assert second[1]["completion_ids"] == [[6, 6], [1, 0]]
    assert second[1]["prompt_ids"] == [[6, 6], [0, 1]]
    assert (first[1]["advantages"], second[1]["advantages"]) == ([0.5, -1.0], [-1.0, -1.0])
    assert first[1]["old_per_token_logps"] == [[-0.5] * 4, [-0.5] * 3 + [0.0]]
    # of one column, and of one number a row: numbers of the rows / 4; rows 1, 3, 5 and 7 are correct
    assert second[1]["importance_sampling_ratio"] == [[5 / 4], [0 / 4]]
    assert (first[1]["outcomes"], second[1]["outcomes"]) == ([1, -1], [1, -1])
    assert first[2] == second[2] == 2  # messages: the table, and the rows
    assert first[1]["num_tokens"] == second[1]["num_tokens"] == 4 + 3 + 2 + 1
    assert first[1]["num_items_in_batch"] == 20
    # 2 micro-steps x 2 ranks x 7 and 3 of the 10 tokens
    assert (first[1]["token_weight"], second[1]["token_weight"]) == (pytest.approx(2.8), pytest.approx(1.2))
