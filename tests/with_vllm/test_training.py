"""Training with vLLM, in the training processes and on a server: it samples with the weights that were trained."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from distributed.test_two_processes import ZERO3
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from with_vllm.conftest import free_port, vllm_serve

from nsr_trl.objective import POLARITIES
from nsr_trl.quickstart.model import build_tokenizer, model_path


pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
SCRIPT = Path(__file__).with_name("train_with_vllm.py")
EXAMPLES = Path(__file__).parents[2] / "examples"
SERVER_FLAGS = (
    '--weight-transfer-config {"backend":"nccl"} --logprobs-mode processed_logprobs --max-logprobs -1 '
    "--dtype float32 --max-model-len 128 --gpu-memory-utilization 0.2"
).split()
DIFFERENCE = "sampling/sampling_logp_difference/mean"

OBJECTIVES = (*POLARITIES, "grpo", "qae")


def run(out, launcher=(), **job):
    job = {"model": str(model_path()), "out": str(out), "objectives": ["nsr"]} | job
    # a rank that waits for another one for good is a failure, not a hang
    return subprocess.run(
        [sys.executable, *launcher, str(SCRIPT), json.dumps(job)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )


def train(out, launcher=(), **job):
    done = run(out, launcher, **job)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return json.loads((out / "results.json").read_text())


def distance(folder):
    """How far a saved model's parameters are from those that training began with: the mean absolute difference."""
    trained, start = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (folder, model_path()))
    return torch.cat([(trained[name] - start[name]).abs().flatten() for name in start]).mean().item()


def assert_in_sync(result):
    differences = [row[DIFFERENCE] for row in result["logs"]]
    assert len(differences) == 4
    # vLLM computes in bfloat16 what is trained in float32; of weights four steps old it would be far off, see below
    assert differences[0] < 0.02
    assert max(differences) < 2 * differences[0] + 0.005


def assert_equal_weights(result, num_ranks=1):
    """The engines hold the trained weights, rounded to bfloat16, alike on every rank."""
    assert result["num_compared"] > 5
    assert result["off"] < result["moved"] / 10
    assert len(result["checksums"]) == num_ranks
    assert len(set(result["checksums"])) == 1


def test_without_weight_sync_the_difference_grows_and_masked_rows_are_counted(tmp_path):
    # what is trained on becomes likelier, or less likely, than it was sampled; beyond this ratio it is masked
    settings = {"vllm_importance_sampling_clip_max": 1.05}
    results = train(tmp_path, sync=False, objectives=["psr", "nsr"], settings=settings)
    for objective, side in {"psr": "correct", "nsr": "incorrect"}.items():
        differences = [row[DIFFERENCE] for row in results[objective]["logs"]]
        assert differences[0] < 0.02
        assert max(differences) > 5 * differences[0] + 0.01
        assert max(row[f"signed/vllm_clip_ratio/{side}"] for row in results[objective]["logs"]) > 0
        assert results[objective]["off"] > 1e-4


def test_every_objective_trains_with_vllm_in_sync(tmp_path):
    results = train(tmp_path, objectives=OBJECTIVES)
    for objective in OBJECTIVES:
        assert_in_sync(results[objective])
        assert_equal_weights(results[objective])
        assert distance(tmp_path / objective) > 1e-4
        for row in results[objective]["logs"]:
            # the correction is counted on the side that trains, and takes nothing while weights agree
            trained = {"psr": ["correct"], "nsr": ["incorrect"]}.get(objective, ["correct", "incorrect"])
            clipped = {name.split("/")[-1]: value for name, value in row.items() if "vllm_clip_ratio" in name}
            assert set(clipped) <= set(trained)
            assert all(value < 0.2 for value in clipped.values())
    assert results["nsr"]["logs"][0]["cost/rows"] < 1


@pytest.mark.parametrize("mode", ["token_truncate", "sequence_mask"])
def test_what_is_logged_of_the_correction_is_taken_over_the_rows_that_run(tmp_path, mode):
    # without a sync the two models part, and rows that do not run, of ratio 1, would show in every number
    settings = {"vllm_importance_sampling_mode": mode}
    (result,) = train(tmp_path, sync=False, settings=settings).values()
    assert len(result["sampling"]) == len(result["logs"]) == 4
    assert result["logs"][0]["cost/rows"] < 1
    for seen, row in zip(result["sampling"], result["logs"], strict=True):
        assert {name: row[name] for name in seen} == pytest.approx(seen, rel=1e-5)


def test_zero3_on_two_processes_trains_every_objective_with_vllm_in_sync(tmp_path):
    launch = tmp_path / "accelerate.yaml"
    launch.write_text(ZERO3)
    launcher = ("-m", "accelerate.commands.launch", "--config_file", str(launch))
    results = train(tmp_path, launcher, objectives=OBJECTIVES)
    for objective in OBJECTIVES:
        assert_in_sync(results[objective])
        assert_equal_weights(results[objective], num_ranks=2)
        assert distance(tmp_path / objective) > 1e-4  # the save is whole, and loads in plain transformers


def test_an_adapter_is_merged_into_what_vllm_samples_with(tmp_path):
    (result,) = train(tmp_path, lora=True).values()
    assert_in_sync(result)
    assert_equal_weights(result)


EXAMPLE = """
import sys
from pathlib import Path
import train_with_vllm, vllm_server
from nsr_trl import Problem
from nsr_trl.quickstart.problems import generate_problems

train_with_vllm.sync_through_files(Path(sys.argv.pop(1)))
vllm_server.load_problems = lambda *args, **kwargs: [Problem(**row) for row in generate_problems(16, 0)]
vllm_server.main(*vllm_server.parse())
"""


def run_the_example(folder, url):
    """`examples/vllm_server.py` on problems that need no network, the weights sent through a folder."""
    out = folder / "example"
    arguments = ["--model_name_or_path", str(model_path()), "--output_dir", str(out), "--vllm_server_base_url", url]
    arguments += ["--use_cpu", "--bf16", "false", "--max_steps", "2", "--max_completion_length", "8"]
    arguments += ["--logging_steps", "1", "--report_to", "none", "--save_strategy", "no"]
    modules = os.pathsep.join([str(SCRIPT.parent), str(EXAMPLES), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", EXAMPLE, str(folder / "weights"), *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": modules},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    assert done.stdout.count(DIFFERENCE) == 2  # vLLM sampled
    assert (out / "model.safetensors").exists()


def test_a_server_samples_with_the_weights_that_were_trained_and_a_wrong_model_is_told(tmp_path):
    other = tmp_path / "other"
    LlamaForCausalLM(LlamaConfig(vocab_size=101, hidden_size=64, num_hidden_layers=1)).save_pretrained(other)
    build_tokenizer().save_pretrained(other)
    with vllm_serve(tmp_path / "log", str(model_path()), *SERVER_FLAGS, VLLM_SERVER_DEV_MODE="1") as url:
        settings = {"vllm_mode": "server", "vllm_server_base_url": url, "vllm_server_timeout": 5}
        # the server draws anew each time: an objective with which every rollout trains
        (result,) = train(tmp_path, objectives=["w_reinforce"], settings=settings).values()
        assert_in_sync(result)
        (tmp_path / "weights").rename(tmp_path / "used")
        refused = run(tmp_path, settings=settings, model=str(other))
        (tmp_path / "weights").rename(tmp_path / "used by the wrong model")
        run_the_example(tmp_path, url)
    assert refused.returncode == 1
    told = r"must serve the model in training; .* serves .*quickstart/model and not .*/other .*hidden_size 128 and 64"
    assert re.search(told, refused.stderr)


def test_a_server_that_is_down_is_told(tmp_path):
    url = f"http://127.0.0.1:{free_port()}"
    settings = {"vllm_mode": "server", "vllm_server_base_url": url, "vllm_server_timeout": 1}
    failed = run(tmp_path, settings=settings)
    assert failed.returncode == 1
    assert f"The vLLM server can't be reached at {url} after 1 seconds" in failed.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("objective", ["nsr", "w_reinforce"])
def test_a_real_model_is_sampled_with_the_weights_that_were_trained(smollm2, tmp_path, objective):
    settings = {"learning_rate": 2e-5, "per_device_train_batch_size": 4}
    result = train(tmp_path, model=str(smollm2), objectives=[objective], settings=settings)[objective]
    # the differences grow here although the weights are the same: updates are finer than the engine's bfloat16
    assert result["logs"][0][DIFFERENCE] < 0.05
    assert_equal_weights(result)
