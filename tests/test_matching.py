"""Runs at equal Pass@1, worked by hand."""

import numpy as np
import pytest

from nsr_trl.evaluation.matching import Place, first_reaching, level_below_the_peak, matchable_levels


def test_a_run_is_taken_between_two_steps():
    place = first_reaching([0.1, 0.3, 0.5], 0.45)  # 0.45 = 0.3 + 0.75 x (0.5 - 0.3)
    assert (place.index, place.share) == (1, pytest.approx(0.75))
    assert place.of([0, 10, 30]) == pytest.approx(25)  # 10 + 0.75 x 20: steps may be unevenly far apart


def test_what_was_measured_by_problem_is_interpolated_by_problem():
    by_step_and_problem = [[0.0, 1.0], [0.4, 0.6]]
    assert Place(0, 0.25).of(by_step_and_problem) == pytest.approx(np.array([0.1, 0.9]))


def test_it_is_the_first_time_that_counts():
    assert first_reaching([0.1, 0.3, 0.2, 0.5], 0.2) == Place(0, pytest.approx(0.5))  # not step 2, nor between 1 and 2
    assert first_reaching([0.1, 0.3, 0.2, 0.5], 0.4) == Place(2, pytest.approx(2 / 3))


def test_a_measured_step_is_taken_as_it_was_measured():
    assert first_reaching([0.1, 0.3, 0.5], 0.1) == Place(0)
    assert first_reaching([0.1, 0.3, 0.5], 0.3) == Place(1)
    assert first_reaching([0.1, 0.3, 0.5], 0.5) == Place(2)
    assert Place(2).of([1.0, 2.0, 3.0]) == 3.0  # there is no step after it


@pytest.mark.parametrize("level", [0.05, 0.51])
def test_a_level_outside_the_run_is_refused_with_what_can_be_matched(level):
    with pytest.raises(ValueError, match=r"10\.00 to 50\.00 percent; got (5|51)\.00\."):
        first_reaching([0.1, 0.5, 0.2], level)


def test_runs_can_be_matched_from_the_highest_start_to_the_lowest_peak():
    curves = {"slow": [0.1, 0.2, 0.3], "fast": [0.15, 0.6], "falls": [0.1, 0.4, 0.0]}
    assert matchable_levels(curves) == (0.15, 0.3)
    assert level_below_the_peak(curves) == pytest.approx(0.285)  # 0.15 + 0.9 x 0.15
    assert level_below_the_peak(curves, share=1) == 0.3
    for curve in curves.values():  # and every run does reach it
        assert first_reaching(curve, 0.285).of(curve) == pytest.approx(0.285)


def test_runs_that_never_meet_are_refused_by_name():
    with pytest.raises(ValueError, match=r"late starts at 50\.00 percent and early never has more than 40\.00\."):
        matchable_levels({"late": [0.5, 0.6], "early": [0.1, 0.4]})


@pytest.mark.parametrize("curve", [[], [0.1, float("nan")]])
def test_a_run_without_a_pass_at_1_is_refused(curve):
    with pytest.raises(ValueError, match="Evaluate its checkpoints at k = 1"):
        matchable_levels({"whole": [0.1, 0.2], "broken": curve})
