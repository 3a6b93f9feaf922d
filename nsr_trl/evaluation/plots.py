"""Figures of results already computed: evaluations go in, a file comes out."""

from collections.abc import Mapping
from pathlib import Path

from .results import Evaluation


try:
    from matplotlib.figure import Figure
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


def plot_pass_at_k(evaluations: Mapping[str, Evaluation], path: str | Path) -> None:
    """
    Draws the Pass@k curves of one or several evaluations, with their 95% intervals as bands.

    Args:
        evaluations (`Mapping[str, Evaluation]`):
            Evaluations by the name to show in the legend.
        path (`str` or `Path`):
            File to write; its suffix, `.png`, `.svg` or `.pdf`, is the format.
    """
    figure = Figure(figsize=(5.5, 3.8), layout="constrained")  # no pyplot, hence no global state
    axes = figure.add_subplot()
    for index, (name, evaluation) in enumerate(evaluations.items()):
        color, marker, line = _STYLES[index % len(_STYLES)]
        ks = sorted(evaluation.pass_at_k)
        estimates = [evaluation.pass_at_k[k] for k in ks]
        lows, highs = [100 * e.low for e in estimates], [100 * e.high for e in estimates]
        values = [100 * e.value for e in estimates]
        axes.fill_between(ks, lows, highs, color=color, alpha=0.15, linewidth=0)
        axes.plot(ks, values, color=color, marker=marker, linestyle=line, markersize=5, label=name)
    shown_ks = sorted({k for evaluation in evaluations.values() for k in evaluation.pass_at_k})
    axes.set_xscale("log", base=2)
    axes.set_xticks(shown_ks, [str(k) for k in shown_ks])
    axes.minorticks_off()
    axes.set(xlabel="k", ylabel="Pass@k (%)")
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=200)
