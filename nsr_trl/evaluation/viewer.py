"""Samples to read: run folders come in, text for a terminal or one self-contained page comes out, sample by sample.

A model's text may hold anything. Its control characters are spelled out, and the page never takes it for markup.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ..choices import OUTCOMES
from ..resources import resource
from ..verifier.explain import explain, explain_rule
from ..verifier.verdict import RULES
from .completions import read_completions
from .records import CONFIG, Sample, read_json, read_problems, read_samples
from .visible import spell_out


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
            and self.reason in (None, sample.reason.partition(", ")[0])  # a training run's has its weight behind it
            and self.rule in (None, sample.rule)
            and sample.problem_id.startswith(self.problem or "")
            and (sample.truncated or not self.truncated)
        )


def sample_texts(
    folders: Mapping[str, Path],
    chosen: SampleFilter,
    *,
    brief: bool = False,
    color: bool = False,
    explained: bool = False,
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
        explained (`bool`, *optional*, defaults to `False`):
            Add what the verifier reads of answer and reference, and the rule that decides.

    Yields:
        `str`: a sample, after its problem where that is another than before

    Raises:
        ValueError: If a verdict is to be explained that is not of the verifier's default rules, or has no reference.
    """
    previous = None
    for dataset, folder in folders.items():
        listed, samples = _read(folder, with_completions=explained or not brief)
        tell = _explainer(folder, listed) if explained else None
        problems = {problem["id"]: problem for problem in listed}
        for sample in filter(chosen.keeps, samples):
            problem = problems[sample.problem_id]
            text = ""
            if previous != (previous := (dataset, sample.problem_id)):
                level = str(problem.get("level") or "")
                level = f"level {level}" if level[:1].isdigit() else level
                head = " · ".join(filter(None, [dataset, sample.problem_id, level, problem.get("subject")]))
                text = f"━━ {spell_out(head)}\n{spell_out(problem.get('question') or '(question not recorded)')}\n\n"
            text += _sample_text(sample, problem.get("answer"), brief, color)
            if tell:
                text += f"{spell_out(tell(sample, problem.get('answer')))}\n\n"
            yield text


def _explainer(source: Path, problems: Sequence[Mapping[str, Any]]) -> Callable[[Sample, Any], str]:
    """What explains a sample by its reference; a ValueError tells why the verifier cannot."""
    if source.suffix == ".parquet":
        if all(problem["answer"] is None for problem in problems):
            raise ValueError(
                f"Verdicts are explained by their references, which math_reward records; {source.name} has none. "
                "Give both sides: nsr-trl verify --explain RESPONSE REFERENCE."
            )
        return lambda sample, gold: explain_rule(sample.answer, gold, RULES[sample.rule])
    config = read_json(source / CONFIG)
    judge = config.get("reward") or config.get("grader")
    if judge is not None:
        raise ValueError(
            f"Verdicts are explained where the verifier's default rules decided; those of {str(source)!r} are of "
            f"{judge!r}. Leave --explain out."
        )
    answer_format = str(config.get("answer_format", "boxed"))
    return lambda sample, gold: explain(sample.completion, gold, answer_format=answer_format)


def _read(source: Path, with_completions: bool = True) -> tuple[list[dict[str, Any]], Iterable[Sample]]:
    """The problems and samples of a run folder, or of a table of completions."""
    if source.suffix == ".parquet":
        return read_completions(source)
    return read_problems(source), read_samples(source, with_completions)


def _sample_text(sample: Sample, gold: str | None, brief: bool, color: bool) -> str:
    outcome = sample.outcome
    if color:
        outcome = f"\x1b[1;{_COLORS.get(outcome, '0')}m{outcome}\x1b[0m"
    answer = "no answer" if sample.answer is None else f"answer {spell_out(sample.answer)}"
    reference = "" if gold is None else f", reference {spell_out(gold)}"
    length = ", ".join(_length(sample))
    proof = spell_out(f"{sample.reason}, {sample.rule}" if sample.rule else sample.reason)
    head = f"── sample {sample.sample_index}: {outcome} ({proof}), {answer}{reference}{length and ', '}{length}\n"
    return head if brief else f"{head}{spell_out(sample.completion)}\n\n"


def _length(sample: Sample) -> Iterator[str]:
    if sample.num_tokens:  # else it was not recorded
        yield f"{sample.num_tokens} tokens"
    if sample.truncated:
        yield "truncated"


@dataclass(frozen=True, slots=True)
class PageContent:
    """
    What a page shows.

    Attributes:
        problems (`list[dict[str, Any]]`):
            Problems as JSON values, with counts over all their samples and the samples that are kept: equal ones once,
            with their number. The same of another run on the problem is `other`.
        note (`str`):
            How many samples are kept, and which are not.
        names (`tuple[str, ...]`):
            What the two runs are called, where there are two.
    """

    problems: list[dict[str, Any]]
    note: str
    names: tuple[str, ...] = ()


def collect(
    folders: Mapping[str, Path],
    chosen: SampleFilter,
    max_per_problem: int,
    max_characters: int,
    other: Mapping[str, Path] | None = None,
    names: tuple[str, ...] = (),
) -> PageContent:
    """
    Reads what a page shows, holding no more samples in memory than it shows.

    Args:
        folders (`Mapping[str, Path]`):
            Run folder, or table of completions, by dataset.
        chosen ([`SampleFilter`]):
            Which samples.
        max_per_problem (`int`):
            Different samples kept of each outcome of each problem, the first ones.
        max_characters (`int`):
            Characters kept of a completion, half at its beginning and half at its end.
        other (`Mapping[str, Path]`, *optional*):
            Another run, whose samples of the same problems stand beside these. Runs of one dataset each are taken to
            be of the same one.
        names (`tuple[str, ...]`, *optional*):
            What to call the two.

    Returns:
        [`PageContent`]
    """
    kept = _Kept(chosen, max_per_problem, max_characters)
    shown: list[dict[str, Any]] = []
    for dataset, folder in folders.items():
        problems, samples = _read(folder)
        rows = {problem["id"]: _problem_row(dataset, problem) for problem in problems}
        kept.add(samples, rows)
        if other:
            beside = other.get(dataset) or (next(iter(other.values())) if len(other) == len(folders) == 1 else None)
            for row in rows.values():
                row["other"] = _counts()
            if beside is not None:
                kept.add(_read(beside)[1], {id: row["other"] for id, row in rows.items()})
        shown += [row for row in rows.values() if row["samples"] or row.get("other", {}).get("samples")]
    return PageContent(shown, kept.note(len(shown)), names if other else ())


class _Kept:
    """Collects the samples to show, and counts all."""

    def __init__(self, chosen: SampleFilter, max_per_problem: int, max_characters: int) -> None:
        self.chosen, self.max_per_problem, self.max_characters = chosen, max_per_problem, max_characters
        self.num_samples = self.num_kept = self.num_cut = 0

    def add(self, samples: Iterable[Sample], rows: Mapping[str, dict[str, Any]]) -> None:
        """Counts samples in the rows of their problems, and keeps some there; equal ones once, with their number."""
        equals: dict[tuple[Any, ...], dict[str, Any]] = {}
        for sample in samples:
            row = rows.get(sample.problem_id)
            if row is None:  # of a problem that only the other run has
                continue
            row["total"] += 1
            row[sample.outcome] += 1
            if not self.chosen.keeps(sample):
                continue
            self.num_samples += 1
            verdict = sample.outcome, sample.answer, sample.reason, sample.rule, sample.truncated
            key = (sample.problem_id, *verdict, hash(sample.completion))
            if same := equals.get(key):
                same["count"] += 1
                self.num_kept += 1
            elif sum(each["outcome"] == sample.outcome for each in row["samples"]) < self.max_per_problem:
                self.num_cut += len(sample.completion) > self.max_characters
                self.num_kept += 1
                equals[key] = _sample_row(sample, self.max_characters)
                row["samples"].append(equals[key])

    def note(self, num_problems: int) -> str:
        """How many samples are kept, and which are not."""
        note = f"{self.num_kept:,} of {self.num_samples:,} samples of {num_problems:,} problems"
        if self.num_kept < self.num_samples:
            note += f", the first {self.max_per_problem} of each outcome of each problem"
        if self.num_cut:
            note += f"; {self.num_cut:,} texts of more than {self.max_characters:,} characters are cut in the middle"
        return note


def _counts() -> dict[str, Any]:
    return {"samples": [], "total": 0} | dict.fromkeys(OUTCOMES, 0)


def _problem_row(dataset: str, problem: Mapping[str, Any]) -> dict[str, Any]:
    texts = {"question": "question", "gold": "answer", "level": "level", "subject": "subject"}
    row: dict[str, Any] = {
        name: None if problem.get(key) is None else spell_out(str(problem[key])) for name, key in texts.items()
    }
    return {"id": problem["id"], "dataset": dataset} | row | _counts()


def _sample_row(sample: Sample, max_characters: int) -> dict[str, Any]:
    completion = sample.completion
    if len(completion) > max_characters:
        half = max_characters // 2
        left_out = len(completion) - 2 * half
        completion = f"{completion[:half]}\n[{left_out:,} characters left out]\n{completion[len(completion) - half :]}"
    return {
        "index": sample.sample_index,
        "count": 1,
        "outcome": sample.outcome,
        "reason": spell_out(sample.reason),
        "rule": spell_out(sample.rule),
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
    names = [spell_out(name) for name in content.names]
    data = {"title": title, "note": content.note, "names": names, "problems": content.problems}
    template = resource("templates", "viewer.html").read_text(encoding="utf-8")
    (style,), (script,) = (re.findall(f"<{tag}>(.*?)</{tag}>", template, re.DOTALL) for tag in ("style", "script"))
    policy = f"default-src 'none'; style-src '{_sha256(style)}'; script-src '{_sha256(script)}'; base-uri 'none'"
    # < is written as \u003c, so that no text can end the script element that holds it
    values = {"policy": policy, "title": escape(title), "data": json.dumps(data).replace("<", "\\u003c")}
    return re.sub("{{(policy|title|data)}}", lambda match: values[match[1]], template)


def _sha256(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
