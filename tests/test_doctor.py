"""Findings about a machine and a run."""

import json
from collections import namedtuple

import pytest

from nsr_trl.rewards import math_reward
from nsr_trl.run import doctor
from nsr_trl.run.arguments import parse


def by_subject(findings):
    return {finding.subject: finding for finding in findings}


def test_the_quickstart_runs_on_any_machine_that_runs_the_tests():
    findings = by_subject(doctor.examine(["--config", "quickstart"]))
    assert {subject for subject, finding in findings.items() if finding.level == "fail"} == set()
    assert findings["verifier"].level == "ok"
    assert "5 references, written as boxed, are correct" in findings["rewards"].found
    assert findings["near misses"].found.startswith("5 wrong answers, such as ")
    assert "64 prompts x 8 in 2 optimizer steps on 2 processes" in findings["batches"].found
    assert findings["prompt"].level == findings["eos"].level == "ok"


def test_without_a_run_the_machine_alone_is_examined():
    findings = by_subject(doctor.examine([]))
    assert "torch" in findings
    assert not {"batches", "rewards", "disk"} & set(findings)


def test_a_version_outside_the_range_of_the_metadata_is_a_failure(monkeypatch):
    monkeypatch.setattr(doctor, "installed_version", {"trl": "1.2.0"}.get)
    findings = by_subject(doctor.check_versions())
    assert findings["trl"].level == "fail"
    assert "1.2.0 is installed. Run: pip install 'trl" in findings["trl"].found
    assert "is not installed" in findings["torch"].found


def test_without_its_parser_the_verifier_is_a_failure_and_says_what_to_install(monkeypatch):
    def verify(*args):
        raise ImportError("The parser must be installed; 'p' is not. Run: pip install p", name="p")

    monkeypatch.setattr(doctor, "verify", verify)
    finding = doctor.check_verifier()
    assert (finding.level, finding.found) == ("fail", "The parser must be installed; 'p' is not. Run: pip install p")


def test_an_engine_that_the_run_needs_is_a_failure_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(doctor, "installed_version", {"vllm": None, "deepspeed": None}.get)
    needed = by_subject(doctor.check_engines(parse(["--config", "nsr-qwen3-4b"], "test")))
    assert (needed["vllm"].level, needed["deepspeed"].level) == ("fail", "fail")
    assert "pip install 'nsr-trl[vllm]'" in needed["vllm"].found
    assert {finding.level for finding in doctor.check_engines(None)} == {"ok"}


def test_batches_that_do_not_divide_are_a_failure_with_the_arithmetic():
    findings = by_subject(doctor.examine(["--config", "quickstart", "--num_processes", "3"]))
    assert findings["batches"].level == "fail"
    assert "3 processes x per_device_train_batch_size=64" in findings["batches"].found


@pytest.mark.parametrize("setting", [("--loss_type", "nonsense"), ("--report_to", "nonsense")])
def test_a_name_that_the_launcher_refuses_fails_here_too(setting):
    findings = doctor.examine(["--config", "quickstart", *setting])
    assert [finding.level for finding in findings if "nonsense" in finding.found] == ["fail"]


def test_sampling_that_biases_vllms_correction_is_a_warning():
    arguments = ["--config", "quickstart", "--use_vllm", "true", "--vllm_mode", "colocate"]
    arguments += ["--vllm_importance_sampling_correction", "true"]  # the recipes leave it off
    assert "sampling" not in by_subject(doctor.examine(arguments))
    finding = by_subject(doctor.examine([*arguments, "--top_p", "0.95"]))["sampling"]
    assert finding.level == "warn"
    assert "biased under top_p=0.95" in finding.found


def test_references_that_the_verifier_cannot_read_are_a_failure(tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps({"problem": f"p{n}", "answer": "" if n else "4"}) + "\n" for n in range(5)))
    run = parse(["--dataset", str(path), "--output_dir", "out"], "test")
    script, args, _ = run.preview(1)
    findings = by_subject(doctor.check_task(script, args))
    assert findings["references"].level == "fail"
    assert "4 of 5 references cannot be used, such as '' (it is missing)" in findings["references"].found


def test_a_reward_that_trains_nothing_is_a_warning(tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text(json.dumps({"problem": "2+2", "answer": "4"}) + "\n")
    flags = ["--reward_funcs", "math_reward", "think_format_reward", "--outcome_reward", "math_reward"]
    script, args, _ = parse(["--dataset", str(path), "--output_dir", "out", *flags], "test").preview(1)
    finding = by_subject(doctor.check_task(script, args))["rewards"]
    assert finding.level == "warn"
    assert finding.found.startswith("think_format_reward is logged and trains nothing; set `auxiliary_weight`")


def find_rewards(tmp_path, monkeypatch, answers, reward):
    path = tmp_path / "problems.jsonl"
    path.write_text(
        "".join(json.dumps({"problem": f"p{n}", "answer": answer}) + "\n" for n, answer in enumerate(answers))
    )
    script, args, _ = parse(["--dataset", str(path), "--output_dir", "out"], "test").preview(1)
    monkeypatch.setattr(type(script), "rewards", lambda self: [reward])
    return by_subject(doctor.check_scoring(script, args))


def generous(completions, **kwargs):
    return [1.0] * len(completions)


def test_a_reward_that_calls_every_answer_correct_is_a_failure(tmp_path, monkeypatch):
    findings = find_rewards(tmp_path, monkeypatch, ["4", "5"], generous)
    assert findings["rewards"].level == "ok"
    assert findings["near misses"].level == "fail"
    assert "'5' for '4', must not be correct; got correct, correct" in findings["near misses"].found


class Generous:
    def __call__(self, completions, **kwargs):
        return generous(completions)


def test_an_object_that_is_called_is_known_by_its_class(tmp_path, monkeypatch):
    findings = find_rewards(tmp_path, monkeypatch, ["4", "5"], Generous())
    assert (findings["rewards"].level, findings["near misses"].level) == ("ok", "fail")


def test_references_of_which_wrong_answers_are_not_told_are_a_warning(tmp_path, monkeypatch):
    findings = find_rewards(tmp_path, monkeypatch, ["sherbet", "tapioca"], math_reward)
    assert findings["rewards"].level == "ok"
    assert findings["near misses"].level == "warn"


@pytest.mark.parametrize(("free", "level"), [(35e9, "fail"), (45e9, "ok")])
def test_the_disk_must_hold_the_checkpoints_that_are_kept_one_more_and_the_model(monkeypatch, tmp_path, free, level):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(free))
    run = parse(["--output_dir", str(tmp_path / "new" / "out"), "--save_total_limit", "2"], "test")
    finding = doctor.check_disk(run.preview(1)[1], kept=3, needed=40e9)  # (2 + 1 + 1) x 10 GB
    assert finding.level == level


@pytest.mark.parametrize(("free", "level"), [(45e9, "warn"), (450e9, "ok")])
def test_checkpoints_that_are_never_removed_are_a_warning_if_they_take_a_tenth_of_the_room(monkeypatch, free, level):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(free))
    finding = doctor.check_disk(parse(["--output_dir", "out"], "test").preview(1)[1], kept=3, needed=40e9)
    assert finding.level == level


def test_every_finding_is_one_line():
    text = doctor.format_findings(doctor.examine([]))
    assert all(line.startswith(("ok", "warn", "fail")) for line in text.splitlines()[:-1])
    assert text.splitlines()[-1].endswith("0 fail")
