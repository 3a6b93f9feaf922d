"""Recipes: what each amounts to on the number of processes that it asks for."""

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsr_trl.resources import resource, shipped_names
from nsr_trl.run.arguments import CLASSES, parse
from nsr_trl.run.recipe import describe, load_recipe, read_recipe, recipe_names
from nsr_trl.run.schedule import make_schedule


OBJECTIVES = ("psr", "nsr", "w-reinforce", "grpo")
MODELS = {
    # model: prompts x completions = rows, row tokens, optimizer steps of the run = generations x 4
    "qwen2.5-math-7b": ("Qwen/Qwen2.5-Math-7B", "qwen", 4096, 110 * 4),
    "qwen3-4b": ("Qwen/Qwen3-4B", "qwen3_no_thinking", 32768, 50 * 4),
    "llama-3.1-8b-instruct": ("meta-llama/Llama-3.1-8B-Instruct", "llama", 4096, 110 * 4),
}
PAPER = [f"{objective}-{model}" for objective in OBJECTIVES for model in MODELS]


def preview(name):
    run = parse(["--config", name], "test")
    return run, run.num_processes, *run.preview()


def test_the_papers_objectives_and_models_all_have_a_recipe():
    assert set(PAPER) | {"quickstart"} < set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_a_valid_configuration_for_its_number_of_processes(name):
    _, num_processes, _, args, model = preview(name)
    schedule = make_schedule(args, num_processes)
    assert args.generation_batch_size == schedule.num_prompts * args.num_generations
    assert schedule.optimizer_steps % 1 == 0  # no optimizer step ends inside a generation
    assert schedule.max_steps % schedule.optimizer_steps == 0
    assert model.model_name_or_path
    assert args.output_dir != "trainer_output"
    assert len(describe(name)) > 20


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_recipes_hold_its_numbers(name):
    objective, _, model_key = name.partition("-") if not name.startswith("w-") else ("w-reinforce", "", name[12:])
    model_name, template, tokens, max_steps = MODELS[model_key]
    run, num_processes, script, args, model = preview(name)
    assert num_processes == 8
    schedule = make_schedule(args, num_processes, 7500)
    # 1,024 prompts x 8 = 8,192 rows, in 4 optimizer steps of 256 prompts x 8 = 2,048 rows
    assert (schedule.num_prompts, schedule.num_generations) == (1024, 8)
    assert (schedule.optimizer_steps, schedule.rows_per_optimizer_step) == (4, 2048)
    # TRL's own fields: rows of a process per micro-step x processes x micro-steps = 8,192
    assert args.per_device_train_batch_size * 8 * args.steps_per_generation == 8192
    assert args.steps_per_generation == 4 * args.gradient_accumulation_steps
    assert schedule.max_steps == max_steps
    assert schedule.num_epochs == max_steps / 4 / 7  # 7 generations of 1,024 fit 7,500 problems
    assert schedule.max_tokens_per_row == tokens
    assert (model.model_name_or_path, script.template) == (model_name, template)
    assert args.objective == objective.replace("-", "_")
    assert args.beta == (1e-3 if objective == "grpo" else 0)
    assert args.positive_weight == (0.1 if objective == "w-reinforce" else None)
    assert args.dropped_rows == ("objective" if objective == "grpo" else "reference")
    assert (args.learning_rate, args.weight_decay, args.max_grad_norm) == (1e-6, 0.01, 1.0)
    assert (args.adam_beta1, args.adam_beta2, args.lr_scheduler_type) == (0.9, 0.999, "constant")
    assert (args.epsilon, args.temperature, args.top_p, args.entropy_coef) == (0.2, 1.0, 1.0, 1e-4)
    assert args.use_vllm
    assert not args.vllm_importance_sampling_correction
    assert run.accelerate_path.name == "zero3.yaml"


@pytest.mark.parametrize("num_processes", [4, 16])
def test_a_recipe_means_the_same_on_another_number_of_gpus(num_processes):
    run = parse(["--config", "nsr-qwen2.5-math-7b"], "test")
    _, args, _ = run.preview(num_processes)
    schedule = make_schedule(args, num_processes)
    assert (schedule.num_prompts, schedule.optimizer_steps, schedule.rows_per_optimizer_step) == (1024, 4, 2048)
    assert args.gradient_accumulation_steps == 2048 // (8 * num_processes)


@pytest.mark.parametrize("name", recipe_names())
def test_the_flat_text_is_the_recipe_and_can_be_read_back(name, tmp_path):
    path = tmp_path / "own.yaml"
    text = read_recipe(name).flat_text()
    path.write_text(text)
    assert load_recipe(path) == load_recipe(name)
    assert "extends" not in load_recipe(path)
    assert read_recipe(path).flat_text() == text
    assert text.startswith("# ")  # joined from the lines as they were written, comments included


@pytest.mark.parametrize(
    ("parent", "child", "values"),
    [
        ("learning_rate: 1e-6\n", '"beta": 0.1\n', {"learning_rate": 1e-6, "beta": 0.1}),  # a quoted key, the last
        ("beta: 0.0\n", "'beta': 0.1\n", {"beta": 0.1}),
        ("a: 1\n", "init:\n  one: 1\n\n  two: 2\n", {"a": 1, "init": {"one": 1, "two": 2}}),  # a blank line inside
        ("a: 1\n", "modules:\n# why\n- q_proj\n", {"a": 1, "modules": ["q_proj"]}),  # a comment inside
        ("env:\n  A: 1\n\n  B: 2\nnext: 0\n", "next: 1\n", {"env": {"A": 1, "B": 2}, "next": 1}),
        ("a: 1\n", "{b: 2,\nc: 3}\n", {"a": 1, "b": 2, "c": 3}),  # a flow mapping that goes on at column 0
        ("a: 1\n", "b: {x: 1,\ny: 2}\n# last\n", {"a": 1, "b": {"x": 1, "y": 2}}),
        ("a: &x [1]\nb: *x\n", "a: 2\n", {"a": 2, "b": [1]}),  # an anchor whose line is overridden
        ("a: |\n  # text\n\n  more\n", "? b\n: 1\n", {"a": "# text\n\nmore\n", "b": 1}),
        ("---\na: 1\n...\n", "  b: 2\n", {"a": 1, "b": 2}),  # document marks; an indented mapping
    ],
)
def test_what_yaml_says_is_what_is_trained_and_what_is_shown(parent, child, values, tmp_path):
    (tmp_path / "parent.yaml").write_text(parent)
    indent = child[: len(child) - len(child.lstrip())]
    is_flow = child.startswith("{")
    extends = f"{indent}extends: parent.yaml"
    (tmp_path / "child.yaml").write_text(child.replace("{", f"{{{extends},") if is_flow else f"{extends}\n{child}")
    recipe = read_recipe(tmp_path / "child.yaml")
    assert recipe.values == values
    (tmp_path / "flat.yaml").write_text(recipe.flat_text())
    assert load_recipe(tmp_path / "flat.yaml") == values
    own = yaml.safe_load(child)
    assert recipe.sources == {key: str(tmp_path / "child.yaml") if key in own else "parent.yaml" for key in values}


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=12)
)
VALUES = st.recursive(
    SCALARS,
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text("abc: #", max_size=4), children, max_size=3)
    ),
    max_leaves=6,
)
GAPS = st.lists(st.sampled_from(["", "# a comment", "  # an indented one", "# --- a section ---"]), max_size=3)


@st.composite
def yaml_mappings(draw):
    """(Text, values) of a block mapping in any style, with comments and blank lines around and inside its values."""
    values = draw(st.dictionaries(st.sampled_from(["beta", "seed", "a b", "x-y", "on", "1"]), VALUES, min_size=1))
    text = ""
    for key, value in values.items():
        style = {"default_flow_style": draw(st.booleans()), "default_style": draw(st.sampled_from([None, "'", '"']))}
        block = yaml.safe_dump({key: value}, width=draw(st.sampled_from([20, 200])), **style)
        if block.startswith("{"):
            block = (
                block[1:].rstrip().removesuffix("}") + "\n"
                if "\n" not in block.rstrip()
                else yaml.safe_dump({key: value})
            )
        lines = block.rstrip("\n").split("\n")
        if len(lines) > 1 and yaml.safe_load("\n# c\n".join(lines)) == {key: value}:
            lines = "\n# c\n".join(lines).split("\n")
        text += "\n".join([*draw(GAPS), *lines]) + "\n"
    return text, values


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(yaml_mappings(), yaml_mappings())
def test_no_shape_of_yaml_loses_a_setting(tmp_path, parent, child):
    assert yaml.safe_load(parent[0]) == parent[1]  # the shapes are right
    (tmp_path / "parent.yaml").write_text(parent[0], encoding="utf-8")
    (tmp_path / "child.yaml").write_text("extends: parent.yaml\n" + child[0], encoding="utf-8")
    recipe = read_recipe(tmp_path / "child.yaml")
    assert recipe.values == parent[1] | child[1]
    (tmp_path / "flat.yaml").write_text(recipe.flat_text(), encoding="utf-8")
    assert load_recipe(tmp_path / "flat.yaml") == recipe.values


def test_comments_are_shown_beside_what_they_explain(tmp_path):
    (tmp_path / "parent.yaml").write_text("# --- loss ---\n# why beta\nbeta: 0\nseed: 1  # any\n")
    (tmp_path / "child.yaml").write_text("# Mine.\nextends: parent.yaml\n# mine\nbeta: 1\n")
    assert read_recipe(tmp_path / "child.yaml").flat_text() == (
        "# Mine.\n# --- loss ---\n# mine\nbeta: 1\nseed: 1  # any\n"
    )


def test_every_part_is_used_and_says_where_its_values_come_from():
    texts = [resource("recipes", f"{name}.yaml").read_text() for name in recipe_names()]
    used = {part for text in texts for part in (yaml.safe_load(text).get("extends") or [])}
    parts = {path.stem: path.read_text() for path in resource("recipes", "parts").glob("*.yaml")}
    assert used == set(parts)
    assert all("# ---" in text for text in parts.values())


def test_a_file_of_the_users_extends_a_recipe_and_overrides_it(tmp_path):
    (tmp_path / "mine.yaml").write_text("# Mine.\nextends: nsr-qwen3-4b\nlearning_rate: 2.0e-6\n")
    values = load_recipe(tmp_path / "mine.yaml")
    assert values == load_recipe("nsr-qwen3-4b") | {"learning_rate": 2e-6}
    assert describe(tmp_path / "mine.yaml") == "Mine."


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("extends: nsr-qwen4-4b\n", "Did you mean 'nsr-qwen3-4b'"),
        ("extends: other.yaml\n", "must not extend itself"),
        ("learning_rate: [1\n", "must be a YAML file"),
        ("beta: 0\nbeta: 1\n", "'beta' is set 2 times"),
        ("1: 2\n", "must be `field: value` lines"),
        ("", "must be `field: value` lines"),
        ("extends: {a: 1}\n", "must be a name or a list of names"),
        ("just text\n", "must be `field: value` lines"),
    ],
)
def test_a_recipe_that_cannot_be_read_is_an_error(text, sentence, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    (tmp_path / "other.yaml").write_text("extends: mine.yaml\n")
    with pytest.raises(ValueError, match=sentence):
        load_recipe(tmp_path / "mine.yaml")


def test_every_name_of_a_recipe_is_a_field_or_a_launcher_flag():
    fields = {name for cls in CLASSES for name in cls.__dataclass_fields__}
    for name in recipe_names():
        assert set(load_recipe(name)) - fields <= {"accelerate_config"}


def test_the_shipped_accelerate_configs_save_a_model():
    names = shipped_names("accelerate_configs")
    assert names == [
        "fsdp2",
        "multi_cpu",
        "multi_gpu",
        "single_gpu",
        "zero2",
        "zero3",
        "zero3_multinode",
        "zero3_offload",
    ]
    for name in names:
        config = yaml.safe_load(resource("accelerate_configs", f"{name}.yaml").read_text())
        deepspeed = config.get("deepspeed_config", {})
        assert deepspeed.get("zero_stage") != 3 or deepspeed["zero3_save_16bit_model"] is True
        assert config.get("fsdp_config", {}).get("fsdp_state_dict_type", "FULL_STATE_DICT") == "FULL_STATE_DICT"
