"""Two evaluations of the same problems, compared: differences of Pass@k with intervals, a verdict per k, crossovers.

Either side may be several training runs that differ by their seed. At equal Pass@1 runs are compared by `matched`.

P shared problems, k attempts, K different k, M runs of a side, R resamples. A difference is always run - base.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import pairwise
from textwrap import fill
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pass_at_k import Estimate, estimate, pass_at_k, resample_means
from .results import Evaluation, align, facts, percent
from .visible import one_line


SIGNIFICANCE = 0.05
"""A p-value up to this, of a test that needs no large number of problems, goes with a 95% interval."""

_ROUNDING = 1e-12
"""Largest difference of equal estimates, which rounding causes."""


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
        num_shared (`int`):
            P, the problems that both have, on which they are compared.
        contrasts (`dict[int, Contrast]`):
            The comparison by k.
        crossings (`tuple[Crossing, ...]`):
            Crossings that the verdicts show; where they show none, those of the estimates alone.
        facts (`dict[str, tuple[str, str]]`):
            What the table says of base and run besides, in words.
        notes (`tuple[str, ...]`):
            Sentences on what was compared.
        details (`dict[str, Any]`):
            The same as JSON values.
    """

    base_name: str
    run_name: str
    dataset: str
    num_shared: int
    contrasts: dict[int, Contrast]
    crossings: tuple[Crossing, ...]
    facts: dict[str, tuple[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON values, without the counts per problem, which the run folders have."""
        return {
            "dataset": self.dataset,
            "base": self.base_name,
            "run": self.run_name,
            "num_shared": self.num_shared,
            **self.details,
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
        return rows + [[label, *sides, "", "", ""] for label, sides in self.facts.items()]

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
        yield from self.notes
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


@dataclass(frozen=True, slots=True)
class Side:
    """
    One side of a comparison: M training runs that differ by their seed, one where there is no other.

    Attributes:
        values (`np.ndarray` of shape `(K, P)`):
            Pass@k by problem, the mean over the runs.
        means (`np.ndarray` of shape `(K, R)`):
            Their means over problems and runs, both drawn anew.
    """

    values: NDArray[np.float64]
    means: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[np.float64], means: NDArray[np.float64], seed: int) -> "Side":
        """
        A side of several runs: a cluster bootstrap draws runs, then problems, which are the same for all runs.

        Args:
            values (`np.ndarray` of shape `(M, K, P)`):
                Pass@k by run and problem.
            means (`np.ndarray` of shape `(M, K, R)`):
                Their means over the problems of each resample.
            seed (`int`):
                Of the draws of runs.
        """
        num_runs, _, num_resamples = means.shape
        draws = np.random.default_rng([seed, num_runs]).integers(num_runs, size=(num_runs, num_resamples))
        drawn = np.take_along_axis(means, draws[:, None], axis=0)  # (M, K, R)
        return cls(values.mean(axis=0), drawn.mean(axis=0))

    def estimates(self) -> list[Estimate]:
        """Mean Pass@k with its interval, by k."""
        return [estimate(*each) for each in zip(self.values, self.means, strict=True)]


FEW_RUNS = 3
"""Fewer training runs than this say little of how much another seed would change."""


def compare(
    base: Evaluation | Sequence[Evaluation],
    run: Evaluation | Sequence[Evaluation],
    *,
    base_name: str = "base",
    run_name: str = "run",
    dataset: str = "",
) -> Comparison:
    """
    Compares an evaluation with a base, on the problems that both have and at every k that both allow.

    Args:
        base (`Evaluation` or `Sequence[Evaluation]`):
            What to compare with; several are of training runs that differ by their seed.
        run (`Evaluation` or `Sequence[Evaluation]`):
            What to compare, likewise.
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
    sides = {
        name: [side] if isinstance(side, Evaluation) else list(side)
        for name, side in ((base_name, base), (run_name, run))
    }
    ids, ks = shared_problems(sides, dataset)
    values = [np.array([[per_problem(e, ids, k) for k in ks] for e in side]) for side in sides.values()]  # (M, K, P)
    flat = np.concatenate(values).reshape(-1, len(ids))
    means = resample_means(flat).reshape(sum(map(len, values)), len(ks), -1)
    split = len(values[0])
    contrasts = make_contrasts(ks, Side.of(values[0], means[:split], 0), Side.of(values[1], means[split:], 1))

    def difference(k: int) -> float:
        before, after = (np.mean([per_problem(e, ids, k).mean() for e in side]) for side in sides.values())
        return float(after - before)

    (first, *_), (second, *_) = sides.values()
    rows = [facts(evaluation) for evaluation in (first, second)] if values[0].shape[0] == len(values[1]) == 1 else []
    nums = {name: [len(e.num_correct) for e in side] for name, side in sides.items()}
    notes = []
    if not all(num == len(ids) for of_side in nums.values() for num in of_side):
        of_sides = " and ".join(f"{join_numbers(of_side)} of {name}" for name, of_side in nums.items())
        notes.append(f"On the {len(ids)} problems that both have, of {of_sides}.")
    if any(len(side) > 1 for side in sides.values()):
        notes.append(note_on_runs({name: len(side) for name, side in sides.items()}))
    return Comparison(
        base_name,
        run_name,
        dataset,
        len(ids),
        contrasts,
        find_crossings(contrasts, difference),
        {label: (rows[0][label], rows[1][label]) for label in (rows[0] if rows else ())},
        tuple(notes),
        {
            "num_problems": {name: of_side[0] for name, of_side in nums.items()},
            "num_samples": {name: side[0].num_samples for name, side in sides.items()},
            "num_runs": {name: len(side) for name, side in sides.items()},
        },
    )


def shared_problems(sides: Mapping[str, Sequence[Evaluation]], dataset: str = "") -> tuple[list[str], list[int]]:
    """
    What evaluations can be compared on.

    Args:
        sides (`Mapping[str, Sequence[Evaluation]]`):
            Evaluations by the name of what they are of.
        dataset (`str`, *optional*, defaults to `""`):
            For the message.

    Returns:
        `tuple[list[str], list[int]]`: ids of the problems that all have, and each k that one reports and none has too
        few samples for

    Raises:
        ValueError: If there is no such problem.
    """
    (first, *_), *_ = sides.values()
    all_of_them = [evaluation for side in sides.values() for evaluation in side]
    ids = [id for id in first.num_correct if all(id in evaluation.num_correct for evaluation in all_of_them)]
    if not ids:
        held = ", ".join(f"{name} has {len(side[0].num_correct)}" for name, side in sides.items())
        raise ValueError(
            f"A comparison needs problems that both runs have; {held} and none is in both"
            f"{f' ({dataset})' if dataset else ''}. Evaluate both on one list of problems."
        )
    num_samples = min(evaluation.num_samples for evaluation in all_of_them)
    ks = sorted({k for evaluation in all_of_them for k in evaluation.pass_at_k if k <= num_samples})
    return ids, ks


def make_contrasts(ks: Sequence[int], base: Side, run: Side) -> dict[int, Contrast]:
    """The two sides at each k, on the same problems and resamples."""
    differences = run.values - base.values  # (K, P)
    p_values, adjusted = _p_values(differences)
    between = Side(differences, (run.means - base.means).round(12))  # what is equal differs by 0
    columns = base.estimates(), run.estimates(), between.estimates(), map(float, p_values), map(float, adjusted)
    return {k: Contrast(*each) for k, *each in zip(ks, *columns, strict=True)}


def find_crossings(contrasts: Mapping[int, Contrast], difference: Callable[[int], float]) -> tuple[Crossing, ...]:
    """
    Where the curves change sides.

    Args:
        contrasts (`Mapping[int, Contrast]`):
            The comparison by k.
        difference (`Callable`):
            Mean of run - base at any k.
    """
    by_estimate = {k: side for k, c in contrasts.items() if (side := _sign(c.difference.value))}
    by_verdict = {k: _sign(c.difference.value) for k, c in contrasts.items() if c.verdict != Verdict.INDISTINCT}
    brackets, is_distinguishable = _changes(by_verdict), True
    if not brackets:
        brackets, is_distinguishable = _changes(by_estimate), False
    crossings = []
    for start, end in brackets:
        k = end
        while _sign(difference(k - 1)) == by_estimate[end]:
            k -= 1
        crossings.append(Crossing(k, start, end, is_distinguishable))
    return tuple(crossings)


def note_on_runs(num_runs: Mapping[str, int]) -> str:
    """A sentence on how many training runs each side is, and what that is worth."""
    counted = " and ".join(f"{number} of {name}" for name, number in num_runs.items())
    note = f"Training runs: {counted}; intervals are over problems"
    if max(num_runs.values()) == 1:
        return f"{note} alone. Another seed may change more: compare {FEW_RUNS} runs of each or more."
    if min(num_runs.values()) < FEW_RUNS:
        return f"{note} and runs, and with fewer than {FEW_RUNS} runs of a side too narrow."
    return f"{note} and runs."


def join_numbers(numbers: Sequence[int]) -> str:
    """`200`, or `200, 198` where they are not all the same."""
    return ", ".join(map(str, numbers if len(set(numbers)) > 1 else numbers[:1]))


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


def per_problem(evaluation: Evaluation, ids: Sequence[str], k: int) -> NDArray[np.float64]:
    """Pass@k of these problems, an array of shape (P,)."""
    return pass_at_k(evaluation.num_samples, [evaluation.num_correct[id] for id in ids], k)


def _changes(sides: Mapping[int, int]) -> list[tuple[int, int]]:
    return [(start, end) for start, end in pairwise(sides) if sides[start] != sides[end]]


def _sign(difference: float) -> int:
    return 0 if abs(difference) <= _ROUNDING else int(np.sign(difference))


def _escape_markdown(text: str) -> str:
    return text.replace("|", "\\|")
