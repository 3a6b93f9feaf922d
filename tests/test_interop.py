"""What is logged arrives where people look, and rewards come from where people keep them."""

import json
import os
import textwrap

import pandas as pd
import pytest
import wandb
from datasets import load_dataset
from forks import ON_A_CPU, run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nsr_trl import math_reward
from nsr_trl.quickstart.model import model_path


def test_tensorboard_shows_the_metrics_by_sign(make_trainer, tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "tensorboard"))
    trainer = make_trainer(report_to="tensorboard", objective="nsr")
    trainer.train()
    (folder,) = {path.parent for path in (tmp_path / "tensorboard").rglob("events*")}
    events = EventAccumulator(str(folder)).Reload()
    logged = {entry["step"]: entry["signed/incorrect_ratio"] for entry in trainer.state.log_history if "loss" in entry}
    shown = {event.step: event.value for event in events.Scalars("train/signed/incorrect_ratio")}
    assert len(shown) == 2
    assert all(abs(shown[step] - logged[step]) < 1e-6 for step in logged)
    assert {"train/signed/length/incorrect", "train/cost/rows", "train/reward"} <= set(events.Tags()["scalars"])


def test_wandb_shows_the_metrics_by_sign_and_the_completions_with_their_outcomes(make_trainer, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    trainer = make_trainer(report_to="wandb", objective="nsr", log_completions=True, num_completions_to_print=0)
    try:
        trainer.train()
        assert "train/signed/incorrect_ratio" in wandb.run.summary.keys()  # noqa: SIM118 (no mapping)
    finally:
        wandb.finish()
    tables = [json.loads(path.read_text()) for path in tmp_path.glob("wandb/offline-run-*/files/media/table/*.json")]
    assert {table["data"][0][table["columns"].index("step")] for table in tables} == {1, 2}
    columns = {"signed/outcome", "signed/weight"}
    assert all(columns <= set(table["columns"]) and len(table["data"]) == 8 for table in tables)


def test_completions_are_read_from_parquet_with_their_outcomes(make_trainer, prompts, tmp_path):
    dataset = prompts.rename_column("target", "answer")
    make_trainer(
        reward_funcs=math_reward, train_dataset=dataset, log_completions=True, num_completions_to_print=0
    ).train()
    files = str(tmp_path / "completions" / "*.parquet")
    rows = load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert {
        "prompt",
        "completion",
        "math_reward",
        "signed/outcome",
        "signed/weight",
        "verifier/answer",
        "verifier/reason",
        "advantage",
    } <= set(rows.column_names)
    assert len(rows) == 16  # two steps of eight completions
    frame = pd.concat(pd.read_parquet(path) for path in sorted((tmp_path / "completions").glob("*.parquet")))
    assert list(frame["signed/outcome"]) == rows["signed/outcome"]
    assert set(frame["signed/outcome"]) <= {"correct", "incorrect", "undecided"}


@pytest.mark.processes
def test_a_reward_comes_from_a_module_on_the_python_path(tmp_path):
    """TRL's `accuracy_reward`, which reads a column of another name, by way of a user's function."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "my_rewards.py").write_text(
        textwrap.dedent(r"""
        from trl.rewards import accuracy_reward

        def accuracy(completions, answer, **kwargs):
            return accuracy_reward(completions, [rf"\boxed{{{a}}}" for a in answer])
        """)
    )
    arguments = ["--model_name_or_path", str(model_path()), "--dataset", "quickstart", "--num_problems", "16"]
    arguments += ["--reward", "my_rewards:accuracy", "--objective", "nsr", "--output_dir", str(tmp_path / "out")]
    arguments += ["--max_steps", "1", "--per_device_train_batch_size", "16", "--num_generations", "4", "--use_cpu"]
    arguments += ["--max_completion_length", "64", "--logging_steps", "1", "--report_to", "none", "--bf16", "false"]
    arguments += ["--save_steps", "1"]
    environment = ON_A_CPU | {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    run("-m", "nsr_trl.train", *arguments, env=environment, cwd=tmp_path)
    state = json.loads((tmp_path / "out" / "checkpoint-1" / "trainer_state.json").read_text())
    assert "rewards/accuracy/mean" in state["log_history"][0]
    assert state["log_history"][0]["signed/undecided_ratio"] == 0
