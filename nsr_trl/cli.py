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
        help="grade a file of responses, explain a verdict, or check the references of a dataset",
        description="Grades the responses in a JSONL or parquet file and prints counts by outcome, reason and rule, "
        "the throughput and the slowest rows. With --explain it shows what was read of both sides and the rule that "
        "decided: of each row of the file that is not correct, or of a response and a reference given there. With "
        "--gold it reads each reference of a dataset instead, and checks that it is understood, correct as an answer "
        "to itself, and that a near miss of it is called incorrect.",
    )
    source = verify.add_mutually_exclusive_group()
    source.add_argument("file", nargs="?", metavar="FILE", help="JSONL or parquet file with one response per row")
    source.add_argument("--gold", metavar="DATASET", help="dataset id on the Hub, or a parquet, JSON or CSV file")
    verify.add_argument(
        "--explain", nargs="*", metavar="TEXT", help="show readings and rules, of FILE or of RESPONSE REFERENCE"
    )
    verify.add_argument("--split", help="split of the dataset, where it has several")
    verify.add_argument("--response-column", help="column of the responses (default: response, completion, ...)")
    verify.add_argument("--gold-column", help="column of the references (default: gold, answer, solution, ...)")
    verify.add_argument("--grader", choices=GRADERS, default="default", help="the rules (default: %(default)s)")
    verify.add_argument(
        "--answer-format",
        default="boxed",
        metavar="FORMAT",
        help="where the answer is: boxed, gsm8k, xml, last, auto or a regular expression (default: %(default)s)",
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
    from .verifier.explain import explain
    from .verifier.sandbox import WorkerStartError

    if args.gold is not None:
        _check_golds(parser, args)
        return
    texts = args.explain or []
    if (args.file is None) != (len(texts) == 2) or len(texts) not in (0, 2):
        parser.error(
            f"verify needs a FILE, --gold DATASET, or --explain with a response and a reference; got {len(texts)} "
            f"texts and {'no file' if args.file is None else 'a file'}. Give one of the three."
        )
    try:
        if texts:
            print(explain(*texts, answer_format=args.answer_format))
            return
        rows = read_rows(args.file, args.response_column, args.gold_column)
        grades, seconds = grade(rows, args.grader, args.answer_format, args.num_workers)
    except (FileNotFoundError, ValueError, WorkerStartError) as error:
        parser.error(str(error))
    if args.explain is not None:
        for one in grades:
            if one.verdict.outcome != "correct":
                print(f"row {one.row}\n{explain(*rows[one.row], answer_format=args.answer_format)}\n")
    print(format_grades(grades, seconds, args.num_slowest))


def _check_golds(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from .data import load_problems
    from .grading import check_references, format_checks

    try:
        problems = load_problems(args.gold, split=args.split, answer_column=args.gold_column)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    checks = check_references([problem.answer for problem in problems])
    print(format_checks(checks, [problem.question for problem in problems]))
    sys.exit(0 if all(check.is_usable for check in checks) else 1)
