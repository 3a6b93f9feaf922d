"""Loading problems: where rows are goes in; problems, and the dataset a trainer reads, come out.

A row is read by what it has: verl's `reward_model`, a conversation in the column of the question, or plain text.
"""

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict, concatenate_datasets, load_dataset
from datasets.exceptions import DatasetGenerationError
from pyarrow import ArrowInvalid

from .problem import ANSWER_COLUMNS, QUESTION_COLUMNS, Problem, Prompting, find_column
from .verifier.reference import read_reference


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


FILE_BUILDERS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv"}
"""Kinds of files, and what reads them."""


@dataclass(frozen=True)
class Source:
    """
    Where rows come from, and which columns hold a problem.

    Attributes:
        dataset (`str`):
            Dataset id on the Hub, folder, or path of a `.parquet`, `.json`, `.jsonl` or `.csv` file; `"quickstart"`
            for generated arithmetic; `"reasoning_gym/NAME"` for a procedural task of reasoning_gym.
        config (`str`, *optional*), split (`str`, *optional*), revision (`str`, *optional*):
            As of `datasets.load_dataset`; slices such as `"test[:100]"` are splits too. A split may be left out where
            there is only one.
        question_column (`str`, *optional*), answer_column (`str`, *optional*):
            Columns to read; looked for among `QUESTION_COLUMNS` and `ANSWER_COLUMNS` when not set.
        weight (`float`, *optional*):
            Share of this source in a mixture, relative to the others'. Without weights all rows are taken once.
        streaming (`bool`, *optional*, defaults to `False`):
            Read rows as they are needed. Training then needs `max_steps`.
        size (`int`, *optional*):
            Number of problems: of those that are generated, or as it is known without loading them.
        options (`Mapping[str, Any]`, *optional*):
            Configuration of the reasoning_gym task.
    """

    dataset: str
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    question_column: str | None = None
    answer_column: str | None = None
    weight: float | None = None
    streaming: bool = False
    size: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def load_rows(source: Source, limit: int | None = None) -> Dataset | IterableDataset:
    """
    Loads rows from the Hub or from a file.

    Args:
        source ([`Source`]):
            Where they are.
        limit (`int`, *optional*):
            Number of rows to keep, from the start.

    Raises:
        FileNotFoundError: If there is no such file or dataset.
        ValueError: If the file cannot be read, or the config or the split cannot be told.
    """
    path = Path(source.dataset)
    builder = FILE_BUILDERS.get(path.suffix)
    if builder and not path.is_file():
        raise FileNotFoundError(
            f"A source that ends in {path.suffix} must be an existing file; there is none at {source.dataset!r}. "
            "Correct the path, or give the id of a dataset on the Hub."
        )
    if builder and source.config is not None:
        raise ValueError(f"A file has no config; got {source.config!r} for {source.dataset!r}. Leave it out.")
    where = (
        {"path": builder, "data_files": glob.escape(str(path))}
        if builder
        else {"path": source.dataset, "name": source.config}
    )
    try:
        rows = load_dataset(**where, split=source.split, revision=source.revision, streaming=source.streaming)
    except (DatasetGenerationError, ArrowInvalid, UnicodeDecodeError) as error:
        raise ValueError(
            f"A dataset must be rows of one kind; {source.dataset!r} cannot be read ({error.__cause__ or error}). "
            "Correct the file."
        ) from error
    except (OSError, ConnectionError) as error:
        raise FileNotFoundError(
            f"A dataset must be a task (`nsr-trl tasks` lists them), the id of a dataset on the Hub or the path of a "
            f"{', '.join(FILE_BUILDERS)} file; {source.dataset!r} cannot be loaded ({error}). "
            "Correct the name, or the path, or connect to the Hub."
        ) from error
    except (ValueError, StopIteration) as error:
        if isinstance(error, StopIteration) or "corresponds to no data" in str(error):  # of an empty file
            raise ValueError(
                f"A dataset must have rows; {source.dataset!r} has none. Name another file, split or dataset."
            ) from error
        raise ValueError(
            f"A dataset must have the config and the split that are asked for; of {source.dataset!r} with config "
            f"{source.config!r} and split {source.split!r}: {' '.join(str(error).split())} "
            "Name them with dataset_config and split."
        ) from error
    if isinstance(rows, DatasetDict | IterableDatasetDict):
        if len(rows) > 1:
            raise ValueError(
                f"A dataset with several splits needs `split`; {source.dataset!r} has {', '.join(rows)}. "
                "Name one of them."
            )
        rows = next(iter(rows.values()))
    if limit is None:
        return rows
    return rows.take(limit) if isinstance(rows, IterableDataset) else rows.select(range(min(limit, len(rows))))


@dataclass(frozen=True)
class RowReader:
    """
    Reads the problem in a row.

    Attributes:
        question_column (`str`, *optional*), answer_column (`str`, *optional*):
            Columns to read; both `None` for verl's layout.
    """

    question_column: str | None
    answer_column: str | None

    @classmethod
    def of(cls, columns: Sequence[str], source: Source) -> "RowReader":
        """
        The reader for rows with these columns.

        Raises:
            ValueError: If a column cannot be told.
        """
        if "reward_model" in columns and source.question_column is source.answer_column is None:
            return cls(None, None)
        return cls(
            find_column(columns, "question", source.question_column, QUESTION_COLUMNS),
            find_column(columns, "answer", source.answer_column, ANSWER_COLUMNS),
        )

    def __call__(self, row: Mapping[str, Any], with_columns: bool = False) -> Problem:
        """
        Reads a row; `with_columns` keeps its other columns.

        Raises:
            ValueError: If the question is neither text nor a conversation, or verl's columns hold something else.
        """
        if self.question_column is None or self.answer_column is None:
            question, reference = _read_verl(row)
        else:
            question, reference = row[self.question_column], row[self.answer_column]
        messages: tuple[Mapping[str, str], ...] = ()
        if _is_conversation(question):
            last = max((n for n, message in enumerate(question) if message["role"] == "user"), default=-1)
            messages = tuple({"role": m["role"], "content": m["content"]} for m in question[: last + 1])
            question = messages[-1]["content"] if messages else None
        if not isinstance(question, str):
            raise ValueError(
                f"A question must be text, or messages of which one is the user's; got {question!r:.80}. Name the "
                "right column with `question_column`."
            )
        return problem_of(row, question, reference, messages, dict(row) if with_columns else {})


def problem_of(
    row: Mapping[str, Any],
    question: str,
    reference: Any,
    messages: tuple[Mapping[str, str], ...] = (),
    columns: Mapping[str, Any] | None = None,
) -> Problem:
    """The problem of a row with this question and reference, and with the row's own level and subject."""
    level, subject = row.get("level"), row.get("subject") or row.get("type")
    return Problem(
        question,
        read_reference(reference).answer,
        None if level is None else str(level),
        None if subject is None else str(subject),
        messages,
        columns or {},
    )


def read_problems(
    rows: Dataset | IterableDataset, source: Source, with_columns: bool = False
) -> tuple[RowReader, list[Problem]]:
    """The reader of these rows and the problems in them."""
    if isinstance(rows, Dataset):
        reader = RowReader.of(rows.column_names, source)
        used = {reader.question_column, reader.answer_column, "reward_model", "prompt", "extra_info"}
        used |= {"level", "subject", "type"}
        if not with_columns:  # the others, which may be large, are not read
            rows = rows.select_columns([name for name in rows.column_names if name in used])
        return reader, [reader(row, with_columns) for row in rows]
    listed = list(rows)
    reader = RowReader.of(list(listed[0]) if listed else [], source)
    return reader, [reader(row, with_columns) for row in listed]


def to_dataset(
    problems: Iterable[Problem],
    template: str | None = None,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    prompting: Prompting | None = None,
    rows: Dataset | None = None,
) -> Dataset:
    """
    Builds the dataset a trainer reads.

    Args:
        problems (`Iterable[Problem]`):
            Problems, one per row.
        template (`str`, *optional*):
            As in [`~problem.Prompting`].
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            As in [`~problem.Prompting.prompt`].
        prompting ([`~problem.Prompting`], *optional*):
            All of how problems are asked, in the place of `template`.
        rows (`Dataset`, *optional*):
            The rows that the problems were read from, whose other columns are kept for reward functions.

    Returns:
        `Dataset`:
            With the columns `prompt`, `answer` and `problem_id`, and others of the source.
    """
    problems = list(problems)
    prompting = prompting or Prompting(template=template)
    dataset = Dataset.from_list([prompt_row(problem, prompting, tokenizer) for problem in problems])
    if rows is None:
        return dataset
    kept = [name for name in rows.column_names if name not in dataset.column_names]
    return concatenate_datasets([dataset, rows.select_columns(kept)], axis=1) if kept else dataset


def prompt_row(
    problem: Problem, prompting: Prompting, tokenizer: "PreTrainedTokenizerBase | None" = None
) -> dict[str, Any]:
    """A row of the dataset a trainer reads."""
    own = {"prompt": prompting.prompt(problem, tokenizer), "answer": problem.answer, "problem_id": problem.id}
    return {**problem.columns, **own}


def _is_conversation(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(m, Mapping) and isinstance(m.get("content"), str) and "role" in m for m in value)
    )


def _read_verl(row: Mapping[str, Any]) -> tuple[Any, Any]:
    """(Question or conversation, reference) of a row in verl's layout: the standard one, or the paper's."""
    model = row["reward_model"]
    truth = model.get("ground_truth") if isinstance(model, Mapping) else None
    if truth is None:
        raise ValueError(
            f"verl's `reward_model` must hold a `ground_truth`; got {model!r:.80}. Name the columns to read with "
            "question_column and answer_column."
        )
    if isinstance(truth, Mapping):
        # the solution first: the paper's `target` has lost its text, "\mbox{four}" for one
        reference = truth.get("solution") or truth.get("target")
        if "question" in truth:
            return truth["question"], reference
        return row.get("prompt"), reference
    return row.get("prompt"), truth
