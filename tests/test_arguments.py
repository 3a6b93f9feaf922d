"""Recipe and command line: which value holds, and what is said of one that cannot."""

import pytest

from nsr_trl.arguments import parse
from nsr_trl.launch import launcher_arguments
from nsr_trl.plan import count_processes, format_plan
from nsr_trl.rewards import math_reward


def run_of(*arguments):
    return parse(arguments, "test")


def test_a_flag_overrides_the_recipe_and_the_plan_says_which_is_which():
    run = run_of("--config", "nsr-qwen3-4b", "--learning_rate=2e-6", "--max-steps", "8")
    assert (run.values["learning_rate"], run.values["max_steps"]) == (2e-6, 8)
    assert (run.sources["learning_rate"], run.sources["max_steps"]) == ("flag", "flag")
    assert run.sources["objective"] == "nsr-qwen3-4b"
    assert "temperature" in run.sources
    assert "epsilon_high" not in run.sources


def test_parameters_of_an_objective_come_from_a_file_or_a_flag(tmp_path):
    base = "model_name_or_path: quickstart\noutput_dir: out\nnum_generations: 8\ngeneration_batch_size: 8\n"
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"{base}objective: pkpo\nobjective_args: {{k: 8}}\n"
        "outcome_requires: [form]\nalarm_thresholds: {clip: null}\n"
    )
    _, args, _ = run_of("--config", str(recipe)).preview(1)
    assert args.objective_args == {"k": 8}
    assert args.outcome_requires == ["form"]
    assert args.alarm_thresholds == {"clip": None}
    _, args, _ = run_of("--config", str(recipe), "--objective_args", '{"k": 2}', "--focal_gamma", "0.5").preview(1)
    assert (args.objective_args, args.focal_gamma) == ({"k": 2}, 0.5)
    _, args, _ = run_of(
        *("--config", str(recipe), "--objective", "w_reinforce", "--objective_args", "{}"),
        *("--lambda_controller", "balance", "--outcome_requires", "form", "tags"),
    ).preview(1)
    assert (args.lambda_controller, args.outcome_requires) == ("balance", ["form", "tags"])


def test_launcher_flags_are_told_from_fields():
    run = run_of("--config", "quickstart", "--accelerate_config", "zero3", "--num_processes", "4", "--seed", "3")
    assert run.launch == {"accelerate_config": "zero3", "num_processes": "4"}
    assert run.values["seed"] == 3
    assert count_processes(run) == 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--learning_rat", "1"], "Did you mean '--learning_rate'"),
        (["--num_proceses", "2"], "Did you mean '--num_processes'"),
        (["nsr-qwen3-4b"], "Name a recipe with --config nsr-qwen3-4b"),
        (["--config", "nsr-qwen3"], "Did you mean 'nsr-qwen3-4b'"),
        (["--seed", "1", "2"], "must belong to a flag; got '2'"),
    ],
)
def test_a_name_that_does_not_exist_is_an_error_with_the_nearest(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        run_of(*arguments)


def test_an_unknown_field_of_a_recipe_is_an_error_with_the_nearest(tmp_path):
    (tmp_path / "mine.yaml").write_text("learning_rates: 1.0e-6\n")
    with pytest.raises(ValueError, match="Did you mean '--learning_rate'"):
        run_of("--config", str(tmp_path / "mine.yaml"))


def test_batches_are_checked_for_the_processes_that_will_run():
    run = run_of(
        *("--model_name_or_path", "quickstart", "--output_dir", "out", "--generation_batch_size", "64"),
        *("--per_device_train_batch_size", "4", "--optimizer_steps_per_generation", "2", "--num_generations", "8"),
    )
    _, args, _ = run.preview(8)  # 4 rows x 8 processes x 1 micro-step x 2 optimizer steps = 64
    assert (args.gradient_accumulation_steps, args.steps_per_generation) == (1, 2)
    with pytest.raises(ValueError, match="3 processes x per_device_train_batch_size=4 are 12 rows"):
        run.preview(3)


def test_trls_own_fields_are_checked_for_the_processes_that_will_run_not_for_one():
    # 2 rows x 4 processes are one group of 8; on the launcher's one process they are a quarter of one
    run = run_of("--output_dir", "out", "--per_device_train_batch_size", "2", "--num_generations", "8")
    assert run.preview(4)[1].generation_batch_size == 8
    with pytest.raises(ValueError, match="divisible by num_generations"):
        run.preview(1)


def test_two_ways_to_say_the_accumulation_are_an_error():
    run = run_of("--config", "nsr-qwen3-4b", "--gradient_accumulation_steps", "4")
    with pytest.raises(ValueError, match="takes the place of `gradient_accumulation_steps`"):
        run.preview(8)


def test_the_dry_run_states_schedule_and_memory():
    plan = format_plan(run_of("--config", "nsr-qwen2.5-math-7b", "--learning_rate", "2e-6"))
    assert "flag                 learning_rate" in plan
    assert "1,024 prompts x 8 completions = 8,192 rows" in plan
    assert "4 optimizer steps of 2,048 rows (256 prompts), off-policy" in plan
    assert "at most 4,096 a row, 8,388,608 an optimizer step" in plan  # 2,048 x 4,096
    assert "440 optimizer steps, 110 generations, 15.7 passes" in plan
    assert "it fits" in plan
    assert "DOES NOT FIT" in format_plan(run_of("--config", "nsr-qwen2.5-math-7b"), gpu_bytes=24e9)


def test_the_dry_run_counts_the_passes_over_each_rollout():
    arguments = "--config quickstart --optimizer_steps_per_generation 2 --max_steps 24".split()
    once, twice = (format_plan(run_of(*arguments, "--num_iterations", str(n))) for n in (1, 2))
    # 2 optimizer steps a rollout, and 4 where it is used twice
    assert "24 optimizer steps, 12 generations" in once
    assert "24 optimizer steps, 6 generations" in twice


@pytest.mark.parametrize(
    ("flags", "precision"), [([], "bf16"), (["--fp16", "true"], "fp16"), (["--bf16", "false"], "no")]
)
def test_the_fields_of_the_run_decide_the_precision_of_the_launch(flags, precision):
    own = ["--output_dir", "out", "--accelerate_config", "zero3", *flags]
    assert launcher_arguments(run_of(*own), own).mixed_precision == precision


def test_the_launcher_gets_its_flags_and_the_script_the_rest():
    own = [
        "--config",
        "quickstart",
        "--accelerate_config",
        "zero3",
        "--num_processes",
        "2",
        "--main_process_port",
        "0",
    ]
    args = launcher_arguments(run_of(*own), own)
    assert (args.num_processes, args.use_deepspeed, args.zero_stage) == (2, True, 3)
    assert (args.module, args.training_script) == (True, "nsr_trl.train")
    assert args.main_process_port == 0
    # the run is on the CPU in float32: accelerate is told so, whatever its config says
    assert (args.use_cpu, args.mixed_precision) == (True, "no")
    assert args.training_script_args == [*own, "--use_cpu", "true"]


def test_fsdp_on_a_cpu_is_refused_for_accelerate_would_run_ddp():
    with pytest.raises(ValueError, match="FSDP needs GPUs"):
        launcher_arguments(run_of("--config", "quickstart", "--accelerate_config", "fsdp2"), [])


def test_a_reward_function_is_named_by_module_and_function(tmp_path, monkeypatch):
    (tmp_path / "my_rewards.py").write_text("def score(completions, **kwargs):\n    return [1.0] * len(completions)\n")
    monkeypatch.chdir(tmp_path)
    script, _, _ = run_of("--output_dir", "out", "--reward", "my_rewards:score").preview(1)
    assert script.load_reward()(["a", "b"]) == [1.0, 1.0]
    script, _, _ = run_of("--output_dir", "out", "--reward", "my_rewards:scores").preview(1)
    with pytest.raises(ValueError, match="must be module:function"):
        script.load_reward()
    script, _, _ = run_of("--output_dir", "out").preview(1)
    assert script.load_reward() is math_reward
    script, _, _ = run_of("--output_dir", "out", "--grader", "paper").preview(1)
    assert script.load_reward().__name__ == "math_reward"
