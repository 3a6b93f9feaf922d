from fractions import Fraction
from math import comb

import numpy as np
import pytest

from nsr_trl.evaluation import pass_at_k as module
from nsr_trl.evaluation.pass_at_k import bootstrap_interval, estimate_mean, paired_difference, pass_at_k


def test_every_value_up_to_forty_samples_equals_the_exact_fraction():
    for n in range(1, 41):
        c = np.arange(n + 1)
        for k in range(1, n + 1):
            exact = [float(1 - Fraction(comb(n - wrong, k), comb(n, k))) for wrong in range(n + 1)]
            np.testing.assert_allclose(pass_at_k(n, c, k), exact, rtol=0, atol=1e-15)


def test_problems_may_differ_in_their_samples():
    # 1 - C(1, 2) / C(2, 2) = 1;  1 - C(3, 2) / C(4, 2) = 1 - 3/6;  1 - C(8, 2) / C(10, 2) = 1 - 28/45
    np.testing.assert_allclose(pass_at_k([2, 4, 10], [1, 1, 2], 2), [1, 0.5, 17 / 45])


def test_large_counts_do_not_overflow():
    # C(10^6 - 1, 10^3) / C(10^6, 10^3) = 1 - 10^3 / 10^6
    assert pass_at_k(10**6, 1, 10**3) == pytest.approx(1e-3)


def test_it_is_the_chance_that_one_of_k_drawn_samples_is_correct():
    rng = np.random.default_rng(0)
    draws = rng.permuted(np.tile([True] * 3 + [False] * 17, (100_000, 1)), axis=1)[:, :5]
    assert pass_at_k(20, 3, 5) == pytest.approx(draws.any(axis=1).mean(), abs=0.01)


def test_too_few_samples_are_refused_with_both_numbers_named():
    with pytest.raises(ValueError, match=r"pass@8 needs at least 8 samples per problem; a problem has 4\. Sample"):
        pass_at_k([16, 4], [1, 1], 8)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 1, 0)])
def test_impossible_counts_are_refused(n, c, k):
    with pytest.raises(ValueError):
        pass_at_k([n], [c], k)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    samples = rng.random((300, 60)) < 0.3
    intervals = [bootstrap_interval(sample, num_resamples=400) for sample in samples]
    coverage = np.mean([low <= 0.3 <= high for low, high in intervals])
    assert 0.90 <= coverage <= 0.98  # 0.95, and 300 trials have a standard error of 0.013


def test_the_interval_does_not_depend_on_how_the_draws_are_chunked(monkeypatch):
    values = np.random.default_rng(2).random(50)
    whole = bootstrap_interval(values, num_resamples=1_000)
    monkeypatch.setattr(module, "_MAX_DRAWS", 50 * 7)
    assert bootstrap_interval(values, num_resamples=1_000) == whole


def test_equal_values_have_an_interval_of_no_width():
    assert estimate_mean([0.25] * 10).low == estimate_mean([0.25] * 10).high == 0.25


def test_pairing_narrows_the_interval_of_a_difference():
    before = np.random.default_rng(3).random(200)
    difference = paired_difference(before + 0.1, before)
    assert difference.value == pytest.approx(0.1)
    assert difference.high - difference.low < 1e-12


def test_an_interval_of_nothing_and_a_difference_of_unlike_lists_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match="same problems"):
        paired_difference([1.0, 0.0], [1.0])
