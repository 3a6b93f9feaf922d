"""Samples to read: run folders come in, text for a terminal or one self-contained page comes out, sample by sample.

A model's text may hold anything. Its control characters are spelled out, and the page never takes it for markup.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ..resources import resource
from .records import Sample, read_problems, read_samples


# C0 and C1 controls but for newline and tab, marks that reorder or hide text, line separators, lone surrogates, tags
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)

_COLORS = {"correct": "32", "incorrect": "31", "undecided": "35"}


@dataclass(frozen=True, slots=True)
class SampleFilter:
    """
    Which samples to show; `None` is any.

    Attributes:
        outcome (`str`, *optional*), reason (`str`, *optional*), rule (`str`, *optional*):
            As in a [`~evaluation.records.Sample`].
        problem (`str`, *optional*):
            Beginning of the problem's id.
        truncated (`bool`, *optional*, defaults to `False`):
            Only samples that ran into the length limit.
    """

    outcome: str | None = None
    reason: str | None = None
    rule: str | None = None
    problem: str | None = None
    truncated: bool = False

    def keeps(self, sample: Sample) -> bool:
        """Whether a sample is to be shown."""
        return (
            self.outcome in (None, sample.outcome)
            and self.reason in (None, sample.reason)
            and self.rule in (None, sample.rule)
            and sample.problem_id.startswith(self.problem or "")
            and (sample.truncated or not self.truncated)
        )


def spell_out(text: str) -> str:
    r"""Writes characters that a terminal would obey or a reader could not see as escapes, such as `\x1b`."""
    return _INVISIBLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def sample_texts(
    folders: Mapping[str, Path], chosen: SampleFilter, *, brief: bool = False, color: bool = False
) -> Iterator[str]:
    """
    Yields the samples of run folders as text, in the order in which they were recorded.

    Args:
        folders (`Mapping[str, Path]`):
            Run folder by dataset.
        chosen ([`SampleFilter`]):
            Which samples.
        brief (`bool`, *optional*, defaults to `False`):
            Leave out the completions.
        color (`bool`, *optional*, defaults to `False`):
            Colour the outcomes, for a terminal.

    Yields:
        `str`: a sample, after its problem where that is another than before
    """
    previous = None
    for dataset, folder in folders.items():
        problems = {problem["id"]: problem for problem in read_problems(folder)}
        for sample in filter(chosen.keeps, read_samples(folder, with_completions=not brief)):
            problem = problems.get(sample.problem_id, {})
            text = ""
            if previous != (previous := (dataset, sample.problem_id)):
                level = str(problem.get("level") or "")
                level = f"level {level}" if level[:1].isdigit() else level
                head = " · ".join(filter(None, [dataset, sample.problem_id, level, problem.get("subject")]))
                text = f"━━ {spell_out(head)}\n{spell_out(problem.get('question') or '(question not recorded)')}\n\n"
            yield text + _sample_text(sample, problem.get("answer"), brief, color)


def _sample_text(sample: Sample, gold: str | None, brief: bool, color: bool) -> str:
    outcome = sample.outcome
    if color:
        outcome = f"\x1b[1;{_COLORS.get(outcome, '0')}m{outcome}\x1b[0m"
    answer = "no answer" if sample.answer is None else f"answer {spell_out(sample.answer)}"
    reference = "" if gold is None else f", reference {spell_out(gold)}"
    length = f"{sample.num_tokens} tokens{', truncated' if sample.truncated else ''}"
    proof = f"{sample.reason}, {sample.rule}" if sample.rule else sample.reason
    head = f"── sample {sample.sample_index}: {outcome} ({proof}), {answer}{reference}, {length}\n"
    return head if brief else f"{head}{spell_out(sample.completion)}\n\n"


@dataclass(frozen=True, slots=True)
class PageContent:
    """
    What a page shows.

    Attributes:
        problems (`list[dict[str, Any]]`):
            Problems as JSON values, with counts over all their samples and the samples that are kept.
        note (`str`):
            How many samples are kept, and which are not.
    """

    problems: list[dict[str, Any]]
    note: str


def collect(
    folders: Mapping[str, Path], chosen: SampleFilter, max_per_problem: int, max_characters: int
) -> PageContent:
    """
    Reads what a page shows, holding no more samples in memory than it shows.

    Args:
        folders (`Mapping[str, Path]`):
            Run folder by dataset.
        chosen ([`SampleFilter`]):
            Which samples.
        max_per_problem (`int`):
            Samples kept of each outcome of each problem, the first ones.
        max_characters (`int`):
            Characters kept of a completion, half at its beginning and half at its end.

    Returns:
        [`PageContent`]
    """
    shown: list[dict[str, Any]] = []
    num_samples = num_cut = 0
    for dataset, folder in folders.items():
        rows = {problem["id"]: _problem_row(dataset, problem) for problem in read_problems(folder)}
        for sample in read_samples(folder):
            row = rows.setdefault(sample.problem_id, _problem_row(dataset, {"id": sample.problem_id}))
            row["total"] += 1
            row[sample.outcome] += 1
            if not chosen.keeps(sample):
                continue
            num_samples += 1
            if sum(kept["outcome"] == sample.outcome for kept in row["samples"]) < max_per_problem:
                num_cut += len(sample.completion) > max_characters
                row["samples"].append(_sample_row(sample, max_characters))
        shown += [row for row in rows.values() if row["samples"]]
    num_kept = sum(len(row["samples"]) for row in shown)
    note = f"{num_kept:,} of {num_samples:,} samples of {len(shown):,} problems"
    if num_kept < num_samples:
        note += f", the first {max_per_problem} of each outcome of each problem"
    if num_cut:
        note += f"; {num_cut:,} texts of more than {max_characters:,} characters are cut in the middle"
    return PageContent(shown, note)


def _problem_row(dataset: str, problem: Mapping[str, Any]) -> dict[str, Any]:
    texts = {"question": "question", "gold": "answer", "level": "level", "subject": "subject"}
    row: dict[str, Any] = {
        name: None if problem.get(key) is None else spell_out(str(problem[key])) for name, key in texts.items()
    }
    counts: dict[str, Any] = {"total": 0, "correct": 0, "incorrect": 0, "undecided": 0}
    return {"id": problem["id"], "dataset": dataset, "samples": []} | row | counts


def _sample_row(sample: Sample, max_characters: int) -> dict[str, Any]:
    completion = sample.completion
    if len(completion) > max_characters:
        half = max_characters // 2
        left_out = len(completion) - 2 * half
        completion = f"{completion[:half]}\n[{left_out:,} characters left out]\n{completion[len(completion) - half :]}"
    return {
        "index": sample.sample_index,
        "outcome": sample.outcome,
        "reason": sample.reason,
        "rule": sample.rule,
        "answer": None if sample.answer is None else spell_out(sample.answer[:max_characters]),
        "tokens": sample.num_tokens,
        "truncated": sample.truncated,
        "completion": spell_out(completion),
    }


def page(title: str, content: PageContent) -> str:
    """
    Returns one HTML page that needs nothing else and lets nothing in.

    Its Content-Security-Policy allows the page's own script and style by their hashes, and no request at all.
    """
    title = spell_out(title)
    data = {"title": title, "note": content.note, "problems": content.problems}
    template = resource("templates", "viewer.html").read_text(encoding="utf-8")
    (style,), (script,) = (re.findall(f"<{tag}>(.*?)</{tag}>", template, re.DOTALL) for tag in ("style", "script"))
    policy = f"default-src 'none'; style-src '{_sha256(style)}'; script-src '{_sha256(script)}'; base-uri 'none'"
    # < is written as \u003c, so that no text can end the script element that holds it
    values = {"policy": policy, "title": escape(title), "data": json.dumps(data).replace("<", "\\u003c")}
    return re.sub("{{(policy|title|data)}}", lambda match: values[match[1]], template)


def _sha256(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
