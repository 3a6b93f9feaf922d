"""The fields of a run that are neither the trainer's nor the model's: what to train on, and how it is scored."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..choices import GRADERS
from ..reward_functions import find_reward
from ..task import Task, find_task


DEFAULT_TASK = "math"


def _field(help: str, default: Any = None, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": help, **metadata})


@dataclass
class ScriptArguments:
    """
    What to train on and how answers are scored. Fields that are set take the place of the task's.

    Attributes:
        task (`str`, *optional*):
            Name of a task (`nsr-trl tasks` lists them) or path of a task's YAML file: problems, how they are asked and
            how answers are scored.
        dataset (`str`, *optional*):
            Hub dataset id, or a local parquet, JSON or CSV file, in the place of the task's; the task `math` when
            neither is set.
        dataset_config (`str`, *optional*):
            Config of the dataset, where it has several.
        split (`str`, *optional*):
            Split to train on.
        dataset_revision (`str`, *optional*):
            Revision of the dataset on the Hub.
        dataset_streaming (`bool`, *optional*, defaults to `False`):
            Read rows as they are needed. Needs `max_steps`.
        question_column (`str`, *optional*), answer_column (`str`, *optional*):
            Columns to read; looked for under the usual names when not set.
        num_problems (`int`, *optional*):
            Train on the first so many problems.
        template (`str`, *optional*):
            Prompt template by name, or a text with `{input}`; the model's own chat template when not set.
        system_prompt (`str`, *optional*):
            System message of each prompt.
        instruction (`str`, *optional*):
            Line below each question; the one that asks for the answer format when not set, empty for none.
        answer_format (`str`, *optional*):
            Where the answer is read: `boxed`, `gsm8k`, `xml`, `last`, `auto` or a regular expression.
        grader (`str`, *optional*):
            Rules of the verifier, as in [`verify`].
        reward_funcs (`list[str]`, *optional*):
            Reward functions: `math_reward`, a name of `trl grpo`, `module:function`, a dotted path or
            `file.py:function`. `outcome_reward` names the one that decides the sign, where there are several.
        eval_task (`str`, *optional*):
            Task to evaluate on while training; the test problems of the same one when not set.
        eval_dataset (`str`, *optional*), eval_split (`str`, *optional*), num_eval_problems (`int`, *optional*):
            Problems for `eval_strategy`, as above.
        gpu_memory (`float`, *optional*, defaults to `80`):
            Memory of each GPU in GB, for the dry run.
        tokens_per_second (`float`, *optional*, defaults to `10000`):
            Tokens that all GPUs together generate and train on, for the dry run's hours: a run's log shows it.
        optimizer_steps_per_generation (`int`, *optional*):
            Mini-batches that a generation batch is cut into. With `generation_batch_size` and the number of processes
            it fixes `gradient_accumulation_steps`, so that a recipe means the same on any number of GPUs.
    """

    task: str | None = _field("Name of a task (`nsr-trl tasks`) or a task's YAML file.")
    dataset: str | None = _field("Hub dataset id, or a parquet, JSON or CSV file, rather than the task's.")
    dataset_config: str | None = _field("Config of the dataset, where it has several.")
    split: str | None = _field("Split to train on.")
    dataset_revision: str | None = _field("Revision of the dataset on the Hub.")
    dataset_streaming: bool = _field("Read rows as they are needed; needs `max_steps`.", False)
    question_column: str | None = _field("Column of the questions.")
    answer_column: str | None = _field("Column of the reference answers.")
    num_problems: int | None = _field("Train on the first so many problems.")
    template: str | None = _field(
        "Prompt template: qwen, qwen3_no_thinking, llama, simple, plain, or a text with {input}."
    )
    system_prompt: str | None = _field("System message of each prompt.")
    instruction: str | None = _field("Line below each question; '' for none.")
    answer_format: str | None = _field("Where the answer is: boxed, gsm8k, xml, last, auto, or a regular expression.")
    grader: str | None = _field("Rules of the verifier.", choices=list(GRADERS))
    reward_funcs: list[str] | None = _field(  # noqa: RUF009 (a field, by another name)
        "Reward functions: math_reward, a name of `trl grpo`, module:function or file.py:function."
    )
    eval_task: str | None = _field("Task for `eval_strategy`; the same one's test problems if not set.")
    eval_dataset: str | None = _field("Dataset for `eval_strategy`, rather than a task.")
    eval_split: str | None = _field("Split to evaluate on.")
    num_eval_problems: int | None = _field("Evaluate on the first so many problems.")
    gpu_memory: float = _field("Memory of each GPU in GB, for the dry run.", 80.0)
    tokens_per_second: float = _field("Speed of all GPUs together, for the hours of the dry run.", 10000.0)
    optimizer_steps_per_generation: int | None = _field(
        "Mini-batches of a generation batch; with `generation_batch_size` and the number of processes it fixes "
        "`gradient_accumulation_steps`."
    )

    def __post_init__(self) -> None:
        if isinstance(self.reward_funcs, str):  # one, in a YAML file
            self.reward_funcs = [self.reward_funcs]
        for name in ("num_problems", "num_eval_problems", "gpu_memory", "tokens_per_second"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"`{name}` must be above 0; got {value}. Leave it out for the default.")

    def train_task(self) -> Task:
        """
        The task to train on, with what the fields set.

        Raises:
            ValueError: If there is no such task, or the fields do not go together.
        """
        return self._task(self.split)

    def test_task(self) -> Task:
        """
        The task to evaluate on while training, with what the fields set.

        Raises:
            ValueError: As of [`train_task`], or if nothing says what to evaluate on.
        """
        if self.eval_task or self.eval_dataset:
            task = find_task(self.eval_task or self.eval_dataset or "")
            columns = {} if self.eval_task else self._columns()
            return task.override(dataset=self.eval_dataset, split=self.eval_split, **columns, **self._asked())
        if self.dataset and not self.eval_split:
            raise ValueError(
                f"Evaluating while training needs problems of its own; got the dataset {self.dataset!r} alone. Name "
                "them with eval_split, eval_dataset or eval_task, or set eval_strategy=no."
            )
        return self._task(self.eval_split)

    def rewards(self) -> list[Callable]:
        """
        The reward functions: those named, or the task's.

        Raises:
            ValueError: If one cannot be imported.
        """
        task = self.train_task()
        if not self.reward_funcs:
            return [task.outcome_reward]
        return [find_reward(name, task.grader, task.answer_format) for name in self.reward_funcs]

    def _task(self, split: str | None) -> Task:
        return find_task(self.task or self.dataset or DEFAULT_TASK).override(
            dataset=self.dataset,
            config=self.dataset_config,
            split=split,
            revision=self.dataset_revision,
            streaming=self.dataset_streaming or None,
            **self._columns(),
            **self._asked(),
        )

    def _columns(self) -> dict[str, str | None]:
        return {"question_column": self.question_column, "answer_column": self.answer_column}

    def _asked(self) -> dict[str, str | None]:
        names = ("template", "system_prompt", "instruction", "answer_format", "grader")
        return {name: getattr(self, name) for name in names}
