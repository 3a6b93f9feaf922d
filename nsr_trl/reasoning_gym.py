"""Procedural tasks of reasoning_gym: a task's name goes in; a dataset and the reward that scores its answers come out.

Needs `pip install nsr-trl[reasoning-gym]`.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset

from .problem import INSTRUCTIONS
from .rewards import completion_text


try:
    import reasoning_gym
    from reasoning_gym.utils import extract_answer
except ImportError as error:
    raise ImportError(
        "Tasks of reasoning_gym need that package, which is not installed. "
        "Install it with `pip install nsr-trl[reasoning-gym]`."
    ) from error


INSTRUCTION = INSTRUCTIONS["xml"]
"""The instruction, one line below the question; the tags are those that reasoning_gym reads."""

_RUNNERS = {"eval", "exec", "parse_expr", "sympify"}  # the last two of sympy, which evaluates what it parses


def load_reasoning_gym(name: str, size: int, seed: int = 0, **config: Any) -> tuple[Dataset, Callable]:
    """
    Generates a task of reasoning_gym for a [`SignedRewardTrainer`].

    A score of 1 is correct and any lower one incorrect: reasoning_gym gives part of the score for an answer in the
    wrong form, and for some tasks for part of a solution. A completion without `<answer></answer>` is incorrect. One
    whose scorer fails is undecided.

    Args:
        name (`str`):
            Name of the task, such as `"chain_sum"`.
        size (`int`):
            Number of problems.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the problems.
        **config (`Any`):
            Fields of the task's configuration, such as `min_digits=2`.

    Returns:
        `tuple[Dataset, Callable]`:
            The dataset, with the columns `prompt`, a conversation, `answer`, which some tasks leave empty, and
            `index`; and the reward function.

    Raises:
        ValueError: If there is no such task or field, or the task's scorer would run the answer as code.

    Example:
    ```python
    from nsr_trl import SignedRewardTrainer
    from nsr_trl.reasoning_gym import load_reasoning_gym

    dataset, reward = load_reasoning_gym("chain_sum", size=1000, max_terms=3)
    trainer = SignedRewardTrainer("Qwen/Qwen2.5-0.5B-Instruct", reward, train_dataset=dataset)
    ```
    """
    task = create_task(name, size, seed, **config)

    def reasoning_gym_reward(completions: Sequence[Any], index: Sequence[int], **kwargs: Any) -> list[float | None]:
        """1.0 where reasoning_gym scores the answer 1, 0.0 below, `None` where its scorer fails."""
        answers = [extract_answer(completion_text(completion)) for completion in completions]
        return [score(task, answer, i) for answer, i in zip(answers, index, strict=True)]

    rows = [
        {
            "prompt": [{"role": "user", "content": f"{entry['question']}\n{INSTRUCTION}"}],
            "answer": None if entry["answer"] is None else str(entry["answer"]),
            "index": i,
        }
        for i, entry in enumerate(task)
    ]
    return Dataset.from_list(rows), reasoning_gym_reward


def create_task(name: str, size: int, seed: int = 0, **config: Any) -> Any:
    """The dataset of reasoning_gym that [`load_reasoning_gym`] reads, with the same arguments and errors."""
    try:
        task = reasoning_gym.create_dataset(name, size=size, seed=seed, **config)
    except (ValueError, TypeError, AssertionError) as error:
        raise ValueError(
            f"A task must be one that reasoning_gym has, with fields that it has; got {name!r} with {config} "
            f"({error}). Its gallery lists both."
        ) from error
    if runner := _code_runner(type(task)):
        raise ValueError(
            f"A scorer must not run what a model writes as code; that of {name!r} calls `{runner}`. Choose another "
            "task, or check its answers with a reward function of your own."
        )
    return task


def score(task: Any, answer: str | None, index: int) -> float | None:
    """1.0 where a task scores the answer to its entry `index` 1, 0.0 below, `None` where its scorer fails."""
    if answer is None:
        return 0.0
    try:
        return float(task.score_answer(answer, task[index]) >= 1)  # an entry follows from the seed and the index
    except Exception:  # noqa: BLE001 (a foreign scorer may raise anything, and its fault is no wrong answer)
        return None


def _code_runner(task: type) -> str | None:
    """Name of a function that runs code and that `score_answer`, or what it uses of reasoning_gym, calls."""
    waiting: list[Any] = [task.score_answer]  # type: ignore[attr-defined]
    seen = set(waiting)
    while waiting:
        used = waiting.pop()
        namespace = vars(inspect.getmodule(used))
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(used)))):
            if not isinstance(node, ast.Name | ast.Attribute):
                continue
            name = node.id if isinstance(node, ast.Name) else node.attr
            if name in _RUNNERS and not _is_own(namespace.get(name)):
                return name
            found = namespace.get(name) if isinstance(node, ast.Name) else getattr(task, name, None)
            if _is_own(found) and found not in seen:
                seen.add(found)
                waiting.append(found)
    return None


def _is_own(value: Any) -> bool:
    """Whether it is a function or class of reasoning_gym."""
    return (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.startswith("reasoning_gym.")
