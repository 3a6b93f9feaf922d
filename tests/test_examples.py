"""The programs in `examples/`, and the swap that the README promises, run as a user runs them."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import trl


ROOT = Path(__file__).parent.parent
MATH_TRAIN = ROOT.parent / "shared" / "data" / "math" / "train.parquet"
ON_A_CPU = ["--use_cpu", "--report_to", "none", "--save_strategy", "no", "--logging_steps", "1"]


def run(*arguments, timeout=240):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, env=environment
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_train_math_trains_on_a_local_file(tiny_model, tmp_path):
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(json.dumps({"problem": f"{n}+{n}", "answer": str(2 * n)}) + "\n" for n in range(8)))
    out = tmp_path / "out"
    printed = run(
        *(ROOT / "examples" / "train_math.py", "--model_name_or_path", tiny_model, "--dataset", problems),
        *("--output_dir", out, "--objective", "nsr", "--max_steps", 2, "--max_completion_length", 8),
        *("--per_device_train_batch_size", 8, "--num_generations", 4, "--template", "simple", *ON_A_CPU),
    )
    assert printed.count("signed/incorrect_ratio") == 2
    assert (out / "model.safetensors").exists()
    assert "`nsr`: minimises L_NSR" in (out / "README.md").read_text()


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
    done = subprocess.run(
        [sys.executable, "swapped.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "training with objective='w_reinforce'" in done.stdout + done.stderr
    assert done.stdout.count("signed/loss_share/incorrect") == 2


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["psr", "nsr", "w_reinforce", "grpo"])
def test_a_real_model_trains_on_math(smollm2, tmp_path, objective):
    if not MATH_TRAIN.exists():
        pytest.skip(f"needs the MATH training problems at {MATH_TRAIN}")
    printed = run(
        *(ROOT / "examples" / "train_math.py", "--model_name_or_path", smollm2, "--dataset", MATH_TRAIN),
        *("--num_problems", 64, "--output_dir", tmp_path, "--objective", objective, "--max_steps", 2),
        *("--per_device_train_batch_size", 8, "--num_generations", 4, "--max_completion_length", 64, *ON_A_CPU),
        timeout=900,
    )
    assert printed.count("'signed/incorrect_ratio'") == 2
    assert (tmp_path / "model.safetensors").exists()
