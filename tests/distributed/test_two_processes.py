"""Two processes train as one does on the same rows: same loss, same metrics, same parameters, compacted or not."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from forks import run, run_ranks


SCRIPT = Path(__file__).with_name("train_rows.py")
FSDP2 = """\
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_reshard_after_forward: true
  fsdp_state_dict_type: FULL_STATE_DICT
mixed_precision: 'no'
num_machines: 1
num_processes: 2
use_cpu: true
"""
ZERO3 = """\
compute_environment: LOCAL_MACHINE
distributed_type: DEEPSPEED
deepspeed_config:
  zero_stage: 3
  zero3_init_flag: true
  zero3_save_16bit_model: true
  offload_optimizer_device: none
  offload_param_device: none
mixed_precision: 'no'
num_machines: 1
num_processes: 2
use_cpu: true
"""

# one worker of pytest-xdist runs them all: they share what two fixtures train, in the time of the first test
pytestmark = [pytest.mark.distributed, pytest.mark.xdist_group("two processes"), pytest.mark.timeout(600)]


RUNS = {
    "w_reinforce": {"objective": "w_reinforce", "positive_weight": 0.5, "compact": "off"},
    "w_reinforce compacted": {"objective": "w_reinforce", "positive_weight": 0.5, "compact": "on"},
    "psr": {"objective": "psr", "compact": "on"},  # few rows: a rank may have none
    "nsr with an entropy bonus": {"objective": "nsr", "compact": "on", "entropy_coef": 1.0},
    "unbiased": {"prompt_allocation": "unbiased", "max_steps": 8},  # rollouts of other prompts, drawn by what was seen
    "auto": {"max_tokens_per_microbatch": "auto", "max_steps": 8},  # cuts by seconds, which differ between the ranks
    "varlen": {"model_init_kwargs": {"attn_implementation": "varlen"}, "compact": "on"},  # rows without padding
    "a controller": {"lambda_controller": {"kind": "entropy", "rate": 0.5}, "on_alarm": "stop"},
}

SHARDED = {
    "nsr": {"objective": "nsr"},
    "nsr, unbiased": {"objective": "nsr", **RUNS["unbiased"]},
    "nsr, auto": {"objective": "nsr", **RUNS["auto"]},
    "nsr, varlen": {"objective": "nsr", **RUNS["varlen"]},
}


def train(tiny_model, out, runs, launch=run_ranks, **kwargs):
    """Trains each of `runs` in the same processes; returns the parameters of all ranks and the logs, by name."""
    out.mkdir()
    launch(SCRIPT, tiny_model, out, json.dumps(runs), **kwargs)
    results = {}
    for name in runs:
        states = [torch.load(path) for path in sorted((out / name).glob("parameters-*.pt"))]
        parameters = [torch.cat([state[key].flatten() for key in sorted(state)]) for state in states]
        results[name] = parameters, json.loads((out / name / "logs.json").read_text())
    return results


@pytest.fixture(scope="module")
def of_one(tiny_model, tmp_path_factory):
    """What one process makes of the same rows, without compaction."""
    # an entropy bonus covers the rows that train, which an uncompacted run does not know
    plain = {name: run if "entropy_coef" in run else run | {"compact": "off"} for name, run in RUNS.items()}
    runs = plain | {name: settings | {"compact": "off"} for name, settings in SHARDED.items()}
    return train(tiny_model, tmp_path_factory.mktemp("runs") / "one", runs, launch=run)


@pytest.fixture(scope="module")
def of_two(tiny_model, tmp_path_factory):
    """What two processes make of them."""
    return train(tiny_model, tmp_path_factory.mktemp("runs") / "two", RUNS)


def accelerate_config(config, folder):
    if config is ZERO3 and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("needs DeepSpeed: pip install nsr-trl[deepspeed]")
    path = folder / "accelerate.yaml"
    path.write_text(config)
    return path


def assert_equal_logs(logs, expected):
    assert len(logs) == len(expected)
    for ours, theirs in zip(logs, expected, strict=True):
        assert ours.keys() <= theirs.keys()  # of rows that do not run there is no entropy to report
        for name in ours:
            assert ours[name] == pytest.approx(theirs[name], rel=2e-4, abs=1e-6), name


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_as_one(of_one, of_two, name):
    (one,), logs_of_one = of_one[name]
    two, logs_of_two = of_two[name]
    assert len(two) == 2
    assert torch.equal(two[0], two[1])
    torch.testing.assert_close(two[0], one, rtol=1e-5, atol=1e-7)
    assert_equal_logs(logs_of_two, logs_of_one)
    # the rollouts differ in sign and length, so that the metrics could be wrong
    assert 0 < logs_of_one[0]["signed/correct_ratio"] < 1
    assert logs_of_one[0]["signed/length/correct"] != logs_of_one[0]["signed/length/incorrect"]
    assert 0 < logs_of_one[-1]["eval_pass@1"] < 1


@pytest.mark.parametrize(
    ("config", "name"),
    [(FSDP2, "nsr"), (ZERO3, "nsr"), (ZERO3, "nsr, unbiased"), (ZERO3, "nsr, auto"), (ZERO3, "nsr, varlen")],
    ids=["fsdp2", "zero3", "zero3-unbiased", "zero3-auto", "zero3-varlen"],
)
def test_sharded_processes_train_compacted_as_one_does_plainly(of_one, tiny_model, tmp_path, config, name):
    (one,), logs_of_one = of_one[name]
    two, logs_of_two = train(
        tiny_model,
        tmp_path / "two",
        {name: SHARDED[name] | {"compact": "on"}},
        config=accelerate_config(config, tmp_path),
    )[name]
    torch.testing.assert_close(two[0], one, rtol=1e-4, atol=1e-6)
    # the gradient norm of sharded parameters is not clipped here, and not reported alike
    without_norm = (
        [{k: v for k, v in row.items() if k != "grad_norm"} for row in logs] for logs in (logs_of_two, logs_of_one)
    )
    assert_equal_logs(*without_norm)


@pytest.mark.parametrize(
    ("config", "num_steps"),
    [
        (None, 120),
        pytest.param(None, 3001, marks=pytest.mark.slow),
        pytest.param(FSDP2, 1001, marks=pytest.mark.slow),
        pytest.param(ZERO3, 1001, marks=pytest.mark.slow),
    ],
    ids=["ddp-120", "ddp-3001", "fsdp2-1001", "zero3-1001"],
)
def test_ranks_stay_in_step_and_agree_whatever_rows_train(tiny_model, tmp_path, config, num_steps):
    script = SCRIPT.with_name("fuzz_plan.py")
    config = config and accelerate_config(config, tmp_path)
    run_ranks(script, tiny_model, tmp_path, num_steps, config=config, timeout=240 + num_steps)
