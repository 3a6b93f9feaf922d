"""What the verifier read and which rule decided: a response and its reference go in, lines for a person come out."""

from typing import Any

from .equivalence import readings_of_text
from .expressions import Ambiguity
from .extract import extract
from .reference import read_reference
from .verdict import Reason, Rule
from .verify import verify
from .writing import kind_of, write


def explain(response: str, gold: Any, *, answer_format: str = "boxed") -> str:
    r"""
    Tells how one response is judged.

    Args:
        response (`str`):
            Response of the model.
        gold (`Any`):
            As in [`verify`].
        answer_format (`str`, *optional*, defaults to `"boxed"`):
            As in [`verify`].

    Returns:
        `str`: the answer and the reference as they were read, the readings they may have besides, and the rule.

    Example:
    ```python
    >>> print(explain(r"\boxed{0.5}", r"\frac12"))
    answer     0.5
      read as  number: \frac{1}{2}
    reference  \frac12
      read as  number: \frac{1}{2}
    verdict    correct by number.same: exact numbers, and equal
    ```
    """
    verdict = verify(response, gold, answer_format=answer_format)
    elsewhere = ""
    if verdict.reason is Reason.ANSWER_ELSEWHERE:
        answer = extract(response, "auto").answer
        elsewhere = f"{answer}: not in the form {answer_format!r}; the form 'auto' reads it"
    return explain_rule(verdict.answer, gold, verdict.rule, elsewhere)


def explain_rule(answer: str | None, gold: Any, rule: Rule, elsewhere: str = "") -> str:
    """The same of a verdict that is known: by its answer and its rule, and with what is said of another answer."""
    reference = read_reference(gold)
    lines = [*_side("answer", answer), *_side("reference", reference.text or None, reference.missing)]
    if elsewhere:
        lines.append(f"{'elsewhere':<11}{elsewhere}")
    return "\n".join([*lines, f"{'verdict':<11}{rule.outcome} by {rule}: {rule.meaning}"])


def _side(name: str, text: str | None, missing: str = "") -> list[str]:
    if text is None:
        return [f"{name:<11}none{f', {missing}' if missing else ''}"]
    lines = [f"{name:<11}{text}"]
    readings = readings_of_text(text)
    if not readings:
        return [*lines, "  read as  too large"]
    written = write(readings[0].node)
    lines.append(f"  read as  {kind_of(readings[0].node)}{written and ': '}{written}")
    others = {write(reading.node): None for reading in readings[1:]}
    others.pop(write(readings[0].node), None)
    if others:
        met: list[Ambiguity] = sorted(readings[0].choices)
        lines += [f"  or as    {other}" for other in others]
        lines += [f"  for      {ambiguity.meaning}" for ambiguity in met]
    return lines
