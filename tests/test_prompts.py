"""What a dataset of prompts must be for a run."""

import pytest
from datasets import Dataset, IterableDataset

from nsr_trl.prompts import describe_dataset, leave_out_overlong, overlong_prompts
from nsr_trl.quickstart.model import build_tokenizer


def test_fewer_prompts_than_a_generation_takes_are_refused_with_both_numbers(make_trainer):
    for size in (0, 1):
        dataset = Dataset.from_dict({"prompt": ["1+1="] * size})
        with pytest.raises(ValueError, match=f"One generation takes 2 prompts .*; the dataset has {size}"):
            make_trainer(train_dataset=dataset)


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_dataset_without_prompts_is_refused_before_it_trains(make_trainer, is_stream):
    dataset = Dataset.from_dict({"question": ["1+1="] * 8, "answer": ["#### 2"] * 8})
    dataset = dataset.to_iterable_dataset() if is_stream else dataset
    with pytest.raises(ValueError, match=r"in a column named 'prompt'; the columns are question, answer\. Rename"):
        make_trainer(train_dataset=dataset)


def test_prompts_beyond_the_context_are_refused_with_their_number(make_trainer, tiny_model):
    context = 2048  # the default of the tiny model's family
    dataset = Dataset.from_dict({"prompt": ["1+1=", "1" * context, "1" * 3000, "1" * (context - 1)]})
    with pytest.raises(ValueError, match=rf"context of {context} tokens; 2 of 4 are not, row 2 with 3000 tokens"):
        make_trainer(train_dataset=dataset)
    make_trainer(train_dataset=dataset.select([0, 3]))
    with pytest.raises(ValueError, match="2 of 4 are not"):
        make_trainer(eval_dataset=dataset)
    with pytest.raises(ValueError, match="2 of 4 are not"):
        make_trainer(eval_dataset={"hard": dataset})


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        (None, "None"),
        ("", "''"),
        ([], r"\[\]"),
        ([{"content": "1+1="}], r"\[\{'content'"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_row(make_trainer, prompt, named):
    good = [{"role": "user", "content": "1+1="}] if isinstance(prompt, list) else "1+1="
    dataset = Dataset.from_list([{"prompt": row} for row in (prompt, prompt, good, good)]).select([2, 0, 3, 1])
    with pytest.raises(
        ValueError, match=rf"A prompt must be a text, or messages .*; that of row 1 is {named}.*Correct"
    ):
        make_trainer(train_dataset=dataset)


def test_messages_are_counted_with_their_template():
    tokenizer = build_tokenizer()
    chat = [{"role": "user", "content": "1" * 20}]
    dataset = Dataset.from_list([{"prompt": chat}, {"prompt": [{"role": "user", "content": "1"}]}])
    length = len(tokenizer(text=tokenizer.apply_chat_template(chat, tokenize=False))["input_ids"])
    assert overlong_prompts(dataset, tokenizer, length) == {0: length}
    assert overlong_prompts(dataset, tokenizer, length + 1) == {}


def test_the_command_leaves_them_out_and_says_how_many():
    dataset = Dataset.from_dict({"prompt": ["1" * 5, "1" * 50, "1" * 9]})
    said = []
    kept = leave_out_overlong(dataset, build_tokenizer(), 20, said.append)
    assert kept["prompt"] == ["1" * 5, "1" * 9]
    assert said == ["Left out 1 of 3 problems, whose prompts fill the context of 20 tokens."]
    assert leave_out_overlong(dataset, None, None, said.append) is dataset
    assert len(said) == 1


def test_a_stream_is_left_unread_and_its_overlong_prompts_are_left_out_as_they_come():
    read = []

    def rows():
        for length in (5, 50, 9):
            read.append(length)
            yield {"prompt": "1" * length}

    kept = leave_out_overlong(IterableDataset.from_generator(rows), build_tokenizer(), 20, print)
    assert read == []
    assert [row["prompt"] for row in kept] == ["1" * 5, "1" * 9]


def test_short_prompts_are_not_tokenized():
    class Refusing:
        def __call__(self, text):
            raise AssertionError("counted")

    assert overlong_prompts(Dataset.from_dict({"prompt": ["short"] * 5}), Refusing(), 1000) == {}


def test_images_and_streams_are_left_to_the_processor():
    with_image = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "1" * 99}]}]
    assert overlong_prompts([{"prompt": with_image}], None, 10) == {}


def test_a_dataset_is_known_by_its_prompts():
    rows = [{"prompt": f"{n}+1=", "answer": str(n)} for n in range(100)]
    known = describe_dataset(Dataset.from_list(rows))
    assert known == describe_dataset(Dataset.from_list(rows))
    assert known.startswith("of 100 rows (")
    assert known != describe_dataset(Dataset.from_list(rows[:99]))
    assert known != describe_dataset(Dataset.from_list([row | {"prompt": "x" + row["prompt"]} for row in rows]))
    assert describe_dataset(Dataset.from_list(rows).to_iterable_dataset()) is None
