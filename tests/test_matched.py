"""Training runs compared at equal Pass@1."""

import json

import numpy as np
import pytest

from nsr_trl.cli import main
from nsr_trl.evaluation.matched import Trajectory, compare_at_pass_at_1
from nsr_trl.evaluation.pass_at_k import Estimate, pass_at_k
from nsr_trl.evaluation.results import Evaluation


def trajectory(counts, num_samples=4, ks=(1, 4), num_tokens=None):
    """Evaluations of problems p0, p1, ... from their counts by step."""
    evaluations = {}
    for step, of_problems in counts.items():
        num_correct = {f"p{i}": count for i, count in enumerate(of_problems)}
        means = {k: float(pass_at_k(num_samples, of_problems, k).mean()) for k in ks}
        estimates = {k: Estimate(mean, mean, mean) for k, mean in means.items()}  # the intervals play no part
        evaluations[step] = Evaluation(num_samples, num_correct, 0, 9.0, 0.0, estimates)
    return Trajectory(evaluations, num_tokens or {})


# both reach Pass@1 = 1/2: one solves half of the problems always, at step 10, the other all of them half the time
NARROW = trajectory({0: [0] * 8, 10: [4] * 4 + [0] * 4}, num_tokens={10: 1000})
BROAD = trajectory({0: [0] * 8, 20: [2] * 8}, num_tokens={20: 3000})


def test_runs_are_compared_where_each_first_has_the_pass_at_1():
    comparison = compare_at_pass_at_1([NARROW], [BROAD], base_name="PSR", run_name="NSR")
    # 0.9 x 1/2 = 0.45: nine tenths of the way to step 10, and to step 20
    assert comparison.details["pass_at_1"] == pytest.approx(0.45)
    assert comparison.details["range"] == [0, 0.5]
    assert comparison.details["steps"] == {"PSR": [pytest.approx(9)], "NSR": [pytest.approx(18)]}
    assert comparison.details["num_tokens"] == {"PSR": [pytest.approx(900)], "NSR": [pytest.approx(2700)]}
    assert comparison.contrasts[1].difference.value == pytest.approx(0)
    at_4 = comparison.contrasts[4]
    # of 4 samples: 4 right are 1, 2 right are 1 - C(2, 4) / C(4, 4) = 1, none is 0; then nine tenths
    assert (at_4.base.value, at_4.run.value) == (pytest.approx(0.9 / 2), pytest.approx(0.9))
    assert at_4.difference.value == pytest.approx(0.45)
    shown = comparison.table()
    assert (
        "Matched where each first has Pass@1 = 45.0, interpolated between its steps; any Pass@1 "
        "from 0.0 to 50.0 is reached by all of them." in shown
    )
    assert "1 of PSR and 1 of NSR; intervals are over problems alone. Another seed may change more" in shown
    assert [row.split() for row in shown.splitlines() if row.startswith("step")] == [["step", "9", "18"]]


def test_every_resample_of_the_problems_is_matched_anew():
    comparison = compare_at_pass_at_1([NARROW], [BROAD])
    # whatever problems are drawn, both are at one Pass@1 there
    assert comparison.contrasts[1].difference.low == pytest.approx(0)
    assert comparison.contrasts[1].difference.high == pytest.approx(0)
    # and where fewer than half of the drawn ones are solved, less is to be lost: 0.9 x the share of them
    assert comparison.contrasts[4].difference.low < 0.45 == pytest.approx(comparison.contrasts[4].difference.high)


def test_a_level_that_not_all_reach_is_refused_with_the_range_that_all_have():
    assert compare_at_pass_at_1([NARROW], [BROAD], level=0.25).details["steps"]["base"] == [pytest.approx(5)]
    with pytest.raises(ValueError, match=r"one that all runs have, 0\.0 to 50\.0 percent; got 75\.0\. Choose one in"):
        compare_at_pass_at_1([NARROW], [BROAD], level=0.75)
    late = trajectory({30: [4] * 8})
    with pytest.raises(ValueError, match=r"run starts at 100\.00 percent and base never has more than 50\.00"):
        compare_at_pass_at_1([NARROW], [late])
    with pytest.raises(ValueError, match=r"matched at k = 1; run has none at step 5\. Add it with --k"):
        compare_at_pass_at_1([NARROW], [trajectory({5: [1] * 8}, ks=(2, 4))])


def test_several_runs_of_a_recipe_are_matched_each_by_itself():
    slow = trajectory({0: [0] * 8, 40: [2] * 8})
    comparison = compare_at_pass_at_1([NARROW], [BROAD, slow], run_name="NSR")
    assert comparison.details["steps"]["NSR"] == [pytest.approx(18), pytest.approx(36)]
    assert "tokens generated" not in comparison.facts  # not known of all


def test_two_runs_of_one_process_are_told_apart_in_one_of_twenty_cases_at_most(monkeypatch):
    monkeypatch.setattr("nsr_trl.evaluation.matched.NUM_RESAMPLES", 400)
    generator = np.random.default_rng(0)
    num_told = 0
    for _ in range(60):
        ease = generator.beta(0.5, 0.5, size=40)
        runs = []
        for pace in (1.0, 0.5):  # one is twice as fast and otherwise alike
            by_step = {step: generator.binomial(16, np.clip(ease * pace * step / 10, 0, 1)) for step in range(21)}
            runs.append(trajectory(by_step, num_samples=16, ks=(1, 16)))
        contrast = compare_at_pass_at_1([runs[0]], [runs[1]], level=0.3).contrasts[16]
        num_told += contrast.verdict != "not distinguishable"
    assert num_told <= 7  # 3 expected; 8 or more of 60 at 5% have a chance of 1%


@pytest.fixture
def folders(tmp_path):
    """Evaluation folders of two runs, as `evaluate --checkpoints` leaves them."""

    def write(name, trajectory):
        for step, evaluation in trajectory.evaluations.items():
            folder = tmp_path / name / f"checkpoint-{step}" / "sums"
            folder.mkdir(parents=True)
            (folder / "summary.json").write_text(json.dumps(evaluation.to_dict()))
            (folder / "config.json").write_text("{}")
            (folder / "problems.jsonl").write_text("")
            if step in trajectory.num_tokens:
                (folder.parent / "training.json").write_text(json.dumps({"num_tokens": trajectory.num_tokens[step]}))
        return str(tmp_path / name)

    return write("narrow", NARROW), write("broad", BROAD)


def test_the_command_compares_draws_and_refuses(folders, tmp_path, capsys):
    main(["compare", "--match-pass-at-1", *folders, "--json", str(tmp_path / "matched.json")])
    shown = capsys.readouterr().out
    assert "broad - narrow" in shown
    assert "tokens generated" in shown
    assert json.loads((tmp_path / "matched.json").read_text())[0]["steps"]["narrow"] == [pytest.approx(9)]
    main(["plot", "--over-pass-at-1", *folders, "--output", str(tmp_path / "matched.png")])
    assert (tmp_path / "matched.png").read_bytes().startswith(b"\x89PNG")
    for flags, told in [
        (["--match-pass-at-1", "--pass-at-1", "80"], "0.0 to 50.0 percent; got 80.0"),
        (["--pass-at-1", "40"], "--pass-at-1 must go with --match-pass-at-1"),
        (["--match-pass-at-1", "--names", "NSR", "NSR"], "must be of two recipes; got one, 'NSR'"),
    ]:
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main(["compare", *folders, *flags])
        assert told in capsys.readouterr().err


def test_equal_names_are_runs_of_one_recipe(folders, capsys):
    narrow, broad = folders
    main(["compare", "--match-pass-at-1", narrow, broad, broad, broad, "--names", "PSR", "NSR", "NSR", "NSR"])
    assert "Training runs: 1 of PSR and 3 of NSR" in capsys.readouterr().out
