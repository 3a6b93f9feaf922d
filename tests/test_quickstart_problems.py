"""The quickstart world: its arithmetic is right, its splits never meet, its model is small and loads."""

import random
from itertools import islice

import pytest

from nsr_trl.quickstart.problems import (
    MAX_MAGNITUDE,
    MAX_PRETRAINING_STEPS,
    MAX_STEPS,
    NATURAL_SLIPS,
    NO_SLIPS,
    Problem,
    SlipRates,
    Term,
    generate_problems,
    is_held_out,
    sample_problems,
    worked_solution,
)


def evaluated(expression: str) -> int:
    """Value of an expression in + - * ( ), by splitting at its last outermost sum sign, else its last product sign."""
    for operators in ("+-", "*"):
        depth = 0
        for index in range(len(expression) - 1, 0, -1):
            character = expression[index]
            depth += {")": 1, "(": -1}.get(character, 0)
            if depth == 0 and character in operators:
                left, right = evaluated(expression[:index]), evaluated(expression[index + 1 :])
                return {"+": left + right, "-": left - right, "*": left * right}[character]
    if expression.startswith("("):
        return evaluated(expression[1:-1])
    return int(expression)


def some_problems(split: str = "train", num_problems: int = 2000) -> list[Problem]:
    return list(islice(sample_problems(3, split), num_problems))


def test_the_independent_evaluator_knows_precedence():
    assert evaluated("12+7*3-(8-5)") == 30  # 12 + 21 - 3
    assert evaluated("20-5-3") == 12  # from the left
    assert evaluated("-4+9") == 5


def test_answers_are_the_values_of_the_expressions():
    for row in generate_problems(2000, seed=1):
        expression = row["question"].removeprefix("What is ").removesuffix("?")
        assert int(row["answer"]) == evaluated(expression)


def test_a_solution_without_slips_is_right_line_by_line():
    for problem in some_problems():
        *steps, box = worked_solution(problem, random.Random(0), NO_SLIPS).split("\n")
        assert len(steps) == problem.num_steps <= MAX_STEPS
        for step in steps:
            left, right = step.split("=")
            assert evaluated(left) == int(right)
            assert abs(int(right)) <= MAX_MAGNITUDE
        assert box == f"\\boxed{{{problem.answer}}}"


@pytest.mark.parametrize(
    ("slips", "solution"),
    [
        (SlipRates(), "27+15=42\n42-60=-18\n\\boxed{-18}"),
        (SlipRates(carry=1), "27+15=32\n32-60=-38\n\\boxed{-38}"),  # 7+5 carries, and 60-32 borrows
        (SlipRates(sign=1), "27+15=42\n42-60=18\n\\boxed{18}"),
        (SlipRates(drop=1), "27+15=42\n\\boxed{42}"),
        (SlipRates(no_working=1), "\\boxed{-18}"),
    ],
)
def test_each_slip_does_what_its_name_says(slips, solution):
    problem = Problem((Term(1, 27), Term(1, 15), Term(-1, 60)))
    assert problem.question == "What is 27+15-60?"
    assert worked_solution(problem, random.Random(0), slips) == solution


def test_a_table_slip_is_one_row_off():
    problem = Problem((Term(1, 7, "*", 8), Term(1, 1)))
    answers = {worked_solution(problem, random.Random(seed), SlipRates(table=1)) for seed in range(20)}
    assert answers == {"7*8=49\n49+1=50\n\\boxed{50}", "7*8=63\n63+1=64\n\\boxed{64}"}


def test_subtracting_a_negative_number_adds():
    problem = Problem((Term(1, 9), Term(-1, 3, "-", 5)))
    assert worked_solution(problem, random.Random(0)) == "3-5=-2\n9+2=11\n\\boxed{11}"


def test_pretraining_stops_one_step_short_of_the_longest_problems():
    assert max(problem.num_steps for problem in some_problems()) == MAX_STEPS == 5
    assert max(p.num_steps for p in islice(sample_problems(3, "train", MAX_PRETRAINING_STEPS), 2000)) == 4


def test_natural_slips_leave_both_right_and_wrong_answers():
    rng = random.Random(0)
    right = [
        worked_solution(problem, rng, NATURAL_SLIPS).endswith(f"\\boxed{{{problem.answer}}}")
        for problem in some_problems()
    ]
    assert 0.4 < sum(right) / len(right) < 0.8


def test_no_question_is_in_both_splits():
    train = {row["question"] for row in generate_problems(5000, seed=0, split="train")}
    test = {row["question"] for row in generate_problems(1000, seed=0, split="test")}
    assert len(train) == 5000
    assert len(test) == 1000
    assert not train & test
    assert not any(map(is_held_out, train))
    assert all(map(is_held_out, test))


def test_the_same_seed_gives_the_same_problems():
    assert generate_problems(50, seed=4) == generate_problems(50, seed=4)
    assert generate_problems(50, seed=4) != generate_problems(50, seed=5)
    assert generate_problems(20, seed=4) == generate_problems(50, seed=4)[:20]


def test_an_unknown_split_is_an_error():
    with pytest.raises(ValueError, match=r"must be 'train' or 'test'; got 'dev'"):
        generate_problems(1, seed=0, split="dev")


def test_the_model_folder_is_at_most_five_megabytes():
    from nsr_trl.quickstart.model import model_path

    assert 0 < sum(file.stat().st_size for file in model_path().iterdir()) <= 5_000_000


def test_the_shipped_model_loads_and_is_the_one_the_code_builds():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from nsr_trl.quickstart.model import build_model, build_tokenizer, model_path

    model = AutoModelForCausalLM.from_pretrained(model_path())
    built = build_model(seed=0)
    assert {name: p.shape for name, p in model.named_parameters()} == {
        name: p.shape for name, p in built.named_parameters()
    }
    assert model.config.head_dim == 32
    assert AutoTokenizer.from_pretrained(model_path()).get_vocab() == build_tokenizer().get_vocab()


@pytest.mark.parametrize("name", ["built", "shipped"])
def test_tokens_decode_to_the_text_they_came_from(name):
    from transformers import AutoTokenizer

    from nsr_trl.quickstart.model import build_tokenizer, model_path

    tokenizer = build_tokenizer() if name == "built" else AutoTokenizer.from_pretrained(model_path())
    texts = [f"{p.question}{worked_solution(p, random.Random(0))}" for p in some_problems(num_problems=50)]
    for text in [*texts, "Solve x^2 = 4 ,  then \\frac{1}{2} !\n\nboxed{ \\boxed{-3}"]:
        ids = tokenizer.encode(text)
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == text
    assert len(tokenizer.encode("What is 1+2?\\boxed{3}")) == 8  # "What is ", 1, +, 2, ?, "\boxed{", 3, }


def test_a_conversation_of_one_message_is_the_plain_prompt():
    from nsr_trl.quickstart.model import build_tokenizer

    question = "What is 1+2*3?"
    messages = [{"role": "user", "content": question}]
    rendered = build_tokenizer().apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert rendered == question
