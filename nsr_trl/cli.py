"""The `nsr-trl` command: parse, resolve, call one function. Nothing heavy is imported before a command is chosen."""

import argparse
from collections.abc import Sequence

from . import __version__


OBJECTIVES = ("psr", "nsr", "w_reinforce", "reinforce", "grpo")  # a copy: the table itself stands behind torch


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands; each sets `run` to the function that it calls with the parsed arguments."""
    parser = argparse.ArgumentParser(
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
    quickstart.add_argument("--output-dir", default="quickstart-run", help="folder to write; must be new or empty")
    quickstart.set_defaults(run=_quickstart)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command. A bad input ends with its sentence on stderr and status 2."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    args.run(parser, args)


def _quickstart(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from .quickstart.run import OutputExistsError, run_quickstart

    try:
        run_quickstart(objective=args.objective, seed=args.seed, output_dir=args.output_dir)
    except OutputExistsError as error:
        parser.error(str(error))
