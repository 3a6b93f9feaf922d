"""Tasks: a name goes in; problems, how they are asked, where the answer is read and how it is scored come out.

A task is data, and there is one of it: the same object trains, evaluates, verifies and stands on the card, so that
what was trained is what is measured. It is written as YAML, in `tasks/` or a file of the user's:

    # One line that says what it is.
    train: {dataset: openai/gsm8k, config: main, split: train}     # or a list of them, with weights
    test: {dataset: openai/gsm8k, config: main, split: test}
    answer_format: boxed
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from datasets import Dataset, IterableDataset, concatenate_datasets, interleave_datasets

from .checks import is_count, is_number
from .config import DEFAULT_CORRECT_THRESHOLD
from .data import FILE_BUILDERS, Source, load_rows, prompt_row, read_problems, to_dataset
from .evaluation.judges import Judge, RewardJudge, VerifierJudge
from .problem import Problem, Prompting
from .quickstart.problems import generate_problems
from .resources import did_you_mean, find_yaml, nearest, shipped_names
from .reward_functions import MATH_REWARD, find_reward, name_of
from .rewards import completion_text
from .settings_file import head_comment, one_line, read_settings


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Part = Literal["train", "test"]

QUICKSTART = "quickstart"
"""Name of the arithmetic that ships with the package, as a dataset."""

REASONING_GYM = "reasoning_gym/"
"""Prefix of the datasets that reasoning_gym generates."""

GENERATED_SIZES: dict[Part, int] = {"train": 1024, "test": 128}
"""Problems of a generated source that does not say how many."""


@dataclass(frozen=True)
class Task:
    """
    Problems, and all that makes a number out of an answer to them.

    Attributes:
        name (`str`):
            Its name: of the file, or of the dataset.
        train (`tuple[Source, ...]`), test (`tuple[Source, ...]`):
            Where the problems come from.
        about (`str`):
            What it is, in a line.
        prompting ([`~problem.Prompting`]):
            How problems are asked, and where the answer is read.
        grader (`str`):
            Rules of the verifier, as in [`verify`].
        reward (`str`, *optional*):
            Name of the reward function that says whether an answer is correct, as in [`find_reward`]; the verifier's
            when not set.
        correct_threshold (`float`, *optional*):
            As in [`SignedRewardConfig`], for that function.
    """

    name: str
    train: tuple[Source, ...] = ()
    test: tuple[Source, ...] = ()
    about: str = ""
    prompting: Prompting = field(default_factory=Prompting)
    grader: str = "default"
    reward: str | None = None
    correct_threshold: float | None = None

    @property
    def answer_format(self) -> str:
        """Where the answer is read, as in [`verify`]."""
        return self.prompting.answer_format

    def sources(self, part: Part) -> tuple[Source, ...]:
        """
        Where the problems to train on, or to test on, come from.

        Raises:
            ValueError: If the task has none.
        """
        sources = getattr(self, part)
        if not sources:
            other = "test" if part == "train" else "train"
            raise ValueError(
                f"A task must have problems to {part} on; {self.name!r} has only some to {other} on. Choose another "
                f"task, or name a split of its dataset, {getattr(self, other)[0].dataset}."
            )
        return sources

    def problems(
        self, part: Part, limit: int | None = None, seed: int = 0, with_columns: bool = False
    ) -> list[Problem]:
        """
        Loads problems.

        Args:
            part (`str`):
                `"train"` or `"test"`.
            limit (`int`, *optional*):
                Number of problems to keep of each source, from the start.
            seed (`int`, *optional*, defaults to `0`):
                Seed of problems that are generated.
            with_columns (`bool`, *optional*, defaults to `False`):
                Keep the other columns of the rows.

        Raises:
            FileNotFoundError, ValueError: As of [`load_rows`] and [`RowReader`], or if there are none.
        """
        found = []
        for source in self.sources(part):
            generated = _generate(source, part, limit, seed)
            if generated is None:
                _, generated = read_problems(load_rows(source, limit), source, with_columns)
            found += generated
        if not found:
            raise self._none_to(part)
        return found

    def dataset(
        self, part: Part, tokenizer: "PreTrainedTokenizerBase | None" = None, limit: int | None = None, seed: int = 0
    ) -> Dataset | IterableDataset:
        """
        The dataset a trainer reads, with the other columns of the rows for reward functions.

        Args:
            part (`str`):
                `"train"` or `"test"`.
            tokenizer (`PreTrainedTokenizerBase`, *optional*):
                As of [`~problem.Prompting.prompt`].
            limit (`int`, *optional*):
                As of [`problems`].
            seed (`int`, *optional*, defaults to `0`):
                As of [`problems`]; it draws a mixture with weights too, in which each problem is at least once.

        Raises:
            FileNotFoundError, ValueError: As of [`problems`].
        """
        datasets = [self._dataset(source, part, tokenizer, limit, seed) for source in self.sources(part)]
        if len(datasets) == 1:
            return datasets[0]
        return _mix(datasets, [source.weight for source in self.sources(part)], seed)

    def _dataset(self, source: Source, part: Part, tokenizer: Any, limit: int | None, seed: int) -> Any:
        generated = _generate(source, part, limit, seed)
        if generated is not None:
            return to_dataset(generated, tokenizer=tokenizer, prompting=self.prompting)
        rows = load_rows(source, limit)
        if isinstance(rows, Dataset):
            _, problems = read_problems(rows, source)
            if not problems:
                raise self._none_to(part)
            return to_dataset(problems, tokenizer=tokenizer, prompting=self.prompting, rows=rows)
        reader, _ = read_problems(rows.take(1), source)

        return rows.map(lambda row: prompt_row(reader(row), self.prompting, tokenizer))

    def _none_to(self, part: Part) -> ValueError:
        return ValueError(f"A task must have problems; there is none in {self._named(part)}. Name another split.")

    @cached_property
    def outcome_reward(self) -> Callable:
        """The reward function that says whether an answer is correct."""
        if self.reward is None and not self.is_verified:
            return reasoning_gym_reward
        return find_reward(self.reward or MATH_REWARD, self.grader, self.answer_format)

    @property
    def judge(self) -> Judge:
        """The judge for an evaluation, which scores as training does."""
        if self.is_verified:
            return VerifierJudge(self.grader, self.answer_format)
        threshold = DEFAULT_CORRECT_THRESHOLD if self.correct_threshold is None else self.correct_threshold
        return RewardJudge(self.outcome_reward, self.prompting, threshold, name_of(self.outcome_reward))

    @property
    def is_verified(self) -> bool:
        """Whether the verifier says whether an answer is correct, rather than a reward function."""
        sources = (*self.train, *self.test)
        return self.reward == MATH_REWARD or (self.reward is None and not any(map(_is_of_reasoning_gym, sources)))

    def override(self, **values: Any) -> "Task":
        """
        The task with some of its fields, or of its prompting's or its sources', set; `None` leaves one as it is.

        Raises:
            ValueError: If the fields do not go together.
        """
        values = {name: value for name, value in values.items() if value is not None}
        of_source = {name: values.pop(name) for name in list(values) if name in _SOURCE_FIELDS}
        of_prompting: dict[str, Any] = {
            name: values.pop(name) or None for name in list(values) if name in _PROMPTING_FIELDS
        }
        if of_prompting.get("instruction", "") is None:
            of_prompting["instruction"] = ""  # none, rather than that of the answer format
        task = dataclasses.replace(self, **values)
        if of_source:
            of_source.setdefault("size", None)  # known of the source as it was
            train, test = (
                tuple(dataclasses.replace(source, **of_source) for source in _moved(part, of_source.get("dataset")))
                for part in (self.train, self.test)
            )
            task = dataclasses.replace(task, train=train or test, test=test or train)
        return dataclasses.replace(task, prompting=dataclasses.replace(task.prompting, **of_prompting))

    def facts(self) -> dict[str, str]:
        """The fields of the task by name, for people."""
        asked = self.prompting
        prompt = "the model's chat template" if asked.template is None else f"{asked.template!r}"
        rows = {
            "train": self._named("train"),
            "test": self._named("test"),
            "prompt": prompt + (f", {dict(asked.chat_template_kwargs)}" if asked.chat_template_kwargs else ""),
            "system prompt": asked.system_prompt or "",
            "instruction": asked.instruction or "",
            "answer": asked.answer_format if self.is_verified else "",
            "scored by": f"the verifier, grader {self.grader}" if self.is_verified else self.reward or "reasoning_gym",
        }
        return {name: value for name, value in rows.items() if value}

    def card_rows(self) -> dict[str, str]:
        """The rows of a model card about this task."""
        facts = {
            name: " ".join(value.split()) for name, value in self.facts().items() if name not in ("train", "test")
        }
        return {"task": self.name, "problems": self._named("train")} | facts

    @property
    def dataset_name(self) -> str:
        """Its datasets, for a card."""
        return " + ".join(source.dataset for source in self.train)

    def _named(self, part: Part) -> str:
        return " + ".join(_describe(source) for source in getattr(self, part))


_TEXT = (lambda value: isinstance(value, str), "a text; put it in quotes")
_MAPPING = (lambda value: isinstance(value, Mapping), "a mapping of names to values")
_MUST_BE: dict[str, tuple[Callable[[Any], bool], str]] = {
    "dataset": (lambda value: isinstance(value, str) and bool(value.strip()), "the id of a dataset, or a path"),
    **dict.fromkeys(("config", "split", "revision", "question_column", "answer_column"), _TEXT),
    **dict.fromkeys(("answer_format", "template", "system_prompt", "instruction", "grader", "reward"), _TEXT),
    "weight": (lambda value: is_number(value) and value > 0, "a number above 0"),
    "streaming": (lambda value: isinstance(value, bool), "true or false"),
    "size": (is_count, "a whole number, 1 or more"),
    "options": _MAPPING,
    "chat_template_kwargs": _MAPPING,
    "correct_threshold": (is_number, "a finite number"),
}
"""What the fields of a task's file, and of its sources, must be."""

_SOURCE_FIELDS = {f.name for f in dataclasses.fields(Source)} - {"weight", "options"}
_PROMPTING_FIELDS = {f.name for f in dataclasses.fields(Prompting)}
_OWN_FIELDS = {"grader", "reward", "correct_threshold"}


def task_names() -> list[str]:
    """Names of the shipped tasks."""
    return shipped_names("tasks")


def find_task(name: str | Path) -> Task:
    """
    Finds a task.

    Args:
        name (`str` or `Path`):
            Name of a shipped task, path of a YAML file, or what [`Source`] takes as a dataset: then the task has the
            settings that hold when nothing is said.

    Raises:
        ValueError: If the file is no task.
    """
    if str(name) in task_names() or Path(name).suffix in (".yaml", ".yml"):
        return _read_task(str(name), find_yaml("tasks", name))
    near = nearest(str(name), task_names())
    if near is not None and not Path(name).exists():
        raise ValueError(
            f"A task must be one of {', '.join(task_names())}, a file, or the id of a dataset on the Hub; got "
            f"{str(name)!r}. Did you mean {near!r}?"
        )
    source = (Source(str(name)),)
    return Task(
        Path(name).stem if Path(name).is_file() else Path(name).name, source, source, prompting=_prompting({}, source)
    )


def load_problems(
    source: str | Path,
    split: str | None = None,
    limit: int | None = None,
    question_column: str | None = None,
    answer_column: str | None = None,
    config: str | None = None,
    revision: str | None = None,
) -> list[Problem]:
    r"""
    Loads problems of a task, from the Hub or from a file.

    Args:
        source (`str` or `Path`):
            Name of a task, of which the test problems are loaded; dataset id on the Hub; or path of a `.parquet`,
            `.json`, `.jsonl` or `.csv` file.
        split (`str`, *optional*):
            Split to load, slices such as `"test[:100]"` included. May be left out where there is only one; a file is
            the split `"train"`.
        limit (`int`, *optional*):
            Number of problems to keep, from the start.
        question_column (`str`, *optional*):
            Column of the question; looked for under the usual names when not given.
        answer_column (`str`, *optional*):
            Column of the reference; likewise.
        config (`str`, *optional*):
            Config of the dataset, where it has several.
        revision (`str`, *optional*):
            Revision on the Hub.

    Returns:
        `list[Problem]`

    Raises:
        FileNotFoundError: If the file or dataset does not exist.
        ValueError: If the split or a column cannot be told.
    """
    task = find_task(source).override(
        split=split, question_column=question_column, answer_column=answer_column, config=config, revision=revision
    )
    return task.problems("test", limit)


def _read_task(name: str, path: Path) -> Task:
    text, values = read_settings("task", name, path)
    common: dict[str, Any] = {key: values.pop(key) for key in ("question_column", "answer_column") if key in values}
    train, test = (_sources(name, part, values.pop(part, None), common) for part in ("train", "test"))
    known = {*_OWN_FIELDS, *_PROMPTING_FIELDS}
    if unknown := sorted(set(values) - known):
        known |= {"train", "test", "question_column", "answer_column"}
        raise ValueError(
            f"A task must have the fields {', '.join(sorted(known))}; {name!r} has {', '.join(unknown)}. "
            f"{did_you_mean(unknown[0], sorted(known))}"
        )
    if not train + test:
        raise ValueError(
            f"A task must say where its problems are; {name!r} has neither `train` nor `test`. Write "
            "train: {dataset: openai/gsm8k, config: main, split: train}."
        )
    values = _checked(name, values)
    prompting = _prompting({key: value for key, value in values.items() if key in _PROMPTING_FIELDS}, train + test)
    own = {key: value for key, value in values.items() if key in _OWN_FIELDS}
    return Task(path.stem, train, test, one_line(head_comment(text)), prompting, **own)


def _checked(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a task's file that say something: one that is left empty is not set."""
    values = {key: value for key, value in values.items() if value is not None}
    for key, value in values.items():
        holds, must_be = _MUST_BE[key]
        if not holds(value):
            raise ValueError(f"`{key}` of a task must be {must_be}; {name!r} has {value!r:.60}. Correct the file.")
    return values


def _sources(name: str, part: str, value: Any, common: Mapping[str, Any]) -> tuple[Source, ...]:
    entries = [] if value is None else value if isinstance(value, list) else [value]
    entries = [{"dataset": entry} if isinstance(entry, str) else entry for entry in entries]
    fields = [f.name for f in dataclasses.fields(Source)]
    for entry in entries:
        if not isinstance(entry, dict) or "dataset" not in entry or not set(entry) <= set(fields):
            raise ValueError(
                f"`{part}` of a task must be a dataset, or a mapping of {', '.join(fields)}; "
                f"{name!r} has {entry!r:.80}. Write {part}: {{dataset: openai/gsm8k, config: main, split: {part}}}."
            )
    return tuple(Source(**_checked(name, {**common, **entry})) for entry in entries)


def _moved(sources: tuple[Source, ...], dataset: str | None) -> tuple[Source, ...]:
    """The sources, or one in their place at another dataset, which has its own config and revision."""
    if dataset is None or all(source.dataset == dataset for source in sources):
        return sources
    split = None if Path(dataset).suffix in FILE_BUILDERS else sources[0].split
    return (dataclasses.replace(sources[0], config=None, revision=None, split=split, weight=None, options={}),)


def _prompting(values: Mapping[str, Any], sources: Sequence[Source]) -> Prompting:
    default = "xml" if any(_is_of_reasoning_gym(source) for source in sources) else "boxed"
    return Prompting(**{"answer_format": default, **values})


def _generate(source: Source, part: Part, limit: int | None, seed: int) -> list[Problem] | None:
    """The problems of a source that generates them; `None` of any other."""
    size = min(limit or GENERATED_SIZES[part], source.size or limit or GENERATED_SIZES[part])
    if source.dataset == QUICKSTART:
        split: Part = "test" if (source.split or part) == "test" else "train"
        return [Problem(**row) for row in generate_problems(size, seed, split)]
    if not _is_of_reasoning_gym(source):
        return None
    made_of = {
        "name": source.dataset.removeprefix(REASONING_GYM),
        "size": size,
        "seed": seed if part == "train" else seed + 1,
        **source.options,
    }
    origin = json.dumps(made_of)
    return [
        Problem(
            entry["question"],
            "" if entry["answer"] is None else str(entry["answer"]),
            columns={"index": index, "reasoning_gym": origin},
        )
        for index, entry in enumerate(_gym_task(origin))
    ]


@lru_cache(maxsize=8)
def _gym_task(origin: str) -> Any:
    """The dataset of reasoning_gym that the column `reasoning_gym` of its problems describes."""
    from .reasoning_gym import create_task

    return create_task(**json.loads(origin))


def reasoning_gym_reward(
    completions: Sequence[Any], index: Sequence[int], reasoning_gym: Sequence[str], **kwargs: Any
) -> list[float | None]:
    """1.0 where reasoning_gym scores the answer 1, 0.0 below, `None` where its scorer fails."""
    from .reasoning_gym import extract_answer, score

    return [
        score(_gym_task(origin), extract_answer(completion_text(completion)), number)
        for completion, origin, number in zip(completions, reasoning_gym, index, strict=True)
    ]


def _is_of_reasoning_gym(source: Source) -> bool:
    return source.dataset.startswith(REASONING_GYM)


def _mix(datasets: list[Any], weights: list[float | None], seed: int) -> Dataset | IterableDataset:
    """Datasets as one: the columns that all have, concatenated, or drawn by weight."""
    features = [dataset.features or {} for dataset in datasets]
    common = [name for name in features[0] if all(other.get(name) == features[0][name] for other in features)]
    datasets = [dataset.select_columns(common) for dataset in datasets]
    if not any(weights):
        return concatenate_datasets(datasets)
    if not all(weight is not None and weight > 0 for weight in weights):
        raise ValueError(
            f"A mixture must have a weight above 0 for each source, or none; got {weights}. Set them all."
        )
    total = sum(weight or 0 for weight in weights)
    shares = [(weight or 0) / total for weight in weights]
    return interleave_datasets(datasets, shares, seed, stopping_strategy="all_exhausted")


def _describe(source: Source) -> str:
    parts = [source.dataset, source.config, source.split, f"@{source.revision}" if source.revision else None]
    weight = "" if source.weight is None else f" ({source.weight:g})"
    return " ".join(part for part in parts if part) + weight
