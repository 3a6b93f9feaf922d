import json

import numpy as np
import pytest

from nsr_trl.evaluation.comparison import (
    Crossing,
    Verdict,
    adjusted_p_values,
    compare,
    permutation_p_values,
)
from nsr_trl.evaluation.pass_at_k import pass_at_k
from nsr_trl.evaluation.results import Evaluation, estimate_pass_at_k


def build_evaluation(counts, num_samples=8, ks=(1, 2, 4, 8)):
    num_correct = counts if isinstance(counts, dict) else {f"p{i}": count for i, count in enumerate(counts)}
    return Evaluation(num_samples, num_correct, 3, 41.25, 0.125, estimate_pass_at_k(num_samples, num_correct, ks))


def curves(num_problems):
    """A base that solves everything sometimes, and a run that solves 3 in 5 problems always and the others never."""
    num_solved = 3 * num_problems // 5
    return build_evaluation([2] * num_problems), build_evaluation([8] * num_solved + [0] * (num_problems - num_solved))


def test_the_difference_is_that_of_the_same_problems():
    base, run = build_evaluation([0, 4, 8, 2]), build_evaluation({"p3": 4, "p2": 8, "p1": 6, "p0": 2})
    contrast = compare(base, run).contrasts[1]
    # (0 + 4 + 8 + 2) / 32 and (2 + 6 + 8 + 4) / 32; p0, p1 and p3 rise by 2/8 and p2 by 0
    assert (contrast.base.value, contrast.run.value, contrast.difference.value) == (14 / 32, 20 / 32, 6 / 32)
    assert contrast.p_value == pytest.approx(2 / 2**3, abs=0.02)  # three that differ, all one way
    assert 0 <= contrast.difference.low < contrast.difference.high == 2 / 8  # drawn from 2/8 and 0, not from 14/32


def test_a_verdict_needs_an_interval_without_zero():
    base = build_evaluation([4] * 20)
    verdicts = [compare(base, build_evaluation(counts)).contrasts[1].verdict for counts in ([6] * 20, [2] * 20)]
    assert verdicts == [Verdict.ABOVE, Verdict.BELOW]
    assert compare(base, build_evaluation([6, 2] * 10)).contrasts[1].verdict == Verdict.INDISTINCT


def test_pairing_removes_how_hard_a_problem_is():
    base, run = build_evaluation([0, 1, 3, 5, 7] * 8), build_evaluation([1, 2, 4, 6, 8] * 8)
    contrast = compare(base, run).contrasts[1]
    assert contrast.base.high > contrast.run.low  # the curves' intervals overlap
    assert (contrast.difference.low, contrast.difference.high) == (pytest.approx(1 / 8), pytest.approx(1 / 8))
    assert contrast.verdict == Verdict.ABOVE


@pytest.mark.parametrize(("num_better", "verdict"), [(5, Verdict.INDISTINCT), (6, Verdict.ABOVE)])
def test_five_problems_that_differ_show_nothing_even_if_all_agree(num_better, verdict):
    # all better: by chance 2 * (1/2)^5 = 6% for five problems, 2 * (1/2)^6 = 3% for six
    contrast = compare(build_evaluation([4] * num_better), build_evaluation([6] * num_better)).contrasts[1]
    assert contrast.difference.low > 0
    assert contrast.p_value == pytest.approx(2 / 2**num_better, abs=0.01)
    assert contrast.verdict == verdict


def test_runs_that_are_alike_are_told_apart_in_one_case_of_twenty():
    rng, num_called = np.random.default_rng(0), np.zeros(3)
    for _ in range(400):
        chances = rng.beta(0.3, 0.9, 30)
        first, second = rng.binomial(64, chances), rng.binomial(64, chances)
        differences = np.stack([pass_at_k(64, first, k) - pass_at_k(64, second, k) for k in (1, 8, 64)])
        num_called += permutation_p_values(differences, num_flips=1_000) <= 0.05
    assert (num_called / 400 <= 0.083).all()  # 0.05, and 400 trials have a standard error of 0.011


def test_a_crossover_is_claimed_where_the_run_is_above_on_one_side_and_below_on_the_other():
    # base: 1 - C(6, k) / C(8, k) = .25, .46, .64, .79 for k = 1, 2, 3, 4; run: .6 at any k
    comparison = compare(*curves(200))
    assert [c.verdict for c in comparison.contrasts.values()] == ["above", "above", "below", "below"]
    assert comparison.crossings == (Crossing(k=3, start=2, end=4, is_distinguishable=True),)
    assert "The curves cross at k = 3: run is above base at k = 2 and below at k = 4." in comparison.table()


def test_estimates_that_change_sides_within_their_intervals_are_no_crossover():
    comparison = compare(*curves(5))
    assert comparison.crossings == (Crossing(k=3, start=2, end=4, is_distinguishable=False),)
    assert "change sides at k = 3, not distinguishably: no crossover shown" in comparison.table()


def test_curves_that_meet_do_not_cross():
    comparison = compare(build_evaluation([4] * 20), build_evaluation([8] * 20))  # equal at k = 8, both 1
    assert comparison.contrasts[8].difference.value == 0
    assert comparison.crossings == ()


def test_runs_are_compared_on_the_problems_that_both_have_and_say_how_many():
    base, run = build_evaluation({"a": 0, "b": 4, "c": 4}), build_evaluation({"b": 6, "c": 8, "d": 0, "e": 0})
    comparison = compare(base, run, base_name="old", run_name="new")
    assert comparison.num_shared == 2
    assert comparison.contrasts[1].base.value == 1 / 2  # (4 + 4) / 16
    assert comparison.contrasts[1].run.value == 7 / 8  # (6 + 8) / 16
    assert "On the 2 problems that both have, of 3 of old and 4 of new." in comparison.table()


def test_runs_without_a_common_problem_are_refused_with_both_named():
    with pytest.raises(ValueError, match=r"old has 1, new has 2 and none is in both \(aime\)\. Evaluate both on one"):
        compare(
            build_evaluation({"a": 1}),
            build_evaluation({"b": 1, "c": 1}),
            base_name="old",
            run_name="new",
            dataset="aime",
        )


def test_only_k_that_both_allow_are_compared():
    comparison = compare(build_evaluation([4] * 9), build_evaluation([2] * 9, num_samples=4, ks=(1, 3, 4)))
    assert list(comparison.contrasts) == [1, 2, 3, 4]  # 2 from the base, 3 from the run, not 8 > 4
    # 1 - C(4, 3) / C(8, 3) = 1 - 4/56 was not reported by the base: its counts give it
    assert comparison.contrasts[3].base.value == pytest.approx(52 / 56)


def test_the_values_shown_are_those_that_the_run_reported():
    base, run = build_evaluation([0, 4, 8, 2]), build_evaluation([2, 6, 8, 4])
    assert compare(base, run).contrasts[2].base == base.pass_at_k[2]


def test_table_markdown_and_json_say_the_same():
    comparison = compare(*curves(200), base_name="a|b", run_name="run", dataset="amc23")
    lines = comparison.table().splitlines()
    assert lines[0].split() == ["a|b", "run", "run", "-", "a|b", "p", "verdict"]
    cells = [
        "Pass@1",
        "25.0",
        "[25.0,",
        "25.0]",
        "60.0",
        "[53.0,",
        "66.5]",
        "+35.0",
        "[+28.0,",
        "+41.5]",
        "<0.001",
        "above",
    ]
    assert lines[1].split() == cells
    markdown = comparison.markdown().splitlines()
    assert markdown[:2] == [
        "|  | a\\|b | run | run - a\\|b | p | verdict |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    assert markdown[2] == "| Pass@1 | 25.0 [25.0, 25.0] | 60.0 [53.0, 66.5] | +35.0 [+28.0, +41.5] | <0.001 | above |"
    content = json.loads(json.dumps(comparison.to_dict()))
    assert content["dataset"] == "amc23"
    assert content["pass_at_k"]["1"]["difference"]["value"] == pytest.approx(0.35)
    assert content["pass_at_k"]["1"]["verdict"] == "above"
    assert content["crossings"] == [{"k": 3, "start": 2, "end": 4, "is_distinguishable": True}]


def test_correcting_for_the_number_of_k_asks_for_no_more_than_it_must():
    rng = np.random.default_rng(0)
    differences = rng.normal(0.1, 1.0, size=(4, 40))
    alone, corrected = permutation_p_values(differences), adjusted_p_values(differences)
    assert (corrected >= alone).all()
    assert (corrected <= np.minimum(1, 4 * alone) + 0.02).all()  # Bonferroni's bound
    same = np.repeat(differences[:1], 5, axis=0)  # five times the same question is one
    np.testing.assert_allclose(adjusted_p_values(same), permutation_p_values(same)[0])
    assert adjusted_p_values(np.zeros((2, 5))).tolist() == [1, 1]


def test_runs_that_are_alike_are_told_apart_at_any_k_in_one_case_of_twenty():
    rng, num_called = np.random.default_rng(0), 0
    for _ in range(400):
        chances = rng.beta(0.3, 0.9, 30)
        first, second = rng.binomial(64, chances), rng.binomial(64, chances)
        differences = np.stack([pass_at_k(64, first, k) - pass_at_k(64, second, k) for k in (1, 2, 4, 8, 16, 32, 64)])
        num_called += adjusted_p_values(differences, num_flips=1_000).min() <= 0.05
    assert num_called / 400 <= 0.083  # 0.05, and 400 trials have a standard error of 0.011


def test_what_the_verdicts_leave_open_is_said():
    comparison = compare(build_evaluation([4] * 5), build_evaluation([6] * 5))
    assert "At k = 1, 2, 4 the interval leaves out 0 and the permutation test does not agree" in comparison.table()
    comparison = compare(*curves(200))
    assert "corrected for all 4, the verdict stays at k = 1, 2, 4, 8." in comparison.table()


def test_a_narrow_terminal_gets_the_table_without_the_intervals_of_the_sides():
    comparison = compare(*curves(200), base_name="b" * 40, run_name="r" * 40)
    assert max(map(len, comparison.table(80).splitlines())) <= 80
    assert comparison.table(80).splitlines()[1].split()[:5] == ["Pass@1", "25.0", "60.0", "+35.0", "[+28.0,"]
    assert comparison.table(400).splitlines()[:9] == comparison.table().splitlines()[:9]


def test_runs_that_differ_by_their_seed_are_one_side_whose_interval_is_over_seeds_as_well():
    # every problem alike: what differs, differs between the seeds, 2/8, 4/8 and 6/8
    base, seeds = build_evaluation([4] * 20), [build_evaluation([count] * 20) for count in (2, 4, 6)]
    comparison = compare(base, seeds, run_name="NSR")
    contrast = comparison.contrasts[1]
    assert contrast.run.value == 4 / 8
    assert (contrast.base.low, contrast.base.high) == (4 / 8, 4 / 8)
    # three seeds drawn with replacement: all three are the lowest in 1 of 27 draws, more than 2.5%
    assert (contrast.run.low, contrast.run.high) == (2 / 8, 6 / 8)
    assert contrast.verdict == Verdict.INDISTINCT
    assert "3 of NSR; intervals are over problems and runs, and with fewer than 3 runs" in comparison.table()
    three = compare([base] * 3, seeds)
    assert (
        three.table().splitlines()[-1]
        == "Training runs: 3 of base and 3 of run; intervals are over problems and runs."
    )
    assert three.to_dict()["num_runs"] == {"base": 3, "run": 3}
