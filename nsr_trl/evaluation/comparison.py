"""Two evaluations of the same problems, compared: differences of Pass@k with intervals, a verdict per k, crossovers.

P shared problems, k attempts. A difference is always run - base.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pass_at_k import Estimate, estimate_means, pass_at_k
from .results import Evaluation, align, estimate_pass_at_k, facts, percent


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
    """

    base: Estimate
    run: Estimate
    difference: Estimate
    p_value: float

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

    def table(self) -> str:
        """The comparison as a text table, with a sentence for each crossing and for problems that only one has."""
        return "\n\n".join(filter(None, [align(self._rows()), "\n".join(self._remarks())]))

    def markdown(self) -> str:
        """The comparison as a Markdown table with the same sentences."""
        header, *rows = self._rows()
        rule = ["---", *["---:"] * (len(header) - 2), "---"]
        lines = [f"| {' | '.join(map(_escape_markdown, row))} |" for row in (header, *rows)]
        lines.insert(1, f"| {' | '.join(rule)} |")
        return "\n\n".join(filter(None, ["\n".join(lines), "\n".join(map(_escape_markdown, self._remarks()))]))

    def _rows(self) -> list[list[str]]:
        rows = [["", self.base_name, self.run_name, f"{self.run_name} - {self.base_name}", "verdict"]]
        for k, contrast in self.contrasts.items():
            cells = [percent(contrast.base), percent(contrast.run), percent(contrast.difference, "+")]
            rows.append([f"Pass@{k}", *cells, contrast.verdict])
        facts_of_run = facts(self.run)
        return rows + [[label, fact, facts_of_run[label], "", ""] for label, fact in facts(self.base).items()]

    def _remarks(self) -> Iterator[str]:
        if not self.num_shared == len(self.base.num_correct) == len(self.run.num_correct):
            yield (
                f"On the {self.num_shared} problems that both have, of {len(self.base.num_correct)} of "
                f"{self.base_name} and {len(self.run.num_correct)} of {self.run_name}."
            )
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
    contrasts = {
        k: Contrast(base_estimates[k], run_estimates[k], difference, float(p_value))
        for k, difference, p_value in zip(
            ks, estimate_means(differences), permutation_p_values(differences), strict=True
        )
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
    generator = np.random.default_rng(seed)
    sums = abs(differences.sum(axis=1)) - _ROUNDING
    num_as_far = np.ones(len(differences))
    chunk = max(1, 2**22 // differences.shape[1])
    for start in range(0, num_flips, chunk):
        rows = min(chunk, num_flips - start)
        signs = 2.0 * generator.integers(2, size=(rows, differences.shape[1]), dtype=np.int8) - 1
        num_as_far += (abs(signs @ differences.T) >= sums).sum(axis=0)
    return num_as_far / (num_flips + 1)


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
