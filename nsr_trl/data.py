r"""Problems and prompts: a dataset or a file goes in; problems, and the dataset a trainer reads, come out."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, DatasetDict, load_dataset
from datasets.exceptions import DatasetGenerationError
from pyarrow import ArrowInvalid

from .verifier.reference import read_reference


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."
"""The paper's instruction, one line below the question."""

_CHATML = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    f"<|im_start|>user\n{{input}}\n{INSTRUCTION}<|im_end|>\n<|im_start|>assistant\n"
)
PROMPT_TEMPLATES: dict[str, str] = {
    "qwen": _CHATML,
    "qwen3_no_thinking": _CHATML + "<think>\n\n</think>\n",
    "llama": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are a helpful assistant.<|eot_id|>"
        f"<|start_header_id|>user<|end_header_id|>\n\n{{input}}\n{INSTRUCTION}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "simple": "Question:\n{input}\nAnswer:\nLet's think step by step.\n",
    "plain": "{input}",
}
"""Plain-text prompts, `{input}` being the question: the four of the paper's code, verbatim, and the bare question."""

QUESTION_COLUMNS = ("problem", "question", "prompt")
"""Names under which a question is looked for, in this order."""
ANSWER_COLUMNS = ("answer", "final_answer", "solution", "target")
"""Names under which a reference is looked for, in this order."""


@dataclass(frozen=True, slots=True)
class HubDataset:
    """
    Where a dataset with a short name is on the Hub.

    Attributes:
        id (`str`):
            Its id.
        split (`str`):
            The split with the problems.
        question_column (`str`):
            Column of the question.
        answer_column (`str`):
            Column of the reference.
    """

    id: str
    split: str
    question_column: str
    answer_column: str


DATASETS: dict[str, HubDataset] = {
    "math": HubDataset("DigitalLearningGmbH/MATH-lighteval", "test", "problem", "solution"),
    "math500": HubDataset("HuggingFaceH4/MATH-500", "test", "problem", "answer"),
    "aime2025": HubDataset("math-ai/aime25", "test", "problem", "answer"),
    "amc23": HubDataset("math-ai/amc23", "test", "question", "answer"),
}
"""Datasets by short name. `math` is the test set of MATH, 5,000 problems, and `math500` the usual part of it."""

_FILE_BUILDERS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv"}


@dataclass(frozen=True, slots=True)
class Problem:
    """
    A question and its reference answer.

    Attributes:
        question (`str`):
            The question, without instruction or chat markup.
        answer (`str`):
            The bare reference answer. Empty where the source has none (two MATH solutions have an empty box): every
            response to such a problem is undecided.
        level (`str`, *optional*):
            Difficulty, as the source writes it.
        subject (`str`, *optional*):
            Field of mathematics, as the source writes it.
    """

    question: str
    answer: str
    level: str | None = None
    subject: str | None = None

    @property
    def id(self) -> str:
        """First 16 hexadecimal digits of SHA-256 over question, a zero byte and answer: stable across files."""
        return hashlib.sha256(f"{self.question}\0{self.answer}".encode()).hexdigest()[:16]


def load_problems(
    source: str | Path,
    split: str | None = None,
    limit: int | None = None,
    question_column: str | None = None,
    answer_column: str | None = None,
) -> list[Problem]:
    r"""
    Loads problems from the Hub or from a file.

    Rows in verl's format (`reward_model` holds a `ground_truth` with `question` and `solution` or `target`) are
    recognised. Of other rows the question and the answer are read from the columns named, or else from the first of
    `QUESTION_COLUMNS` and of `ANSWER_COLUMNS` present. A reference with a `\boxed{}` is reduced to the content of the
    last one.

    Args:
        source (`str` or `Path`):
            Short name of one of `DATASETS`, dataset id on the Hub, or path of a `.parquet`, `.json`, `.jsonl` or
            `.csv` file.
        split (`str`, *optional*):
            Split to load, slices such as `"test[:100]"` included. May be left out where there is only one; a file is
            the split `"train"`.
        limit (`int`, *optional*):
            Number of problems to keep, from the start.
        question_column (`str`, *optional*):
            Column of the question.
        answer_column (`str`, *optional*):
            Column of the reference.

    Returns:
        `list[Problem]`

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the split or a column cannot be told.
    """
    if known := DATASETS.get(str(source)):
        source, split = known.id, split or known.split
        question_column, answer_column = question_column or known.question_column, answer_column or known.answer_column
    dataset = _load_rows(source, split)
    if limit is not None:
        dataset = dataset.select(range(min(limit, len(dataset))))
    if "reward_model" in dataset.column_names and question_column is answer_column is None:
        return [_problem_from_verl(row) for row in dataset]
    question_column = _find_column(dataset, "question", question_column, QUESTION_COLUMNS)
    answer_column = _find_column(dataset, "answer", answer_column, ANSWER_COLUMNS)
    return [_problem(row[question_column], row[answer_column], row) for row in dataset]


def format_prompt(
    question: str, template: str | None = None, tokenizer: "PreTrainedTokenizerBase | None" = None
) -> str | list[dict[str, str]]:
    """
    Puts a question into the form the policy is prompted with.

    Args:
        question (`str`):
            The question.
        template (`str`, *optional*):
            Name of one of `PROMPT_TEMPLATES`, for a plain-text prompt. By default the prompt is a conversation of one
            user message with the question and `INSTRUCTION`, and the model's own chat template applies.
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            Tokenizer the plain text is meant for. If it adds a BOS token itself, as TRL lets it, one that the template
            begins with is left out, so that there are not two.

    Returns:
        `str` or `list[dict[str, str]]`:
            The plain text, or the conversation.

    Raises:
        ValueError: If there is no such template.
    """
    if template is None:
        return [{"role": "user", "content": f"{question}\n{INSTRUCTION}"}]
    if template not in PROMPT_TEMPLATES:
        raise ValueError(
            f"`template` must be one of {', '.join(PROMPT_TEMPLATES)}; got {template!r}. "
            "Leave it out to use the chat template of the model."
        )
    prompt = PROMPT_TEMPLATES[template].replace("{input}", question)
    if tokenizer is not None and tokenizer.bos_token and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]:
        prompt = prompt.removeprefix(tokenizer.bos_token)
    return prompt


def to_dataset(
    problems: Iterable[Problem], template: str | None = None, tokenizer: "PreTrainedTokenizerBase | None" = None
) -> Dataset:
    """
    Builds the dataset a trainer reads.

    Args:
        problems (`Iterable[Problem]`):
            Problems, one per row.
        template (`str`, *optional*):
            As in [`format_prompt`].
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            As in [`format_prompt`].

    Returns:
        `Dataset`:
            With the columns `prompt`, `answer` and `problem_id`.
    """
    problems = list(problems)
    return Dataset.from_dict(
        {
            "prompt": [format_prompt(problem.question, template, tokenizer) for problem in problems],
            "answer": [problem.answer for problem in problems],
            "problem_id": [problem.id for problem in problems],
        }
    )


def _load_rows(source: str | Path, split: str | None) -> Dataset:
    path = Path(source)
    builder = _FILE_BUILDERS.get(path.suffix)
    if builder and not path.is_file():
        raise FileNotFoundError(
            f"A source that ends in {path.suffix} must be an existing file; there is none at {str(source)!r}. "
            "Correct the path, or give the id of a dataset on the Hub."
        )
    try:
        if builder:
            loaded = load_dataset(builder, data_files=str(path), split=split)
        else:
            loaded = load_dataset(str(source), split=split)
    except (DatasetGenerationError, ArrowInvalid) as error:
        raise ValueError(
            f"A dataset must be rows of one kind; {str(source)!r} cannot be read ({error.__cause__ or error}). "
            "Correct the file."
        ) from error
    except (FileNotFoundError, ConnectionError) as error:
        raise FileNotFoundError(
            f"A dataset must be one of {', '.join(DATASETS)}, the id of a dataset on the Hub or the path of a "
            f"{', '.join(_FILE_BUILDERS)} file; {str(source)!r} cannot be loaded ({error}). "
            "Correct the name, or the path, or connect to the Hub."
        ) from error
    if not isinstance(loaded, DatasetDict):
        return loaded
    if len(loaded) > 1:
        raise ValueError(
            f"A dataset with several splits needs `split`; {str(source)!r} has {', '.join(loaded)}. Name one of them."
        )
    return next(iter(loaded.values()))


def _find_column(dataset: Dataset, role: str, name: str | None, candidates: tuple[str, ...]) -> str:
    for candidate in candidates if name is None else (name,):
        if candidate in dataset.column_names:
            return candidate
    expected = f"one of {', '.join(candidates)}" if name is None else repr(name)
    raise ValueError(
        f"The {role} must be in a column named {expected}; the columns are {', '.join(dataset.column_names)}. "
        f"Name the right one with `{role}_column`."
    )


def _problem_from_verl(row: Mapping[str, Any]) -> Problem:
    gold = row["reward_model"]["ground_truth"]
    # the solution first: the paper's `target` has lost its text, "\mbox{four}" for one
    return _problem(gold["question"], gold.get("solution") or gold.get("target"), row)


def _problem(question: Any, reference: Any, row: Mapping[str, Any]) -> Problem:
    if not isinstance(question, str):
        raise ValueError(
            f"A question must be text; got {question!r:.80}. Name the column of plain text with `question_column`."
        )
    level, subject = row.get("level"), row.get("subject") or row.get("type")
    return Problem(
        question,
        read_reference(reference).answer,
        None if level is None else str(level),
        None if subject is None else subject,
    )
