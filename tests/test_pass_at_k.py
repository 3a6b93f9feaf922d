from fractions import Fraction
from math import comb

import numpy as np
import pytest

from nsr_trl.evaluation import pass_at_k as module
from nsr_trl.evaluation.pass_at_k import (
    bootstrap_interval,
    cover_at,
    estimate,
    estimate_mean,
    estimate_means,
    majority_at_k,
    pass_at_k,
)


def test_every_value_up_to_forty_samples_equals_the_exact_fraction():
    for n in range(1, 41):
        c = np.arange(n + 1)
        for k in range(1, n + 1):
            exact = [float(1 - Fraction(comb(n - wrong, k), comb(n, k))) for wrong in range(n + 1)]
            np.testing.assert_allclose(pass_at_k(n, c, k), exact, rtol=0, atol=1e-15)


@pytest.mark.parametrize("k", [1, 2, 4, 8, 16, 32, 64, 128, 256])
def test_the_k_of_the_paper_agree_with_the_binomials_to_twelve_digits(k):
    exact = [float(1 - Fraction(comb(256 - c, k), comb(256, k))) for c in range(257)]
    np.testing.assert_allclose(pass_at_k(256, np.arange(257), k), exact, rtol=0, atol=1e-12)


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


@pytest.mark.parametrize("rate", [0.002, 0.05, 0.5])
def test_its_mean_over_runs_of_256_samples_is_the_true_chance(rate):
    num_correct = np.random.default_rng(0).binomial(256, rate, size=20_000)
    for k in (1, 16, 128, 256):
        estimates = pass_at_k(256, num_correct, k)
        error = estimates.std() / np.sqrt(len(estimates))
        assert abs(estimates.mean() - (1 - (1 - rate) ** k)) <= 4 * error + 1e-5


def test_too_few_samples_are_refused_with_both_numbers_named():
    with pytest.raises(ValueError, match=r"pass@8 needs at least 8 samples per problem; a problem has 4\. Sample"):
        pass_at_k([16, 4], [1, 1], 8)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 1, 0)])
def test_impossible_counts_are_refused(n, c, k):
    with pytest.raises(ValueError):
        pass_at_k([n], [c], k)


@pytest.mark.parametrize("num_problems", [30, 100])
def test_the_interval_holds_the_truth_as_often_as_it_says(num_problems):
    """Problems of very unlike difficulty, as in a competition: success rates from Beta(0.4, 1), 64 samples each."""
    rng = np.random.default_rng(0)
    ks, covered = (1, 8, 64), []
    # E[1 - (1 - p)^k] = 1 - B(0.4, 1 + k) / B(0.4, 1), and B(a, 1 + k) / B(a, 1) is the product of i / (i + a), i to k
    truth = [1 - np.prod([i / (i + 0.4) for i in range(1, k + 1)]) for k in ks]
    for trial in range(600):
        correct = rng.binomial(64, rng.beta(0.4, 1.0, size=num_problems))
        estimates = estimate_means([pass_at_k(64, correct, k) for k in ks], num_resamples=1_000, seed=trial)
        covered.append([each.low <= value <= each.high for each, value in zip(estimates, truth, strict=True)])
    coverage = np.mean(covered, axis=0)
    assert ((coverage >= 0.92) & (coverage <= 0.98)).all(), coverage  # a standard error is 0.009


def test_the_interval_does_not_depend_on_how_the_draws_are_chunked(monkeypatch):
    values = np.random.default_rng(2).random(50)
    whole = bootstrap_interval(values, num_resamples=1_000)
    monkeypatch.setattr(module, "_MAX_DRAWS", 50 * 7)
    assert bootstrap_interval(values, num_resamples=1_000) == pytest.approx(whole, abs=1e-12)


def test_equal_values_have_an_interval_of_no_width():
    assert estimate_mean([0.25] * 10).low == estimate_mean([0.25] * 10).high == 0.25


@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_resamples_that_all_fall_on_one_side_have_an_interval(mean):
    found = estimate(np.array([0.0, 1.0]), np.array([mean, mean]))  # the bias would be without end
    assert (found.value, found.low, found.high) == (0.5, mean, mean)


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([])


def test_the_most_frequent_of_k_answers_wins_and_ties_are_shared():
    answers = [[0, 1, 1, 2, 0, 0], [3, -1, -1, -1, -1, 2]]
    is_correct = [[True, False, False, False, True, True], [True, False, False, False, False, False]]
    # k=1: the mean of the samples
    np.testing.assert_allclose(majority_at_k(answers, is_correct, 1), [3 / 6, 1 / 6])
    # k=2: (0 1) 1/2, (1 2) 0, (0 0) 1; (3 -) 1, (- -) 0, (- 2) 0
    np.testing.assert_allclose(majority_at_k(answers, is_correct, 2), [1.5 / 3, 1 / 3])
    # k=4: (0 1 1 2) 0, the rest of two left out; (3 - - -) 1
    np.testing.assert_allclose(majority_at_k(answers, is_correct, 4), [0, 1])
    # k=6: three votes for 0; 3 and 2 tie
    np.testing.assert_allclose(majority_at_k(answers, is_correct, 6), [1, 1 / 2])


def test_votes_do_not_depend_on_how_the_problems_are_chunked(monkeypatch):
    rng = np.random.default_rng(5)
    answers, is_correct = rng.integers(-1, 6, size=(40, 32)), rng.random((40, 32)) < 0.5
    whole = majority_at_k(answers, is_correct, 8)
    monkeypatch.setattr(module, "_MAX_COUNTS", 3 * 4 * 6)
    np.testing.assert_array_equal(majority_at_k(answers, is_correct, 8), whole)


def test_several_estimates_share_their_resamples():
    values = np.random.default_rng(4).random((3, 20))
    for together, alone in zip(estimate_means(values), map(estimate_mean, values), strict=True):
        assert (together.low, together.high) == pytest.approx((alone.low, alone.high), abs=1e-12)


def test_equal_values_that_floats_cannot_add_exactly_have_an_interval_of_no_width():
    estimate = estimate_mean([0.1] * 7)
    assert estimate.high - estimate.low < 1e-15


@pytest.mark.parametrize(
    ("values", "expected"),
    # scipy 1.17's bootstrap((values,), np.mean, method="BCa", n_resamples=100_000); with the sign of the bias
    # correction flipped the first would be (0.0083, 0.3583)
    [
        ([0.0] * 9 + [0.1, 0.2, 1.0], (0.0166667, 0.4333333)),
        ([1.0] * 27 + [0.9, 0.5, 0.0], (0.8133333, 0.9966667)),
        ([0.05 * i for i in range(20)] + [3.0], (0.4214286, 1.0238095)),
    ],
)
def test_the_interval_is_scipys_bca(values, expected):
    assert bootstrap_interval(values) == pytest.approx(expected, abs=0.0075)  # 10,000 resamples


def test_cover_counts_problems_solved_in_a_share_of_their_samples():
    assert cover_at(10, [0, 2, 3, 10], 0.3).tolist() == [0, 0, 1, 1]  # 0.3 * 10 is 3.0000000000000004 in floats
    assert cover_at([4, 8], [2, 3], 0.5).tolist() == [1, 0]
    assert cover_at(4, [3, 4], 1).tolist() == [0, 1]
    for share in (0, 1.01):
        with pytest.raises(ValueError, match=rf"above 0 and at most 1; got {share}\. Ask"):
            cover_at(4, [1], share)
