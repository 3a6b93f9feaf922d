"""`nsr-trl compare`, `plot` and `show` on run folders as an evaluation writes them."""

import io
import json
import os
import pty
import re
import subprocess
import sys

import pytest

from nsr_trl.cli import main
from nsr_trl.commands.results import OUTCOMES
from nsr_trl.evaluation.records import RunFolder, Sample
from nsr_trl.evaluation.results import Evaluation, estimate_pass_at_k
from nsr_trl.evaluation.runs import name_runs, read_evaluations
from nsr_trl.verifier import Outcome


def write_run(path, counts, num_samples=4, has_summary=True):
    """Writes a run whose i-th problem was solved counts[i] times."""
    problems = [{"id": f"p{i}", "question": f"What is {i}+1?", "answer": str(i + 1)} for i in range(len(counts))]
    with RunFolder(path, {"seed": 0}, problems) as folder:
        for problem, count in zip(problems, counts, strict=True):
            graded = [("correct", problem["answer"])] * count + [("incorrect", "0")] * (num_samples - count)
            folder.append(
                Sample(problem["id"], j, f"\\boxed{{{answer}}}", outcome, answer, "number", 9, truncated=j == 3)
                for j, (outcome, answer) in enumerate(graded)
            )
        if has_summary:
            num_correct = {problem["id"]: count for problem, count in zip(problems, counts, strict=True)}
            estimates = estimate_pass_at_k(num_samples, num_correct, [1, 2, 4][: num_samples.bit_length()])
            folder.write_summary(Evaluation(num_samples, num_correct, 0, 9.0, 0.25, estimates).to_dict())
    return path


@pytest.fixture
def runs(tmp_path):
    """Three runs of two datasets, the third without aime2025."""
    write_run(tmp_path / "base" / "amc23", [1] * 10)
    write_run(tmp_path / "base" / "aime2025", [0] * 9 + [4])
    write_run(tmp_path / "nsr" / "amc23", [3] * 10)
    write_run(tmp_path / "nsr" / "aime2025", [0] * 8 + [4, 4])
    write_run(tmp_path / "psr" / "amc23", [2] * 5 + [0] * 5)
    return [str(tmp_path / name) for name in ("base", "nsr", "psr")]


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    assert ended.value.code == 2
    return capsys.readouterr().err


# --- folders and names -----------------------------------------------------------------------------------------------


def test_a_run_is_called_by_the_end_of_its_path_that_tells_it_apart(tmp_path):
    paths = [tmp_path / name for name in ("a/nsr", "a/psr", "b/nsr")]
    assert list(name_runs(paths[:2])) == ["nsr", "psr"]
    assert list(name_runs(paths)) == ["a/nsr", "a/psr", "b/nsr"]
    assert list(name_runs(paths, ["x", "y", "z"])) == ["x", "y", "z"]


@pytest.mark.parametrize("names", [["x"], ["x", "x"], ["x", "y", "z"]])
def test_every_run_needs_a_name_of_its_own(tmp_path, names):
    with pytest.raises(ValueError, match=f"got 2 runs and the names {', '.join(names)}"):
        name_runs([tmp_path / "a", tmp_path / "b"], names)


def test_evaluations_are_found_by_dataset_and_run(runs):
    evaluations = read_evaluations(name_runs(runs))
    assert {dataset: list(by_run) for dataset, by_run in evaluations.items()} == {
        "aime2025": ["base", "nsr"],
        "amc23": ["base", "nsr", "psr"],
    }
    assert evaluations["amc23"]["nsr"].pass_at_k[1].value == 0.75


def test_runs_of_one_dataset_each_are_taken_to_be_of_the_same(tmp_path):
    paths = [write_run(tmp_path / name, [1, 2]) for name in ("before", "after")]
    assert {d: list(by_run) for d, by_run in read_evaluations(name_runs(paths)).items()} == {"": ["before", "after"]}


# --- compare ---------------------------------------------------------------------------------------------------------


def test_compare_prints_a_table_per_shared_dataset_and_run(runs, capsys):
    main(["compare", *runs[:2]])
    out = capsys.readouterr().out
    assert out.startswith("aime2025:\n\n")
    assert "\n\namc23:\n\n" in out
    # 30 of 40 against 10 of 40, and every problem differs by 2/4
    row = (
        r"Pass@1 25.0 \[25.0, 25.0\] 75.0 \[75.0, 75.0\] \+50.0 \[\+50.0, \+50.0\] 0.00[1-3] above"  # 2 / 2^10 = 0.002
    )
    assert any(re.fullmatch(row, " ".join(line.split())) for line in out.splitlines())
    main(["compare", *runs])
    out, err = capsys.readouterr()
    assert "aime2025" not in out
    assert err == "Not in all runs, so left out: aime2025\n"  # psr has none
    assert "nsr - base" in out
    assert "psr - base" in out
    assert "not distinguishable" in out


@pytest.mark.processes
def test_compare_fits_a_terminal_of_80_columns_in_colour(runs):
    ours, theirs = pty.openpty()
    env = os.environ | {"COLUMNS": "80"}
    command = [sys.executable, "-m", "nsr_trl", "compare", *runs[:2], "--names", "the-base-model", "the-trained-model"]
    done = subprocess.run(command, env=env, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "\x1b[1;32mabove\x1b[0m" in shown
    assert max(len(re.sub("\x1b[^m]*m", "", line)) for line in shown.splitlines()) <= 80


def test_compare_writes_json_and_markdown(runs, tmp_path, capsys):
    main(["compare", *runs[:2], "--names", "before", "after", "--markdown", "--json", str(tmp_path / "out.json")])
    assert "## amc23\n\n|  | before | after | after - before | p | verdict |\n" in capsys.readouterr().out
    comparisons = json.loads((tmp_path / "out.json").read_text())
    assert [comparison["dataset"] for comparison in comparisons] == ["aime2025", "amc23"]
    assert comparisons[1]["pass_at_k"]["1"]["verdict"] == "above"


def test_compare_refuses_runs_that_it_cannot_compare(runs, tmp_path, capsys):
    assert "does not. Name the output folder" in refused(capsys, "compare", runs[0], tmp_path / "missing")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert "does not. Name the output folder" in refused(capsys, "compare", runs[0], tmp_path / "model")
    unfinished = write_run(tmp_path / "unfinished", [1], has_summary=False)
    assert "has no summary.json. Finish it by the same" in refused(
        capsys, "compare", unfinished, unfinished.parent / "nsr"
    )
    (unfinished / "summary.json").write_text("{}")
    assert "must be one that `nsr-trl evaluate` wrote" in refused(capsys, "compare", runs[0], unfinished)
    write_run(tmp_path / "other" / "math500", [1])
    write_run(tmp_path / "other" / "math", [1])
    assert "must share a dataset; they have base: aime2025, amc23; other: math, math500" in refused(
        capsys, "compare", runs[0], tmp_path / "other"
    )
    assert "Give one name per run" in refused(capsys, "compare", *runs, "--names", "a", "b")
    assert "No such file" in refused(capsys, "compare", *runs, "--json", tmp_path / "no" / "out.json")


# --- plot ------------------------------------------------------------------------------------------------------------


def test_plot_draws_the_runs(runs, tmp_path, capsys):
    main(["plot", *runs, "--output", str(tmp_path / "curves.svg"), "--names", "base", "NSR", "PSR"])
    assert capsys.readouterr().out == f"{tmp_path / 'curves.svg'}\n"
    assert (tmp_path / "curves.svg").stat().st_size > 10_000


def test_plot_draws_training_dynamics(tmp_path, capsys):
    state = {"log_history": [{"step": step, "entropy": 1 / step} for step in range(1, 5)]}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    main(["plot", "--dynamics", str(tmp_path), "--output", str(tmp_path / "dynamics.png")])
    assert (tmp_path / "dynamics.png").read_bytes().startswith(b"\x89PNG")


def test_plot_refuses_what_it_cannot_draw(runs, tmp_path, capsys):
    assert "got 'curves.jpeg2000'" in refused(capsys, "plot", *runs, "--output", "curves.jpeg2000")
    assert "Give one name per run" in refused(capsys, "plot", *runs, "--output", "x.png", "--names", "a")
    assert "must hold a trainer_state.json" in refused(capsys, "plot", "--dynamics", runs[0], "--output", "x.png")


@pytest.mark.processes
def test_plot_says_how_to_install_matplotlib(runs, tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError")
    env = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.getcwd()}"}
    command = [sys.executable, "-m", "nsr_trl", "plot", runs[0], "--output", str(tmp_path / "x.png")]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Install it with `pip install nsr-trl[plot]`" in done.stderr
    assert "Traceback" not in done.stderr


# --- show ------------------------------------------------------------------------------------------------------------


def test_the_outcomes_offered_are_those_of_the_verifier():
    assert tuple(Outcome) == OUTCOMES


def test_show_prints_the_samples_that_are_asked_for(runs, capsys):
    main(["show", runs[0], "--dataset", "amc23", "--outcome", "correct", "--limit", "2"])
    assert capsys.readouterr().out == (
        "━━ amc23 · p0\nWhat is 0+1?\n\n── sample 0: correct (number), answer 1, reference 1, 9 tokens\n\\boxed{1}\n\n"
        "━━ amc23 · p1\nWhat is 1+1?\n\n── sample 0: correct (number), answer 2, reference 2, 9 tokens\n\\boxed{2}\n\n"
    )
    main(["show", runs[0], "--truncated", "--problem", "p3", "--brief"])
    out = capsys.readouterr().out
    assert out.count("sample 3: incorrect (number), answer 0, reference 4, 9 tokens, truncated") == 2
    assert "boxed" not in out


def test_show_explains_verdicts_by_what_the_verifier_reads(tmp_path, capsys):
    problems = [{"id": "p", "question": "What is 1/3?", "answer": "1/3"}]
    verdicts = [("1/3", "correct", "number"), ("0.333", "undecided", "contested form")]
    with RunFolder(tmp_path / "run", {"seed": 0}, problems) as folder:
        folder.append(
            Sample("p", i, f"\\boxed{{{answer}}}", outcome, answer, reason, num_tokens=9, truncated=False)
            for i, (answer, outcome, reason) in enumerate(verdicts)
        )
    main(["show", str(tmp_path / "run"), "--outcome", "undecided", "--explain", "--brief"])
    assert capsys.readouterr().out == (
        "━━ run · p\nWhat is 1/3?\n\n"
        "── sample 1: undecided (contested form), answer 0.333, reference 1/3, 9 tokens\n"
        "answer     0.333\n  read as  number: \\frac{333}{1000}\n"
        "reference  1/3\n  read as  number: \\frac{1}{3}\n"
        "verdict    undecided by number.rounding: one may be a rounding of the other\n\n"
    )
    main(["show", str(tmp_path / "run"), "--explain", "--limit", "1"])
    assert "\\boxed{1/3}\n\nanswer     1/3\n" in capsys.readouterr().out
    (tmp_path / "run" / "config.json").write_text('{"answer_format": "gsm8k"}')
    main(["show", str(tmp_path / "run"), "--explain", "--limit", "1"])
    assert "elsewhere  1/3: not in the form 'gsm8k'" in capsys.readouterr().out


@pytest.mark.parametrize("judge", [{"grader": "paper"}, {"reward": "mine:reward"}])
def test_show_explains_no_verdict_of_other_rules(runs, capsys, judge, tmp_path):
    (tmp_path / "base" / "aime2025" / "config.json").write_text(json.dumps(judge))
    assert f"are of {next(iter(judge.values()))!r}. Leave --explain out" in refused(
        capsys, "show", runs[0], "--explain"
    )
    assert "for the terminal; got --html" in refused(capsys, "show", runs[0], "--explain", "--html", "page.html")


@pytest.mark.processes
def test_show_ends_quietly_when_the_reader_has_enough(runs):
    show = [sys.executable, "-m", "nsr_trl", "show", runs[0]]
    with subprocess.Popen(show, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.processes
def test_show_pages_in_a_terminal_and_writes_what_an_ascii_one_can_show(runs, tmp_path):
    pager = tmp_path / "pager"
    pager.write_text(f"#!/bin/sh\ncat > {tmp_path / 'paged'}\n")
    pager.chmod(0o755)
    env = os.environ | {"PAGER": str(pager), "PYTHONIOENCODING": "ascii"}
    ours, theirs = pty.openpty()
    show = [sys.executable, "-m", "nsr_trl", "show", runs[0], "--limit", "3"]
    done = subprocess.run(show, env=env, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    os.close(ours)
    assert (done.returncode, done.stderr) == (0, b"")
    paged = (tmp_path / "paged").read_text()
    assert "\x1b[1;31mincorrect\x1b[0m" in paged  # coloured, in a terminal
    assert "\\u2501\\u2501 aime2025" in paged


def test_show_writes_a_page(runs, tmp_path, capsys):
    main(["show", runs[0], "--html", str(tmp_path / "page.html"), "--max-per-problem", "1"])
    # of each outcome of each problem the first and those that equal it: all but the 20 that are truncated, of which
    # aime2025's 10 and amc23's 10 are the fourth
    assert "60 of 80 samples of 20 problems, the first 1 of each outcome" in capsys.readouterr().out
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_show_says_when_nothing_matches_with_status_1(runs, tmp_path, capsys):
    for extra in ([], ["--html", str(tmp_path / "page.html")]):
        with pytest.raises(SystemExit) as ended:
            main(["show", runs[0], "--outcome", "undecided", *extra])
        assert ended.value.code == 1
        assert "No sample matches" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_show_refuses_what_it_cannot_show(runs, tmp_path, capsys):
    assert "Name the output folder" in refused(capsys, "show", tmp_path / "missing")
    assert "must be one of aime2025, amc23; got 'amc'" in refused(capsys, "show", runs[0], "--dataset", "amc")
    assert "must be one of string, number," in refused(capsys, "show", runs[0], "--reason", "numbr")
    assert "must be at least 1" in refused(capsys, "show", runs[0], "--limit", "0")
    assert "No such file" in refused(capsys, "show", runs[0], "--html", tmp_path / "no" / "page.html")
    samples = tmp_path / "base" / "aime2025" / "samples.jsonl"
    samples.write_text("{}\n" + samples.read_text())
    assert "must be a sample; line 1 is" in refused(capsys, "show", runs[0])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"pass_at_k": []}, r"pass_at_k = \[\]"),
        ({"pass_at_k": {}}, r"pass_at_k = \{\}"),
        ({"pass_at_k": {"1": [0.5, 0.4, 0.6]}}, r"pass_at_k = \{'1': \[0.5"),
        ({"num_samples": "4"}, "num_samples = '4'"),
        ({"num_samples": 0}, "num_samples = 0"),
        ({"num_correct": None}, "num_correct = None"),
        ({"num_correct": {"p0": 1.5}}, r"num_correct = \{'p0': 1.5\}"),
        ({"num_correct": {"p0": 5}}, "more samples are correct than num_samples = 4"),
        ({"num_undecided": [1]}, r"num_undecided = \[1\]"),
        ({"mean_length": "long"}, "mean_length = 'long'"),
        ({"truncation_rate": float("nan")}, "truncation_rate = nan"),
        ({"groups": {"level": [1]}}, r"groups = \{'level': \[1\]\}"),
        ({"passes": 1}, "passes is no field"),
    ],
)
def test_a_damaged_summary_is_named_with_its_field(tmp_path, change, named):
    path = write_run(tmp_path / "run", [1, 2]) / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=rf"summary.json must be one that .*\({named}.*\)\. Write it anew"):
        read_evaluations({"run": tmp_path / "run"})


def test_a_pager_that_cannot_be_read_is_none(runs, monkeypatch, capsys):
    monkeypatch.setenv("PAGER", "less 'unclosed")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True))
    main(["show", runs[0], "--limit", "1"])
    assert b"aime2025" in sys.stdout.buffer.getvalue()


def test_k_without_a_figure_that_takes_it_is_refused(runs, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["plot", runs[0], "--k", "2", "--output", str(tmp_path / "x.png")])
    assert "--k must go with --over-steps or --over-pass-at-1; got it alone" in capsys.readouterr().err
