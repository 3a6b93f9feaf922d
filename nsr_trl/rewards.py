"""The verifier in the shape TRL calls: completions and references go in, one reward per completion comes out."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .verifier import Outcome, Reason, Rule, Verdict, read_reference, verify_batch


_UNDECIDED = {rule.reason for rule in Rule if rule.outcome is Outcome.UNDECIDED}
UNDECIDED_METRICS: dict[Reason, str] = {
    reason: f"verifier/undecided/{reason.name.lower()}" for reason in Reason if reason in _UNDECIDED
}
"""Reasons for which a verdict may be undecided, and the metric that says how often it is."""
NO_ANSWER_METRIC = "verifier/no_answer"
"""The metric that says in what share of the completions there was no answer in the format asked for."""
ANSWER_ELSEWHERE_METRIC = "verifier/answer_elsewhere"
"""The metric that says in what share there was one in another format: the prompt does not ask for this one."""


_REWARD_OF = {Outcome.CORRECT: 1.0, Outcome.INCORRECT: 0.0, Outcome.UNDECIDED: None}
# what `GRPOTrainer` passes besides the columns of the dataset
_TRL_ARGUMENTS = {"prompts", "completion_ids", "trainer_state", "environments"}


def math_reward(
    completions: Sequence[str] | Sequence[list[dict[str, Any]]],
    solution: Sequence[Any] | None = None,
    answer: Sequence[Any] | None = None,
    log_extra: Callable[[str, list], None] | None = None,
    log_metric: Callable[[str, float], None] | None = None,
    grader: str = "default",
    answer_format: str = "boxed",
    **kwargs: Any,
) -> list[float | None]:
    r"""
    Reward function that verifies the answer of each completion.

    Unlike TRL's `accuracy_reward` it returns `None` for a completion it cannot decide, so that none is trained on as
    wrong because the verifier failed.

    Args:
        completions (`Sequence[str]` or `Sequence[list[dict]]`):
            Completions, as texts or as conversations whose assistant messages count.
        solution (`Sequence[Any]`, *optional*):
            Column of reference solutions, each with its answer in a `\boxed{}` or behind `####`, or of bare answers.
        answer (`Sequence[Any]`, *optional*):
            Column of reference answers, of any shape that [`read_reference`] reads. Used rather than `solution` where
            the dataset has both.
        log_extra (`Callable`, *optional*):
            Provided by the trainer. The columns `verifier/answer`, `verifier/reference`, `verifier/reason` and
            `verifier/rule` are added to its completions table.
        log_metric (`Callable`, *optional*):
            Provided by the trainer. Shares of the completions are logged: without an answer in the format asked for as
            `NO_ANSWER_METRIC`, of these with one in another format as `ANSWER_ELSEWHERE_METRIC`, and undecided by
            reason, under the names in `UNDECIDED_METRICS`.
        grader (`str`, *optional*, defaults to `"default"`):
            As in [`verify`]: `functools.partial(math_reward, grader="paper")` rewards as the paper's code does.
        answer_format (`str`, *optional*, defaults to `"boxed"`):
            As in [`verify`]: `functools.partial(math_reward, answer_format="gsm8k")` reads what is behind `####`.
        **kwargs (`Any`):
            The trainer's other arguments and the other columns of the dataset; not used.

    Returns:
        `list[float | None]`:
            1.0 for correct, 0.0 for incorrect and `None` for undecided completions.

    Raises:
        ValueError: If the dataset has neither reference column, an option is unknown, or the grader or the answer
            format is. No completion raises anything.

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
    _check_columns(kwargs | {"grader": grader, "answer_format": answer_format}, len(completions))
    texts: list[Any] = [completion_text(completion) for completion in completions]
    verdicts = verify_batch(texts, golds, grader=grader, answer_format=answer_format)
    if log_extra is not None:
        log_extra("verifier/answer", [verdict.answer or "" for verdict in verdicts])
        log_extra("verifier/reference", [read_reference(gold).text for gold in golds])
        log_extra("verifier/reason", [str(verdict.reason) for verdict in verdicts])
        log_extra("verifier/rule", [str(verdict.rule) for verdict in verdicts])
    if log_metric is not None and verdicts:
        for name, share in _shares(verdicts).items():
            log_metric(name, share)
    return [_REWARD_OF[verdict.outcome] for verdict in verdicts]


def _shares(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """All metrics of a batch, zero or not: ranks and batches without any count in the mean."""
    undecided = Counter(verdict.reason for verdict in verdicts if verdict.outcome is Outcome.UNDECIDED)
    counts = {
        NO_ANSWER_METRIC: sum(verdict.rule in (Rule.NO_BOX, Rule.NO_ANSWER) for verdict in verdicts),
        ANSWER_ELSEWHERE_METRIC: sum(verdict.reason is Reason.ANSWER_ELSEWHERE for verdict in verdicts),
        **{name: undecided[reason] for reason, name in UNDECIDED_METRICS.items()},
    }
    return {name: count / len(verdicts) for name, count in counts.items()}


def _check_columns(kwargs: Mapping[str, Any], num_completions: int) -> None:
    """Refuses what is neither a column nor the trainer's: an option that is misspelt, or that there is not."""
    for name, value in kwargs.items():
        if name in ("grader", "answer_format"):
            if not isinstance(value, str):
                raise ValueError(
                    f"`{name}` of math_reward must be one text for all completions; got {value!r:.60}. If the dataset "
                    "has a column of that name, rename it (`dataset.rename_column`)."
                )
            continue
        is_plain = value is None or isinstance(value, str | int | float | list | tuple)
        is_column = isinstance(value, list | tuple) and len(value) == num_completions
        if name not in _TRL_ARGUMENTS and is_plain and not is_column:
            raise ValueError(
                f"An argument of math_reward must be 'grader', 'answer_format' or a column with one value per "
                f"completion; got {name}={value!r:.60}. Leave it out, or correct its name."
            )


def completion_text(completion: Any) -> str | None:
    """
    The text of a completion.

    Args:
        completion (`Any`):
            A text; a conversation, whose assistant's messages count; or one message.

    Returns:
        `str` or `None`:
            The text; `None` if there is none in it that could be read.
    """
    if isinstance(completion, str):
        return completion
    messages = [completion] if isinstance(completion, Mapping) else completion
    if not isinstance(messages, list | tuple):
        return None
    texts = [text for message in messages if (text := _message_text(message)) is not None]
    return "\n".join(texts) if texts or all(isinstance(message, Mapping) for message in messages) else None


def _message_text(message: Any) -> str | None:
    """What the assistant says in a message; `None` if it is another's, or not readable."""
    if isinstance(message, str):
        return message
    if not isinstance(message, Mapping) or message.get("role", "assistant") != "assistant":
        return None
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list | tuple) else [content]
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    return "".join(text for text in texts if isinstance(text, str))
