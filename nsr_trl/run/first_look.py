"""A first look at completions: some of them come in, a table and what to change come out, as text.

What a run does wrong unseen (a prompt that asks for another form of answer, references of the wrong column, a length
limit that cuts answers off) shows in eight completions of the first rollout. Of an evaluation all are looked at.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..choices import OUTCOMES


CORRECT, INCORRECT, UNDECIDED = OUTCOMES
MOSTLY = 0.5
"""Share of completions from which something is said of them."""
NO_ANSWER = ("no answer", "answer elsewhere")
"""Reasons for which an answer was not found where it was asked for."""


@dataclass(frozen=True)
class Look:
    """
    A completion and what was made of it.

    Attributes:
        completion (`str`):
            The text.
        outcome (`str`):
            `"correct"`, `"incorrect"` or `"undecided"`.
        answer (`str`), reason (`str`), rule (`str`):
            What the verifier read and why; empty where a reward function decides.
        weight (`float`, *optional*):
            Signed weight in training, where there is one.
        truncated (`bool`):
            Whether it ran into the length limit.
        reference (`str`):
            What the verifier compared the answer with.
    """

    completion: str
    outcome: str
    answer: str = ""
    reason: str = ""
    rule: str = ""
    weight: float | None = None
    truncated: bool = False
    reference: str = ""


class Judged(Protocol):
    """What is asked of a completion to advise: a [`Look`], or a sample of an evaluation."""

    @property
    def outcome(self) -> str: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102
    @property
    def truncated(self) -> bool: ...  # noqa: D102


def format_looks(looks: Sequence[Look], number: int = 8) -> str:
    """A table of some of them, evenly spaced, one line each."""
    shown = looks[:: max(len(looks) // number, 1)][:number]
    lines = [
        f"{'outcome':<10} {'weight':>7}  {'answer':<14}  {'reference':<14}  {'rule':<20}  the completion ends with"
    ]
    for look in shown:
        weight = "" if look.weight is None else f"{look.weight:+.2f}"
        end = " ".join(look.completion.split())[-40:]
        compared = f"{_cut(look.answer, 14):<14}  {_cut(look.reference, 14):<14}"
        rule = _cut(look.rule or look.reason, 20)
        lines.append(f"{look.outcome:<10} {weight:>7}  {compared}  {rule:<20}  {_visible(end)}")
    return "\n".join(lines)


def as_flag(field: str) -> str:
    """How `nsr-trl evaluate` calls a field of a training run."""
    return "--" + {"max_completion_length": "max_new_tokens"}.get(field, field).replace("_", "-")


def advise(
    looks: Iterable[Judged],
    answer_format: str = "boxed",
    name: Callable[[str], str] = str,
    table: str = "the table",
) -> list[str]:
    """
    What to change, where most completions say that something is wrong.

    Args:
        looks (`Iterable[Judged]`):
            All that is known, not only what is shown.
        answer_format (`str`, *optional*, defaults to `"boxed"`):
            Where answers were read.
        name (`Callable`, *optional*, defaults to `str`):
            How the reader calls a field, such as [`as_flag`].
        table (`str`, *optional*, defaults to `"the table"`):
            Where completions can be seen.

    Returns:
        `list[str]`: sentences, each with the field to change; none if all looks well
    """
    outcomes, reasons, cut_off = Counter[str](), Counter[str](), 0
    for look in looks:
        outcomes[look.outcome] += 1
        reasons[look.reason] += 1
        cut_off += look.truncated
    count = outcomes.total()
    unanswered, elsewhere = sum(reasons[reason] for reason in NO_ANSWER), reasons[NO_ANSWER[1]]
    sentences = []
    if unanswered > MOSTLY * count:
        where = f"; {elsewhere / count:.0%} have one in another form" if elsewhere else ""
        asked, change = f"in the form {answer_format!r}", f"{name('answer_format')} (auto reads all forms), or "
        if answer_format == "auto":
            asked, change = "in any form", ""
        sentences.append(
            f"{unanswered / count:.0%} of {count:,} completions have no answer {asked}{where}. Change {change}what "
            f"asks for it: {name('template')}, {name('instruction')} or {name('system_prompt')}."
        )
    elif count and outcomes[UNDECIDED] == count:
        sentences.append(
            f"None of {count:,} completions could be decided. Look at the references (nsr-trl verify --gold), and "
            f"name their column with {name('answer_column')}."
        )
    elif count and not outcomes[CORRECT]:
        sentences.append(
            f"None of {count:,} completions is correct. Look at {table}: are the references those of the questions "
            f"({name('answer_column')}), is the prompt one that the model knows ({name('template')}), are the "
            f"problems too hard for it ({name('task')})?"
        )
    if cut_off > MOSTLY * count:
        sentences.append(
            f"{cut_off / count:.0%} of {count:,} completions ran into the length limit. Raise "
            f"{name('max_completion_length')}, if they are not loops of a prompt that the model does not know "
            f"({name('template')})."
        )
    return sentences


def _cut(text: str, width: int) -> str:
    text = _visible(" ".join(text.split()))
    return text if len(text) <= width else text[: width - 1] + "…"


def _visible(text: str) -> str:
    """A text of a model without characters that would steer a terminal."""
    return "".join(char if char.isprintable() else "·" for char in text)
