"""`nsr-trl train` as a user types it: processes start through the shipped configs, the model loads, a run resumes."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from nsr_trl.checkpoints import is_complete
from nsr_trl.resources import resource


pytestmark = pytest.mark.distributed
SMALL = ("--generation_batch_size", "64", "--per_device_train_batch_size", "8", "--num_problems", "64")


def run(*arguments, program=("-m", "nsr_trl", "train"), timeout=280):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TRL_EXPERIMENTAL_SILENCE": "1"}
    command = [sys.executable, *program, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)


def trained(out, *arguments, **kwargs):
    """Runs the quickstart recipe, small, on two processes; returns what was printed."""
    done = run("--config", "quickstart", *SMALL, "--output_dir", out, *arguments, **kwargs)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def loaded(path):
    model = AutoModelForCausalLM.from_pretrained(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    prompt = tokenizer("What is 2+3?", return_tensors="pt")
    completion = model.generate(**prompt, max_new_tokens=32, do_sample=False)
    return model, tokenizer.decode(completion[0], skip_special_tokens=True)


def state(path):
    return json.loads((path / "trainer_state.json").read_text())


def test_one_command_trains_on_two_processes_and_saves_a_model_that_loads(tmp_path):
    printed = trained(tmp_path / "out", "--max_steps", 2, "--save_steps", 2)
    assert (
        printed.count("Training quickstart on 64 problems of arithmetic: 0.1 L_PSR + L_NSR.") == 1
    )  # the main process alone
    assert "2 optimizer steps in" in printed
    model, text = loaded(tmp_path / "out")
    assert "5" in text
    original, _ = loaded(importlib.util.find_spec("nsr_trl.quickstart").submodule_search_locations[0] + "/model")
    assert not torch.equal(model.lm_head.weight, original.lm_head.weight)
    assert "`w_reinforce`: minimises 0.1 L_PSR + L_NSR" in (tmp_path / "out" / "README.md").read_text()
    # one row of the state per optimizer step, over the rows of both processes: 64 rows in 2 steps
    assert state(tmp_path / "out" / "checkpoint-2")["max_steps"] == 2


@pytest.mark.slow
def test_zero3_saves_a_model_that_loads_and_a_checkpoint_that_resumes(tmp_path):
    pytest.importorskip("deepspeed")
    settings = ("--accelerate_config", "zero3", "--num_processes", 2, "--save_steps", 2)
    trained(tmp_path / "out", *settings, "--max_steps", 2)
    assert "5" in loaded(tmp_path / "out")[1]
    assert "5" in loaded(tmp_path / "out" / "checkpoint-2")[1]
    printed = trained(tmp_path / "out", *settings, "--max_steps", 4, "--resume_from_checkpoint", "true")
    assert "4 optimizer steps in" in printed
    log = state(tmp_path / "out" / "checkpoint-4")["log_history"]
    assert [row["step"] for row in log if "loss" in row] == [1, 2, 3, 4]  # the others are of evaluations
    loaded(tmp_path / "out")


@pytest.mark.slow
def test_fsdp2_saves_a_whole_model_that_loads(tmp_path):
    launch = ("-m", "accelerate.commands.launch", "--config_file", resource("accelerate_configs", "fsdp2.yaml"))
    script = Path(__file__).with_name("fsdp_on_a_cpu.py")
    program = (*launch, "--num_processes", "2", "--mixed_precision", "no", "--main_process_port", "0", script)
    trained(tmp_path / "out", "--max_steps", 2, "--save_steps", 2, program=tuple(map(str, program)))
    assert (tmp_path / "out" / "checkpoint-2" / "pytorch_model_fsdp.bin").exists()
    assert "5" in loaded(tmp_path / "out")[1]


@pytest.mark.slow
def test_torchrun_applies_the_accelerate_config_of_the_recipe(tmp_path):
    pytest.importorskip("deepspeed")
    torchrun = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "nsr_trl.train")
    trained(tmp_path / "out", "--max_steps", 2, "--accelerate_config", "zero3", "--save_steps", 2, program=torchrun)
    assert (tmp_path / "out" / "checkpoint-2" / "zero_to_fp32.py").exists()  # DeepSpeed was at work
    loaded(tmp_path / "out")


def start(out, *arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "nsr_trl", "train", "--config", "quickstart", *SMALL, "--output_dir", out]
    return subprocess.Popen(
        [*map(str, command), *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=(out.parent / "stderr").open("w"),
        text=True,
    )


ONE = ("--num_processes", 1)


@pytest.mark.parametrize(
    ("number", "launcher"),
    [
        (signal.SIGINT, ONE),
        pytest.param(signal.SIGTERM, ONE, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, (), marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, (), marks=pytest.mark.slow),
    ],
    ids=["SIGINT-one", "SIGTERM-one", "SIGINT-two", "SIGTERM-two"],
)
def test_a_signal_to_the_command_saves_a_checkpoint_and_says_how_to_go_on(tmp_path, number, launcher):
    """The same status, and the same sentence, whether one process runs or two."""
    process = start(tmp_path / "out", *launcher, "--max_steps", 1000, "--hub_token", "planted0123")
    for line in process.stdout:
        if line.startswith("step "):
            break
    process.send_signal(number)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    (line,) = (line for line in printed.splitlines() if line.startswith("Go on with:"))
    assert line.startswith(f"Go on with: nsr-trl train --config quickstart {' '.join(SMALL)}")
    assert line.endswith("--resume_from_checkpoint true")
    assert "planted0123" not in printed
    (checkpoint,) = (tmp_path / "out").glob("checkpoint-*")
    assert is_complete(checkpoint)
    assert state(checkpoint)["global_step"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [ONE, ()], ids=["one", "two"])
def test_statuses_are_the_same_on_one_process_and_on_two(tmp_path, launcher):
    out = tmp_path / "out"
    settings = ("--config", "quickstart", *SMALL, "--output_dir", out, *launcher, "--save_steps", 1)
    assert run(*settings, "--max_steps", 2).returncode == 0
    again = run(*settings, "--max_steps", 2, "--resume_from_checkpoint", "true")
    assert again.returncode == 0  # its last step is taken: nothing is trained, the model and the card are written
    assert "2 optimizer steps in" in again.stdout
    assert state(out / "checkpoint-2")["global_step"] == 2
    assert not (out / "checkpoint-3").exists()
    refused = run(*settings, "--max_steps", 2, "--objective", "psr", "--positive_weight", 1)
    assert refused.returncode == 2
    assert refused.stderr.count("nsr-trl train: error: A run must find no other run's checkpoints") == 1
    absent = run(*settings, "--output_dir", tmp_path / "none", "--resume_from_checkpoint", "true")
    assert absent.returncode == 2
    assert "written to its end; got resume_from_checkpoint=True" in absent.stderr
    assert "Traceback" not in absent.stderr
    (tmp_path / "crashing.py").write_text("def score(completions, **kwargs):\n    return 1 / 0\n")
    crashed = run(*settings, "--output_dir", tmp_path / "crash", "--reward_funcs", f"{tmp_path / 'crashing.py'}:score")
    assert crashed.returncode == 1
