from collections import defaultdict

import pytest

from nsr_trl.rewards import UNDECIDED_METRICS, math_reward
from nsr_trl.verifier import Reason


def test_correct_is_one_incorrect_zero_and_undecided_none():
    completions = [r"\boxed{5}", r"\boxed{6}", r"\boxed{\sqrt{25}}", "no box"]
    assert math_reward(completions, answer=["5"] * 4) == [1.0, 0.0, None, 0.0]


def test_the_assistant_messages_of_a_conversation_are_read():
    conversation = [
        {"role": "assistant", "content": None},
        {"role": "tool", "content": r"\boxed{6}"},
        {"role": "assistant", "content": [{"type": "text", "text": r"So \boxed"}, {"type": "text", "text": "{5}"}]},
        {"role": "assistant", "content": "That is all."},
    ]
    assert math_reward([conversation], answer=["5"]) == [1.0]


def test_a_solution_column_serves_where_there_is_no_answer_column():
    assert math_reward([r"\boxed{5}"], solution=[r"It is $\boxed{5}$."]) == [1.0]
    assert math_reward([r"\boxed{5}"], solution=[r"It is $\boxed{6}$."], answer=["5"]) == [1.0]


def test_numbers_and_missing_values_in_the_column_are_read():
    assert math_reward([r"\boxed{5}"] * 3, answer=[5, 6, None]) == [1.0, 0.0, None]


def test_a_dataset_without_reference_is_refused_with_its_columns_named():
    with pytest.raises(ValueError, match=r"'answer' or 'solution'; .* \['level', 'target'\]\. Rename"):
        math_reward(["x"], prompts=["q"], completion_ids=[[1]], trainer_state=None, target=["5"], level=["1"])


def test_the_answer_and_the_reason_reach_the_completions_table():
    table = defaultdict(list)
    math_reward(
        [r"\boxed{5}", "none"],
        answer=["2+3 is 5.\n#### 5", "6"],
        log_extra=lambda column, values: table[column].extend(values),
    )
    assert table == {
        "verifier/answer": ["5", ""],
        "verifier/reference": ["5", "6"],
        "verifier/reason": ["string", "no answer"],
        "verifier/rule": ["text.same", "no_box"],
    }


def test_the_undecided_completions_are_counted_by_reason():
    logged = {}
    math_reward(
        [r"\boxed{5}", r"\boxed{0.333}", "none", r"\boxed{5}"],
        answer=["5", r"\frac13", "5", None],
        log_metric=logged.__setitem__,
    )
    assert logged == {
        **dict.fromkeys([*UNDECIDED_METRICS.values(), "verifier/answer_elsewhere"], 0.0),
        "verifier/no_answer": 1 / 4,
        "verifier/undecided/contested": 1 / 4,
        "verifier/undecided/gold_unparsable": 1 / 4,
    }


def test_a_reason_is_undecided_or_it_decides():
    deciding = {Reason.STRING, Reason.NUMBER, Reason.STRUCTURE, Reason.SYMBOLIC, Reason.NO_ANSWER}
    assert deciding | set(UNDECIDED_METRICS) == set(Reason)


def test_an_answer_in_another_format_is_counted_apart():
    logged = {}
    completions = [r"\boxed{5}", "#### 5", "The answer is 5.", "I give up."]
    math_reward(completions, answer=["5"] * 4, log_metric=logged.__setitem__)
    assert (logged["verifier/no_answer"], logged["verifier/answer_elsewhere"]) == (3 / 4, 2 / 4)
    math_reward(completions, answer=["5"] * 4, log_metric=logged.__setitem__, answer_format="gsm8k")
    assert (logged["verifier/no_answer"], logged["verifier/answer_elsewhere"]) == (3 / 4, 2 / 4)


@pytest.mark.parametrize("option", [{"answerformat": "xml"}, {"fallbacks": ["last number"]}, {"grade": 5}])
def test_an_option_that_there_is_not_is_refused(option):
    with pytest.raises(
        ValueError, match=f"must be 'grader', 'answer_format' or a column .* got {next(iter(option))}="
    ):
        math_reward([r"\boxed{5}"] * 3, answer=["5"] * 3, **option)


@pytest.mark.parametrize("option", ["grader", "answer_format"])
def test_a_column_of_an_options_name_is_not_the_option(option):
    with pytest.raises(
        ValueError, match=rf"`{option}` of math_reward must be one text .*; got \['x'\]\. If the dataset"
    ):
        math_reward([r"\boxed{2}"], answer=["2"], **{option: ["x"]})


@pytest.mark.parametrize(
    "completion",
    [
        *(None, 5, [], {}, b"5", [None], [[]], {"content": 3}),
        [{"role": "assistant"}],
        [{"role": "assistant", "content": None}],
        [{"role": "assistant", "content": [{"type": "image"}, {"type": "text", "text": None}, 5]}],
    ],
)
def test_no_completion_raises(completion):
    assert math_reward([completion], answer=["5"])[0] in (0.0, None)
