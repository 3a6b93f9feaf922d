"""The result of an evaluation: counts per problem go in; Pass@k with intervals, a summary and a table come out.

P problems, n samples per problem, c of them correct.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..checks import is_count, is_number, is_whole
from .pass_at_k import Estimate, estimate_means, pass_at_k
from .visible import one_line


SHARES = (0.5, 1.0)
"""The tau of Cover@tau: problems solved more often than not, and always."""


@dataclass(frozen=True, slots=True)
class Group:
    """
    The problems of one level or subject.

    Attributes:
        num_problems (`int`):
            How many they are.
        pass_at_k (`dict[int, Estimate]`):
            Pass@k over them, at the least and the greatest k.
    """

    num_problems: int
    pass_at_k: dict[int, Estimate]


@dataclass(frozen=True, slots=True)
class Evaluation:
    r"""
    Pass@k of one policy on one list of problems.

    An undecided sample counts as not correct, so Pass@k is a lower bound, loose by as much as `num_undecided` allows.

    Attributes:
        num_samples (`int`):
            n, the samples per problem.
        num_correct (`dict[str, int]`):
            c by problem id.
        num_undecided (`int`):
            Samples that the verifier could not decide, over all problems.
        mean_length (`float`):
            Mean length of the samples in tokens.
        truncation_rate (`float`):
            Fraction of the samples that ran into the length limit.
        pass_at_k (`dict[int, Estimate]`):
            Mean over problems of Pass@k, with its 95% interval, by k.
        majority_at_k (`dict[int, Estimate]`):
            Mean over problems of maj@k, whether the most frequent of k answers is correct, by k.
        cover_at_share (`dict[float, Estimate]`):
            Fraction of the problems solved in at least this share of their samples (Cover@tau), by share.
        distinct_answers (`float`):
            Mean over problems of the number of different answers among the n samples. Answers are the same here and
            in majority votes if the verifier's normal form of them is: `\dfrac12` and `\frac{1}{2}`, but not `0.5`.
        groups (`dict[str, dict[str, Group]]`):
            The problems by `"level"` and by `"subject"`, where the dataset has them.
    """

    num_samples: int
    num_correct: dict[str, int]
    num_undecided: int
    mean_length: float
    truncation_rate: float
    pass_at_k: dict[int, Estimate]
    majority_at_k: dict[int, Estimate] = field(default_factory=dict)
    distinct_answers: float = 0.0
    groups: dict[str, dict[str, Group]] = field(default_factory=dict)
    cover_at_share: dict[float, Estimate] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, summary: Mapping[str, Any]) -> "Evaluation":
        """
        The evaluation that `to_dict` wrote, before or after a passage through JSON.

        Raises:
            ValueError: If a field is not what it must be.
        """
        values: dict[str, Any] = {**_OF_OLDER_VERSIONS, **summary}
        if unknown := values.keys() - _MUST_BE.keys():
            raise ValueError(f"{min(unknown)} is no field of it")
        for name, holds in _MUST_BE.items():
            if not holds(values.get(name)):
                raise ValueError(f"{name} = {one_line(repr(values.get(name)), 80)}")
        if max(values["num_correct"].values()) > values["num_samples"]:
            raise ValueError(f"more samples are correct than num_samples = {values['num_samples']}")
        for name, kind in (("pass_at_k", int), ("majority_at_k", int), ("cover_at_share", float)):
            values[name] = _read_estimates(values[name], kind)
        values["groups"] = {
            name: {
                label: Group(group["num_problems"], _read_estimates(group["pass_at_k"]))
                for label, group in members.items()
            }
            for name, members in values["groups"].items()
        }
        return cls(**values)

    def table(self) -> str:
        """The evaluation as a text table."""
        return format_table({"": self})

    def breakdown(self) -> str:
        """Pass@k by level and by subject as text tables, empty where the dataset has neither."""
        return "\n\n".join(_format_groups(name, members) for name, members in self.groups.items())


def _is_tally(value: Any) -> bool:
    return is_whole(value) and value >= 0


def _is_size(value: Any) -> bool:
    return is_number(value) and value >= 0


def _is_mapping(value: Any, of: Callable[[Any], bool]) -> bool:
    return isinstance(value, Mapping) and all(map(of, value.values()))


def _are_estimates(value: Any) -> bool:
    return _is_mapping(value, lambda estimate: _is_mapping(estimate, lambda number: isinstance(number, int | float)))


def _is_group(value: Any) -> bool:
    return (
        isinstance(value, Mapping) and _is_tally(value.get("num_problems")) and _are_estimates(value.get("pass_at_k"))
    )


_MUST_BE: dict[str, Callable[[Any], bool]] = {
    "num_samples": is_count,
    "num_correct": lambda value: bool(value) and _is_mapping(value, _is_tally),
    "num_undecided": _is_tally,
    "mean_length": _is_size,
    "truncation_rate": _is_size,
    "pass_at_k": lambda value: bool(value) and _are_estimates(value),
    "majority_at_k": _are_estimates,
    "distinct_answers": _is_size,
    "groups": lambda value: _is_mapping(value, lambda members: _is_mapping(members, _is_group)),
    "cover_at_share": _are_estimates,
}
"""What the fields of a summary must be."""

_OF_OLDER_VERSIONS = {"majority_at_k": {}, "distinct_answers": 0.0, "groups": {}, "cover_at_share": {}}
"""What the summaries of older versions lack."""


def _read_estimates(
    estimates: Mapping[str, Mapping[str, float]], kind: Callable[[str], Any] = int
) -> dict[Any, Estimate]:
    return {
        kind(k): Estimate(**{name: float(number) for name, number in estimate.items()})
        for k, estimate in estimates.items()
    }


def estimate_pass_at_k(num_samples: int, num_correct: Mapping[str, int], ks: Iterable[int]) -> dict[int, Estimate]:
    """Mean Pass@k over problems, with its interval, for each k."""
    ks, counts = list(ks), list(num_correct.values())
    return dict(zip(ks, estimate_means([pass_at_k(num_samples, counts, k) for k in ks]), strict=True))


def format_table(evaluations: Mapping[str, Evaluation]) -> str:
    """
    Sets evaluations side by side, in percent with 95% intervals; [`~evaluation.comparison.compare`] gives differences.

    Args:
        evaluations (`Mapping[str, Evaluation]`):
            Evaluations by name; only the k that all of them have are shown.

    Returns:
        `str`:
            An aligned text table.
    """
    first, *others = evaluations.values()
    ks = [k for k in first.pass_at_k if all(k in other.pass_at_k for other in others)]
    rows = [["", *evaluations]]
    rows += [[f"Pass@{k}", *(percent(evaluation.pass_at_k[k]) for evaluation in evaluations.values())] for k in ks]
    votes = [k for k in ks if 1 < k < first.num_samples and all(k in e.majority_at_k for e in evaluations.values())]
    rows += [
        [f"maj@{k}", *(percent(evaluation.majority_at_k[k]) for evaluation in evaluations.values())] for k in votes
    ]
    columns = [facts(evaluation) for evaluation in evaluations.values()]
    rows += [[label, *(column[label] for column in columns)] for label in columns[0]]
    return align(rows)


def facts(evaluation: Evaluation) -> dict[str, str]:
    """The rows of a table besides Pass@k, in words and percent."""
    num_problems, num_samples = len(evaluation.num_correct), evaluation.num_samples
    majority = evaluation.majority_at_k.get(num_samples)
    return {
        "problems x samples": f"{num_problems} x {num_samples}",
        "undecided": f"{evaluation.num_undecided / (num_problems * num_samples):.1%}",
        "majority of all": _percent_or_dash(majority),
        **{f"Cover@{share:g}": _percent_or_dash(evaluation.cover_at_share.get(share)) for share in SHARES},
        "distinct answers": f"{evaluation.distinct_answers:.1f}",
        "mean tokens": f"{evaluation.mean_length:.1f}",
        "truncated": f"{evaluation.truncation_rate:.1%}",
    }


def _percent_or_dash(estimate: Estimate | None) -> str:
    return "-" if estimate is None else percent(estimate)


def _format_groups(name: str, members: Mapping[str, Group]) -> str:
    ks = list(next(iter(members.values())).pass_at_k)
    rows = [[name, "problems", *(f"Pass@{k}" for k in ks)]]
    for label, group in members.items():
        rows.append([label, str(group.num_problems), *(percent(group.pass_at_k[k]) for k in ks)])
    return align(rows)


def percent(estimate: Estimate, sign: str = "") -> str:
    """An estimate with its interval in percent, as in `43.8 [40.6, 47.0]`; `sign="+"` writes the sign of each."""
    value, low, high = (f"{100 * number:{sign}.1f}" for number in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def align(rows: list[list[str]]) -> str:
    """Rows of cells as text: the first column to the left, the others to the right."""
    rows = [[one_line(cell) for cell in row] for row in rows]  # labels of a dataset may hold anything
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines if line.strip())
