"""The verifier in the shape TRL calls: completions and references go in, one reward per completion comes out."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from .verifier import Outcome, Reason, verify_batch


UNDECIDED_METRICS: dict[Reason, str] = {
    reason: f"verifier/undecided/{reason.name.lower()}"
    for reason in Reason
    if reason not in (Reason.STRING, Reason.NUMBER, Reason.STRUCTURE, Reason.SYMBOLIC, Reason.NO_ANSWER)
}
"""Reasons for which a verdict may be undecided, and the metric that says how often it is."""

NO_ANSWER_METRIC = "verifier/no_answer"
"""The metric that says in what share of the completions there was no answer."""

_REWARD_OF = {Outcome.CORRECT: 1.0, Outcome.INCORRECT: 0.0, Outcome.UNDECIDED: None}
# what `GRPOTrainer` passes besides the columns of the dataset
_TRL_ARGUMENTS = {"prompts", "completion_ids", "trainer_state", "environments"}


def math_reward(
    completions: Sequence[str] | Sequence[list[dict[str, Any]]],
    solution: Sequence[str] | None = None,
    answer: Sequence[str] | None = None,
    log_extra: Callable[[str, list], None] | None = None,
    log_metric: Callable[[str, float], None] | None = None,
    grader: str = "default",
    **kwargs: Any,
) -> list[float | None]:
    r"""
    Reward function that verifies the boxed answer of each completion.

    Unlike TRL's `accuracy_reward` it returns `None` for a completion it cannot decide, so that none is trained on as
    wrong because the verifier failed.

    Args:
        completions (`Sequence[str]` or `Sequence[list[dict]]`):
            Completions, as texts or as conversations whose assistant messages count.
        solution (`Sequence[str]`, *optional*):
            Column of reference solutions, each with its answer in a `\boxed{}`, or of bare answers.
        answer (`Sequence[str]`, *optional*):
            Column of reference answers. Used rather than `solution` where the dataset has both.
        log_extra (`Callable`, *optional*):
            Provided by the trainer. The columns `extracted_answer` and `reason` are added to its completions table.
        log_metric (`Callable`, *optional*):
            Provided by the trainer. The share of completions without an answer is logged as `NO_ANSWER_METRIC`, and
            that of undecided ones by reason, under the names in `UNDECIDED_METRICS`.
        grader (`str`, *optional*, defaults to `"default"`):
            As in [`verify`]: `functools.partial(math_reward, grader="paper")` rewards as the paper's code does.
        **kwargs (`Any`):
            The trainer's other arguments and the other columns of the dataset; not used.

    Returns:
        `list[float | None]`:
            1.0 for correct, 0.0 for incorrect and `None` for undecided completions.

    Raises:
        ValueError: If the dataset has neither reference column.

    Example:
    ```python
    >>> from nsr_trl import math_reward

    >>> math_reward([r"\boxed{\frac12}", r"\boxed{2}", r"\boxed{\sqrt2}"], answer=["0.5", "3", "1.4142"])
    [1.0, 0.0, None]
    ```
    """
    golds = solution if answer is None else answer
    if golds is None:
        columns = sorted(set(kwargs) - _TRL_ARGUMENTS)
        raise ValueError(
            "math_reward needs a dataset column named 'answer' or 'solution'; "
            f"the columns besides 'prompt' are {columns}. Rename the column that holds the reference."
        )
    verdicts = verify_batch([completion_text(completion) for completion in completions], golds, grader=grader)
    if log_extra is not None:
        log_extra("extracted_answer", [verdict.answer or "" for verdict in verdicts])
        log_extra("reason", [str(verdict.reason) for verdict in verdicts])
    if log_metric is not None and verdicts:
        log_metric(NO_ANSWER_METRIC, sum(verdict.reason is Reason.NO_ANSWER for verdict in verdicts) / len(verdicts))
        undecided = Counter(verdict.reason for verdict in verdicts if verdict.outcome is Outcome.UNDECIDED)
        for reason, name in UNDECIDED_METRICS.items():  # all of them: ranks and batches without any count in the mean
            log_metric(name, undecided[reason] / len(verdicts))
    return [_REWARD_OF[verdict.outcome] for verdict in verdicts]


def completion_text(completion: str | list[dict[str, Any]]) -> str:
    """The text of a completion: itself, or the assistant's messages of a conversation."""
    if isinstance(completion, str):
        return completion
    contents = [message["content"] or "" for message in completion if message["role"] == "assistant"]
    return "\n".join(
        content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)
        for content in contents
    )
