import json
from pathlib import Path

import pytest
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from nsr_trl.data import to_dataset
from nsr_trl.problem import INSTRUCTION, PROMPT_TEMPLATES, Problem, format_prompt
from nsr_trl.task import load_problems


PAPER_DATA = Path(__file__).parents[2] / "shared" / "data"
ROWS = [{"question": "What is 2+3?", "answer": "5"}, {"question": "What is 1/2+1?", "answer": r"\frac{3}{2}"}]
PROBLEMS = [Problem("What is 2+3?", "5"), Problem("What is 1/2+1?", r"\frac{3}{2}")]


def write_json(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
def test_problems_come_from_files_of_every_kind(tmp_path, suffix):
    path = tmp_path / f"problems.{suffix}"
    if suffix in ("json", "jsonl"):
        write_json(path, ROWS)
    else:
        getattr(Dataset.from_list(ROWS), f"to_{suffix}")(path)
    assert load_problems(path) == load_problems(str(path)) == PROBLEMS
    assert load_problems(path, limit=1) == load_problems(path, split="train[:1]") == PROBLEMS[:1]
    assert load_problems(path, limit=9) == PROBLEMS


@pytest.mark.parametrize("name", ["n[1]*.jsonl", "a b/rows?.jsonl", "d[0-9]/x.jsonl"])
def test_a_path_is_no_pattern(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    write_json(path, ROWS)
    write_json(path.parent / "rows1.jsonl", ROWS * 2)  # which the pattern would find
    assert load_problems(path) == PROBLEMS


def test_rows_of_the_paper_are_recognised(tmp_path):
    truth = {"question": "Which day?", "solution": r"It is \boxed{\mbox{Saturday}}.", "target": ""}
    row = {"prompt": [{"role": "user", "content": "x"}], "reward_model": {"ground_truth": truth}, "level": "Level 5"}
    path = write_json(tmp_path / "verl.jsonl", [{**row, "type": "Number Theory"}])
    assert load_problems(path) == [Problem("Which day?", r"\mbox{Saturday}", "Level 5", "Number Theory")]


def test_a_solution_is_reduced_to_its_box_and_a_number_to_its_text(tmp_path):
    rows = [{"problem": "a", "solution": r"so $\boxed{7}$"}, {"problem": "b", "solution": r"so $\boxed{}$"}]
    assert load_problems(write_json(tmp_path / "a.jsonl", rows)) == [Problem("a", "7"), Problem("b", "")]
    assert load_problems(write_json(tmp_path / "b.jsonl", [{"problem": "a", "answer": 7}])) == [Problem("a", "7")]


def test_columns_can_be_named(tmp_path):
    path = write_json(tmp_path / "a.jsonl", [{"problem": "a", "answer": "1", "text": "b", "gold": "2"}])
    assert load_problems(path, question_column="text", answer_column="gold") == [Problem("b", "2")]


def test_a_missing_file_and_missing_columns_are_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"existing file; there is none at '.*gone\.jsonl'\. Correct the path"):
        load_problems(tmp_path / "gone.jsonl")
    path = write_json(tmp_path / "a.jsonl", [{"text": "a", "answer": "1"}])
    with pytest.raises(ValueError, match=r"problem, question, prompt, messages; the columns are text, answer\. Name"):
        load_problems(path)
    with pytest.raises(ValueError, match=r"answer must be in a column named 'gold'; the columns are text, answer"):
        load_problems(path, question_column="text", answer_column="gold")


def test_ids_depend_on_content_alone():
    # printf 'What is 2+3?\0005' | sha256sum
    assert PROBLEMS[0].id == Problem("What is 2+3?", "5", level="1").id == "9d7458448f198870"
    assert PROBLEMS[0].id != Problem("What is 2+3?", "6").id


def test_the_default_prompt_is_a_conversation():
    assert format_prompt("What is 2+3?") == [{"role": "user", "content": f"What is 2+3?\n{INSTRUCTION}"}]


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("plain", "a{b}"),
        ("simple", "Question:\na{b}\nAnswer:\nLet's think step by step.\n"),
        (
            "qwen3_no_thinking",
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\na{b}\nPlease reason step "
            "by step, and put your final answer within \\boxed{}.<|im_end|>\n<|im_start|>assistant\n"
            "<think>\n\n</think>\n",
        ),
        (
            "llama",
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are a helpful assistant.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\na{b}\nPlease reason step by step, and put your final answer "
            "within \\boxed{}.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
    ],
)
def test_templates_are_those_of_the_paper(template, prompt):
    assert format_prompt("a{b}", template) == prompt
    assert PROMPT_TEMPLATES["qwen3_no_thinking"] == PROMPT_TEMPLATES["qwen"] + "<think>\n\n</think>\n"


def test_an_unknown_template_is_refused_with_the_known_ones_named():
    with pytest.raises(
        ValueError, match=r"one of qwen, .*, plain, or a text with {input}; got 'gemma'\. Leave it out"
    ):
        format_prompt("a", "gemma")


def build_tokenizer(adds_bos):
    bos = "<|begin_of_text|>"
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, bos: 1}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, unk_token="<unk>")


@pytest.mark.parametrize("adds_bos", [True, False])
def test_a_prompt_begins_with_one_bos_token(adds_bos):
    tokenizer = build_tokenizer(adds_bos)
    ids = tokenizer(format_prompt("a", "llama", tokenizer)).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1


def test_the_dataset_has_what_trainer_and_reward_read():
    dataset = to_dataset(PROBLEMS, template="plain")
    assert dataset[0] == {"prompt": "What is 2+3?", "answer": "5", "problem_id": PROBLEMS[0].id}
    assert to_dataset(PROBLEMS)[1]["prompt"][0]["content"] == f"What is 1/2+1?\n{INSTRUCTION}"


@pytest.mark.skipif(not PAPER_DATA.is_dir(), reason=f"the paper's data is not at {PAPER_DATA}")
@pytest.mark.parametrize(
    ("name", "num_problems", "num_without_answer"),
    [("math/train", 7_500, 2), ("math/test", 5_000, 0), ("aime2025/test", 30, 0), ("amc23/test", 40, 0)],
)
def test_the_data_of_the_paper_is_read_in_full(name, num_problems, num_without_answer):
    problems = load_problems(PAPER_DATA / f"{name}.parquet")
    assert len(problems) == len({problem.id for problem in problems}) == num_problems
    assert sum(not problem.answer for problem in problems) == num_without_answer
    assert not any("boxed" in problem.answer for problem in problems)
