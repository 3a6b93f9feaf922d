"""A first look at completions: some of them come in, a table and what to change come out, as text.

What a run does wrong unseen (a prompt that asks for another form of answer, references of the wrong column, a length
limit that cuts answers off) shows in eight completions of the first rollout.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

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
    """

    completion: str
    outcome: str
    answer: str = ""
    reason: str = ""
    rule: str = ""
    weight: float | None = None
    truncated: bool = False


def format_looks(looks: Sequence[Look], number: int = 8) -> str:
    """A table of some of them, evenly spaced, one line each."""
    shown = looks[:: max(len(looks) // number, 1)][:number]
    lines = [f"{'outcome':<10} {'weight':>7}  {'answer':<14}  {'rule':<20}  the completion ends with"]
    for look in shown:
        weight = "" if look.weight is None else f"{look.weight:+.2f}"
        end = " ".join(look.completion.split())[-40:]
        rule = look.rule or look.reason
        lines.append(
            f"{look.outcome:<10} {weight:>7}  {_cut(look.answer, 14):<14}  {_cut(rule, 20):<20}  {_visible(end)}"
        )
    return "\n".join(lines)


def advise(looks: Sequence[Look], answer_format: str = "boxed") -> list[str]:
    """
    What to change, where most completions say that something is wrong.

    Args:
        looks (`Sequence[Look]`):
            All that is known, not only what is shown.
        answer_format (`str`, *optional*, defaults to `"boxed"`):
            Where answers were read.

    Returns:
        `list[str]`: sentences, each with the field to change; none if all looks well
    """
    if not looks:
        return []
    outcomes = Counter(look.outcome for look in looks)
    unanswered = [look for look in looks if look.reason in NO_ANSWER]
    elsewhere = sum(look.reason == NO_ANSWER[1] for look in looks)
    cut_off = sum(look.truncated for look in looks)
    sentences = []
    if len(unanswered) > MOSTLY * len(looks):
        where = f"; {elsewhere / len(looks):.0%} have one in another form" if elsewhere else ""
        change = "answer_format (auto reads all forms), or instruction or system_prompt"
        sentences.append(
            f"{len(unanswered) / len(looks):.0%} of {len(looks)} completions have no answer in the form "
            f"{answer_format!r}{where}. Change {change}."
        )
    elif outcomes[UNDECIDED] == len(looks):
        sentences.append(
            f"None of {len(looks)} completions could be decided. Look at the references (nsr-trl verify --gold), and "
            "name their column with answer_column."
        )
    elif not outcomes[CORRECT]:
        sentences.append(
            f"None of {len(looks)} completions is correct. Look at the table: are the references those of the "
            "questions (answer_column), is the prompt one that the model knows (template), are the problems too hard "
            "for it (task)?"
        )
    if cut_off > MOSTLY * len(looks):
        sentences.append(
            f"{cut_off / len(looks):.0%} of {len(looks)} completions ran into the length limit. Raise "
            "max_completion_length."
        )
    return sentences


def _cut(text: str, width: int) -> str:
    text = _visible(" ".join(text.split()))
    return text if len(text) <= width else text[: width - 1] + "…"


def _visible(text: str) -> str:
    """A text of a model without characters that would steer a terminal."""
    return "".join(char if char.isprintable() else "·" for char in text)
