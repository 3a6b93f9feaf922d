"""An alarm that stops a sharded run leaves the weights of the last good checkpoint."""

import json
import re
from pathlib import Path

import pytest
import torch
from forks import run_ranks
from safetensors.torch import load_file
from test_two_processes import FSDP2, ZERO3, accelerate_config


SCRIPT = Path(__file__).with_name("train_and_resume.py")
SETTINGS = {
    "right_until": 3,
    "steps_per_generation": 2,
    "num_iterations": 1,
    "max_steps": 9,
    "logging_steps": 1,
    "save_total_limit": 2,
    "on_alarm": "stop",
    "alarm_thresholds": {"none_correct": 3},
    "check_after_rollouts": 0,
}

pytestmark = pytest.mark.distributed


@pytest.mark.parametrize("config", [None, FSDP2, ZERO3], ids=["ddp", "fsdp2", "zero3"])
def test_the_weights_are_those_of_the_last_good_checkpoint(tiny_model, tmp_path, config):
    config = config and accelerate_config(config, tmp_path)
    run_ranks(SCRIPT, tiny_model, tmp_path, json.dumps(SETTINGS), config=config)
    told = (tmp_path / "alarm").read_text()
    good = re.fullmatch(r"none_correct at step 6, weights of (checkpoint-\d)", told)
    assert good, told
    assert good[1] in ("checkpoint-2", "checkpoint-3")  # what came before the last rollout with a right completion
    saved = load_file(tmp_path / "run" / good[1] / "model.safetensors")
    left = torch.load(next(tmp_path.glob("parameters-*.pt")))
    assert saved.keys() <= left.keys()
    assert all(torch.equal(saved[name].float(), left[name].float()) for name in saved)
