"""The pack for one GPU: what it says without one, and what is on disk when it is cut off. `make gpu` runs it whole."""

import argparse
import importlib
import json
from pathlib import Path

import pytest
import torch
from forks import Fork


pytestmark = pytest.mark.processes


FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("gpu")


def timing(seconds, **costs):
    return importlib.import_module("contenders").Timing([seconds], 100.0, 2**30, costs)


def report(gpu, folder, minutes):
    return gpu.Report(folder, argparse.Namespace(minutes=minutes, dry_run=True))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_it_ends_in_one_sentence(tmp_path):
    program = Fork(FOLDER / "gpu.py", "--output-dir", tmp_path / "report")
    _, errors = program.communicate()
    assert program.returncode == 2
    assert "This program measures a GPU; torch" in errors.splitlines()[-1]
    assert not (tmp_path / "report").exists()


def test_what_there_is_no_time_for_is_listed(gpu, tmp_path):
    late = report(gpu, tmp_path, minutes=0)
    for _, measure in gpu.MEASUREMENTS:
        measure(late)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["parts"] == {}
    assert len(found["left out"]) == len(gpu.MEASUREMENTS)
    assert "- left out: step: 0.5B, whole steps of 64 x 8" in (tmp_path / "gpu.md").read_text()


def test_a_run_that_is_cut_off_has_told_what_it_found(gpu, tmp_path, monkeypatch):
    timings = iter([timing(2.0), timing(0.5, padding=0.25)])
    monkeypatch.setattr(gpu, "time_generations", lambda *arguments, **settings: next(timings))
    with pytest.raises(StopIteration):  # the third contender: a power cut
        gpu.update(report(gpu, tmp_path, minutes=9), "0.5B", gpu.ALL)
    text = (tmp_path / "gpu.md").read_text()
    assert "| 0.5B | trl | 2.00 |  | 50 | 4.0 |  | 1.0 |" in text
    assert "| 0.5B | nsr | 0.50 | 4.0 | 200 | 4.0 | 25% | 1.0 |" in text  # 2 s over 0.5 s; 100 tokens in 0.5 s


def test_a_contender_that_runs_out_of_memory_leaves_the_others(gpu, tmp_path, monkeypatch):
    def measure(contender, *arguments, **settings):
        if contender == "trl":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return timing(1.0)

    monkeypatch.setattr(gpu, "time_generations", measure)
    gpu.update(report(gpu, tmp_path, minutes=9), "0.5B", gpu.THREE)
    text = (tmp_path / "gpu.md").read_text()
    assert "| 0.5B | trl | CUDA out of memory. Tried to allocate 9 GiB |" in text
    assert "| 0.5B | w_reinforce | 1.00 |" in text


def test_every_objective_has_its_bars(monkeypatch, tmp_path):
    axes = pytest.importorskip("matplotlib.axes")
    monkeypatch.syspath_prepend(FOLDER)
    update_cost = importlib.import_module("update_cost")
    drawn, bar = [], axes.Axes.bar
    monkeypatch.setattr(axes.Axes, "bar", lambda *a, **more: drawn.append(more["label"]) or bar(*a, **more))
    names = ("trl", *update_cost.OBJECTIVES)
    update_cost.plot(
        [{"contender": name, "correct_ratio": 0.6, "speedup": 2.0} for name in names], tmp_path / "bars.png"
    )
    assert drawn == ["nsr", "psr", "w_reinforce", "grpo", "qae"]
