"""Figures of results already computed: evaluations or training logs go in, a file comes out."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..alarms import METRIC
from .pass_at_k import Estimate
from .results import Evaluation


try:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise ImportError(
        "Plots need matplotlib, which is not installed. Install it with `pip install nsr-trl[plot]`."
    ) from error


# Okabe and Ito's colours, with markers and dashes that tell the curves apart in grey as well
_STYLES = (
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "--"),
    ("#009E73", "^", "-."),
    ("#CC79A7", "D", ":"),
    ("#E69F00", "v", "-"),
    ("#56B4E9", "P", "--"),
    ("#000000", "X", "-."),
)


@dataclass(frozen=True)
class _Panel:
    """A panel of training dynamics: one curve or two, and the alarms that speak of them."""

    title: str
    unit: str
    factor: float
    curves: Mapping[str, str]  # metric -> what it is, solid and dashed
    alarms: tuple[str, ...] = ()
    instead_of: str | None = None  # drawn where no run has this metric: nothing is shown twice
    must_move: bool = False  # not drawn while it is one number throughout


_DASHES: tuple[Any, ...] = ("-", "--")
"""Of the first and of the second curve of a panel."""


def _by_sign(metric: str) -> dict[str, str]:
    return {f"signed/{metric}/{side}": side for side in ("correct", "incorrect")}


_DYNAMICS = (
    _Panel("entropy", "nats", 1, _by_sign("entropy"), ("entropy_collapse", "entropy_explosion")),
    _Panel("entropy", "nats", 1, {"entropy": ""}, (), "signed/entropy/incorrect"),
    _Panel("log-probability of a token", "nats", 1, _by_sign("logp")),
    _Panel(
        "completions",
        "%",
        100,
        {"signed/correct_ratio": "correct", "signed/undecided_ratio": "undecided"},
        ("correct_falling", "none_correct", "undecided_rising", "pass_at_k_falling"),
    ),
    _Panel("reward", "", 1, {"reward": ""}, (), "signed/correct_ratio"),
    _Panel(
        "prompts",
        "%",
        100,
        {"signed/groups_solved": "always solved", "signed/groups_unsolved": "never solved"},
        ("unsolved_rising",),
    ),
    _Panel("length", "tokens", 1, _by_sign("length"), ("length", "truncation", "repetition")),
    _Panel("length", "tokens", 1, {"completions/mean_length": ""}, (), "signed/length/incorrect"),
    _Panel("clipped tokens", "%", 100, _by_sign("clip_ratio"), ("clip", "correction"), must_move=True),
    _Panel("share of the loss", "%", 100, _by_sign("loss_share"), must_move=True),
    _Panel("weight of correct, \u03bb", "", 1, {"signed/positive_weight": ""}, must_move=True),
    _Panel("gradient norm", "", 1, {"grad_norm": ""}),
)


def plot_pass_at_k(evaluations: Mapping[str, Evaluation], path: str | Path) -> None:
    """
    Draws the Pass@k curves of one or several evaluations, with their 95% intervals as bands.

    Args:
        evaluations (`Mapping[str, Evaluation]`):
            Evaluations by the name to show in the legend.
        path (`str` or `Path`):
            File to write; its suffix, `.png`, `.svg` or `.pdf`, is the format.

    Raises:
        ValueError: If the format is unknown, or the folder does not exist.
    """
    plot_panels({"": evaluations}, path)


def plot_panels(evaluations: Mapping[str, Mapping[str, Evaluation]], path: str | Path) -> None:
    """
    Draws Pass@k curves as [`plot_pass_at_k`] does, one panel per dataset, side by side.

    Args:
        evaluations (`Mapping[str, Mapping[str, Evaluation]]`):
            Evaluations by dataset and by the name to show in the legend.
        path (`str` or `Path`):
            As in [`plot_pass_at_k`].
    """
    plot_curves(
        {dataset: {name: run.pass_at_k for name, run in runs.items()} for dataset, runs in evaluations.items()}, path
    )


def plot_curves(curves: Mapping[str, Mapping[str, Mapping[int, Estimate]]], path: str | Path) -> None:
    """
    Draws estimates of Pass@k by k, with their intervals as bands, one panel beside the other.

    Args:
        curves (`Mapping[str, Mapping[str, Mapping[int, Estimate]]]`):
            Estimates by the title of the panel, by the name to show in the legend, and by k.
        path (`str` or `Path`):
            As in [`plot_pass_at_k`].
    """
    styles = _styles([name for runs in curves.values() for name in runs])
    panels = _Panels(len(curves), path, max_columns=3)
    alpha = 0.15 if len(styles) <= 3 else 0.1  # of the bands, which lie over each other
    for axes, (title, runs) in zip(panels.axes, curves.items(), strict=True):
        for name, estimates in runs.items():
            _draw_band(axes, estimates, alpha, label=name, markersize=5, **styles[name])
        largest_k = max(k for estimates in runs.values() for k in estimates)
        ticks = [2**i for i in range(largest_k.bit_length())]
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(k) for k in ticks], fontsize="medium" if len(panels.axes) == 1 else "small")
        axes.minorticks_off()
        axes.set(title=_literal(title), xlabel="k")
    for axes in panels.axes[:: panels.num_columns]:
        axes.set_ylabel("Pass@k (%)")
    panels.save()


def plot_trajectories(
    trajectories: Mapping[str, tuple[Sequence[float], Sequence[float]]], k: int, path: str | Path
) -> None:
    """
    Draws Pass@k by Pass@1 along training runs: what a run gives up at k for what it gains at 1, however fast it went.

    Args:
        trajectories (`Mapping[str, tuple[Sequence[float], Sequence[float]]]`):
            Pass@1 and Pass@k of each step, 0 to 1, by the name to show in the legend.
        k (`int`):
            The k.
        path (`str` or `Path`):
            As in [`plot_pass_at_k`].
    """
    styles = _styles(list(trajectories))
    panels = _Panels(1, path, max_columns=1)
    for name, along in trajectories.items():
        pass_at_1, pass_at_k = ([100 * value for value in values] for values in along)
        every = max(1, len(pass_at_1) // 8)
        panels.axes[0].plot(pass_at_1, pass_at_k, label=name, markersize=4, markevery=every, **styles[name])
    panels.axes[0].set(xlabel="Pass@1 (%)", ylabel=f"Pass@{k} (%)")
    panels.save(inside="lower left")


def plot_over_steps(
    series: Mapping[str, Mapping[str, Mapping[int, Evaluation]]], path: str | Path, ks: Sequence[int] | None = None
) -> None:
    """
    Draws Pass@k by training step, with 95% intervals as bands: one panel per dataset and k.

    Args:
        series (`Mapping[str, Mapping[str, Mapping[int, Evaluation]]]`):
            Evaluations by dataset, by the name to show in the legend, and by step.
        path (`str` or `Path`):
            As in [`plot_pass_at_k`].
        ks (`Sequence[int]`, *optional*):
            The k. Defaults to the least and the greatest that all evaluations of a dataset have.

    Raises:
        ValueError: If an evaluation has another k; or as [`plot_pass_at_k`].
    """
    rows = _rows_of_k(series, ks, [min, max])
    styles = _styles([name for runs in series.values() for name in runs])
    panels = _Panels(len(rows), path, max_columns=3)
    for axes, (dataset, k) in zip(panels.axes, rows, strict=True):
        for name, by_step in series[dataset].items():
            estimates = {step: evaluation.pass_at_k[k] for step, evaluation in by_step.items()}
            _draw_band(axes, estimates, 0.12, label=name, markersize=4, **styles[name])
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set(title=_literal(f"{dataset}, Pass@{k}" if dataset else f"Pass@{k}"), xlabel="step")
    for axes in panels.axes[:: panels.num_columns]:
        axes.set_ylabel("Pass@k (%)")
    panels.save()


def plot_over_pass_at_1(
    series: Mapping[str, Mapping[str, Mapping[int, Evaluation]]], path: str | Path, ks: Sequence[int] | None = None
) -> None:
    """
    Draws Pass@k against the Pass@1 that it came with, step after step: one panel per dataset and k.

    Where one run lies above another at the same Pass@1, it has kept more of Pass@k, whichever was faster.

    Args:
        series (`Mapping[str, Mapping[str, Mapping[int, Evaluation]]]`):
            As in [`plot_over_steps`].
        path (`str` or `Path`):
            As in [`plot_pass_at_k`].
        ks (`Sequence[int]`, *optional*):
            The k. Defaults to the greatest that all evaluations of a dataset have.

    Raises:
        ValueError: As [`plot_over_steps`].
    """
    rows = _rows_of_k(series, ks, [max])
    styles = _styles([name for runs in series.values() for name in runs])
    panels = _Panels(len(rows), path, max_columns=3)
    for axes, (dataset, k) in zip(panels.axes, rows, strict=True):
        for name, by_step in series[dataset].items():
            of_steps = [by_step[step].pass_at_k for step in sorted(by_step)]
            at_1, at_k = ([100 * estimates[n].value for estimates in of_steps] for n in (1, k))
            axes.plot(at_1, at_k, label=name, markersize=4, **styles[name])
            for step, x, y in [(min(by_step), at_1[0], at_k[0]), (max(by_step), at_1[-1], at_k[-1])]:
                axes.annotate(f"step {step}", (x, y), (3, 3), textcoords="offset points", fontsize="x-small")
        axes.set(title=_literal(f"{dataset}, Pass@{k}" if dataset else f"Pass@{k}"), xlabel="Pass@1 (%)")
    for axes in panels.axes[:: panels.num_columns]:
        axes.set_ylabel("Pass@k (%)")
    panels.save()


def _rows_of_k(
    series: Mapping[str, Mapping[str, Mapping[int, Evaluation]]],
    ks: Sequence[int] | None,
    defaults: Sequence[Callable[[set[int]], int]],
) -> list[tuple[str, int]]:
    """(Dataset, k) of each panel; a ValueError where an evaluation has not that k."""
    rows = []
    for dataset, runs in series.items():
        shared = set.intersection(*(set(e.pass_at_k) for steps in runs.values() for e in steps.values()))
        chosen = sorted({choose(shared) for choose in defaults} if ks is None and shared else set(ks or []))
        if not chosen or not shared >= set(chosen):
            raise ValueError(
                f"Curves need a k that all evaluations have; they share {sorted(shared) or 'none'}, and "
                f"k={chosen} was asked for. Choose among these, or evaluate with more samples."
            )
        rows += [(dataset, k) for k in chosen]
    return rows


def _draw_band(axes: Axes, estimates: Mapping[int, Estimate], alpha: float, **style: Any) -> None:
    """A curve of estimates in percent, with their intervals as a band."""
    places = sorted(estimates)
    ordered = [estimates[place] for place in places]
    lows, highs = [100 * e.low for e in ordered], [100 * e.high for e in ordered]
    axes.plot(places, [100 * e.value for e in ordered], **style)
    axes.fill_between(places, lows, highs, color=style["color"], alpha=alpha, linewidth=0)
    if len(places) == 1:  # a band of no width
        axes.vlines(places, lows, highs, color=style["color"], alpha=0.5)


def has_dynamics(log: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a log has a curve to draw: two steps or more with one of the metrics that [`plot_dynamics`] draws."""
    return any(len(_points(log, metric)) > 1 for panel in _DYNAMICS for metric in panel.curves)


def _points(log: Sequence[Mapping[str, Any]], metric: str) -> list[tuple[int, float]]:
    """(Step, value) wherever the log has a value: a step that trained nothing may have none, or not a number."""
    found = [(entry["step"], entry.get(metric)) for entry in log]
    return [(step, value) for step, value in found if value is not None and math.isfinite(value)]


def _alarms(log: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[tuple[int, str]]:
    """(Step, name) wherever an alarm began to ring."""
    found = []
    for name in names:
        was_ringing = False
        for entry in (entry for entry in log if "loss" in entry):
            rings = f"{METRIC}{name}" in entry
            if rings and not was_ringing:
                found.append((entry["step"], name))
            was_ringing = rings
    return found


def plot_dynamics(logs: Mapping[str, Sequence[Mapping[str, Any]]], path: str | Path, title: str | None = None) -> None:
    """
    Draws what training runs logged by step, unsmoothed, one panel per metric that any of them has.

    What there is by sign is drawn by sign, correct completions solid and incorrect ones dashed. A dotted line marks
    where an alarm began to ring.

    Args:
        logs (`Mapping[str, Sequence[Mapping[str, Any]]]`):
            Log entries, as [`~dynamics.read_log`] reads them, by the name to show in the legend.
        path (`str` or `Path`):
            As in [`plot_pass_at_k`].
        title (`str`, *optional*):
            Of the figure: which run, of which model.

    Raises:
        ValueError: If no run logged any of the metrics; or as [`plot_pass_at_k`].
    """
    metrics = {metric for panel in _DYNAMICS for metric in panel.curves}
    logged = {metric for metric in metrics if any(_points(log, metric) for log in logs.values())}
    moving = {metric for metric in logged if len({v for log in logs.values() for _, v in _points(log, metric)}) > 1}
    shown = [
        panel
        for panel in _DYNAMICS
        if panel.curves.keys() & (moving if panel.must_move else logged) and panel.instead_of not in logged
    ]
    if not shown:
        raise ValueError(
            f"A figure of training dynamics needs one of the metrics {', '.join(sorted(metrics))}; {', '.join(logs)} "
            "logged none. Train with SignedRewardTrainer and a logging_steps below the number of steps."
        )
    styles = _styles(list(logs))
    panels = _Panels(len(shown), path, max_columns=4)
    for axes, panel in zip(panels.axes, shown, strict=True):
        curves = {metric: dash for metric, dash in zip(panel.curves, _DASHES, strict=False) if metric in logged}
        for name, log in logs.items():
            style = {key: styles[name][key] for key in ("color", "marker")} | {"markersize": 4, "linewidth": 1.2}
            for metric, dash in reversed(curves.items()):  # the solid one last, on top and in the legend
                points = [(step, panel.factor * value) for step, value in _points(log, metric)]
                if points:
                    every = max(1, len(points) // 8)
                    axes.plot(*zip(*points, strict=True), label=name, markevery=every, linestyle=dash, **style)
            for step, alarm in _alarms(log, panel.alarms):
                at_the_top = axes.get_xaxis_transform()
                axes.vlines(step, 0, 1, color=styles[name]["color"], linestyles=":", transform=at_the_top)
                axes.text(step, 0.98, f" {alarm}", transform=at_the_top, rotation=90, va="top", fontsize="x-small")
        if any(panel.curves.values()):
            handles = [Line2D([], [], color="0.3", linestyle=dash, linewidth=1.2) for dash in curves.values()]
            labels = [panel.curves[metric] for metric in curves]
            axes.legend(handles, labels, frameon=False, fontsize="x-small", handlelength=2.5)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set(title=panel.title, ylabel=panel.unit, xlabel="step")
        if panel.factor == 100:
            axes.set_ylim(bottom=0, top=None if axes.dataLim.ymax > 0 else 1)
    if title:
        panels.figure.suptitle(_literal(title))
    # a title names a single run, and takes the place of a legend above
    panels.save(
        legend=None if title and len(logs) == 1 else "outside lower center" if title else "outside upper center"
    )


class _Panels:
    """Panels of one size in rows, one legend above them all."""

    def __init__(self, num_panels: int, path: str | Path, max_columns: int) -> None:
        self.path = Path(path)
        self.num_columns = min(num_panels, max_columns)
        self.figure = Figure(layout="constrained")  # no pyplot, hence no global state
        formats = sorted(self.figure.canvas.get_supported_filetypes())
        if self.path.suffix.removeprefix(".").lower() not in formats:
            raise ValueError(
                f"A figure's suffix must be one of .{', .'.join(formats)}; got {self.path.name!r}. "
                "Name a .png for a model card, a .svg or .pdf for print."
            )
        if not self.path.parent.is_dir():
            raise ValueError(
                f"A figure must be written to a folder that exists; {str(self.path.parent)!r} does not. Make it first."
            )
        num_rows = -(-num_panels // self.num_columns)
        self.figure.set_size_inches(
            5.5 if num_panels == 1 else 3.1 * self.num_columns, 3.8 if num_panels == 1 else 2.9 * num_rows
        )
        grid = self.figure.add_gridspec(num_rows, self.num_columns)
        self.axes = [self.figure.add_subplot(grid[divmod(i, self.num_columns)]) for i in range(num_panels)]

    def save(self, legend: Any = "outside upper center", inside: Any = "lower right") -> None:
        handles: dict[Any, Artist] = {}
        for axes in self.axes:
            axes.grid(color="0.9")
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            handles |= {line.get_label(): line for line in axes.lines}
        labels = [_literal(str(name)) for name in handles]
        shared: dict[str, Any] = {"handles": list(handles.values()), "labels": labels, "frameon": False}
        if len(self.axes) == 1:
            self.axes[0].legend(**shared, handlelength=3, loc=inside)
        elif legend is not None:
            num_rows = -(-len(handles) // (self.num_columns + 1))
            num_columns = -(-len(handles) // num_rows)
            self.figure.legend(**shared, handlelength=3, loc=legend, ncols=num_columns)
        self.figure.savefig(self.path, dpi=200, facecolor="white")  # not transparent: a card may be read in dark mode


def _literal(name: str) -> str:
    """A name as it is: between dollar signs matplotlib sets mathematics."""
    return name.replace("$", r"\$")


def _styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Style by name, the same in every panel; no two alike for 49 names."""
    styles: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(dict.fromkeys(names)):
        color, *_ = _STYLES[index % len(_STYLES)]
        _, marker, line = _STYLES[(index + index // len(_STYLES)) % len(_STYLES)]
        styles[name] = {"color": color, "marker": marker, "linestyle": line}
    return styles
