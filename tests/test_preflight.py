"""A run is checked before it starts: all faults at once, each with what to do."""

import json
import re

import pytest

from nsr_trl.cli import main
from nsr_trl.run.arguments import parse
from nsr_trl.run.preflight import check_run, refuse_faults


@pytest.fixture
def checked(tmp_path, tiny_model, monkeypatch):
    """Checks a run of the tiny model on rows of a dataset."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rewards_of_mine.py").write_text(
        "def by_target(completions, target, **kwargs):\n    return [1.0] * len(completions)\n\n\n"
        "def closed(completions, answer):\n    return [1.0] * len(completions)\n"
    )

    def check(*flags, rows=None):
        rows = rows or [{"problem": f"{n}+{n}?", "answer": str(2 * n)} for n in range(8)]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        arguments = ["--dataset", "rows.jsonl", "--model_name_or_path", tiny_model, "--output_dir", "out", *flags]
        return check_run(parse([*arguments, "--use_cpu", "true", "--max_completion_length", "8"], "test"))

    return check


def levels(findings):
    return {finding.subject: finding.level for finding in findings}


def test_a_run_that_can_start_has_nothing_in_its_way(checked):
    findings = checked()
    assert set(levels(findings).values()) == {"ok"}
    assert {"problems", "references", "context", "prompt"} <= set(levels(findings))
    refuse_faults(findings)


def test_all_faults_are_one_list(checked):
    findings = checked(
        *("--reward_funcs", "rewards_of_mine:by_target", "--max_completion_length", "100000"),
        *("--resume_from_checkpoint", "true"),
    )
    with pytest.raises(ValueError, match="2 things stand in the way of this run") as caught:
        refuse_faults(findings)
    lines = str(caught.value).splitlines()
    assert lines[1].startswith("  1. rewards: by_target needs the column 'target'; the dataset has ")
    assert "There is no checkpoint" in lines[2] or "checkpoint" in lines[2]


@pytest.mark.parametrize(
    ("flags", "rows", "sentence"),
    [
        (["--reward_funcs", "rewards_of_mine:closed"], None, "closed must take **kwargs"),
        (["--reward_funcs", "math_reward", "think_format_reward"], None, "Set `outcome_reward` to the name"),
        (["--reward_funcs", "rewards_of_mine:none"], None, "has no attribute 'none'"),
        (["--reward_funcs", "accuracy_reward"], None, "accuracy_reward needs the column 'solution'"),
        (["--answer_column", "label"], None, "answer must be in a column named 'label'"),
        (["--split", "test"], None, "must have the config and the split that are asked for"),
        (["--eval_strategy", "steps", "--eval_steps", "1"], None, "needs problems of its own"),
        ([], [{"problem": "a", "answer": None}, {"problem": "b", "answer": None}], "2 of 2 references cannot be used"),
        ([], [{"problem": 1, "answer": "1"}], "A question must be text"),
        (["--template", "gemma"], None, "or a text with {input}"),
        (["--output_dir", "rows.jsonl/out"], None, "out"),
    ],
)
def test_what_would_end_a_run_later_is_a_fault_now(checked, flags, rows, sentence):
    (fault,) = {finding.found for finding in checked(*flags, rows=rows) if finding.level == "fail"}
    assert sentence in fault
    with pytest.raises(ValueError, match=re.escape(fault)):
        refuse_faults(checked(*flags, rows=rows))


def test_a_prompt_that_asks_for_another_form_of_answer_is_told(checked):
    chat = [{"role": "user", "content": "1+1? Put it behind ####."}]
    row = {"prompt": chat, "reward_model": {"style": "rule", "ground_truth": "2"}}
    finding = next(finding for finding in checked(rows=[row]) if finding.subject == "prompt")
    assert finding.level == "warn"
    assert "asks for gsm8k and the answer is read from 'boxed'" in finding.found
    assert "answer_format=gsm8k" in finding.found
    assert set(levels(checked("--answer_format", "gsm8k", rows=[row])).values()) == {"ok"}


def test_some_references_that_cannot_be_read_are_a_warning(checked):
    rows = [{"problem": f"{n}?", "answer": str(n) if n else None} for n in range(4)]
    finding = next(finding for finding in checked(rows=rows) if finding.subject == "references")
    assert (finding.level, finding.found[:40]) == ("warn", "1 of 4 references cannot be used, such a")


def test_the_command_lists_them_and_starts_nothing(checked, tiny_model, capsys):
    checked()
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(
            [
                *("train", "--dataset", "rows.jsonl", "--model_name_or_path", tiny_model, "--output_dir", "out"),
                *("--use_cpu", "true", "--reward_funcs", "rewards_of_mine:none", "--answer_column", "label"),
            ]
        )
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("nsr-trl train: error: 2 things stand in the way of this run:\n  1. rewards: ")
    assert "Traceback" not in error


def test_doctor_lets_the_model_answer_and_shows_what_was_read(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--config", "quickstart", "--sample", "8"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "references  " in out
    table = out[out.index("outcome    ") :].splitlines()
    assert len(table) == 9
    assert any(line.startswith("correct ") for line in table)
