"""Recipe and command line: which value holds, and what is said of one that cannot."""

import pytest

from nsr_trl.rewards import math_reward
from nsr_trl.run.arguments import parse
from nsr_trl.run.dry_run import format_dry_run
from nsr_trl.run.launch import launcher_arguments
from nsr_trl.run.preflight import resume_wish


def run_of(*arguments):
    return parse(arguments, "test")


def test_a_flag_overrides_the_recipe_and_the_plan_says_which_is_which():
    run = run_of("--config", "nsr-qwen3-4b", "--learning_rate=2e-6", "--max-steps", "8")
    assert (run.values["learning_rate"], run.values["max_steps"]) == (2e-6, 8)
    assert (run.sources["learning_rate"], run.sources["max_steps"]) == ("flag", "flag")
    assert run.sources["objective"] == "nsr"  # the part in which it is written
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


@pytest.mark.parametrize("objective", ["nsr", "psr", "grpo", "maxrl"])
def test_another_objective_leaves_the_weights_of_the_recipes_behind(objective):
    run = run_of("--config", "quickstart", "--objective", objective)
    _, args, _ = run.preview(1)
    assert (args.objective, args.positive_weight) == (objective, None)
    assert "positive_weight" not in run.sources
    with pytest.raises(ValueError, match=r"`positive_weight`.* under objective='nsr'; got 0\.5"):
        run_of("--config", "quickstart", "--objective", "nsr", "--positive_weight", "0.5").preview(1)
    _, args, _ = run_of("--config", "quickstart", "--objective", "w_reinforce").preview(1)
    assert args.positive_weight == 0.1  # the same one, and its weight


def test_launcher_flags_are_told_from_fields():
    run = run_of("--config", "quickstart", "--accelerate_config", "zero3", "--num_processes", "4", "--seed", "3")
    assert run.launch == {"accelerate_config": "zero3", "num_processes": "4"}
    assert run.values["seed"] == 3
    assert run.num_processes == 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--learning_rat", "1"], "did you mean 'learning_rate'"),
        (["--num_proceses", "2"], "did you mean 'num_processes'"),
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
    with pytest.raises(ValueError, match="did you mean 'learning_rate'"):
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
    plan = format_dry_run(run_of("--config", "nsr-qwen2.5-math-7b", "--learning_rate", "2e-6"))
    assert "flag                 learning_rate" in plan
    assert "1,024 prompts x 8 completions = 8,192 rows" in plan
    assert "4 optimizer steps of 2,048 rows (256 prompts), off-policy" in plan
    assert "at most 4,096 a row, 8,388,608 an optimizer step" in plan  # 2,048 x 4,096
    assert "440 optimizer steps, 110 generations, 15.7 passes" in plan
    assert "it fits" in plan
    # 110 generations x 8,192 rows x 4,096 tokens = 3.69 billion; / 10,000 / 3,600 = 102.5 h
    assert "at most 3.69 billion, 102.5 h at 10,000 a second" in plan
    # 7.62e9 parameters x (2 + 12) bytes = 106.6 GB; 3 kept, the best, one being written, and the model: 6 x
    assert "639.7 GB: 5 checkpoints and the model" in plan
    assert "DOES NOT FIT" in format_dry_run(run_of("--config", "nsr-qwen2.5-math-7b", "--gpu-memory", "24"))


def test_a_run_whose_accelerate_config_asks_for_the_cpu_is_not_set_beside_a_gpu():
    plan = format_dry_run(run_of("--config", "nsr-qwen2.5-math-7b", "--accelerate_config", "multi_cpu"))
    assert "generation" in plan.splitlines()[-1]  # the last row of the memory


def test_the_dry_run_counts_the_passes_over_each_rollout():
    arguments = "--config quickstart --optimizer_steps_per_generation 2 --max_steps 24".split()
    once, twice = (format_dry_run(run_of(*arguments, "--num_iterations", str(n))) for n in (1, 2))
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
    assert args.training_script_args == own
    own = ["--output_dir", "out", "--accelerate_config", "multi_cpu"]  # it alone asks for the CPU
    assert launcher_arguments(run_of(*own), own).training_script_args == [*own, "--use_cpu", "true"]


def test_the_launcher_keeps_the_threads_that_the_user_set(monkeypatch):
    own = ["--config", "quickstart"]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert launcher_arguments(run_of(*own), own).num_cpu_threads_per_process == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("os.cpu_count", lambda: 8)  # for 2 processes
    assert launcher_arguments(run_of(*own), own).num_cpu_threads_per_process == 4


def test_fsdp_on_a_cpu_is_refused_for_accelerate_would_run_ddp():
    with pytest.raises(ValueError, match="FSDP needs GPUs"):
        launcher_arguments(run_of("--config", "quickstart", "--accelerate_config", "fsdp2"), [])


def script_of(*arguments):
    return run_of("--output_dir", "out", *arguments).preview(1)[0]


def test_the_reward_is_the_tasks_or_those_that_are_named(tmp_path, monkeypatch):
    assert script_of().rewards() == [math_reward]
    assert script_of("--grader", "paper").rewards()[0].__name__ == "math_reward"
    names = [f.__name__ for f in script_of("--reward_funcs", "math_reward", "think_format_reward").rewards()]
    assert names == ["math_reward", "think_format_reward"]
    (tmp_path / "trl.yaml").write_text("reward_funcs: accuracy_reward\n")
    assert [f.__name__ for f in script_of("--config", str(tmp_path / "trl.yaml")).rewards()] == ["accuracy_reward"]


def test_completions_that_are_logged_are_printed_only_where_a_recipe_or_a_flag_says_how_many(tmp_path):
    (tmp_path / "mine.yaml").write_text("output_dir: out\nlog_completions: true\nnum_completions_to_print: 2\n")
    recipe = ("--config", str(tmp_path / "mine.yaml"))
    runs = [run_of("--log_completions", "true"), run_of(*recipe), run_of(*recipe, "--num_completions_to_print", "3")]
    assert [run.values["num_completions_to_print"] for run in runs] == [0, 2, 3]
    assert "num_completions_to_print" not in runs[0].sources


def test_a_model_has_the_name_of_evaluate_too_and_to_resume_needs_no_value():
    run = run_of("--model", "m", "--output_dir", "out", "--resume_from_checkpoint", "--max_steps", "8")
    assert run.values["model_name_or_path"] == "m"
    assert resume_wish(run.preview(1)[1]) is True
    assert run.values["max_steps"] == 8


def test_the_names_of_trl_grpo_are_understood(tmp_path):
    (tmp_path / "grpo.yaml").write_text(
        "model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct\ndataset_name: openai/gsm8k\ndataset_config: main\n"
        "dataset_train_split: train\ndataset_test_split: test\nreward_funcs: [accuracy_reward]\n"
        "torch_dtype: bfloat16\noutput_dir: out\n"
    )
    run = run_of("--config", str(tmp_path / "grpo.yaml"), "--objective", "nsr")
    script, args, model = run.preview(1)
    train, test = script.train_task().train[0], script.test_task().test[0]
    assert (train.dataset, train.config, train.split, test.split) == ("openai/gsm8k", "main", "train", "test")
    assert (args.objective, model.dtype) == ("nsr", "bfloat16")
    assert script_of("--reward", "math_reward").reward_funcs == ["math_reward"]


def test_all_unknown_names_are_in_one_error_and_advice_only_where_it_is_near(tmp_path):
    (tmp_path / "mine.yaml").write_text("modell_name_or_path: x\nflavour: y\nlr: 1e-6\nmax_prompt_length: 512\n")
    with pytest.raises(ValueError, match="got 'modell_name_or_path'") as caught:
        run_of("--config", str(tmp_path / "mine.yaml"), "--colour", "red")
    sentence = str(caught.value)
    assert "'modell_name_or_path' (did you mean 'model_name_or_path'?), 'flavour', " in sentence
    assert "'lr' (set learning_rate), 'max_prompt_length' (TRL 1 has none" in sentence
    assert sentence.endswith("'colour'. Correct or remove them.")


def test_a_task_is_where_problems_come_from_and_single_fields_override_it():
    script = script_of("--task", "gsm8k", "--split", "train[:8]", "--answer_format", "gsm8k")
    task = script.train_task()
    assert (task.train[0].dataset, task.train[0].split, task.answer_format) == ("openai/gsm8k", "train[:8]", "gsm8k")
    assert script.test_task().test[0].split == "test"
    with pytest.raises(ValueError, match="needs problems of its own; got the dataset 'a/b' alone"):
        script_of("--dataset", "a/b").test_task()
    assert script_of("--dataset", "a/b", "--eval_task", "amc23").test_task().name == "amc23"


@pytest.mark.parametrize("flags", [["--num_processes", "0"], ["--num_machines", "two"]])
def test_processes_and_machines_are_whole_numbers_from_one(flags):
    run = run_of("--config", "quickstart", *flags)
    with pytest.raises(ValueError, match="must be a whole number, 1 or more"):
        assert run.num_processes + run.num_machines


def test_an_accelerate_config_that_is_no_mapping_is_an_error(tmp_path):
    (tmp_path / "mine.yaml").write_text("- zero3\n")
    with pytest.raises(ValueError, match="must be `field: value` lines"):
        assert run_of("--config", "quickstart", "--accelerate_config", str(tmp_path / "mine.yaml")).accelerate


def test_the_accelerate_config_is_read_once(tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text("distributed_type: DEEPSPEED\nnum_processes: 4\ndeepspeed_config: {zero_stage: 2}\n")
    run = run_of("--config", "quickstart", "--accelerate_config", str(config))
    assert (run.num_processes, run.num_machines, run.sharding, run.is_offloaded) == (4, 1, "zero2", False)
    config.unlink()
    assert run.num_processes == 4


def test_the_words_that_flags_take_are_those_of_the_tables():
    from nsr_trl.choices import OBJECTIVES, OUTCOMES
    from nsr_trl.objective import OBJECTIVE_NAMES
    from nsr_trl.verifier import Outcome

    assert set(OBJECTIVES) == set(OBJECTIVE_NAMES)
    assert tuple(Outcome) == OUTCOMES
