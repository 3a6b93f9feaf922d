"""Cards, figures and tables never stop a run, and a checkpoint is written whatever they do."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from transformers import TrainerCallback

import nsr_trl
from nsr_trl.checkpoints import last_complete_checkpoint
from nsr_trl.dynamics import read_log
from nsr_trl.evaluation.plots import plot_dynamics
from nsr_trl.metrics import METRICS, TRL_METRICS


SAVING = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}


def write_unfinished_evaluation(folder):
    path = folder / "evaluation" / "after" / "math"
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "summary.json").write_text("{}")


def write_torn_summary(folder):
    write_unfinished_evaluation(folder)
    (folder / "evaluation" / "after" / "math" / "summary.json").write_text('{"pass@')


def put_a_folder_in_the_place_of_the_card(folder):
    (folder / "README.md").mkdir(parents=True)


def put_a_file_in_the_place_of_the_figure(folder):
    (folder / "training_dynamics.png").mkdir(parents=True)


@pytest.mark.parametrize(
    "spoil",
    [
        write_unfinished_evaluation,
        write_torn_summary,
        put_a_folder_in_the_place_of_the_card,
        put_a_file_in_the_place_of_the_figure,
    ],
)
def test_a_card_that_cannot_be_written_costs_one_line_and_no_checkpoint(make_trainer, tmp_path, caplog, spoil):
    spoil(tmp_path)
    trainer = make_trainer(**SAVING)
    trainer.train()
    trainer.create_model_card()
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    lines = [record.getMessage() for record in caplog.records if "could not be written" in record.getMessage()]
    assert 1 <= len(lines) <= 3  # one for each checkpoint, and for the end, where figures are drawn
    assert f"The card, {tmp_path}/README.md, could not be written (" in lines[0]
    assert lines[0].endswith(f"nsr-trl card {tmp_path}")
    assert "\n" not in lines[0]


def test_a_figure_library_that_raises_costs_one_line(make_trainer, tmp_path, caplog, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("nsr_trl.evaluation.plots.plot_dynamics", broken)
    trainer = make_trainer(**SAVING)
    trainer.train()
    assert "could not be written" not in caplog.text  # a checkpoint draws nothing
    trainer.create_model_card()
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    assert "could not be written (ZeroDivisionError: no reason given)" in caplog.text


def test_a_table_of_completions_that_cannot_be_written_costs_one_line(make_trainer, tmp_path, caplog, monkeypatch):
    def full(self, path, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    trainer = make_trainer(log_completions=True, **SAVING)
    trainer.train()
    assert trainer.state.global_step == 2
    assert "The table of completions" in caplog.text
    assert "No space left on device" in caplog.text
    assert sum("loss" in row for row in trainer.state.log_history) == 2


def test_what_a_callback_raises_is_not_swallowed(make_trainer):
    class Strict(TrainerCallback):
        def on_log(self, *args, **kwargs):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        make_trainer(callbacks=[Strict()], log_completions=True).train()


def in_order(*values):
    return lambda completions, **kwargs: [values[i % len(values)] for i in range(len(completions))]


@pytest.mark.parametrize(
    ("objective", "reward"), [("nsr", 1.0), ("psr", 0.0), ("w_reinforce", None), ("nsr", None), ("grpo", None)]
)
@pytest.mark.parametrize("compact", ["auto", "off"])
def test_steps_without_a_row_to_train_are_logged_saved_and_resumed(make_trainer, tmp_path, objective, reward, compact):
    """All right under NSR, all wrong under PSR, nothing decided: of what has no rows there is no metric."""
    settings = SAVING | {"objective": objective, "reward_funcs": in_order(reward), "compact": compact}
    make_trainer(**settings).train()
    log = read_log(tmp_path)
    assert len(log) == 2
    assert not [name for row in log for name, value in row.items() if value is None or value != value]
    trainer = make_trainer(**(settings | {"max_steps": 3}))
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 3
    plot_dynamics({"run": read_log(tmp_path)}, tmp_path / "dynamics.png")


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_a_log_of_nothing_is_no_point_of_a_figure(tmp_path, nothing):
    names = [*METRICS, *TRL_METRICS, "loss", "grad_norm", "eval_pass@1"]
    log = [{"step": 1} | dict.fromkeys(names, nothing), {"step": 2} | dict.fromkeys(names, 0.5), {"step": 3}]
    plot_dynamics({"run": log}, tmp_path / "dynamics.png")
    with pytest.raises(ValueError, match="logged none"):
        plot_dynamics({"run": log[:1]}, tmp_path / "nothing.png")


@pytest.mark.processes
def test_the_package_runs_from_its_source_folder_without_being_installed(tmp_path):
    """As a `python -c` beside a checkout does: then there are no metadata of the package to read a version from."""
    program = """
import importlib.metadata as m
version = m.version
def without(name):
    if name.replace("_", "-") == "nsr-trl":
        raise m.PackageNotFoundError(name)
    return version(name)
m.version = without
from nsr_trl.card import CardFacts, build_card
facts = CardFacts("m", "nsr", "L_NSR", True, "", ())
print(build_card(facts).text)
"""
    source = Path(nsr_trl.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=source,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert f"nsr-trl {nsr_trl.__version__}" in done.stdout.replace("`", ""), done.stderr[-2000:]
