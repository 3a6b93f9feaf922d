"""Tasks of reasoning_gym: their answers become right or wrong, and none is run as code."""

import json

import pytest
import reasoning_gym

from nsr_trl.reasoning_gym import _code_runner, load_reasoning_gym


def test_a_score_of_one_is_correct_and_any_lower_one_is_not():
    dataset, reward = load_reasoning_gym("chain_sum", size=2, seed=0)
    first, second = dataset["answer"]
    texts = [
        f"<answer>{first}</answer>",
        f"Let me see. <answer>0</answer> No: <answer>\n{second}\n</answer>",  # the last one counts
        f"<answer>It is {first}</answer>",  # reasoning_gym gives this a part of the score
        first,  # no tags
    ]
    conversations = [[{"role": "assistant", "content": text}] for text in texts]
    for completions in (texts, conversations):
        assert reward(completions, index=[0, 1, 0, 0]) == [1.0, 1.0, 0.0, 0.0]


def test_a_task_without_a_reference_is_scored_all_the_same():
    dataset, reward = load_reasoning_gym("graph_color", size=1, seed=0)
    assert dataset["answer"][0] is None
    coloring = reasoning_gym.create_dataset("graph_color", size=1, seed=0)[0]["metadata"]["possible_answer"]
    one_color = dict.fromkeys(coloring, 1)
    texts = [f"<answer>{json.dumps(answer)}</answer>" for answer in (coloring, one_color)]
    assert reward(texts, index=[0, 0]) == [1.0, 0.0]


def test_a_scorer_that_fails_leaves_its_completion_undecided(monkeypatch):
    _, reward = load_reasoning_gym("chain_sum", size=1)
    monkeypatch.setattr(
        reasoning_gym.arithmetic.ChainSumDataset, "score_answer", lambda self, answer, entry: {}["missing"]
    )
    assert reward(["<answer>1</answer>", "no answer"], index=[0, 0]) == [None, 0.0]


def test_the_same_seed_gives_the_same_problems_and_the_fields_of_the_task_apply():
    problems = [load_reasoning_gym("chain_sum", size=3, seed=seed, max_terms=2)[0]["prompt"] for seed in (1, 1, 2)]
    assert problems[0] == problems[1] != problems[2]
    assert all(prompt[0]["content"].count(" + ") + prompt[0]["content"].count(" - ") == 1 for prompt in problems[0])


@pytest.mark.parametrize("name", ["spiral_matrix", "n_queens", "countdown", "puzzle24", "polynomial_multiplication"])
def test_a_task_whose_scorer_runs_the_answer_as_code_is_refused(name):
    with pytest.raises(ValueError, match="must not run what a model writes as code"):
        load_reasoning_gym(name, size=1)


def test_the_refused_tasks_are_exactly_these():
    tasks = reasoning_gym.factory.DATASETS
    assert {name for name, (task, _) in tasks.items() if _code_runner(task)} == {
        "binary_matrix",
        "bitwise_arithmetic",
        "countdown",
        "intermediate_integration",
        "n_queens",
        "number_sorting",
        "polynomial_multiplication",
        "puzzle24",
        "simple_integration",
        "spiral_matrix",
        "string_insertion",
    }


@pytest.mark.parametrize(("name", "config"), [("chain_sums", {}), ("chain_sum", {"terms": 2})])
def test_a_task_or_field_that_does_not_exist_is_named(name, config):
    with pytest.raises(ValueError, match=f"must be one that reasoning_gym has, .* got '{name}'"):
        load_reasoning_gym(name, size=1, **config)


def test_a_task_trains(make_trainer):
    dataset, reward = load_reasoning_gym("chain_sum", size=8, max_terms=2)
    trainer = make_trainer(reward_funcs=reward, train_dataset=dataset, objective="nsr")
    trainer.train()
    logged = [entry["signed/incorrect_ratio"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged == [1.0, 1.0]  # an untrained model writes no tags
    assert "rewards/reasoning_gym_reward/mean" in trainer.state.log_history[0]
