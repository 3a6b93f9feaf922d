"""The count of an evaluation: samples go in one by one, in any order; an `Evaluation` comes out.

P problems, n samples per problem. A sample leaves a few bytes here and its text none, so that 5,000 problems with 256
samples each fit in some 20 MB.
"""

from array import array
from collections.abc import Mapping, Sequence

import numpy as np

from ..verifier.normal_form import normalize, spell
from ..verifier.verdict import Outcome
from .pass_at_k import cover_at, estimate_mean, estimate_means, majority_at_k, pass_at_k
from .records import Sample
from .results import SHARES, Evaluation, Group


GROUPINGS = ("level", "subject")
"""Columns by which problems may be grouped."""

_MISSING, _UNDECIDED, _INCORRECT, _CORRECT = range(4)
_CODES: dict[str, int] = {Outcome.UNDECIDED: _UNDECIDED, Outcome.INCORRECT: _INCORRECT, Outcome.CORRECT: _CORRECT}


class Tally:
    """
    Counts of the samples seen, each once.

    Args:
        problem_ids (`Sequence[str]`):
            The problems.
        num_samples (`int`):
            n; samples with a greater index, which a larger run has drawn, are left out.
    """

    def __init__(self, problem_ids: Sequence[str], num_samples: int) -> None:
        self.num_samples = num_samples
        self.num_missing = len(problem_ids) * num_samples
        self._rows = {problem_id: row for row, problem_id in enumerate(problem_ids)}
        self._outcomes = bytearray(self.num_missing)  # (P * n)
        self._answers = array("i", [-1]) * self.num_missing  # (P * n): number of the answer within the problem
        self._answer_of_text: list[dict[str, int]] = [{} for _ in problem_ids]
        self._answer_of_form: list[dict[str, int]] = [{} for _ in problem_ids]
        self._num_tokens = self._num_truncated = 0

    def has(self, problem_id: str, sample_index: int) -> bool:
        """Whether the sample has been added."""
        return self._outcomes[self._rows[problem_id] * self.num_samples + sample_index] != _MISSING

    def add(self, sample: Sample) -> None:
        """Counts a sample, unless it has been counted or is not asked for."""
        row = self._rows[sample.problem_id]
        position = row * self.num_samples + sample.sample_index
        if sample.sample_index >= self.num_samples or self._outcomes[position] != _MISSING:
            return
        self.num_missing -= 1
        self._outcomes[position] = _CODES[sample.outcome]
        self._num_tokens += sample.num_tokens
        self._num_truncated += sample.truncated
        if sample.answer is not None:
            self._answers[position] = self._number_of(row, sample.answer)

    def _number_of(self, row: int, answer: str) -> int:
        number = self._answer_of_text[row].get(answer)
        if number is None:
            forms = self._answer_of_form[row]
            number = self._answer_of_text[row][answer] = forms.setdefault(spell(normalize(answer)), len(forms))
        return number

    def evaluation(self, ks: Sequence[int], groups: Mapping[str, Sequence[str | None]] | None = None) -> Evaluation:
        """
        The result, once no sample is missing.

        Args:
            ks (`Sequence[int]`):
                The k of Pass@k, at least one.
            groups (`Mapping[str, Sequence[str | None]]`, *optional*):
                By name of a grouping, the group of each problem. Groups are estimated at the least and the greatest k.

        Returns:
            [`~evaluation.results.Evaluation`]
        """
        assert not self.num_missing, "a sampler answers every request"
        shape = len(self._rows), self.num_samples
        outcomes = np.frombuffer(self._outcomes, dtype=np.uint8).reshape(shape)
        answers = np.frombuffer(self._answers, dtype=np.int32).reshape(shape)
        is_correct = outcomes == _CORRECT
        num_correct = is_correct.sum(axis=1)
        per_problem = np.stack([pass_at_k(self.num_samples, num_correct, k) for k in ks])  # (K, P)
        votes = np.stack([majority_at_k(answers, is_correct, k) for k in ks])  # (K, P)
        covered = np.stack([cover_at(self.num_samples, num_correct, share) for share in SHARES])
        return Evaluation(
            num_samples=self.num_samples,
            num_correct=dict(zip(self._rows, num_correct.tolist(), strict=True)),
            num_undecided=int((outcomes == _UNDECIDED).sum()),
            mean_length=self._num_tokens / outcomes.size,
            truncation_rate=self._num_truncated / outcomes.size,
            pass_at_k=dict(zip(ks, estimate_means(per_problem), strict=True)),
            majority_at_k=dict(zip(ks, estimate_means(votes), strict=True)),
            cover_at_share=dict(zip(SHARES, estimate_means(covered), strict=True)),
            distinct_answers=float(np.mean([len(forms) for forms in self._answer_of_form])),
            groups={
                name: _estimate_groups(labels, {k: per_problem[ks.index(k)] for k in sorted({min(ks), max(ks)})})
                for name, labels in (groups or {}).items()
                if len(set(labels)) > 1
            },
        )


def _estimate_groups(labels: Sequence[str | None], values: Mapping[int, np.ndarray]) -> dict[str, Group]:
    members: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        members.setdefault("none" if label is None else label, []).append(row)
    return {
        label: Group(len(rows), {k: estimate_mean(per_problem[rows]) for k, per_problem in values.items()})
        for label, rows in sorted(members.items())
    }
