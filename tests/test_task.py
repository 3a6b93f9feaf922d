"""Tasks: the same problems, asked and scored alike, whatever layout a dataset has."""

import json
from functools import partial

import pytest
from datasets import Dataset, IterableDataset
from trl.trainer.utils import get_callable_name

from nsr_trl.problem import INSTRUCTION, INSTRUCTIONS, Problem, Prompting, asked_formats
from nsr_trl.reward_functions import TRL_REWARDS, find_reward, name_of
from nsr_trl.task import Task, find_task, load_problems, task_names


def user(text):
    return [{"role": "user", "content": text}]


VERL = {"data_source": "openai/gsm8k", "ability": "math", "extra_info": {"index": 0, "split": "train"}}
LAYOUTS = {
    # name: (a row as the dataset has it, question, reference, prompt)
    "plain": ({"problem": "2+3?", "answer": "5"}, "2+3?", "5", user(f"2+3?\n{INSTRUCTION}")),
    "gsm8k": (
        {"question": "2+3?", "answer": "Two and three are <<2+3=5>>5.\n#### 5"},
        "2+3?",
        "5",
        user(f"2+3?\n{INSTRUCTION}"),
    ),
    "conversational": (  # trl-lib/DeepMath-103K
        {"prompt": user("2+3?"), "solution": "$5$"},
        "2+3?",
        "$5$",
        user(f"2+3?\n{INSTRUCTION}"),
    ),
    "conversational with a system message": (
        {"prompt": [{"role": "system", "content": "Answer in \\boxed{}."}, *user("2+3?")], "answer": "5"},
        "2+3?",
        "5",
        [{"role": "system", "content": "Answer in \\boxed{}."}, *user("2+3?")],  # it asks itself
    ),
    "verl": (
        {**VERL, "prompt": user("2+3? Put it after ####."), "reward_model": {"style": "rule", "ground_truth": "5"}},
        "2+3? Put it after ####.",
        "5",
        user("2+3? Put it after ####."),
    ),
    "verl of the paper": (
        {
            **VERL,
            "prompt": user("2+3?"),
            "reward_model": {"ground_truth": {"question": "2+3?", "target": "5"}, "style": "rule"},
        },
        "2+3?",
        "5",
        user(f"2+3?\n{INSTRUCTION}"),
    ),
    "verl with a target alone": (
        {**VERL, "prompt": user("2+3?"), "reward_model": {"ground_truth": {"target": "5"}, "style": "rule"}},
        "2+3?",
        "5",
        user(f"2+3?\n{INSTRUCTION}"),
    ),
    "dapo, processed": (
        {"prompt": "2+3?", "solution": "5", "source_prompt": user("Solve: 2+3?"), **VERL}
        | {"reward_model": {"style": "rule-lighteval/MATH_v2", "ground_truth": "5"}},
        "2+3?",
        "5",
        user(f"2+3?\n{INSTRUCTION}"),
    ),
    "openr1": (
        {"problem": "2+3?", "solution": "It is $\\boxed{5}$.", "answer": "5", "generations": ["<think>"]},
        "2+3?",
        "5",
        user(f"2+3?\n{INSTRUCTION}"),
    ),
    "numina": (
        {"problem": "2+3?", "solution": "So $\\boxed{5}$.", "messages": [*user("2+3?"), *user("5")]},
        "2+3?",
        "5",
        user(f"2+3?\n{INSTRUCTION}"),
    ),
    "olympiadbench": ({"question": "2+3?", "solution": ["So 5."], "final_answer": ["$5$"]}, "2+3?", "$5$", None),
}


@pytest.fixture(params=LAYOUTS, ids=lambda name: name.replace(" ", "-"))
def layout(request, tmp_path):
    row, *expected = LAYOUTS[request.param]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n")
    return path, row, expected


def test_a_row_of_every_layout_is_read(layout):
    path, row, (question, answer, prompt) = layout
    task = find_task(path)
    assert [(p.question, p.answer) for p in task.problems("test")] == [(question, answer)] * 2
    dataset = task.dataset("train")
    if prompt is not None:
        assert dataset[0]["prompt"] == prompt
    assert dataset[0]["answer"] == answer
    assert set(row) <= set(dataset.column_names)  # what a reward function may want to read


def test_a_parquet_file_reads_as_the_lines_it_was_made_of(layout, tmp_path):
    _, row, (question, answer, _) = layout
    Dataset.from_list([row, row]).to_parquet(tmp_path / "rows.parquet")
    assert load_problems(tmp_path / "rows.parquet") == [Problem(question, answer)] * 2


def write_task(tmp_path, text, rows=()):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mine.yaml").write_text(text.replace("ROWS", str(tmp_path / "rows.jsonl")))
    return tmp_path / "mine.yaml"


ROWS = [{"q": f"{n}+{n}?", "a": str(2 * n), "topic": "sums"} for n in range(6)]


def test_a_task_of_ones_own_says_all_of_it_and_flags_override(tmp_path):
    path = write_task(
        tmp_path,
        "# Doubles.\ntrain: {dataset: ROWS, question_column: q}\nquestion_column: x\nanswer_column: a\n"
        "system_prompt: Be brief.\ninstruction: In tags.\nanswer_format: xml\ngrader: paper\n",
        ROWS,
    )
    task = find_task(path)
    assert (task.name, task.about, task.answer_format, task.grader) == ("mine", "Doubles.", "xml", "paper")
    assert task.dataset("train")[1]["prompt"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1+1?\nIn tags."},
    ]
    changed = task.override(system_prompt="", instruction="", answer_format="gsm8k", split="train[:2]")
    assert changed.dataset("train")["prompt"][:] == [user("0+0?"), user("1+1?")]
    assert changed.answer_format == "gsm8k"
    with pytest.raises(ValueError, match=r"problems to test on; 'mine' has only some to train on\. .*rows.jsonl"):
        task.problems("test")


def test_a_file_takes_the_place_of_a_tasks_dataset_without_its_config_and_split(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "How many?", "answer": "2 pairs are <<2*2=4>>4.\\n#### 4"}\n')
    task = find_task("gsm8k").override(dataset=str(path))
    assert [problem.question for part in ("train", "test") for problem in task.problems(part)] == ["How many?"] * 2
    elsewhere = find_task("gsm8k").override(dataset="org/more", revision="v2")
    assert [(s.config, s.split, s.revision) for s in elsewhere.test] == [(None, "test", "v2")]
    assert find_task("gsm8k").override(dataset="openai/gsm8k").test[0].config == "main"


def test_one_dataset_takes_the_place_of_a_mixture(tmp_path):
    mixture = write_task(
        tmp_path, "train: [{dataset: ROWS, weight: 1}, {dataset: org/other, weight: 3}]\nanswer_column: a\n", ROWS
    )
    assert [(s.dataset, s.weight) for s in find_task(mixture).override(dataset="x/y").train] == [("x/y", None)]


def test_an_own_template_is_a_text_with_input(tmp_path):
    assert Prompting(template="Q: {input} A:").prompt(Problem("2+3?", "5")) == "Q: 2+3? A:"
    with pytest.raises(ValueError, match=r"a conversation; got system_prompt=.Be brief\.. and template='plain'"):
        Prompting(template="plain", system_prompt="Be brief.")


@pytest.mark.parametrize(
    ("text", "formats"),
    [
        (INSTRUCTION, ["boxed"]),
        (INSTRUCTIONS["gsm8k"], ["gsm8k"]),
        (INSTRUCTIONS["xml"], ["xml"]),
        ("The last line should be of the form Answer: $Answer", ["answer:"]),
        ("What is the answer to 2+3?", []),
    ],
)
def test_what_a_prompt_asks_for_is_told(text, formats):
    assert asked_formats(text) == formats


def test_a_system_prompt_takes_the_place_of_the_instruction():
    prompt = Prompting(system_prompt="Respond in <answer> tags.", answer_format="xml").prompt(Problem("2+3?", "5"))
    assert prompt == [{"role": "system", "content": "Respond in <answer> tags."}, *user("2+3?")]


def test_a_mixture_is_drawn_by_weight_and_has_every_problem(tmp_path):
    (tmp_path / "many.jsonl").write_text(
        "".join(json.dumps({"problem": f"m{n}", "answer": "1"}) + "\n" for n in range(90))
    )
    path = write_task(
        tmp_path,
        f"train:\n- {{dataset: ROWS, question_column: q, answer_column: a, weight: 1}}\n"
        f"- {{dataset: {tmp_path / 'many.jsonl'}, weight: 3}}\n",
        ROWS,
    )
    dataset = find_task(path).dataset("train", seed=0)
    questions = [row["prompt"][0]["content"] for row in dataset]
    share = sum(question.startswith("m") for question in questions) / len(questions)
    assert set(dataset.column_names) == {"prompt", "answer", "problem_id"}  # those that both have
    assert len(set(questions)) == 96
    assert 0.65 < share < 0.85  # 3 / (1 + 3)
    assert len(find_task(path).problems("train")) == 96
    unweighted = path.read_text().replace(", weight: 1", "").replace(", weight: 3", "")
    path.write_text(unweighted)
    assert len(find_task(path).dataset("train")) == 96
    path.write_text(unweighted.replace("many.jsonl}", "many.jsonl, weight: 2}"))
    with pytest.raises(ValueError, match=r"a weight above 0 for each source, or none; got \[None, 2\]"):
        find_task(path).dataset("train")


def test_a_stream_is_read_as_it_is_needed(tmp_path):
    path = write_task(
        tmp_path, "train: {dataset: ROWS, streaming: true}\nquestion_column: q\nanswer_column: a\n", ROWS
    )
    dataset = find_task(path).dataset("train", limit=3)
    assert isinstance(dataset, IterableDataset)
    rows = list(dataset)
    assert [row["answer"] for row in rows] == ["0", "2", "4"]
    assert rows[1]["prompt"] == user(f"1+1?\n{INSTRUCTION}")
    assert rows[1]["topic"] == "sums"


def test_a_task_of_reasoning_gym_is_scored_by_its_own_scorer(tmp_path):
    pytest.importorskip("reasoning_gym")
    path = write_task(tmp_path, "train: {dataset: reasoning_gym/chain_sum, size: 3, options: {max_terms: 2}}\n")
    task = find_task(path)
    dataset = task.dataset("train", seed=5)
    assert "<answer>" in dataset[0]["prompt"][0]["content"]
    answers = [f"<answer>{answer}</answer>" for answer in dataset["answer"]]
    columns = {name: dataset[name] for name in dataset.column_names}
    assert not task.is_verified
    assert task.outcome_reward(completions=answers, **columns) == [1.0, 1.0, 1.0]
    assert task.outcome_reward(completions=["<answer>x</answer>", "1", ""], **columns) == [0.0, 0.0, 0.0]


def test_the_shipped_tasks_say_what_they_are_and_where_they_come_from():
    assert {"gsm8k", "math", "math500", "aime2024", "aime2025", "amc23", "deepmath", "dapo17k"} < set(task_names())
    for name in task_names():
        task = find_task(name)
        assert len(task.about) > 20
        assert ("https://huggingface.co/datasets/" in task.about) == (name != "arithmetic")
        for source in (*task.train, *task.test):
            assert source.dataset in task.about or name == "arithmetic"
            assert source.split
    assert find_task("arithmetic").problems("test", 3) == load_problems("arithmetic", limit=3)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train: x\ngradr: paper\n", "has gradr. Did you mean 'grader'"),
        ("grader: paper\n", "neither `train` nor `test`"),
        ("train: {config: main}\n", "must be a dataset, or a mapping"),
        ("train: {dataset: x, splits: main}\n", "must be a dataset, or a mapping"),
        ("train: x\ntemplate: gemma\n", "or a text with {input}; got 'gemma'"),
        ("- train\n", "A task must be `field: value` lines"),
    ],
)
def test_a_file_that_is_no_task_is_an_error(text, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        find_task(write_task(tmp_path, text))


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"prompt": user("2+3?"), "reward_model": "rule"}, "must hold a `ground_truth`; got 'rule'"),
        ({"prompt": [{"role": "system", "content": "x"}], "answer": "5"}, "of which one is the user's"),
        ({"problem": 7, "answer": "5"}, "A question must be text"),
        ({"text": "2+3?", "answer": "5"}, "The question must be in a column named one of problem"),
    ],
)
def test_a_row_that_cannot_be_read_is_an_error(row, sentence, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=sentence):
        find_task(path).problems("train")


def test_a_reward_is_named_by_module_path_or_file(tmp_path, monkeypatch):
    (tmp_path / "my_rewards.py").write_text("def score(completions, **kwargs):\n    return [1.0] * len(completions)\n")
    monkeypatch.chdir(tmp_path)
    for name in ("my_rewards:score", "my_rewards.score", "my_rewards.py:score", str(tmp_path / "my_rewards.py:score")):
        assert find_reward(name)(["a", "b"]) == [1.0, 1.0]
    for name in TRL_REWARDS:
        assert callable(find_reward(name))
    assert find_reward("math_reward", grader="paper").__name__ == "math_reward"


def test_a_reward_that_is_an_object_judges_and_has_its_class_as_name(tmp_path, monkeypatch):
    (tmp_path / "graders.py").write_text(
        "class Ends:\n    def __call__(self, completions, answer, **kwargs):\n"
        "        return [float(c.endswith(a)) for c, a in zip(completions, answer)]\n"
        "ends = Ends()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    task = find_task("arithmetic").override(reward="graders:ends")
    assert task.judge.settings["reward"] == "Ends"
    problems = task.problems("test", 1)
    assert [j.outcome for j in task.judge.judge([problems[0].answer], problems)] == ["correct"]


def test_a_reward_that_takes_no_keywords_is_refused_before_anything_is_sampled(tmp_path, monkeypatch):
    (tmp_path / "narrow.py").write_text(
        "def score(completions):\n    return [1.0] * len(completions)\n"
        "def exact(prompts, completions, answer, problem_id):\n    return [1.0] * len(completions)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ValueError, match=r"score must take \*\*kwargs.*unexpected keyword argument 'prompts'. Add it."
    ):
        _ = find_task("arithmetic").override(reward="narrow:score").judge
    assert find_task("arithmetic").override(reward="narrow:exact").judge.settings["reward"] == "exact"


def test_a_reward_has_the_name_by_which_trl_logs_it():
    for reward in (partial(find_reward), partial(partial(find_reward), grader="paper")):
        assert name_of(reward) == get_callable_name(reward) == "find_reward"
    assert name_of(find_reward("math_reward", grader="paper")) == "math_reward"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("my_rewards:scores", "has no attribute 'scores'"),
        ("none_such:score", "No module named 'none_such'"),
        ("accuracy_rewards", "Did you mean 'accuracy_reward'"),
        ("os:sep", "a function; 'os:sep' is of type str"),
        ("broken:score", "ZeroDivisionError"),
    ],
)
def test_a_reward_that_cannot_be_had_is_an_error(name, sentence, tmp_path, monkeypatch):
    (tmp_path / "my_rewards.py").write_text("")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        find_reward(name)


def test_the_fields_of_a_task_are_all_written_down():
    assert set(Task.__dataclass_fields__) - {"name", "about", "prompting"} == {
        "train",
        "test",
        "grader",
        "reward",
        "correct_threshold",
    }
