import json

import pytest

from nsr_trl.dynamics import describe_folders, read_log


def write_state(folder, *entries):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": entries}))


def test_the_log_is_that_of_the_last_checkpoint(tmp_path):
    write_state(tmp_path / "checkpoint-9", {"step": 9, "loss": 1.0})
    write_state(tmp_path / "checkpoint-10", {"step": 9, "loss": 1.0}, {"step": 10, "loss": 0.5})
    (tmp_path / "checkpoint-11").mkdir()  # a save that was stopped before its state
    (tmp_path / "checkpoint-best").mkdir()
    assert read_log(tmp_path) == [{"step": 9, "loss": 1.0}, {"step": 10, "loss": 0.5}]


def test_the_folders_own_log_comes_before_those_of_its_checkpoints(tmp_path):
    write_state(tmp_path / "checkpoint-10", {"step": 10, "loss": 0.5})
    write_state(tmp_path, {"step": 12, "loss": 0.25})
    assert read_log(tmp_path) == [{"step": 12, "loss": 0.25}]
    assert read_log(tmp_path / "checkpoint-10") == [{"step": 10, "loss": 0.5}]


def test_what_a_trainer_saves_is_read(make_trainer, tmp_path):
    trainer = make_trainer(objective="nsr")
    trainer.train()
    trainer.save_state()
    log = [entry for entry in read_log(tmp_path) if "signed/correct_ratio" in entry]
    assert [entry["step"] for entry in log] == [1, 2]
    assert all(
        {"entropy", "reward", "signed/groups_solved", "signed/undecided_ratio"} <= entry.keys() for entry in log
    )


def test_a_folder_without_a_log_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'.*' holds none\. Name the output_dir"):
        read_log(tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        read_log(tmp_path / "none")
    (tmp_path / "trainer_state.json").write_text('{"log_his')
    with pytest.raises(ValueError, match=r"must be one that a trainer saved; '.*' is not"):
        read_log(tmp_path)


def test_a_figure_is_titled_by_what_the_runs_know_of_themselves(tmp_path):
    for name, base in (("a", "Qwen/Qwen2.5-0.5B"), ("b", "Qwen/Qwen2.5-0.5B"), ("c", None)):
        (tmp_path / name).mkdir()
        facts = {"objective": "nsr", "base_model": base, "local_base": "mine"}
        (tmp_path / name / "nsr_trl_run.json").write_text(json.dumps(facts))
    assert describe_folders({"a": tmp_path / "a"}) == "a: nsr, trained from Qwen/Qwen2.5-0.5B"
    assert describe_folders({name: tmp_path / name for name in "ab"}) == "trained from Qwen/Qwen2.5-0.5B"
    assert describe_folders({name: tmp_path / name for name in "ac"}) is None
    assert describe_folders({"d": tmp_path}) is None
