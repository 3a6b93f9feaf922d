"""A run that is stopped, whenever and however, and resumed ends as one that was not: with the same parameters."""

import json
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
import transformers
from forks import Fork, run_ranks
from packaging.version import Version

from nsr_trl.checkpoints import MANIFEST, is_complete, last_complete_checkpoint, mark_complete


SCRIPT = Path(__file__).parent / "distributed" / "train_and_resume.py"


def parameters(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


SETTINGS = {
    "optim": "adamw_torch",
    "learning_rate": 1e-2,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "steps_per_generation": 4,
    "max_steps": 10,  # 8 prompts, 4 to a generation of two steps: four steps an epoch
    "save_strategy": "steps",
    "save_steps": 1,
}


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "w_reinforce", "compact": "on"},
        {"objective": "nsr", "compact": "on", "num_iterations": 2},
        pytest.param({"objective": "nsr", "compact": "off", "num_iterations": 2}, marks=pytest.mark.slow),
        pytest.param({"lambda_controller": "balance"}, marks=pytest.mark.slow),
        {"lambda_controller": {"kind": "entropy", "rate": 0.5}},
        pytest.param(
            {"positive_weight_schedule": {"kind": "cosine", "from": 0.0, "to": 1.0}, "num_iterations": 2},
            marks=pytest.mark.slow,
        ),
        {"objective": "nsr", "lambda_controller": {"kind": "handover", "warmup": 1, "rise": 0.0}},
        {"objective": "nsr", "prompt_allocation": "unbiased"},
        pytest.param({"prompt_allocation": "greedy", "num_iterations": 2, "compact": "off"}, marks=pytest.mark.slow),
        pytest.param(
            {"objective": "w_reinforce", "use_adaptive_entropy": True, "entropy_target": 99.0}, marks=pytest.mark.slow
        ),
    ],
    ids=lambda s: "-".join(map(str, s.values())),
)
def test_a_run_resumed_from_any_step_ends_with_the_same_parameters(make_trainer, tmp_path, settings):
    whole = make_trainer(**SETTINGS, **settings)
    whole.train()
    expected = parameters(whole)
    for step in (1, 3, 4, 6, 9):  # amid a generation, between two, in the second and third epoch
        resumed = make_trainer(**(SETTINGS | settings | {"save_strategy": "no"}))
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert torch.equal(parameters(resumed), expected), step
        assert resumed.state.global_step == 10
        assert resumed._step == whole._step


def test_metrics_since_the_last_log_survive_too(make_trainer, tmp_path):
    settings = SETTINGS | {"max_steps": 4, "logging_steps": 4}
    whole = make_trainer(**settings)
    whole.train()
    resumed = make_trainer(**settings, output_dir=str(tmp_path / "again"))
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    kinds = ("signed/", "completions/", "rewards/", "clip_ratio/", "entropy", "frac_reward")  # ours, and TRL's
    names = [name for name in whole.state.log_history[0] if name.startswith(kinds)]
    assert all(any(name.startswith(kind) for name in names) for kind in kinds)
    for name in names:
        assert resumed.state.log_history[0][name] == whole.state.log_history[0][name], name


def all_wrong(completions, **kwargs):
    return [0.0] * len(completions)


def test_what_the_run_has_counted_and_told_survives_too(make_trainer, tmp_path, caplog):
    """The card counts over all resumes, and what was said of the reward once is not said again."""
    settings = SETTINGS | {"max_steps": 4, "check_after_rollouts": 2, "reward_funcs": all_wrong}
    whole = make_trainer(**settings)
    whole.train()
    resumed = make_trainer(**settings, output_dir=str(tmp_path / "again"))
    caplog.clear()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    expected = {name: entry for name, entry in whole._ledger.of_training.items() if "second" not in name}
    found = {name: entry for name, entry in resumed._ledger.of_training.items() if "second" not in name}
    assert found == expected
    assert found["signed/correct_ratio"] == [0.0, 32.0]  # two generations of 16 rows
    assert "Outcome reward" not in caplog.text
    assert "In the first 2 rollouts none of 32 completions was correct" in caplog.text


def test_true_resumes_from_the_last_complete_checkpoint(make_trainer, tmp_path):
    make_trainer(**(SETTINGS | {"max_steps": 3})).train()
    state = tmp_path / "checkpoint-3" / "trainer_state.json"
    state.write_text(state.read_text()[:100])  # killed while it wrote
    (tmp_path / "checkpoint-10").mkdir()  # or before it wrote anything
    assert not is_complete(tmp_path / "checkpoint-3")
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    resumed = make_trainer(**SETTINGS)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 10


def test_an_incomplete_checkpoint_is_refused(make_trainer, tmp_path):
    (tmp_path / "checkpoint-1").mkdir()
    for given in (True, str(tmp_path / "checkpoint-1")):
        with pytest.raises(ValueError, match="resumes from a checkpoint that was written to its end; got"):
            make_trainer().train(resume_from_checkpoint=given)


def test_a_checkpoint_of_another_number_of_processes_resumes_with_new_rollouts(make_trainer, tmp_path, caplog):
    make_trainer(**SETTINGS).train()
    checkpoint = tmp_path / "checkpoint-3"
    for name in ("nsr_trl_rank_0.pth", MANIFEST):  # as if TRL's own trainer had written it
        (checkpoint / name).unlink()
    resumed = make_trainer(**SETTINGS, output_dir=str(tmp_path / "again"))
    with caplog.at_level("WARNING"):
        resumed.train(resume_from_checkpoint=str(checkpoint))
    assert "holds no rollouts for 1 processes: this run goes on with new ones" in caplog.text
    assert resumed._step == 20


def test_the_weights_go_on_moving_on_another_number_of_processes(make_trainer, tmp_path):
    settings = SETTINGS | {"lambda_controller": {"kind": "balance", "smoothing": 0.99}, "max_steps": 8}
    whole = make_trainer(**settings)
    whole.train()
    checkpoint = tmp_path / "checkpoint-4"
    state = torch.load(checkpoint / "nsr_trl_rank_0.pth")
    torch.save(state | {"num_ranks": 2}, checkpoint / "nsr_trl_rank_0.pth")
    mark_complete(checkpoint, whole._run)
    resumed = make_trainer(**settings, output_dir=str(tmp_path / "again"))
    resumed.train(resume_from_checkpoint=str(checkpoint))
    for trainer in (whole, resumed):  # 16 completions in each of four rollouts, two of them before the checkpoint
        seen = trainer.weighing.controller.seen
        assert seen["right"] + seen["wrong"] == pytest.approx(16 * (1 + 0.99 + 0.99**2 + 0.99**3))


def test_outside_of_training_sigterm_does_what_it_did(make_trainer):
    before = signal.getsignal(signal.SIGTERM)
    trainer = make_trainer()
    trainer.train()
    assert signal.getsignal(signal.SIGTERM) is before
    assert trainer.stopped_by_signal is False


def start(tiny_model, out, launch=Fork, **settings):
    out.mkdir(exist_ok=True)
    with (out / "stderr").open("a") as stderr:
        return launch(SCRIPT, tiny_model, out, json.dumps(settings), stderr=stderr)


def finish(process, out):
    process.communicate(timeout=240)
    assert process.returncode == 0, (out / "stderr").read_text()[-4000:]
    return parameters_in(out)


def parameters_in(out):
    return [torch.load(path) for path in sorted(out.glob("parameters-*.pt"))]


def stop_at(process, how, step, delay):
    """Sends a signal some time after a step has begun; returns whether it came before the end."""
    for line in process.stdout:
        if line.startswith("step ") and int(line.split()[1]) >= step:
            time.sleep(delay)
            process.send_signal(how)
            break
    process.communicate(timeout=240)
    return process.returncode


def assert_equal(found, expected):
    assert len(found) == len(expected) > 0
    for ours, theirs in zip(found, expected, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("num_stops", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_ends_with_the_same_parameters(tiny_model, tmp_path, num_stops):
    expected = finish(start(tiny_model, tmp_path / "whole"), tmp_path / "whole")
    rng, stops = random.Random(num_stops), 0
    while stops < num_stops:
        out = tmp_path / "killed"
        shutil.rmtree(out, ignore_errors=True)
        step = 0
        while step < 12 and stops < num_stops:
            how = [signal.SIGKILL, signal.SIGTERM][stops % 2]
            status = stop_at(start(tiny_model, out), how, step, rng.uniform(0, 0.06))
            assert status == (-signal.SIGKILL if how == signal.SIGKILL else 0), (out / "stderr").read_text()[-4000:]
            if how == signal.SIGTERM:
                assert (out / "stopped").exists()
                assert last_complete_checkpoint(out / "run")
                (out / "stopped").unlink()
            stops += 1
            step += rng.randint(1, 4)
        assert_equal(finish(start(tiny_model, out), out), expected)


@pytest.mark.distributed
@pytest.mark.skipif(Version(transformers.__version__) < Version("5.13"), reason="cannot load onto device 'cpu:0'")
@pytest.mark.parametrize("allocation", ["none", pytest.param("unbiased", marks=pytest.mark.slow)])
def test_two_processes_resume_amid_a_generation_to_the_same_parameters(tiny_model, tmp_path, allocation):
    settings = {"lr_scheduler_type": "constant", "prompt_allocation": allocation}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run_ranks(SCRIPT, tiny_model, whole, json.dumps(settings | {"max_steps": 6, "save_total_limit": 6}))
    shutil.copytree(whole / "run" / "checkpoint-3", stopped / "run" / "checkpoint-3")  # all that a stop leaves
    run_ranks(SCRIPT, tiny_model, stopped, json.dumps(settings | {"max_steps": 6}))
    assert_equal(parameters_in(stopped), parameters_in(whole))
