"""`nsr-trl card`: the model card of a training run, written anew with what has been evaluated since."""

import argparse
from typing import Any


def add_parsers(commands: Any) -> None:
    """Adds the command."""
    card = commands.add_parser(
        "card",
        help="write the model card of a training run anew, with its evaluations",
        description="Writes README.md and its figures in a training folder from what the run recorded. Evaluations "
        "are looked for in RUN/evaluation/after and RUN/evaluation/before; those named here have their summaries "
        "copied there, so that the evidence is pushed with the model. Run twice, it writes the same.",
    )
    card.add_argument("folder", metavar="RUN", help="output_dir of the training run")
    card.add_argument("--evaluation", metavar="DIR", help="output folder of an evaluation of the trained model")
    card.add_argument("--base", metavar="DIR", help="output folder of an evaluation of the model that was trained")
    card.add_argument("--task", metavar="TASK", help="task that it was trained on, where the run does not know")
    card.add_argument(
        "--steps",
        nargs="+",
        default=[],
        metavar="DIR",
        help="output folder of `evaluate --checkpoints` for this run, and of other runs to compare it with at equal "
        "Pass@1",
    )
    card.set_defaults(run=_card)


def _card(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from ..run_card import rebuild_card

    try:
        task = None
        if args.task is not None:
            from ..task import find_task

            task = find_task(args.task)
        print(rebuild_card(args.folder, args.evaluation, args.base, task, args.steps))
    except ValueError as error:
        parser.error(str(error))
