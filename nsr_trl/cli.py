"""The `nsr-trl` command: parse, resolve, call one function. Nothing heavy is imported before a command is chosen."""

import argparse
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NoReturn

from . import __version__
from .choices import GRADERS, OBJECTIVES
from .commands import card, evaluate, results, study, tasks, train
from .commands.numbers import positive
from .evaluation.visible import spell_out
from .resources import nearest


ERROR_NUMBER = r"\[Errno \d+\] "

_HOW_TO_EXPLAIN = (
    "Type nsr-trl verify --explain RESPONSE REFERENCE; nsr-trl verify FILE --explain for the rows of a file; or "
    "nsr-trl show RUN --explain for the samples of an evaluation."
)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, without the usage; what they quote of others is spelled out."""

    def error(self, message: str) -> NoReturn:
        """Ends with the sentence on stderr and status 2; what the operating system says has no number in it."""
        self.exit(2, f"{self.prog}: error: {spell_out(re.sub(ERROR_NUMBER, '', message))}\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Adds the nearest choice to what argparse says."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            near = nearest(str(value), [str(choice) for choice in action.choices or ()])
            error.message += f". Did you mean {near!r}?" if near else ""
            raise


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands; each sets `run` to the function that it calls with the parsed arguments."""
    parser = Parser(
        prog="nsr-trl", description="Train reasoning models on the sign of a verified answer (arXiv 2506.01347)."
    )
    parser.add_argument("--version", action="version", version=f"nsr-trl {__version__}")
    commands: Any = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

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
    source.add_argument(
        "--gold", metavar="TASK", help="a task (`nsr-trl tasks` lists them), a Hub id, or a parquet, JSON or CSV file"
    )
    verify.add_argument(
        "--explain", nargs="*", metavar="TEXT", help="show readings and rules, of FILE or of RESPONSE REFERENCE"
    )
    verify.add_argument("--task", help="task whose grader and answer format hold, and whose references --gold checks")
    verify.add_argument("--split", help="split of the dataset, where it has several")
    verify.add_argument("--dataset-config", metavar="NAME", help="config of the dataset, where it has several")
    verify.add_argument("--response-column", help="column of the responses (default: response, completion, ...)")
    verify.add_argument("--gold-column", help="column of the references (default: gold, answer, solution, ...)")
    verify.add_argument("--grader", choices=GRADERS, help="the rules (default: the task's, or default)")
    verify.add_argument(
        "--answer-format",
        metavar="FORMAT",
        help="where the answer is: boxed, gsm8k, xml, last, auto or a regular expression (default: the task's)",
    )
    verify.add_argument("--num-workers", type=positive, help="worker processes (default: the cores, 8 at most)")
    verify.add_argument("--num-slowest", type=int, default=5, help="slowest rows to show (default: %(default)s)")
    verify.set_defaults(run=_verify, passes_on=True)  # a second text is told what to type

    study.add_parsers(commands)
    evaluate.add_parsers(commands)
    results.add_parsers(commands)
    card.add_parsers(commands)
    train.add_parsers(commands)
    tasks.add_parsers(commands)
    for command in commands.choices.values():
        command.set_defaults(command=command)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command. A bad input ends with its sentence on stderr and status 2."""
    parser = build_parser()
    args, rest = parser.parse_known_args(_hyphenated(sys.argv[1:] if arguments is None else arguments))
    if rest and not getattr(args, "passes_on", False):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.rest = rest
    try:
        args.run(args.command, args)
        sys.stdout.flush()
    except BrokenPipeError:  # of `| head`: who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.filename is None:
            raise
        args.command.error(f"{str(error.filename)!r}: {error.strerror}. Correct the path, or what it holds.")
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if not package or find_spec(package) is not None:
            raise
        args.command.error(f"A package must be installed; {package} is not. `nsr-trl doctor` says how to install it.")


def _hyphenated(arguments: Sequence[str]) -> list[str]:
    """`--output_dir` is `--output-dir`: fields of a run, which `train` and `doctor` read, are written either way."""
    if arguments[:1] in (["train"], ["doctor"]):
        return list(arguments)
    flags = (word.partition("=") if word.startswith("--") else ("", "", word) for word in arguments)
    return [flag.replace("_", "-") + sign + value for flag, sign, value in flags]


def _quickstart(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from .quickstart.run import OutputExistsError, StoppedError, run_quickstart

    try:
        run_quickstart(objective=args.objective, seed=args.seed, output_dir=args.output_dir)
    except OutputExistsError as error:
        parser.error(str(error))
    except (StoppedError, KeyboardInterrupt) as error:
        flags = f"--objective {args.objective} --seed {args.seed} --output-dir {shlex.quote(str(args.output_dir))}"
        when = f" {error}" if str(error) else ""
        print(f"\nStopped{when}. Go on with: nsr-trl quickstart {flags}", file=sys.stderr)
        sys.exit(130)


def _verify(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from .grading import format_grades, grade, read_rows
    from .verifier.explain import explain
    from .verifier.sandbox import WorkerStartError

    if args.rest:
        asked = f"unrecognized arguments: {' '.join(args.rest)}."
        parser.error(asked if any(text.startswith("--") for text in args.rest) else f"{asked} {_HOW_TO_EXPLAIN}")
    texts = args.explain or []
    if len(texts) not in (0, 2):
        parser.error(f"--explain needs a response and its reference; got {len(texts)} texts. {_HOW_TO_EXPLAIN}")
    if args.gold is not None or (args.task is not None and args.file is None and not texts):
        _check_golds(parser, args)
        return
    if (args.file is None) != (len(texts) == 2):
        parser.error(
            f"verify needs a FILE, --gold TASK, or --explain with a response and a reference; got {len(texts)} "
            f"texts and {'no file' if args.file is None else 'a file'}. Give one of the three."
        )
    try:
        grader, answer_format = args.grader or "default", args.answer_format or "boxed"
        if args.task is not None:
            from .task import find_task

            task = find_task(args.task).override(grader=args.grader, answer_format=args.answer_format)
            grader, answer_format = task.grader, task.answer_format
        if texts:
            print(explain(*texts, answer_format=answer_format))
            return
        rows = read_rows(args.file, args.response_column, args.gold_column)
        grades, seconds = grade(rows, grader, answer_format, args.num_workers)
    except (FileNotFoundError, ValueError, WorkerStartError) as error:
        parser.error(str(error))
    if args.explain is not None:
        for one in grades:
            if one.verdict.outcome != "correct":
                print(f"row {one.row}\n{explain(*rows[one.row], answer_format=answer_format)}\n")
    print(format_grades(grades, seconds, args.num_slowest))


def _check_golds(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from .grading import check_references, format_checks
    from .task import Part, find_task

    are_usable = True
    try:
        task = find_task(args.gold or args.task).override(
            split=args.split, config=args.dataset_config, answer_column=args.gold_column
        )
        parts: list[Part] = ["train", "test"]
        parts = [part for part in parts if getattr(task, part)][: 1 if task.train == task.test else 2]
        for part in parts:
            problems = task.problems(part)
            checks = check_references([problem.answer for problem in problems])
            heading = f"{part}: " if len(parts) > 1 else ""
            print(heading + format_checks(checks, [problem.question for problem in problems]))
            are_usable &= all(check.is_usable for check in checks)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    sys.exit(0 if are_usable else 1)
