"""Grading a file: rows of responses and references go in, counts, throughput and the slowest rows come out."""

import codecs
import json
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from .evaluation.records import PROBLEMS, read_problems
from .problem import ANSWER_COLUMNS, find_column
from .verifier import Outcome, Reference, Verdict, read_reference, verify, verify_batch
from .verifier.reference import near_miss
from .verifier.sandbox import default_num_workers


RESPONSE_COLUMNS = ("response", "completion", "completions", "output")
"""Names under which a response is looked for, in this order."""
GOLD_COLUMNS = ("gold", *ANSWER_COLUMNS)
"""Names under which a reference is looked for, in this order."""

SAMPLE_COLUMNS = {"problem_id", "sample_index", "completion"}
"""What the samples of an evaluation have; their `answer` is what the model answered."""


@dataclass(frozen=True, slots=True)
class Grade:
    """
    The verdict on a row.

    Attributes:
        row (`int`):
            Number of the row in the file, from 0.
        verdict ([`Verdict`]):
            The verdict.
        seconds (`float`):
            How long it took.
    """

    row: int
    verdict: Verdict
    seconds: float


def read_rows(
    path: str | Path, response_column: str | None = None, gold_column: str | None = None
) -> list[tuple[Any, Any]]:
    """
    Reads responses and references from a file.

    Args:
        path (`str` or `Path`):
            A `.jsonl` or `.parquet` file.
        response_column (`str`, *optional*):
            Column of the responses. Defaults to the first of `RESPONSE_COLUMNS` present.
        gold_column (`str`, *optional*):
            Column of the references. Defaults to the first of `GOLD_COLUMNS` present; the samples of an evaluation
            have theirs in the `problems.jsonl` beside them.

    Returns:
        `list[tuple[Any, Any]]`: response and reference of each row.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a folder, the file is of another kind or empty, a line is not a JSON object, or a column
            cannot be told.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(
            f"What is graded must be a file; {str(path)!r} is a folder. To read the verdicts of an evaluation: "
            f"nsr-trl show {shlex.quote(str(path))} --explain; to grade it anew, name its samples.jsonl."
        )
    if path.suffix not in (".jsonl", ".parquet"):
        raise ValueError(f"The file must end in .jsonl or .parquet; got {path.name!r}. Convert it, or rename it.")
    if not path.is_file():
        raise FileNotFoundError(f"The file must exist; there is none at {str(path)!r}. Correct the path.")
    rows = list(_json_rows(path) if path.suffix == ".jsonl" else _parquet_rows(path))
    if not rows:
        raise ValueError(f"A file to grade must have rows; {str(path)!r} has none. Name another.")
    response_column = find_column(rows[0], "response", response_column, RESPONSE_COLUMNS)
    if gold_column is None and rows[0].keys() >= SAMPLE_COLUMNS:
        references = _references_beside(path)
        return [(row.get(response_column), references.get(str(row.get("problem_id")))) for row in rows]
    gold_column = find_column(rows[0], "gold", gold_column, GOLD_COLUMNS)
    return [(row.get(response_column), row.get(gold_column)) for row in rows]


def _references_beside(samples: Path) -> dict[str, Any]:
    """References by problem id, of an evaluation whose samples these are."""
    if not samples.with_name(PROBLEMS).is_file():
        raise ValueError(
            f"Samples of an evaluation are graded by the references in {PROBLEMS} beside them; "
            f"{str(samples.parent)!r} has none. Copy it there, or name a column of references with --gold-column."
        )
    return {problem["id"]: problem.get("answer") for problem in read_problems(samples.parent)}


def grade(
    rows: Sequence[tuple[Any, Any]],
    grader: str = "default",
    answer_format: str = "boxed",
    num_workers: int | None = None,
    show_progress: bool = True,
) -> tuple[list[Grade], float]:
    """
    Verifies each response against its reference, as many at a time as there are workers.

    Args:
        rows (`Sequence[tuple[Any, Any]]`):
            Responses and references.
        grader (`str`, *optional*, defaults to `"default"`):
            As in [`verify`].
        answer_format (`str`, *optional*, defaults to `"boxed"`):
            As in [`verify`].
        num_workers (`int`, *optional*):
            As in [`verify_batch`].
        show_progress (`bool`, *optional*, defaults to `True`):
            Show a progress line.

    Returns:
        `tuple[list[Grade], float]`: one grade per row, and the seconds that all took.
    """

    def grade_row(number: int) -> Grade:
        began = time.perf_counter()
        verdict = verify(*rows[number], grader=grader, answer_format=answer_format)
        return Grade(number, verdict, time.perf_counter() - began)

    began = time.perf_counter()
    # threads rather than one batch, so that every row has a time of its own
    with ThreadPoolExecutor(num_workers or default_num_workers()) as pool:
        results = pool.map(grade_row, range(len(rows)))
        grades = list(tqdm(results, total=len(rows), unit="row", desc="verify", disable=not show_progress))
    return grades, time.perf_counter() - began


def format_grades(grades: Sequence[Grade], seconds: float, num_slowest: int = 5) -> str:
    """Returns the report: outcomes, reasons, rules, throughput and the slowest rows."""
    lines = [f"{len(grades)} rows in {seconds:.1f} s, {len(grades) / max(seconds, 1e-9):,.0f} per second", ""]
    outcomes = Counter(grade.verdict.outcome for grade in grades)
    lines += [_count(str(outcome), outcomes[outcome], len(grades)) for outcome in Outcome]
    lines.append("")
    for field in ("reason", "rule"):
        counts = Counter((str(grade.verdict.outcome), str(getattr(grade.verdict, field))) for grade in grades)
        lines += [
            _count(f"{outcome}: {value}", count, len(grades)) for (outcome, value), count in counts.most_common()
        ]
        lines.append("")
    lines.append("slowest rows")
    for grade in sorted(grades, key=lambda grade: grade.seconds, reverse=True)[:num_slowest]:
        answer = "" if grade.verdict.answer is None else f" {grade.verdict.answer!r:.60}"
        lines.append(f"  row {grade.row}: {grade.seconds * 1000:,.1f} ms, {grade.verdict.rule}{answer}")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class ReferenceCheck:
    """
    What can be said of a reference before there is any response.

    Attributes:
        row (`int`):
            Number of the row, from 0.
        reference ([`~verifier.Reference`]):
            The reference, read.
        itself (`Outcome`):
            The outcome of the reference as an answer to itself.
        near_miss (`str` or `None`):
            A wrong answer; `None` if none is known.
        missed (`Outcome`):
            The outcome of that wrong answer; undecided if there is none.
    """

    row: int
    reference: Reference
    itself: Outcome
    near_miss: str | None
    missed: Outcome

    @property
    def is_usable(self) -> bool:
        """Whether a right answer can be correct, and a wrong one is not."""
        is_right = self.itself is Outcome.CORRECT and self.missed is not Outcome.CORRECT
        return not self.reference.problem and is_right

    @property
    def tells_wrong_answers(self) -> bool:
        """Whether a wrong answer is called incorrect, rather than left undecided."""
        return self.missed is Outcome.INCORRECT


def check_references(golds: Sequence[Any]) -> list[ReferenceCheck]:
    """
    Reads references, and judges each as an answer to itself, and a near miss of it.

    Args:
        golds (`Sequence[Any]`):
            References, of any shape that [`~verifier.read_reference`] reads.

    Returns:
        `list[ReferenceCheck]`: one per reference.
    """
    references = [read_reference(gold) for gold in golds]
    misses = [near_miss(reference) for reference in references]
    verdicts = verify_batch(
        [
            f"\\boxed{{{text or ''}}}"
            for reference, miss in zip(references, misses, strict=True)
            for text in (reference.text, miss)
        ],
        [reference.answer for reference in references for _ in range(2)],
    )
    outcomes = [verdict.outcome for verdict in verdicts]
    return [
        ReferenceCheck(row, reference, itself, miss, Outcome.UNDECIDED if miss is None else missed)
        for row, (reference, miss, itself, missed) in enumerate(
            zip(references, misses, outcomes[::2], outcomes[1::2], strict=True)
        )
    ]


def format_checks(checks: Sequence[ReferenceCheck], questions: Sequence[str], max_shown: int = 20) -> str:
    """Returns the report on references: how many are understood and as what, and which are not usable."""
    kinds = Counter(check.reference.kind for check in checks if not check.reference.problem)
    num_told = sum(check.tells_wrong_answers for check in checks)
    lines = [f"{sum(kinds.values()):,} of {len(checks):,} references are understood"]
    lines += [_count(kind, count, len(checks)) for kind, count in kinds.most_common()]
    lines.append(f"{num_told:,} of {len(checks):,} near misses are called incorrect")
    unusable = [check for check in checks if not check.is_usable]
    quiet = [check for check in checks if check.is_usable and not check.tells_wrong_answers]
    if unusable:
        lines += ["", f"{len(unusable):,} of {len(checks):,} references cannot be used"]
        lines += [_checked(check, questions[check.row]) for check in unusable[:max_shown]]
    if quiet:
        lines += ["", f"{len(quiet):,} of {len(checks):,} references leave wrong answers undecided"]
        lines += [_checked(check, questions[check.row]) for check in quiet[:max_shown]]
    return "\n".join(lines)


def _checked(check: ReferenceCheck, question: str) -> str:
    problem = check.reference.problem
    if not problem and check.itself is not Outcome.CORRECT:
        problem = f"it is {check.itself} as an answer to itself"
    elif not problem:
        has_miss = check.near_miss is not None
        problem = f"{check.near_miss!r} is {check.missed}" if has_miss else "no wrong answer to it is known"
    return f"  row {check.row}: {problem}, reference {check.reference.text!r:.60}, problem {question!r:.60}"


def _count(label: str, count: int, total: int) -> str:
    return f"  {label:<32}{count:>10,}{count / max(total, 1):>9.2%}"


def _json_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            text = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).strip()
            if not text:
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError):  # no JSON, or no UTF-8
                row = None
            if not isinstance(row, dict):
                shown = text.decode(errors="backslashreplace")
                raise ValueError(
                    f"Each line of {path.name} must be a JSON object in UTF-8; line {number} is {shown!r:.80}. "
                    "Mend or remove it."
                )
            yield row


def _parquet_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(
            f"A .parquet file must be one that can be read; {str(path)!r} cannot ({error}). Write it anew."
        ) from error
