"""Two evaluations of the same problems, compared: differences of Pass@k with intervals, a verdict per k, crossovers.

P shared problems, k attempts. A difference is always run - base.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import pairwise
from textwrap import fill
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pass_at_k import Estimate, estimate_means, pass_at_k
from .results import Evaluation, align, estimate_pass_at_k, facts, percent
from .visible import one_line


SIGNIFICANCE = 0.05
"""A p-value up to this, of a test that needs no large number of problems, goes with a 95% interval."""

_ROUNDING = 1e-12
"""What equal estimates may differ by, where they come from other products."""


class Verdict(StrEnum):
    """Where a run stands to its base at one k."""

    ABOVE = "above"
    BELOW = "below"
    INDISTINCT = "not distinguishable"


@dataclass(frozen=True, slots=True)
class Contrast:
    """
    A run and its base at one k, on the problems that both have.

    Attributes:
        base (`Estimate`), run (`Estimate`):
            Mean Pass@k with its 95% interval.
        difference (`Estimate`):
            Mean of the paired differences, run - base, with its 95% interval.
        p_value (`float`):
            Of the paired permutation test, see [`permutation_p_values`].
        adjusted_p_value (`float`):
            The same, corrected for all the k that are compared, see [`adjusted_p_values`].
    """

    base: Estimate
    run: Estimate
    difference: Estimate
    p_value: float
    adjusted_p_value: float = 1.0

    @property
    def verdict(self) -> Verdict:
        """Above or below if the difference's interval leaves out 0 and the permutation test agrees."""
        if self.p_value > SIGNIFICANCE or self.difference.low <= 0 <= self.difference.high:
            return Verdict.INDISTINCT
        return Verdict.ABOVE if self.difference.value > 0 else Verdict.BELOW


@dataclass(frozen=True, slots=True)
class Crossing:
    """
    Where two Pass@k curves change sides.

    Attributes:
        k (`int`):
            Crossover: the smallest k, of all whole numbers, from which to `end` the estimate stays on the new side.
        start (`int`), end (`int`):
            The compared k between which it lies.
        is_distinguishable (`bool`):
            Whether the verdicts at `start` and `end` are opposite. If not, only the estimates change sides.
    """

    k: int
    start: int
    end: int
    is_distinguishable: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    An evaluation compared with a base.

    Attributes:
        base_name (`str`), run_name (`str`):
            What to call the two.
        dataset (`str`):
            Where the problems are from, may be empty.
        base (`Evaluation`), run (`Evaluation`):
            The two as they were given, on all their problems.
        num_shared (`int`):
            P, the problems that both have, on which they are compared.
        contrasts (`dict[int, Contrast]`):
            The comparison by k.
        crossings (`tuple[Crossing, ...]`):
            Crossings that the verdicts show; where they show none, those of the estimates alone.
    """

    base_name: str
    run_name: str
    dataset: str
    base: Evaluation
    run: Evaluation
    num_shared: int
    contrasts: dict[int, Contrast]
    crossings: tuple[Crossing, ...]

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON values, without the counts per problem, which the run folders have."""
        sides = {self.base_name: self.base, self.run_name: self.run}
        return {
            "dataset": self.dataset,
            "base": self.base_name,
            "run": self.run_name,
            "num_shared": self.num_shared,
            "num_problems": {name: len(side.num_correct) for name, side in sides.items()},
            "num_samples": {name: side.num_samples for name, side in sides.items()},
            "pass_at_k": {k: asdict(c) | {"verdict": str(c.verdict)} for k, c in self.contrasts.items()},
            "crossings": [asdict(crossing) for crossing in self.crossings],
        }

    def table(self, width: int | None = None) -> str:
        """
        The comparison as a text table, with sentences on what it does not show.

        Args:
            width (`int`, *optional*):
                Columns that a terminal has. Where the table has more, the intervals of the two sides are left out, and
                a verdict that is neither above nor below is called neither.
        """
        tables, remarks = [align(self._rows())], list(self._remarks())
        if width is not None:
            remarks = [fill(remark, width) for remark in remarks]
            if max(map(len, tables[0].splitlines())) > width:
                tables = [align(rows) for rows in self._brief_rows()]
        return "\n\n".join(filter(None, [*tables, "\n".join(remarks)]))

    def markdown(self) -> str:
        """The comparison as a Markdown table with the same sentences."""
        header, *rows = self._rows()
        rule = ["---", *["---:"] * (len(header) - 2), "---"]
        lines = [f"| {' | '.join(map(_escape_markdown, row))} |" for row in (header, *rows)]
        lines.insert(1, f"| {' | '.join(rule)} |")
        return "\n\n".join(filter(None, ["\n".join(lines), "\n".join(map(_escape_markdown, self._remarks()))]))

    def _rows(self) -> list[list[str]]:
        rows = [["", self.base_name, self.run_name, f"{self.run_name} - {self.base_name}", "p", "verdict"]]
        for k, contrast in self.contrasts.items():
            cells = [percent(contrast.base), percent(contrast.run), percent(contrast.difference, "+")]
            rows.append([f"Pass@{k}", *cells, format_p(contrast.p_value), contrast.verdict])
        facts_of_run = facts(self.run)
        return rows + [[label, fact, facts_of_run[label], "", "", ""] for label, fact in facts(self.base).items()]

    def _brief_rows(self) -> tuple[list[list[str]], list[list[str]]]:
        """The rows of a narrow terminal: without the intervals of the sides, and what is no contrast apart."""
        header, *rows = self._rows()
        names = [one_line(name, 10) for name in header[1:3]]
        contrasts, others = [["", *names, "difference", *header[4:]]], [["", *names]]
        for label, base, run, *rest in rows:
            sides = [side.split(" [")[0] for side in (base, run)]
            if label.startswith("Pass@"):
                difference, p_value, verdict = rest
                contrasts.append([label, *sides, difference, p_value, verdict.replace(Verdict.INDISTINCT, "neither")])
            else:
                others.append([label, *sides])
        return contrasts, others

    def _remarks(self) -> Iterator[str]:
        if not self.num_shared == len(self.base.num_correct) == len(self.run.num_correct):
            yield (
                f"On the {self.num_shared} problems that both have, of {len(self.base.num_correct)} of "
                f"{self.base_name} and {len(self.run.num_correct)} of {self.run_name}."
            )
        yield from self._remarks_on_verdicts()
        for crossing in self.crossings:
            if crossing.is_distinguishable:
                start, end = self.contrasts[crossing.start].verdict, self.contrasts[crossing.end].verdict
                yield (
                    f"The curves cross at k = {crossing.k}: {self.run_name} is {start} {self.base_name} at "
                    f"k = {crossing.start} and {end} at k = {crossing.end}."
                )
        changes = [str(crossing.k) for crossing in self.crossings if not crossing.is_distinguishable]
        if changes:
            yield f"The estimates change sides at k = {', '.join(changes)}, not distinguishably: no crossover shown."

    def _remarks_on_verdicts(self) -> Iterator[str]:
        disagreeing = [
            str(k)
            for k, c in self.contrasts.items()
            if c.verdict == Verdict.INDISTINCT and not c.difference.low <= 0 <= c.difference.high
        ]
        if disagreeing:
            yield (
                f"At k = {', '.join(disagreeing)} the interval leaves out 0 and the permutation test does not agree "
                f"(p > {SIGNIFICANCE}): with few problems an interval is too narrow."
            )
        called = [k for k, c in self.contrasts.items() if c.verdict != Verdict.INDISTINCT]
        if called and len(self.contrasts) > 1:
            kept = [str(k) for k in called if self.contrasts[k].adjusted_p_value <= SIGNIFICANCE]
            yield (
                f"p is of each k by itself; corrected for all {len(self.contrasts)}, the verdict stays at "
                f"{'k = ' + ', '.join(kept) if kept else 'no k'}."
            )


def format_p(p_value: float) -> str:
    """A p-value to three digits, or that it is below."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def compare(
    base: Evaluation, run: Evaluation, *, base_name: str = "base", run_name: str = "run", dataset: str = ""
) -> Comparison:
    """
    Compares an evaluation with a base, on the problems that both have and at every k that both allow.

    Args:
        base (`Evaluation`):
            What to compare with.
        run (`Evaluation`):
            What to compare.
        base_name (`str`, *optional*, defaults to `"base"`):
            Name of the base.
        run_name (`str`, *optional*, defaults to `"run"`):
            Name of the run.
        dataset (`str`, *optional*, defaults to `""`):
            Name of the problems' source.

    Returns:
        [`Comparison`]: with each k that one of the two reports and that neither has too few samples for

    Raises:
        ValueError: If they have no problem in common.
    """
    ids = [id for id in base.num_correct if id in run.num_correct]
    if not ids:
        raise ValueError(
            f"A comparison needs problems that both runs have; {base_name} has {len(base.num_correct)}, {run_name} "
            f"has {len(run.num_correct)} and none is in both{f' ({dataset})' if dataset else ''}. "
            "Evaluate both on one list of problems."
        )
    num_samples = min(base.num_samples, run.num_samples)
    ks = sorted(k for k in base.pass_at_k.keys() | run.pass_at_k.keys() if k <= num_samples)
    base_estimates, run_estimates = (_estimates(side, ids, ks) for side in (base, run))
    differences = np.stack([_per_problem(run, ids, k) - _per_problem(base, ids, k) for k in ks])  # (K, P)
    p_values = _p_values(differences)
    contrasts = {
        k: Contrast(base_estimates[k], run_estimates[k], difference, float(p_value), float(adjusted))
        for k, difference, p_value, adjusted in zip(ks, estimate_means(differences), *p_values, strict=True)
    }

    by_estimate = {k: side for k, c in contrasts.items() if (side := _sign(c.difference.value))}
    by_verdict = {k: _sign(c.difference.value) for k, c in contrasts.items() if c.verdict != Verdict.INDISTINCT}
    brackets, is_distinguishable = _changes(by_verdict), True
    if not brackets:
        brackets, is_distinguishable = _changes(by_estimate), False
    crossings = []
    for start, end in brackets:
        k = end
        while _sign((_per_problem(run, ids, k - 1) - _per_problem(base, ids, k - 1)).mean()) == by_estimate[end]:
            k -= 1
        crossings.append(Crossing(k, start, end, is_distinguishable))
    return Comparison(base_name, run_name, dataset, base, run, len(ids), contrasts, tuple(crossings))


def match_pass_at_1(series: Mapping[str, Mapping[int, Evaluation]]) -> dict[str, int]:
    """
    The steps at which runs are alike at k = 1, so that what differs at larger k is not their speed.

    The Pass@1 to match is the highest that every run reaches; of each run that step is taken whose Pass@1 is nearest
    to it, the first of several.

    Args:
        series (`Mapping[str, Mapping[int, Evaluation]]`):
            Evaluation by run and step.

    Returns:
        `dict[str, int]`: step by run

    Raises:
        ValueError: If an evaluation has no Pass@1.
    """
    curves: dict[str, dict[int, float]] = {}
    for name, by_step in series.items():
        if missing := [step for step, evaluation in by_step.items() if 1 not in evaluation.pass_at_k]:
            raise ValueError(f"Runs are matched at k = 1; {name} has none at step {missing[0]}. Add it with --k.")
        curves[name] = {step: by_step[step].pass_at_k[1].value for step in sorted(by_step)}
    target = min(max(curve.values()) for curve in curves.values())
    return {name: min(curve, key=lambda step: abs(curve[step] - target)) for name, curve in curves.items()}


def permutation_p_values(
    differences: NDArray[np.float64], num_flips: int = 10_000, seed: int = 0
) -> NDArray[np.float64]:
    """
    Two-sided p-values of the paired permutation test: were both runs alike, each difference might have either sign.

    It holds for any number of problems, while the bootstrap's intervals of differences are too narrow for few: five
    problems that differ, all one way, have p = 2 / 2^5 = 0.06.

    Args:
        differences (`np.ndarray` of shape `(K, P)`):
            Differences per k and problem.
        num_flips (`int`, *optional*, defaults to `10_000`):
            Random choices of the signs, the same ones for every k.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the choices.

    Returns:
        `np.ndarray` of shape `(K,)`: the share of choices whose mean is at least as far from 0, itself included
    """
    return _p_values(differences, num_flips, seed)[0]


def adjusted_p_values(differences: NDArray[np.float64], num_flips: int = 10_000, seed: int = 0) -> NDArray[np.float64]:
    """
    As [`permutation_p_values`], corrected for looking at all k: the chance that any of them is so far from 0.

    The single-step maxT procedure of Westfall and Young (1993). Each mean is measured in its own spread over problems,
    and the share of choices counts whose farthest k is as far. The verdicts at several k are of the same samples, so
    that it asks for less than dividing the level by their number.

    Args:
        differences (`np.ndarray` of shape `(K, P)`):
            Differences per k and problem.
        num_flips (`int`, *optional*, defaults to `10_000`):
            Random choices of the signs.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the choices.

    Returns:
        `np.ndarray` of shape `(K,)`: never below those of [`permutation_p_values`]
    """
    return _p_values(differences, num_flips, seed)[1]


def _p_values(
    differences: NDArray[np.float64], num_flips: int = 10_000, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The p-values by k, and corrected for their number: two arrays of shape (K,)."""
    generator = np.random.default_rng(seed)
    spreads = np.sqrt((differences**2).sum(axis=1))
    spreads[spreads == 0] = 1.0  # equal throughout: as far as it can be at any choice
    sums = abs(differences.sum(axis=1)) - _ROUNDING
    num_as_far, num_farthest = np.ones((2, len(differences)))
    chunk = max(1, 2**22 // differences.shape[1])
    for start in range(0, num_flips, chunk):
        rows = min(chunk, num_flips - start)
        signs = 2.0 * generator.integers(2, size=(rows, differences.shape[1]), dtype=np.int8) - 1
        flipped = abs(signs @ differences.T)  # (R, K)
        num_as_far += (flipped >= sums).sum(axis=0)
        num_farthest += ((flipped / spreads).max(axis=1, keepdims=True) >= sums / spreads).sum(axis=0)
    return num_as_far / (num_flips + 1), num_farthest / (num_flips + 1)


def _per_problem(evaluation: Evaluation, ids: list[str], k: int) -> NDArray[np.float64]:
    return pass_at_k(evaluation.num_samples, [evaluation.num_correct[id] for id in ids], k)


def _estimates(evaluation: Evaluation, ids: list[str], ks: list[int]) -> dict[int, Estimate]:
    if len(ids) == len(evaluation.num_correct) and evaluation.pass_at_k.keys() >= set(ks):
        return evaluation.pass_at_k  # the numbers that the run itself reported
    return estimate_pass_at_k(evaluation.num_samples, {id: evaluation.num_correct[id] for id in ids}, ks)


def _changes(sides: Mapping[int, int]) -> list[tuple[int, int]]:
    return [(start, end) for start, end in pairwise(sides) if sides[start] != sides[end]]


def _sign(difference: float) -> int:
    return 0 if abs(difference) <= _ROUNDING else int(np.sign(difference))


def _escape_markdown(text: str) -> str:
    return text.replace("|", "\\|")
