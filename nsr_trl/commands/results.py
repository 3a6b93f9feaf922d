"""`nsr-trl compare`, `plot` and `show`: what evaluations found, as tables, figures and samples to read."""

import argparse
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..choices import OUTCOMES
from ..evaluation.visible import one_line
from .numbers import positive


if TYPE_CHECKING:
    from ..evaluation.comparison import Comparison


def add_parsers(commands: Any) -> None:
    """Adds the three commands."""
    compare = commands.add_parser(
        "compare",
        help="compare evaluations: differences of Pass@k with intervals and a verdict per k",
        description="Compares evaluations with a base, on the problems that both have: Pass@k of both, the paired "
        "difference with its 95% bootstrap interval, a verdict per k, and where the curves cross.",
    )
    compare.add_argument("base", metavar="BASE", help="output folder of the evaluation to compare with")
    compare.add_argument("runs", nargs="+", metavar="RUN", help="output folders of the evaluations to compare")
    compare.add_argument(
        "--names",
        nargs="+",
        metavar="NAME",
        help="names to show, the base's first; runs of equal name are of one recipe and differ by their seed",
    )
    compare.add_argument(
        "--match-pass-at-1",
        action="store_true",
        help="the folders are of `evaluate --checkpoints`: compare the runs where they have the same Pass@1, "
        "interpolated between steps",
    )
    compare.add_argument(
        "--pass-at-1",
        type=float,
        metavar="PERCENT",
        help="the Pass@1 to match (default: nine tenths of the way from the start to the lowest of the peaks)",
    )
    compare.add_argument("--json", metavar="FILE", help="write the comparisons to a JSON file as well")
    compare.add_argument("--markdown", action="store_true", help="print Markdown tables")
    compare.set_defaults(run=run_compare)

    plot = commands.add_parser(
        "plot",
        help="draw Pass@k curves, or what training runs logged",
        description="Draws the Pass@k curves of evaluations with 95% intervals as bands, one panel per dataset; or, "
        "with --dynamics, what training runs logged by step, by sign, with alarms as marks.",
    )
    plot.add_argument("runs", nargs="+", metavar="RUN", help="output folders of evaluations, or of training runs")
    kind = plot.add_mutually_exclusive_group()
    kind.add_argument("--dynamics", action="store_true", help="the folders are of training runs")
    kind.add_argument(
        "--over-steps", action="store_true", help="the folders are of `evaluate --checkpoints`: Pass@k by step"
    )
    kind.add_argument(
        "--over-pass-at-1", action="store_true", help="the same folders: Pass@k by the Pass@1 that it came with"
    )
    plot.add_argument(
        "--k", type=positive, nargs="+", help="with --over-...: the k (default: least and greatest, or greatest)"
    )
    plot.add_argument("--output", required=True, metavar="FILE", help="figure to write: .png, .svg or .pdf")
    plot.add_argument("--names", nargs="+", metavar="NAME", help="names to show, one per folder")
    plot.set_defaults(run=run_plot)

    show = commands.add_parser(
        "show",
        help="read the samples of an evaluation, in the terminal or as one HTML page",
        description="Shows the samples of an evaluation: question, extracted and reference answer, outcome, reason, "
        "rule, length and text. With --html it writes one page that needs no network and runs nothing a model wrote.",
    )
    show.add_argument(
        "folder", metavar="RUN", help="output folder of an evaluation, or of a training run's completions"
    )
    show.add_argument("other", nargs="?", metavar="OTHER", help="another evaluation, to stand beside it on the page")
    show.add_argument("--outcome", choices=OUTCOMES, help="only samples of this outcome")
    show.add_argument("--reason", metavar="REASON", help="only samples of this reason, such as 'no answer'")
    show.add_argument("--rule", metavar="RULE", help="only samples of this rule, such as number.differs")
    show.add_argument("--dataset", metavar="NAME", help="only this dataset, or step")
    show.add_argument("--problem", metavar="ID", help="only problems whose id begins so")
    show.add_argument("--truncated", action="store_true", help="only samples that ran into the length limit")
    show.add_argument("--limit", type=positive, metavar="N", help="stop after N samples (terminal)")
    show.add_argument("--brief", action="store_true", help="leave out the completions (terminal)")
    show.add_argument(
        "--explain", action="store_true", help="add what was read of both sides and the rule that decides (terminal)"
    )
    show.add_argument("--html", metavar="FILE", help="write a page instead")
    show.add_argument(
        "--max-per-problem",
        type=positive,
        default=4,
        metavar="N",
        help="samples of each outcome of each problem on the page, the first ones (default: %(default)s)",
    )
    show.add_argument(
        "--max-characters",
        type=positive,
        default=20_000,
        metavar="N",
        help="longer completions are cut in the middle on the page (default: %(default)s)",
    )
    show.set_defaults(run=run_show)


def run_compare(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Prints a table for each dataset that all runs share and each run."""
    import json
    from functools import partial
    from itertools import groupby
    from operator import attrgetter
    from pathlib import Path

    from ..evaluation.comparison import compare
    from ..evaluation.matched import compare_at_pass_at_1, read_trajectories
    from ..evaluation.runs import name_runs, read_evaluations

    if args.pass_at_1 is not None and not args.match_pass_at_1:
        parser.error("--pass-at-1 must go with --match-pass-at-1; got it alone. Add the other.")
    try:
        runs = name_runs([args.base, *args.runs], args.names and _told_apart(args.names))
        recipe_of = dict(zip(runs, args.names or runs, strict=True))
        if args.match_pass_at_1:
            level = None if args.pass_at_1 is None else args.pass_at_1 / 100
            contrast: Callable[..., Comparison] = partial(compare_at_pass_at_1, level=level)
            evaluations: dict[str, dict[str, Any]] = read_trajectories(runs)
        else:
            contrast, evaluations = compare, read_evaluations(runs)
        shared = {dataset: by_run for dataset, by_run in evaluations.items() if len(by_run) == len(runs)}
        if not shared:
            held = "; ".join(f"{name}: {', '.join(d for d in evaluations if name in evaluations[d])}" for name in runs)
            parser.error(f"the runs must share a dataset; they have {held}. Evaluate them on one dataset.")
        if left_out := [one_line(dataset) for dataset in evaluations if dataset not in shared]:
            print(f"Not in all runs, so left out: {', '.join(left_out)}", file=sys.stderr)
        comparisons = []
        for dataset, by_run in shared.items():
            recipes: dict[str, list[Any]] = {}
            for name, evaluated in by_run.items():
                recipes.setdefault(recipe_of[name], []).append(evaluated)
            (base_name, base), *others = recipes.items()
            if not others:
                parser.error(
                    f"a comparison must be of two recipes; got one, {base_name!r}. Name the other in --names."
                )
            comparisons += [
                contrast(base, run, base_name=base_name, run_name=name, dataset=dataset) for name, run in others
            ]
        if args.json:
            content = json.dumps([comparison.to_dict() for comparison in comparisons], indent=2, ensure_ascii=False)
            Path(args.json).write_text(content + "\n", encoding="utf-8")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    has_color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    texts = []
    for dataset, of_dataset in groupby(comparisons, key=attrgetter("dataset")):
        if dataset:
            texts.append(f"## {one_line(dataset)}" if args.markdown else f"{one_line(dataset)}:")
        texts += [comparison.markdown() if args.markdown else comparison.table(width) for comparison in of_dataset]
    text = "\n\n".join(texts)
    print(_colored(text) if has_color and not args.markdown else text)


def _told_apart(names: "list[str]") -> "list[str]":
    """Names with the number of the run behind those that occur more than once."""
    return [n if names.count(n) == 1 else f"{n}, run {names[:i].count(n) + 1}" for i, n in enumerate(names)]


def _colored(text: str) -> str:
    """Tables with their verdicts in colour."""
    colors = {"above": "32", "below": "31"}
    return re.sub("(above|below)$", lambda match: f"\x1b[1;{colors[match[1]]}m{match[1]}\x1b[0m", text, flags=re.M)


def run_plot(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Writes one figure."""
    from ..dynamics import describe_folders, read_log
    from ..evaluation.runs import name_runs, read_evaluations

    if args.k and not (args.over_steps or args.over_pass_at_1):
        parser.error(
            "--k must go with --over-steps or --over-pass-at-1; got it alone. Add one of them, or leave it out."
        )
    try:
        from ..evaluation.plots import plot_dynamics, plot_over_pass_at_1, plot_over_steps, plot_panels
        from ..evaluation.series import read_all_series

        runs = name_runs(args.runs, args.names)
        if args.dynamics:
            logs = {name: read_log(folder) for name, folder in runs.items()}
            plot_dynamics(logs, args.output, describe_folders(runs))
        elif args.over_steps:
            plot_over_steps(read_all_series(runs), args.output, args.k)
        elif args.over_pass_at_1:
            plot_over_pass_at_1(read_all_series(runs), args.output, args.k)
        else:
            plot_panels(read_evaluations(runs), args.output)
    except (ImportError, OSError, ValueError) as error:
        parser.error(str(error))
    print(args.output)


def run_show(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Prints samples, or writes the page of them; with none to show it ends with status 1."""
    from itertools import islice

    from ..evaluation.completions import find_completions
    from ..evaluation.records import find_runs
    from ..evaluation.runs import name_runs
    from ..evaluation.viewer import SampleFilter, collect, page, sample_texts
    from ..verifier.verdict import RULES, Reason

    try:
        folders = find_completions(args.folder) or find_runs(args.folder)
        other = find_runs(args.other) if args.other else None
        if other and args.html is None:
            parser.error("two runs side by side need a page; got none. Name it with --html.")
        if args.explain and args.html is not None:
            parser.error("--explain is for the terminal; got --html as well. Leave one of them out.")
        if args.dataset is not None:
            if args.dataset not in folders:
                parser.error(f"--dataset must be one of {', '.join(folders)}; got {args.dataset!r}. Name one of them.")
            folders = {args.dataset: folders[args.dataset]}
        if args.reason is not None and args.reason not in {*Reason}:
            parser.error(f"--reason must be one of {', '.join(Reason)}; got {args.reason!r}. Name one of them.")
        if args.rule is not None and args.rule not in RULES:
            parser.error(f"--rule must be one of {', '.join(RULES)}; got {args.rule!r}. Name one of them.")
        chosen = SampleFilter(args.outcome, args.reason, args.rule, args.problem, args.truncated)
        if args.html is not None:
            names = list(name_runs([args.folder, args.other] if args.other else [args.folder]))
            content = collect(folders, chosen, args.max_per_problem, args.max_characters, other, tuple(names))
            num_shown = len(content.problems)
            if num_shown:
                with open(args.html, "w", encoding="utf-8") as file:
                    file.write(page(" and ".join(names), content))
                print(f"{args.html}, {os.path.getsize(args.html) / 1e6:.1f} MB: {content.note}")
        else:
            color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
            texts = sample_texts(folders, chosen, brief=args.brief, color=color, explained=args.explain)
            num_shown = _print_paged(islice(texts, args.limit))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if not num_shown:
        print("No sample matches. Loosen --outcome, --reason, --rule, --problem or --truncated.", file=sys.stderr)
        sys.exit(1)


def _print_paged(texts: Iterable[str]) -> int:
    """Prints texts, through a pager in a terminal, until whoever reads them has enough; returns how many."""
    import shlex
    import subprocess

    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        command = shlex.split(os.environ.get("PAGER") or "less -FRX")
    except ValueError:  # a quote that nothing closes: without a pager, then
        command = []
    num_printed = 0
    pager = None
    if sys.stdout.isatty() and command and shutil.which(command[0]):
        pager = subprocess.Popen(
            command, stdin=subprocess.PIPE, encoding=sys.stdout.encoding, errors="backslashreplace"
        )
    stream = sys.stdout if pager is None or pager.stdin is None else pager.stdin
    try:
        for num_printed, text in enumerate(texts, start=1):  # noqa: B007
            print(text, end="", file=stream)
        stream.flush()
    except (BrokenPipeError, KeyboardInterrupt):
        if pager is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python flushes it again, and fails
    finally:
        if pager is not None:
            pager.communicate()
    return num_printed
