"""What a verifier says: an outcome of three values, the answer it read, and why."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """Whether a response is right. Only `correct` and `incorrect` train; `undecided` weighs nothing."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    UNDECIDED = "undecided"


class Reason(StrEnum):
    """What decided, or what stood in the way. The values are stable: they are written to logs and sample files."""

    STRING = "string"
    """The answers have the same normal form: correct."""
    NUMBER = "number"
    """Both answers are exact numbers: correct if equal, incorrect if not."""
    STRUCTURE = "structure"
    """Both answers are understood part by part (lists, tuples, intervals, words), and the parts decide."""
    SYMBOLIC = "symbolic"
    """Computer algebra decided: correct if equal, incorrect if certainly different."""
    NO_ANSWER = "no answer"
    """The response has no box: incorrect, as the paper reads it."""
    GOLD_UNPARSABLE = "gold unparsable"
    """There is no reference answer to compare with: undecided."""
    NOT_TEXT = "not text"
    """The response is not a string: undecided."""
    NOT_COMPARABLE = "not comparable"
    """The answers differ in form and at least one is not understood exactly: undecided."""
    CONTESTED = "contested form"
    """Both are understood, but people disagree about the form: a rounding, undone arithmetic: undecided."""
    TOO_LARGE = "too large"
    """An answer is too long, too deep or too big a number to compare: undecided."""
    TIME_OUT = "time-out"
    """The symbolic comparison reached its deadline and was killed: undecided."""
    WORKER_DIED = "worker died"
    """The process of the symbolic comparison died, of memory or otherwise: undecided."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    The verdict on one response.

    Attributes:
        outcome ([`Outcome`]):
            Correct, incorrect or undecided.
        answer (`str` or `None`):
            The answer read from the response; `None` if it has none.
        reason ([`Reason`]):
            What decided, or what stood in the way.
    """

    outcome: Outcome
    answer: str | None
    reason: Reason
