"""Two gloo processes train as one does on the same rows: same loss, same metrics, same parameters."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


SCRIPT = Path(__file__).with_name("train_rows.py")


def run(tiny_model, out, *launcher):
    out.mkdir()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *launcher, str(SCRIPT), tiny_model, str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-4000:]
    parameters = [torch.load(path) for path in sorted(out.glob("parameters-*.pt"))]
    return parameters, json.loads((out / "logs.json").read_text())


@pytest.mark.distributed
def test_two_processes_train_as_one(tiny_model, tmp_path):
    (one,), logs_of_one = run(tiny_model, tmp_path / "one")
    two, logs_of_two = run(tiny_model, tmp_path / "two", "-m", "torch.distributed.run", "--nproc_per_node", "2")
    assert len(two) == 2
    assert torch.equal(two[0], two[1])
    torch.testing.assert_close(two[0], one, rtol=1e-5, atol=1e-7)

    assert len(logs_of_one) == len(logs_of_two)
    for ours, theirs in zip(logs_of_two, logs_of_one, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert ours[name] == pytest.approx(theirs[name], rel=2e-4, abs=1e-6), name
    # the rollouts differ in sign and length, so that the metrics could be wrong
    assert 0 < logs_of_one[0]["signed/correct_ratio"] < 1
    assert logs_of_one[0]["signed/length/correct"] != logs_of_one[0]["signed/length/incorrect"]
    assert 0 < logs_of_one[-1]["eval_pass@1"] < 1
