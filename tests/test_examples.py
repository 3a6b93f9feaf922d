"""The programs in `examples/`, and the swap that the README promises, run as a user runs them."""

import importlib.util
import json
import re
import sys
import textwrap
from pathlib import Path

import pytest
import trl
from forks import run

from nsr_trl import Outcome, Problem, load_problems, verify


ROOT = Path(__file__).parent.parent
MATH_TRAIN = ROOT.parent / "shared" / "data" / "math" / "train.parquet"
ON_A_CPU = ["--use_cpu", "--report_to", "none", "--save_strategy", "no", "--logging_steps", "1"]


def run_example(name, *arguments):
    return run(ROOT / "examples" / f"{name}.py", *arguments, *ON_A_CPU, "--bf16", "false")[0]


def tiny_run(model, output_dir):
    sizes = ("--per_device_train_batch_size", 8, "--num_generations", 4, "--max_completion_length", 8)
    return ("--model_name_or_path", model, "--output_dir", output_dir, "--max_steps", 2, *sizes)


@pytest.mark.parametrize("name", ["own_reward", "several_rewards", "own_dataset"])
def test_an_example_trains_and_saves(name, tiny_model, tmp_path):
    printed = run_example(name, *tiny_run(tiny_model, tmp_path), "--objective", "nsr")
    assert printed.count("signed/incorrect_ratio") == 2
    assert (tmp_path / "model.safetensors").exists()
    assert ("rewards/brevity/mean" in printed) == (name == "several_rewards")


def test_other_rewards_train_beside_the_sign(tiny_model, tmp_path):
    flags = ("--outcome_requires", "shows_working", "--auxiliary_weight", "0.1", "--reward_weights", "1", "1", "0.01")
    printed = run_example("several_rewards", *tiny_run(tiny_model, tmp_path), "--objective", "nsr", *flags)
    assert printed.count("signed/auxiliary_share") == 2


@pytest.mark.parametrize("notebook", ["accuracy", "xml", "graded"])
def test_the_public_notebooks_train(notebook, tiny_model, tmp_path):
    printed = run_example("public_notebooks", "--notebook", notebook, *tiny_run(tiny_model, tmp_path))
    assert printed.count("signed/incorrect_ratio") == 2
    assert ("rewards/tag_count_reward/mean" in printed) == (notebook == "xml")


def test_the_rewards_of_the_public_notebooks_tell_right_from_wrong_and_form_from_none():
    example = load_example("public_notebooks")
    form = "<reasoning>\n{}\n</reasoning>\n<answer>\n{}\n</answer>\n"
    texts = [form.format("2+3", "5"), form.format("2+3", "6"), "5"]
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    rewards = {f.__name__: f(completions, answer=["5"] * 3) for f in example.NOTEBOOKS["xml"][0]}
    assert rewards == {
        "correctness_reward": [2.0, 0.0, 0.0],
        "whole_number_reward": [0.5, 0.5, 0.0],
        "strict_form_reward": [0.5, 0.5, 0.0],
        "loose_form_reward": [0.5, 0.5, 0.0],
        "tag_count_reward": [0.5, 0.5, 0.0],  # 4 tags x 1/8
    }
    near = [[{"role": "assistant", "content": text}] for text in ("100", "101", "120", "none")]
    # off by 1 of 100: 1 - 10 x 0.01 = 0.9
    assert example.near_reward(near, answer=["100"] * 4) == pytest.approx([1.0, 0.9, 0.0, 0.0])


def load_example(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_of_a_reward_knows_right_wrong_and_undecided():
    texts = ["That is 3.05 m.", "30 m", "no idea", "3.0 m or rather 3.1 m"]  # 10 feet are 3.048 m
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    assert load_example("own_reward").close_enough(completions, meters=[3.048] * 4) == [1.0, 0.0, 0.0, None]


def test_every_problem_of_the_example_has_an_answer_that_the_verifier_reads():
    for problem in load_problems(ROOT / "examples" / "problems.jsonl"):
        assert verify(f"\\boxed{{{problem.answer}}}", problem.answer).outcome is Outcome.CORRECT


def test_two_objectives_are_compared(tiny_model, tmp_path):
    printed = run_example(
        "compare_objectives",
        *tiny_run(tiny_model, tmp_path),
        *("--objectives", "psr", "nsr", "--num_problems", 4, "--num_samples", 4),
    )
    assert re.search(r"psr +nsr +nsr - psr +p +verdict", printed)
    assert (tmp_path / "pass_at_k.png").exists()
    assert (tmp_path / "psr" / "model.safetensors").exists()


def study_flags(output_dir, *more):
    flags = ("--objectives", "psr", "nsr", "--num_test", 4, "--num_samples", 4, "--max_steps", 2, "--save_steps", 1)
    sizes = ("--per_device_train_batch_size", 8, "--num_generations", 4)
    return (*flags, *sizes, "--bf16", "false", "--use_cpu", "--output_dir", output_dir, *more)


def test_a_study_of_a_real_model_is_done_once(tiny_model, tmp_path):
    flags = study_flags(tmp_path, "--model_name_or_path", tiny_model, "--max_completion_length", 8)
    printed, _ = run(ROOT / "examples" / "real_model_study.py", *flags)
    assert "## At equal steps: 2" in printed
    assert "## At equal Pass@1" in printed
    assert (tmp_path / "along_the_run.png").exists()
    again, _ = run(ROOT / "examples" / "real_model_study.py", *flags)
    assert again.count("  step ") == 0
    assert "## At equal Pass@1" in again


def test_a_study_refuses_to_measure_on_what_it_trains_on(tiny_model, tmp_path):
    problems = ROOT / "examples" / "problems.jsonl"
    flags = study_flags(tmp_path, "--model_name_or_path", tiny_model, "--train", problems, "--test", problems)
    with pytest.raises(AssertionError, match="No problem may be in both --train and --test"):
        run(ROOT / "examples" / "real_model_study.py", *flags)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="checks what is said where vLLM is absent")
def test_the_example_of_a_vllm_server_asks_for_vllm(tiny_model, tmp_path, monkeypatch):
    """Its arguments are read, and its defaults reach TRL."""
    example = load_example("vllm_server")
    monkeypatch.setattr(example, "load_problems", lambda *args, **kwargs: [Problem("1+1", "2")] * 8)
    monkeypatch.setattr(sys, "argv", ["vllm_server.py", *map(str, tiny_run(tiny_model, tmp_path)), *ON_A_CPU])
    args, model = example.parse()
    assert (args.use_vllm, args.vllm_mode, model.model_name_or_path) == (True, "server", tiny_model)
    with pytest.raises(ImportError, match="vLLM is not available"):
        example.main(args, model)


def test_two_changed_lines_turn_trls_quick_start_into_a_signed_run(tiny_model, tmp_path):
    """TRL's own example, from the docstring that its documentation shows; only what needs the network is replaced."""
    example = re.search(r"```python\n(.+?)```", textwrap.dedent(trl.GRPOTrainer.__doc__), re.DOTALL).group(1)
    script = re.sub(r"^(>>> |\.\.\. |>>>$)", "", example, flags=re.MULTILINE)

    # the swap
    script = script.replace("from trl import GRPOTrainer", "from nsr_trl import SignedRewardTrainer")
    script = script.replace("GRPOTrainer(", "SignedRewardTrainer(")
    assert "GRPO" not in script

    # no network, no GPU
    rows = [{"prompt": [{"role": "user", "content": f"{n}+1="}], "solution": f"\\boxed{{{n + 1}}}"} for n in range(8)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    script = script.replace('"trl-lib/DeepMath-103K"', f'"json", data_files={str(tmp_path / "rows.json")!r}')
    script = script.replace('"Qwen/Qwen2.5-0.5B-Instruct"', repr(tiny_model))
    settings = "use_cpu=True, max_steps=2, max_completion_length=8, logging_steps=1, report_to='none'"
    script = script.replace("train_dataset=dataset,", f"train_dataset=dataset, args=GRPOConfig('out', {settings}),")
    script = "from trl import GRPOConfig\n" + script

    (tmp_path / "swapped.py").write_text(script)
    printed, errors = run("swapped.py", cwd=tmp_path)
    assert "training with objective='w_reinforce'" in printed + errors
    assert printed.count("signed/loss_share/incorrect") == 2


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["psr", "nsr", "w_reinforce", "grpo"])
def test_a_real_model_trains_on_math(smollm2, tmp_path, objective):
    if not MATH_TRAIN.exists():
        pytest.skip(f"needs the MATH training problems at {MATH_TRAIN}")
    printed, _ = run(
        *("-m", "nsr_trl.train", "--model_name_or_path", smollm2, "--dataset", MATH_TRAIN),
        *("--num_problems", 64, "--output_dir", tmp_path, "--objective", objective, "--max_steps", 2),
        *("--per_device_train_batch_size", 8, "--num_generations", 4, "--max_completion_length", 64, *ON_A_CPU),
        timeout=900,
    )
    assert printed.count("  correct ") == 2
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_of_a_pretrained_model_runs_on_sums(smollm2, tmp_path):
    flags = study_flags(
        tmp_path, "--model_name_or_path", smollm2, "--max_completion_length", 32, "--answer_format", "last"
    )
    printed, _ = run(ROOT / "examples" / "real_model_study.py", *flags, timeout=800)
    assert float(re.search(r"\| base \| ([\d.]+) ", printed)[1]) > 0  # it can do some sums before training
