"""`nsr-trl evaluate --checkpoints`: the checkpoints of a run, as they come."""

import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from nsr_trl.cli import main
from nsr_trl.evaluation.series import Metric, has_ended, keep_if_best, read_series, whole_checkpoints
from nsr_trl.quickstart.model import model_path
from nsr_trl.quickstart.problems import generate_problems


def write_checkpoint(run, step, whole=True, scale=1.0):
    """A checkpoint as `GRPOTrainer` writes it: model, optimizer, state. Scaled by 0 it knows nothing."""
    folder = Path(run) / f"checkpoint-{step}"
    shutil.copytree(model_path(), folder)
    if scale != 1:
        model = AutoModelForCausalLM.from_pretrained(folder)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(scale)
        model.save_pretrained(folder)
    (folder / "optimizer.pt").write_bytes(b"moments")
    if whole:
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "training"
    for step in (10, 20):
        write_checkpoint(folder, step, scale=1.0 if step == 20 else 0.0)
    write_checkpoint(folder, 30, whole=False)
    return folder


@pytest.fixture
def evaluate(run, tmp_path):
    rows = generate_problems(12, seed=0, split="test")
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def command(*flags):
        arguments = ["--checkpoints", str(run), "--dataset", str(tmp_path / "sums.jsonl"), "--template", "plain"]
        arguments += ["--output-dir", str(tmp_path / "out"), "--num-samples", "4", "--max-new-tokens", "64"]
        main(["evaluate", *arguments, "--device", "cpu", *flags])
        return tmp_path / "out"

    return command


def test_whole_checkpoints_are_evaluated_once_and_the_others_left_alone(evaluate, run, monkeypatch, capsys):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    out = evaluate()
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint-10", "checkpoint-20"]
    series = read_series(out)["sums"]
    assert series[10].pass_at_k[1].value < series[20].pass_at_k[1].value  # weights of 0 know nothing
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert "## checkpoint-10" in capsys.readouterr().out

    (run / "checkpoint-30" / "trainer_state.json").write_text('{"global_step": 30}')
    loaded = []
    load = AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        "nsr_trl.evaluation.samplers.AutoModelForCausalLM.from_pretrained",
        lambda name, **settings: loaded.append(Path(name).name) or load(name, **settings),
    )
    evaluate()
    assert loaded == ["checkpoint-30"]


def test_what_holds_for_every_checkpoint_is_said_once(evaluate, capsys):
    evaluate("--max-new-tokens", "250", "--num-samples", "1")  # the model's context is 256
    assert capsys.readouterr().err.count("go beyond the model's context of 256") == 1


def test_every_chooses_by_step_and_nothing_to_do_is_told(evaluate, tmp_path, capsys):
    assert sorted(read_series(evaluate("--every", "20"))["sums"]) == [20]
    with pytest.raises(SystemExit):
        evaluate("--every", "7")
    assert "holds none that is whole and of a step that is a multiple of 7" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        evaluate("--keep-best", "pass@64")
    assert "must be by a k that is evaluated; got pass@64" in capsys.readouterr().err
    with pytest.raises(ValueError, match="must be in folders checkpoint-N"):
        read_series(tmp_path / "training")


def test_the_best_is_kept_though_its_run_deletes_it(evaluate, run):
    out = evaluate("--keep-best", "pass@1")
    shutil.rmtree(run / "checkpoint-20")
    best = json.loads((out / "best.json").read_text())
    assert (best["step"], best["metric"], best["dataset"]) == (20, "pass@1", "sums")
    assert best["value"] == read_series(out)["sums"][20].pass_at_k[1].value
    assert AutoModelForCausalLM.from_pretrained(out / "best").num_parameters() > 0
    assert not {"optimizer.pt", "trainer_state.json"} & {path.name for path in (out / "best").iterdir()}
    write_checkpoint(run, 40, scale=0.0)
    evaluate("--keep-best", "pass@1")  # a worse one changes nothing
    assert json.loads((out / "best.json").read_text()) == best


def test_the_best_can_be_asked_for_afterwards(evaluate):
    out = evaluate()
    assert not (out / "best").exists()
    evaluate("--keep-best", "pass@1")
    assert json.loads((out / "best.json").read_text())["step"] == 20


def test_links_take_no_room_and_a_failed_evaluation_leaves_no_candidate(run, tmp_path):
    def fails():
        assert os.stat(tmp_path / "best.candidate" / "model.safetensors").st_nlink == 2
        raise RuntimeError

    with pytest.raises(RuntimeError):
        keep_if_best(tmp_path, run / "checkpoint-10", fails, Metric(1), "sums")
    assert not (tmp_path / "best.candidate").exists()
    assert (run / "checkpoint-10" / "model.safetensors").stat().st_nlink == 1


def test_watch_evaluates_what_comes_until_the_run_has_written_its_model(evaluate, run):
    assert not has_ended(run)

    def train():
        time.sleep(0.3)
        (run / "checkpoint-30" / "trainer_state.json").write_text('{"global_step": 30}')
        time.sleep(0.3)
        shutil.copy(Path(model_path()) / "model.safetensors", run)
        (run / "model.safetensors").touch()

    training = threading.Thread(target=train)
    training.start()
    series = read_series(evaluate("--watch", "1"))
    training.join()
    assert sorted(series["sums"]) == [10, 20, 30]


def test_scalars_are_handed_on_by_step(evaluate):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = evaluate("--report-to", "tensorboard")
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    series = read_series(out)["sums"]
    written = {event.step: event.value for event in events.Scalars("sums/pass@4")}
    assert written == pytest.approx({step: series[step].pass_at_k[4].value for step in (10, 20)})
    assert {"sums/pass@1", "sums/maj@4", "sums/truncated", "sums/undecided"} <= set(events.Tags()["scalars"])


def test_curves_over_steps_are_drawn(evaluate, tmp_path, capsys):
    out = evaluate()
    main(["plot", "--over-steps", str(out), "--output", str(tmp_path / "steps.png"), "--k", "1", "4"])
    assert (tmp_path / "steps.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit):
        main(["plot", "--over-steps", str(out), "--output", str(tmp_path / "steps.png"), "--k", "64"])
    assert "they share [1, 2, 4], and k=[64] was asked for" in capsys.readouterr().err


def test_runs_are_compared_at_the_steps_of_equal_pass_at_1(evaluate, tmp_path, capsys):
    out = evaluate()
    shutil.copytree(out, tmp_path / "slower")
    shutil.move(tmp_path / "slower" / "checkpoint-20", tmp_path / "slower" / "checkpoint-90")
    capsys.readouterr()
    main(["compare", "--match-pass-at-1", str(out), str(tmp_path / "slower"), "--names", "fast", "slow"])
    shown = capsys.readouterr().out
    assert [line.split() for line in shown.splitlines() if line.startswith("step")] == [["step", "19", "82"]]
    with pytest.raises(SystemExit):
        main(["compare", "--match-pass-at-1", str(out), str(out / "checkpoint-20"), "--names", "a", "b"])
    assert "must be in folders checkpoint-N" in capsys.readouterr().err


def test_checkpoints_without_a_run_are_told(tmp_path):
    with pytest.raises(ValueError, match="must name the folder of a training run; there is none at"):
        whole_checkpoints(tmp_path / "gone")
