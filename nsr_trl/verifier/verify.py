"""The door of the verifier: a response and its reference go in, a verdict comes out."""

from collections.abc import Sequence

from .equivalence import compare
from .extract import extract_answer, extract_gold
from .verdict import Outcome, Reason, Verdict


def verify(response: str, gold: str | int | float | None) -> Verdict:
    r"""
    Judges one response. Never raises, whatever the text.

    Args:
        response (`str`):
            Response of the model, with its answer in the last `\boxed{}`.
        gold (`str`, `int`, `float` or `None`):
            Reference: a bare answer, or a solution that holds it in a `\boxed{}`. Numbers are read as written, and
            `None` is a missing reference.

    Returns:
        [`Verdict`]

    Example:
    ```python
    >>> from nsr_trl import verify

    >>> verify(r"So the probability is $\boxed{\dfrac12}$.", "0.5")
    Verdict(outcome=<Outcome.CORRECT: 'correct'>, answer='\\dfrac12', reason=<Reason.NUMBER: 'number'>)
    ```
    """
    if not isinstance(response, str):
        return Verdict(Outcome.UNDECIDED, None, Reason.NOT_TEXT)
    answer = extract_answer(response)
    gold_answer = extract_gold(gold)
    if not gold_answer:
        return Verdict(Outcome.UNDECIDED, answer, Reason.GOLD_UNPARSABLE)
    if answer is None:
        return Verdict(Outcome.INCORRECT, None, Reason.NO_ANSWER)
    outcome, reason = compare(answer, gold_answer)
    return Verdict(outcome, answer, reason)


def verify_batch(responses: Sequence[str], golds: Sequence[str | int | float | None]) -> list[Verdict]:
    """
    Judges a batch of responses, each against the reference at the same place.

    Args:
        responses (`Sequence[str]`):
            Responses of the model.
        golds (`Sequence[str | int | float | None]`):
            References, one per response.

    Returns:
        `list[Verdict]`

    Raises:
        ValueError: If the numbers of responses and references differ.
    """
    if len(responses) != len(golds):
        raise ValueError(
            f"Every response needs its own reference; got {len(responses)} responses and {len(golds)} references. "
            "Repeat each reference once per response."
        )
    return [verify(response, gold) for response, gold in zip(responses, golds, strict=True)]
