"""Judges: completions and their problems go in; an outcome for each, and what decided, come out."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ..problem import Problem, Prompting
from ..verifier import Outcome, verify_batch
from ..verifier.extract import extract


class Judgement(NamedTuple):
    """
    What a judge says of a completion.

    Attributes:
        outcome (`str`), answer (`str`, *optional*), reason (`str`), rule (`str`):
            As in a [`~evaluation.records.Sample`].
    """

    outcome: str
    answer: str | None
    reason: str
    rule: str


class Judge(Protocol):
    """Scores the completions of an evaluation."""

    @property
    def settings(self) -> dict[str, Any]:
        """Settings other than the defaults that outcomes depend on: recorded, and compared on resume."""

    def judge(self, completions: Sequence[str], problems: Sequence[Problem]) -> list[Judgement]:
        """Judges completions, each of the problem at its place."""


@dataclass(frozen=True)
class VerifierJudge:
    """
    The verifier.

    Attributes:
        grader (`str`), answer_format (`str`):
            As in [`~verifier.verify`].
    """

    grader: str = "default"
    answer_format: str = "boxed"

    def __post_init__(self) -> None:
        verify_batch([], [], grader=self.grader, answer_format=self.answer_format)  # an error before any is sampled

    @property
    def settings(self) -> dict[str, Any]:
        """Grader and answer format."""
        chosen = {"grader": self.grader, "answer_format": self.answer_format}
        return {name: value for name, value in chosen.items() if value not in ("default", "boxed")}

    def judge(self, completions: Sequence[str], problems: Sequence[Problem]) -> list[Judgement]:
        """Judges by the verifier's rules."""
        golds = [problem.answer for problem in problems]
        verdicts = verify_batch(completions, golds, grader=self.grader, answer_format=self.answer_format)
        return [Judgement(v.outcome, v.answer, v.reason, v.rule) for v in verdicts]


@dataclass(frozen=True)
class RewardJudge:
    """
    A reward function, called as a trainer calls it.

    Attributes:
        reward (`Callable`):
            The function.
        prompting ([`~problem.Prompting`]):
            How the problems are asked: completions of a conversation are messages.
        threshold (`float`):
            A completion is correct when its reward is above this value, and undecided when it is `None`.
        name (`str`):
            What the function is called in a record.

    Raises:
        ValueError: If the function does not take what it is always given.
    """

    reward: Callable
    prompting: Prompting
    threshold: float = 0.5
    name: str = "reward"

    def __post_init__(self) -> None:
        try:
            signature = inspect.signature(self.reward)
        except (ValueError, TypeError):  # a built-in, of which nothing is known
            return
        try:
            signature.bind_partial(**dict.fromkeys(("prompts", "completions", "answer", "problem_id")))
        except TypeError as error:  # now, and not after sampling
            raise ValueError(
                f"{self.name} must take **kwargs, for every column is passed by name; it {error}. Add it."
            ) from error

    @property
    def settings(self) -> dict[str, Any]:
        """Name of the function, and its threshold."""
        return {"reward": self.name, "correct_threshold": self.threshold}

    def judge(self, completions: Sequence[str], problems: Sequence[Problem]) -> list[Judgement]:
        """Judges by the sign of the reward."""
        prompts = [self.prompting.prompt(problem) for problem in problems]
        names = sorted({name for problem in problems for name in problem.columns} - {"prompt"})
        columns = {name: [problem.columns.get(name) for problem in problems] for name in names}
        rewards = self.reward(
            prompts=prompts,
            completions=[
                text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
                for text, prompt in zip(completions, prompts, strict=True)
            ],
            **columns
            | {"answer": [problem.answer for problem in problems], "problem_id": [problem.id for problem in problems]},
        )
        return [
            Judgement(self._outcome(value), extract(text, self.prompting.answer_format).answer, "reward", "")
            for text, value in zip(completions, rewards, strict=True)
        ]

    def _outcome(self, value: float | None) -> Outcome:
        if value is None or value != value:
            return Outcome.UNDECIDED
        return Outcome.CORRECT if value > self.threshold else Outcome.INCORRECT
