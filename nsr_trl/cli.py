"""The `nsr-trl` command: parse, resolve, call one function. Nothing heavy is imported before a command is chosen."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from . import __version__
from .commands import card, evaluate, results, train
from .commands.evaluate import GRADERS
from .evaluation.visible import spell_out


OBJECTIVES = ("psr", "nsr", "w_reinforce", "reinforce", "grpo")  # a copy: the table itself stands behind torch
FALLBACKS = ("answer is", "last number")  # a copy as well, for a quick --help


class Parser(argparse.ArgumentParser):
    """A parser whose errors, which may quote the files and servers of others, reach a terminal spelled out."""

    def error(self, message: str) -> NoReturn:
        """Prints the usage and the message, and ends with status 2."""
        super().error(spell_out(message))


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands; each sets `run` to the function that it calls with the parsed arguments."""
    parser: argparse.ArgumentParser = Parser(
        prog="nsr-trl", description="Train reasoning models on the sign of a verified answer (arXiv 2506.01347)."
    )
    parser.add_argument("--version", action="version", version=f"nsr-trl {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    quickstart = commands.add_parser(
        "quickstart",
        help="train a tiny model on a CPU in minutes and show its Pass@k before and after",
        description="Trains a tiny language model on arithmetic with the trainer, verifier and evaluation of a real "
        "run, and writes the model, its card, the Pass@k figure and the completions. Needs no network and no GPU.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    quickstart.add_argument("--objective", choices=OBJECTIVES, default="w_reinforce", help="what the sign is worth")
    quickstart.add_argument("--seed", type=int, default=0, help="of the problems, the samples and the training")
    quickstart.add_argument("--output-dir", default="quickstart-run", help="folder to write")
    quickstart.set_defaults(run=_quickstart)

    verify = commands.add_parser(
        "verify",
        help="grade a file of responses, or check the references of a dataset",
        description="Grades the responses in a JSONL or parquet file and prints counts by outcome and reason, the "
        "throughput and the slowest rows. With --gold it takes each reference of a dataset as the answer instead, and "
        "lists those that are not correct even so: they would leave every response undecided.",
    )
    source = verify.add_mutually_exclusive_group(required=True)
    source.add_argument("file", nargs="?", metavar="FILE", help="JSONL or parquet file with one response per row")
    source.add_argument("--gold", metavar="DATASET", help="dataset id on the Hub, or a parquet, JSON or CSV file")
    verify.add_argument("--split", help="split of the dataset, where it has several")
    verify.add_argument("--response-column", help="column of the responses (default: response, completion, ...)")
    verify.add_argument("--gold-column", help="column of the references (default: gold, answer, solution, ...)")
    verify.add_argument("--grader", choices=GRADERS, default="default", help="the rules (default: %(default)s)")
    verify.add_argument(
        "--fallback",
        choices=FALLBACKS,
        action="append",
        default=[],
        help="what to read where there is no box; may be repeated",
    )
    verify.add_argument("--num-workers", type=int, help="worker processes (default: the cores, 8 at most)")
    verify.add_argument("--num-slowest", type=int, default=5, help="slowest rows to show (default: %(default)s)")
    verify.set_defaults(run=_verify)

    evaluate.add_parsers(commands)
    results.add_parsers(commands)
    card.add_parsers(commands)
    train.add_parsers(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command. A bad input ends with its sentence on stderr and status 2."""
    parser = build_parser()
    args, rest = parser.parse_known_args(arguments)
    if rest and not getattr(args, "passes_on", False):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.rest = rest
    args.run(parser, args)


def _quickstart(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from .quickstart.run import OutputExistsError, StoppedError, run_quickstart

    try:
        run_quickstart(objective=args.objective, seed=args.seed, output_dir=args.output_dir)
    except OutputExistsError as error:
        parser.error(str(error))
    except (StoppedError, KeyboardInterrupt) as error:
        flags = f"--objective {args.objective} --seed {args.seed} --output-dir {args.output_dir}"
        print(f"\nStopped {error}. Go on with: nsr-trl quickstart {flags}".replace(" .", "."), file=sys.stderr)
        sys.exit(130)


def _verify(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from .grading import format_grades, grade, read_rows
    from .verifier.sandbox import WorkerStartError

    if args.gold is not None:
        _check_golds(parser, args)
        return
    try:
        rows = read_rows(args.file, args.response_column, args.gold_column)
        grades, seconds = grade(rows, args.grader, args.fallback, args.num_workers)
    except (FileNotFoundError, ValueError, WorkerStartError) as error:
        parser.error(str(error))
    print(format_grades(grades, seconds, args.num_slowest))


def _check_golds(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from .data import load_problems
    from .grading import unusable_golds

    try:
        problems = load_problems(args.gold, split=args.split, answer_column=args.gold_column)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    unusable = unusable_golds([problem.answer for problem in problems])
    print(f"{len(problems) - len(unusable):,} of {len(problems):,} references are correct against themselves")
    for row, verdict in unusable:
        problem = problems[row]
        print(f"  row {row}: {verdict.reason}, reference {problem.answer!r:.60}, problem {problem.question!r:.60}")
    sys.exit(1 if unusable else 0)
