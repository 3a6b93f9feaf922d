import xml.etree.ElementTree as ElementTree

import pytest

from nsr_trl.evaluation import plots
from nsr_trl.evaluation.plots import plot_dynamics, plot_over_steps, plot_panels, plot_pass_at_k
from nsr_trl.evaluation.results import Evaluation, estimate_pass_at_k


def build_evaluation(counts, num_samples=8, ks=(1, 2, 4, 8)):
    num_correct = {f"p{i}": count for i, count in enumerate(counts)}
    return Evaluation(num_samples, num_correct, 0, 1.0, 0.0, estimate_pass_at_k(num_samples, num_correct, ks))


BEFORE, AFTER = build_evaluation([0, 4, 8, 2]), build_evaluation([2, 6, 8, 4])


@pytest.fixture
def figure(monkeypatch):
    """The figures that were drawn, kept for a look at what they hold."""
    kept = []

    class Kept(plots.Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            kept.append(self)

    monkeypatch.setattr(plots, "Figure", Kept)
    return kept


def curves(axes):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("PDF", b"%PDF")])
def test_the_figure_is_written_in_the_format_of_its_suffix(tmp_path, suffix, start):
    plot_pass_at_k({"before": BEFORE, "after": AFTER}, tmp_path / f"curve.{suffix}")
    assert (tmp_path / f"curve.{suffix}").read_bytes().startswith(start)


def test_the_background_is_white_whatever_the_page(tmp_path):
    plot_pass_at_k({"before": BEFORE}, tmp_path / "curve.svg")
    root = ElementTree.parse(tmp_path / "curve.svg").getroot()
    background = next(element for element in root.iter() if element.tag.endswith("path"))
    assert "fill: #ffffff" in background.get("style")


def test_the_curves_are_the_numbers_passed_in(tmp_path, figure):
    plot_pass_at_k({"before": BEFORE, "after": AFTER}, tmp_path / "curve.png")
    (axes,) = figure[0].axes
    assert curves(axes)["before"] == ([1, 2, 4, 8], [100 * BEFORE.pass_at_k[k].value for k in (1, 2, 4, 8)])
    band = axes.collections[0].get_paths()[0].vertices
    assert {(1.0, 100 * BEFORE.pass_at_k[1].low), (1.0, 100 * BEFORE.pass_at_k[1].high)} <= {*map(tuple, band)}
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4", "8"]
    assert axes.get_ylabel() == "Pass@k (%)"


def test_a_single_step_shows_its_interval_as_a_line(tmp_path, figure):
    plot_over_steps({"": {"run": {20: BEFORE}}}, tmp_path / "steps.png", ks=[1])
    (axes,) = figure[0].axes
    _, line = axes.collections
    (segment,) = line.get_segments()
    assert segment.tolist() == [[20, 100 * BEFORE.pass_at_k[1].low], [20, 100 * BEFORE.pass_at_k[1].high]]


def test_a_run_looks_alike_in_every_panel_and_stands_once_in_the_legend(tmp_path, figure):
    plot_panels({"amc23": {"a": BEFORE, "b": AFTER}, "aime2025": {"b": BEFORE}}, tmp_path / "panels.png")
    left, right = figure[0].axes
    assert (left.get_title(), right.get_title()) == ("amc23", "aime2025")
    assert {line.get_color() for line in left.lines if line.get_label() == "b"} == {right.lines[0].get_color()}
    (legend,) = figure[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]


def test_names_are_shown_as_they_are(tmp_path, figure):
    plot_panels({"$5 problems": {"_run": BEFORE, r"$\frac$": AFTER}, "b": {"_run": BEFORE}}, tmp_path / "panels.png")
    assert [text.get_text() for text in figure[0].legends[0].get_texts()] == ["_run", r"\$\frac\$"]


def test_no_two_of_many_runs_look_alike():
    styles = plots._styles([f"run {i}" for i in range(40)])
    assert len({tuple(style.values()) for style in styles.values()}) == 40


def test_an_evaluation_of_one_k_shows_its_interval(tmp_path, figure):
    plot_pass_at_k({"greedy": build_evaluation([0, 1, 1, 1], 1, [1])}, tmp_path / "curve.png")
    (segment,) = figure[0].axes[0].collections[-1].get_segments()
    assert segment[0][1] < 75 < segment[1][1]


LOG = [
    {"step": 1, "entropy": 0.5, "signed/correct_ratio": 0.25, "signed/groups_solved": 0.0, "reward": 0.25},
    {"step": 2, "entropy": 0.4, "signed/correct_ratio": 0.5, "signed/groups_solved": 0.125, "reward": 0.5},
    {"step": 2, "eval_reward": 0.5},
    {"step": 2, "train_runtime": 9.0},
]


def test_dynamics_are_drawn_by_step_in_one_panel_per_metric_that_is_there(tmp_path, figure):
    logs = {"a": LOG, "b": [{"step": 4, "entropy": 0.1}]}
    plot_dynamics(logs, tmp_path / "dynamics.svg")
    panels = {axes.get_title(): curves(axes) for axes in figure[0].axes}
    assert panels == {
        "entropy": {"a": ([1, 2], [0.5, 0.4]), "b": ([4], [0.1])},
        "completions": {"a": ([1, 2], [25, 50])},  # and the reward, which is the same, is not drawn again
        "prompts": {"a": ([1, 2], [0, 12.5])},
    }
    (legend,) = figure[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]


def test_another_trainers_log_is_drawn_by_what_it_has(tmp_path, figure):
    log = [
        {"step": i, "reward": 0.1 * i, "entropy": 1.0, "completions/mean_length": 9, "grad_norm": 1} for i in (1, 2)
    ]
    plot_dynamics({"grpo": log}, tmp_path / "dynamics.png")
    assert [axes.get_title() for axes in figure[0].axes] == ["entropy", "reward", "length", "gradient norm"]


BY_SIGN = [
    {"step": i, "loss": 0.0, "signed/length/correct": 10 + i, "signed/length/incorrect": 90 + i, "entropy": 0.5}
    | {"signed/entropy/correct": 0.4, "signed/entropy/incorrect": 0.6, "signed/positive_weight": 0.1}
    for i in range(4)
]


def test_what_there_is_by_sign_is_drawn_solid_and_dashed_in_one_panel_and_nothing_twice(tmp_path, figure):
    plot_dynamics({"a": BY_SIGN}, tmp_path / "dynamics.png", "a: nsr, trained from Qwen")
    entropy, length = figure[0].axes  # a lambda that does not move is not drawn
    assert (entropy.get_title(), length.get_title()) == ("entropy", "length")
    drawn = {line.get_linestyle(): list(line.get_ydata()) for line in length.lines}
    assert drawn == {"-": [10, 11, 12, 13], "--": [90, 91, 92, 93]}
    assert [text.get_text() for text in length.get_legend().get_texts()] == ["correct", "incorrect"]
    assert figure[0].get_suptitle() == "a: nsr, trained from Qwen"
    assert figure[0].legends == []  # the title has the name


def test_an_alarm_is_marked_where_it_began(tmp_path, figure):
    log = [dict(entry) for entry in BY_SIGN]
    for entry in log[1:3]:
        entry["signed/alarm/entropy_collapse"] = 1.5
    log[3]["signed/alarm/length"] = 1.0
    plot_dynamics({"a": log}, tmp_path / "dynamics.png")
    marks = [
        [(collection.get_segments()[0][0][0], text.get_text().strip())]
        for axes in figure[0].axes
        for collection, text in zip(axes.collections, axes.texts, strict=True)
    ]
    assert marks == [[(1, "entropy_collapse")], [(3, "length")]]


def test_a_log_without_any_of_the_metrics_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"needs one of the metrics .*entropy, .*; a, b logged none\. Train with"):
        plot_dynamics({"a": [{"step": 1, "loss": 2.0}], "b": []}, tmp_path / "dynamics.png")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("curve.bmp", r"one of .*\.png.*; got 'curve\.bmp'"), ("curve", "got 'curve'"), ("no/curve.png", "does not")],
)
def test_a_figure_that_cannot_be_written_is_refused(tmp_path, name, sentence):
    with pytest.raises(ValueError, match=sentence):
        plot_pass_at_k({"before": BEFORE}, tmp_path / name)
