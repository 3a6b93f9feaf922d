"""A checkpoint is whole or it is passed over, and it is known whose it is."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback

from nsr_trl import checkpoints
from nsr_trl.checkpoints import (
    MANIFEST,
    check_folder,
    damage,
    is_complete,
    last_complete_checkpoint,
    mark_complete,
    rotate,
    run_of,
)
from nsr_trl.controllers import build_controller
from nsr_trl.objective import build_objective


SAVING = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3, "optim": "adamw_torch", "learning_rate": 1e-2}


def parameters(trainer):
    return torch.cat([p.detach().flatten().clone() for p in trainer.model.parameters()])


RUN = []


@pytest.fixture
def saved(make_trainer, tmp_path, tmp_path_factory):
    """A run with three checkpoints, its folder and its parameters."""
    if not RUN:
        trainer = make_trainer(**SAVING, output_dir=str(tmp_path_factory.mktemp("run")))
        trainer.train()
        RUN[:] = trainer.args.output_dir, parameters(trainer)
    shutil.copytree(RUN[0], tmp_path, dirs_exist_ok=True)
    return tmp_path, RUN[1]


# --- whole or not ---------------------------------------------------------------------------------------------------


def empty(path):
    path.write_bytes(b"")


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    for place in (len(data) // 3, len(data) // 2, len(data) - 1):
        data[place] ^= 0xFF
    path.write_bytes(data)


def remove(path):
    path.unlink()


FILES = [
    "model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "nsr_trl_rank_0.pth",
    "trainer_state.json",
    "config.json",
    "training_args.bin",
    MANIFEST,
]


@pytest.mark.parametrize("spoil", [empty, halve, flip, remove])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_named_and_passed_over(saved, make_trainer, caplog, name, spoil):
    """As a kill amid a write, a loss of power, a full disk or a bad one leave it."""
    folder, expected = saved
    spoil(folder / "checkpoint-3" / name)
    faults = damage(folder / "checkpoint-3")
    assert faults
    assert all(name in fault or fault == "it was not written to its end" for fault in faults)
    assert last_complete_checkpoint(folder) == str(folder / "checkpoint-2")
    if spoil is not halve:
        return
    trainer = make_trainer(**SAVING)
    trainer.train(resume_from_checkpoint=True)
    assert f"{folder / 'checkpoint-3'} is passed over: {faults[0]}" in caplog.text
    assert torch.equal(parameters(trainer), expected)
    assert is_complete(folder / "checkpoint-3")  # written anew


def test_a_damaged_checkpoint_that_is_asked_for_is_refused(saved, make_trainer):
    folder, _ = saved
    halve(folder / "checkpoint-3" / "optimizer.pt")
    with pytest.raises(ValueError, match=r"there is none \(optimizer.pt has [\d,]+ of [\d,]+ bytes\)"):
        make_trainer(**SAVING).train(resume_from_checkpoint=str(folder / "checkpoint-3"))
    with pytest.raises(ValueError, match=r"there is none \(there is no such folder\)"):
        make_trainer(**SAVING).train(resume_from_checkpoint=str(folder / "checkpoint-4"))


def test_a_checkpoint_of_another_trainer_needs_no_manifest(tmp_path):
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    assert damage(folder) == ["trainer_state.json is missing"]
    (folder / "trainer_state.json").write_text("{}")
    assert is_complete(folder)
    empty(folder / "optimizer.pt")
    assert damage(folder) == ["optimizer.pt is empty"]


def test_what_is_added_to_a_checkpoint_later_does_not_damage_it(saved):
    folder, _ = saved
    (folder / "checkpoint-3" / "evaluation").mkdir()
    (folder / "checkpoint-3" / "evaluation" / "notes.txt").write_text("mine")
    assert is_complete(folder / "checkpoint-3")


def test_numpys_numbers_in_the_settings_can_be_resumed_from(tmp_path):
    objective = build_objective("w_reinforce")
    controller = build_controller(objective, controller={"kind": "balance", "smoothing": np.float64(0.5)})
    controller.see_outcomes(torch.tensor([[1, -1, -1]]))
    checkpoints.save_rank_state(tmp_path, 0, {"seen": dict(controller.seen), "entropy": [np.float32(0.25), 1.0]})
    found = checkpoints.load_rank_state(tmp_path, 0, torch.device("cpu"))
    assert found == {"seen": {"weight": 2.0, "right": 1.0, "wrong": 2.0}, "entropy": [0.25, 1.0]}  # lambda: 2 / 1


def test_a_large_file_is_known_by_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "CHECKSUM_BYTES", 3)
    (tmp_path / "large").write_bytes(b"1234")
    (tmp_path / "small").write_bytes(b"123")
    mark_complete(tmp_path, {})
    entries = json.loads((tmp_path / MANIFEST).read_text())["files"]
    assert entries["large"] == {"size": 4}
    assert set(entries["small"]) == {"size", "sha256"}
    flip(tmp_path / "small")
    assert damage(tmp_path) == ["small is damaged"]


# --- written last, deleted last -------------------------------------------------------------------------------------


class Killed(BaseException):
    """A kill."""


@pytest.mark.parametrize(
    "moment", ["save_model", "_save_optimizer_and_scheduler", "_save_rng_state", "_push_from_checkpoint"]
)
def test_a_checkpoint_that_is_written_anew_has_no_mark_meanwhile(saved, make_trainer, moment):
    """A run that starts anew in its own folder, killed while it writes checkpoint-1 a second time."""
    folder, _ = saved
    trainer = make_trainer(**SAVING, push_to_hub=False)

    def kill(*args, **kwargs):
        raise Killed

    if moment == "_push_from_checkpoint":  # the last thing that transformers does
        trainer.args.push_to_hub = True
    setattr(trainer, moment, kill)
    with pytest.raises(Killed):
        trainer.train()
    assert not is_complete(folder / "checkpoint-1")
    assert is_complete(folder / "checkpoint-2")


def test_old_checkpoints_stay_until_the_new_one_is_whole(make_trainer, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "sync", lambda folder: seen.append(sorted(os.listdir(tmp_path))))
    seen = []
    make_trainer(**SAVING, save_total_limit=1).train()
    assert [[name for name in names if "checkpoint" in name] for names in seen] == [
        ["checkpoint-1"],
        ["checkpoint-1", "checkpoint-2"],
        ["checkpoint-2", "checkpoint-3"],
    ]
    assert [path.name for path in checkpoints.checkpoints(tmp_path)] == ["checkpoint-3"]


def test_rotation_deletes_the_oldest_by_age_and_never_what_is_kept(tmp_path):
    for age, number in enumerate((5, 1, 2, 3)):  # 5 is an earlier run's
        path = tmp_path / f"checkpoint-{number}"
        path.mkdir()
        os.utime(path, (age, age))
    rotate(tmp_path, 2, keep=(tmp_path / "checkpoint-1", None))
    assert [path.name for path in checkpoints.checkpoints(tmp_path)] == ["checkpoint-1", "checkpoint-3"]
    rotate(tmp_path, None, keep=())
    rotate(tmp_path, 0, keep=())
    assert len(checkpoints.checkpoints(tmp_path)) == 2


def test_all_files_are_on_disk_before_the_manifest(tmp_path, monkeypatch):
    events = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (events.append("fsync"), fsync(descriptor)))
    replace = checkpoints.Path.replace
    monkeypatch.setattr(checkpoints.Path, "replace", lambda *args: (events.append("manifest"), replace(*args)))
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    checkpoints.sync(tmp_path)
    assert events == ["fsync"] * 3  # two files and the folder
    mark_complete(tmp_path, {})
    assert events[3:] == ["fsync", "manifest", "fsync"]


# --- whose it is ----------------------------------------------------------------------------------------------------


def other_data():
    return Dataset.from_dict({"prompt": [f"{n}-{n}=" for n in range(8)]})


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"objective": "psr"}, "objective 0.1 L_PSR [+] L_NSR; here: objective L_PSR"),
        ({"seed": 7}, "seed 42; here: seed 7"),
        ({"train_dataset": other_data()}, r"data of 8 rows \(\w{8}\); here: data of 8 rows \(\w{8}\)"),
    ],
    ids=["objective", "seed", "data"],
)
def test_another_runs_checkpoints_are_refused_with_the_ways_on(saved, make_trainer, settings, what):
    folder, _ = saved
    with pytest.raises(ValueError, match=rf"no other run's checkpoints .* \(there: {what}\).*--overwrite_output_dir"):
        make_trainer(**SAVING, **settings).train()
    for given in (True, str(folder / "checkpoint-2")):
        with pytest.raises(ValueError, match=rf"of another run \(there: {what}\)"):
            make_trainer(**SAVING, **settings).train(resume_from_checkpoint=given)
    trainer = make_trainer(**SAVING, **settings, overwrite_output_dir=True)
    trainer.train()
    assert all(run_of(path) == trainer._run for path in checkpoints.checkpoints(folder))


def test_another_base_model_is_another_run(saved, make_trainer, tiny_model, tmp_path_factory):
    other = tmp_path_factory.mktemp("models") / "other"
    shutil.copytree(tiny_model, other)
    with pytest.raises(ValueError, match=r"there: base model tiny-model\d*; here: base model other"):
        make_trainer(**SAVING, model=str(other)).train()


def test_the_same_run_may_start_anew_in_its_folder_and_is_told_how_to_go_on(saved, make_trainer, caplog):
    folder, expected = saved
    trainer = make_trainer(**SAVING)
    trainer.train()
    assert torch.equal(parameters(trainer), expected)
    (told,) = (text for text in caplog.messages if "earlier run" in text)
    assert told.startswith(f"{checkpoints.last_complete_checkpoint(folder)} is there from an earlier run")
    assert "--resume_from_checkpoint true" in told


def test_a_model_without_checkpoints_is_left_over_too(tmp_path):
    assert checkpoints.leftovers(tmp_path / "new") is None
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    assert checkpoints.leftovers(tmp_path) == (
        f"{tmp_path} holds an earlier run's model and no checkpoint to resume from; this one overwrites it. "
        "Another output_dir keeps it."
    )


def test_another_learning_rate_is_the_same_run(saved, make_trainer):
    make_trainer(**(SAVING | {"learning_rate": 1e-3, "max_steps": 4})).train(resume_from_checkpoint=True)


# --- at the last step -----------------------------------------------------------------------------------------------


def test_a_run_that_has_reached_its_last_step_takes_no_other(saved, make_trainer):
    """Three resumes: as a job that is requeued after it was killed between its last checkpoint and its end."""
    folder, expected = saved
    for _ in range(3):
        trainer = make_trainer(**SAVING)
        trainer.train(resume_from_checkpoint=True)
        assert trainer.state.global_step == 3
        assert torch.equal(parameters(trainer), expected)
    trainer.save_model()
    assert [path.name for path in checkpoints.checkpoints(folder)] == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    assert [row["step"] for row in trainer.state.log_history if "loss" in row] == [1, 2, 3]


@pytest.mark.parametrize("epochs", [1, 2])
def test_nor_does_one_of_whole_epochs(make_trainer, tmp_path, epochs):
    settings = SAVING | {"max_steps": -1, "num_train_epochs": epochs}
    first = make_trainer(**settings)
    first.train()
    again = make_trainer(**settings)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == first.state.global_step
    assert torch.equal(parameters(again), parameters(first))


# --- before the model is loaded -------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/proc"), reason="needs a folder that nobody can write")
def test_a_folder_that_cannot_be_written_is_refused_before_a_model_is_loaded(make_trainer):
    with pytest.raises(ValueError, match=r"must be able to write to its output folder; '/proc/nowhere'"):
        make_trainer(**SAVING, output_dir="/proc/nowhere", model="no/such-model")


def test_a_file_in_the_place_of_the_folder_is_refused(make_trainer, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"must be able to write to its output folder; .*File exists"):
        make_trainer(**SAVING, output_dir=str(tmp_path / "file"), model="no/such-model")


def test_a_disk_that_is_too_full_is_told_with_both_numbers(tmp_path):
    with pytest.raises(ValueError, match=r"takes 1,000,000,000\.0 GB; the disk of .* has [\d,.]+ GB left"):
        check_folder(tmp_path, 1e18)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_as_such(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.Path, "write_bytes", full)
    with pytest.raises(ValueError, match="No space left on device"):
        check_folder(tmp_path)


# --- signals --------------------------------------------------------------------------------------------------------


class Signal(TrainerCallback):
    def __init__(self, number, step, times=1):
        self.number, self.step, self.times = number, step, times

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            for _ in range(self.times):
                signal.raise_signal(self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_at_the_end_of_the_step_and_returns(make_trainer, tmp_path, capfd, caplog, number):
    whole = make_trainer(**SAVING, output_dir=str(tmp_path / "whole"))
    whole.train()
    settings = SAVING | {"save_steps": 100}
    trainer = make_trainer(**settings, callbacks=[Signal(number, 1)])
    before = signal.getsignal(number)
    trainer.train()
    assert signal.getsignal(number) is before
    assert trainer.stop_signal is number
    assert trainer.stopped_by_signal is True
    assert trainer.state.global_step == 2
    assert is_complete(tmp_path / "checkpoint-2")
    assert f"{number.name}: a checkpoint is saved at the end of this optimizer step" in capfd.readouterr().err
    assert f"Stopped by {number.name} after 2 optimizer steps" in caplog.text
    resumed = make_trainer(**settings)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.stopped_by_signal is False
    assert torch.equal(parameters(resumed), parameters(whole))


def test_a_second_ctrl_c_stops_at_once(make_trainer, tmp_path):
    trainer = make_trainer(**SAVING, callbacks=[Signal(signal.SIGINT, 1, times=2)])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert trainer.stopped_by_signal is False
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-1")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    trainer.callback_handler.callbacks = [c for c in trainer.callback_handler.callbacks if not isinstance(c, Signal)]
    trainer.train()  # as good as new
    assert trainer.state.global_step == 3


def test_where_nothing_is_saved_ctrl_c_does_what_it_always_did(make_trainer):
    trainer = make_trainer(callbacks=[Signal(signal.SIGINT, 1)])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
