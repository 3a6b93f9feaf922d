"""Findings about a machine and a run."""

import json
from collections import namedtuple
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig

from nsr_trl.quickstart.model import model_path
from nsr_trl.rewards import math_reward
from nsr_trl.run import doctor
from nsr_trl.run.arguments import parse
from nsr_trl.run.costs import find_shape
from nsr_trl.verifier import Rule, Verdict


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


# --- What this machine has not, or the tests cannot break ---


GIB = 2**30


@pytest.fixture
def use_gpus(monkeypatch):
    """Makes torch tell of GPUs of 80 GiB, given how much of each is free."""

    def use(*free):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(free))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free[index] * GIB, 80 * GIB))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "H100")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(total_memory=80 * GIB))

    return use


def test_a_gpu_that_another_program_uses_is_a_warning_and_a_process_without_one_a_failure(use_gpus):
    use_gpus(79, 71)  # nine tenths of 80 are 72
    found = by_subject(doctor.check_gpus())
    assert found["gpu 0"] == doctor.Finding("ok", "gpu 0", "H100, 79.0 of 80.0 GiB free")
    assert found["gpu 1"].level == "warn"
    assert found["gpu 1"].found.endswith("71.0 of 80.0 GiB free. Another program uses it: nvidia-smi says which")
    fits, starves = (parse(["--config", "nsr-qwen3-4b", "--num_processes", n], "test") for n in ("2", "3"))
    assert "gpu" not in by_subject(doctor.check_gpus(fits))
    needs = by_subject(doctor.check_gpus(starves))["gpu"]
    assert needs.level == "fail"
    assert needs.found == "the run starts 3 processes on a machine that has 2. Pass --num_processes 2"


def test_a_machine_without_a_gpu_is_a_failure_for_a_run_that_needs_one(use_gpus):
    use_gpus()
    runs = None, parse(["--config", "nsr-qwen3-4b"], "test"), parse(["--config", "quickstart"], "test")
    assert [doctor.check_gpus(run)[0].level for run in runs] == ["warn", "fail", "ok"]


@pytest.mark.parametrize(
    ("config", "free", "level", "sentence"),
    [
        ("nsr-qwen3-4b", (), "warn", "no GPU to compare the estimate with"),
        ("quickstart", (), "ok", "GiB a process"),
        ("quickstart", (80,), "ok", "of 80.0 GiB a process"),
    ],
)
def test_memory_is_that_of_the_smallest_gpu_or_the_share_of_a_process(use_gpus, config, free, level, sentence):
    use_gpus(*free)
    run = parse(["--config", config], "test")
    args = run.preview()[1]
    shape = find_shape(parse(["--config", "quickstart"], "test").values["model_name_or_path"], None)
    finding = doctor.check_memory(run, args, shape)
    assert (finding.level, sentence in finding.found) == (level, True)
    if level == "ok":
        assert doctor.check_memory(run, args, None).found == "no estimate: the model's config is not at hand"
        too_large = replace(shape, vocab_size=10**9)
        assert doctor.check_memory(run, args, too_large).found.endswith("or shard more")


def test_a_verifier_that_decides_wrongly_is_a_failure(monkeypatch):
    monkeypatch.setattr(doctor, "verify", lambda response, gold: Verdict.by(Rule.WORKER_DIED, None))
    finding = doctor.check_verifier()
    assert finding.level == "fail"
    assert "says undecided by the rule worker_died where correct is true" in finding.found


def test_an_engine_that_trl_does_not_drive_is_a_failure_if_it_is_needed(monkeypatch):
    monkeypatch.setattr(doctor, "installed_version", lambda name: "0.1.0+cpu")
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: name)
    run = parse(["--config", "quickstart", "--use_vllm", "true", "--vllm_mode", "colocate"], "test")
    levels = [by_subject(doctor.check_engines(about))["vllm"].level for about in (None, run)]
    assert levels == ["warn", "fail"]
    assert "0.1.0+cpu is installed; TRL" in doctor.check_engines(None)[0].found


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"beta": 0.1}, "updates are not compacted under"),
        ({"steps_per_generation": 3, "gradient_accumulation_steps": 2}, "a step ends inside a generation"),
    ],
)
def test_batches_that_cost_more_than_they_need_are_a_warning(make_config, settings, sentence):
    finding = doctor.check_batches(make_config(**settings), 1)
    assert (finding.level, sentence in finding.found) == ("warn", True)


def test_an_end_of_sequence_at_which_nothing_stops_is_told(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    ends = tokenizer.eos_token_id
    folders = {name: tmp_path / name for name in ("agrees", "differs", "none")}
    for folder in folders.values():
        tokenizer.save_pretrained(folder)
    GenerationConfig(eos_token_id=[ends, ends + 1]).save_pretrained(folders["agrees"])
    GenerationConfig(eos_token_id=ends + 1).save_pretrained(folders["differs"])
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folders["none"])
    levels = {name: [finding.level for finding in doctor.check_eos(str(path))] for name, path in folders.items()}
    assert levels == {"agrees": ["ok"], "differs": ["warn"], "none": ["fail"]}
    assert f"generation stops at [{ends + 1}]" in doctor.check_eos(str(folders["differs"]))[0].found
    assert doctor.check_eos(str(tmp_path / "missing")) == []  # the check of the prompt tells of it


def fails(completions, **kwargs):
    raise KeyError("label")


def never(completions, **kwargs):
    return [0.0] * len(completions)


def unsure(completions, answer, **kwargs):
    return [
        1.0 if f"{{{gold}}}" in str(completion) else None for completion, gold in zip(completions, answer, strict=True)
    ]


@pytest.mark.parametrize(
    ("reward", "subject", "level", "sentence"),
    [
        (fails, "rewards", "fail", "fails raised KeyError: 'label'. Correct it"),
        (never, "rewards", "warn", "references, written as boxed, must be correct; got incorrect, incorrect"),
        (unsure, "near misses", "warn", "should be incorrect; got undecided, undecided"),
    ],
)
def test_a_reward_that_does_not_score_is_told(tmp_path, monkeypatch, reward, subject, level, sentence):
    finding = find_rewards(tmp_path, monkeypatch, ["4", "5"], reward)[subject]
    assert (finding.level, sentence in finding.found) == (level, True)


@pytest.mark.parametrize(("error", "level"), [(None, "ok"), (OSError("no network"), "fail")])
def test_a_hub_that_does_not_know_who_pushes_is_a_failure(monkeypatch, error, level):
    def whoami():
        if error:
            raise error
        return {"name": "ada"}

    monkeypatch.setattr("huggingface_hub.whoami", whoami)
    finding = doctor.check_hub_login()
    assert finding.level == level
    assert ("ada" if error is None else "Run: hf auth login") in finding.found


def test_the_model_of_a_run_answers_a_few_problems_of_its_task():
    head, *looks = doctor.sample(["--config", "quickstart"], 2).splitlines()
    assert head.startswith("outcome")
    assert all(look.startswith(("correct", "incorrect", "undecided")) for look in looks[:2])
    assert len(looks) >= 2
