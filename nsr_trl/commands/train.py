"""`nsr-trl train`, `recipes` and `doctor`: what starts a run, and what looks at one before it starts."""

import argparse
import shlex
import sys
from pathlib import Path

from ..run.help import doctor_help, listing, train_help


DELIBERATE = (2, 130, 143)
"""Exit statuses that a process of a run chooses: a user's error; stopped by Ctrl-C or SIGTERM, after a checkpoint."""

CRASH = 1


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the commands."""
    train = commands.add_parser(
        "train",
        help="train a model: a recipe or file, fields as flags, any number of processes",
        usage="nsr-trl train --config RECIPE|FILE [--dry-run] [--FIELD VALUE ...] [--accelerate_config NAME|FILE] "
        "[flags of accelerate launch]",
        add_help=False,  # the fields are listed by their own parser
        allow_abbrev=False,
    )
    train.add_argument(
        "--dry-run", "--dry_run", action="store_true", help="show settings, schedule and memory, and start nothing"
    )
    train.add_argument("-h", "--help", action=_Help, nargs=0, help="show the fields that most runs set")
    train.add_argument("--help-all", action=_HelpAll, nargs=0, help="show all fields, TRL's and accelerate's included")
    train.format_help = train_help  # type: ignore[method-assign]
    train.set_defaults(run=_train, passes_on=True)

    recipes = commands.add_parser(
        "recipes",
        help="list, show or copy the shipped recipes",
        description="A recipe is a YAML file of settings for `nsr-trl train --config`. Without an action lists them.",
    )
    actions = recipes.add_subparsers(metavar="ACTION")
    show = actions.add_parser("show", help="print a recipe as one flat, commented file")
    copy = actions.add_parser("copy", help="write it to a file, to be changed")
    for action in (show, copy):
        action.add_argument("name", metavar="NAME", help="name of a recipe")
    copy.add_argument("path", nargs="?", metavar="PATH", help="file to write (default: NAME.yaml here)")
    recipes.set_defaults(run=_recipes, name=None, path=None)
    show.set_defaults(run=_show_recipe)
    copy.set_defaults(run=_copy_recipe)

    doctor = commands.add_parser(
        "doctor",
        help="check this machine, and a run on it, before a GPU hour is spent",
        allow_abbrev=False,
    )
    doctor.add_argument(
        "--sample", type=int, metavar="N", help="let the model answer N problems as well, and show what was read"
    )
    doctor.format_help = doctor_help  # type: ignore[method-assign]
    doctor.set_defaults(run=_doctor, passes_on=True)


class _Help(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *args: object) -> None:
        parser.print_help()
        parser.exit()


class _HelpAll(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *args: object) -> None:
        from accelerate.commands.launch import launch_command_parser

        from ..run.arguments import FieldParser

        FieldParser(parser.prog).print_help()
        print("\nFlags of accelerate launch:\n")
        launch_command_parser().print_help()
        parser.exit()


def _train(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from ..secrets import hidden_arguments, hide_from_process_list

    if not args.dry_run:
        hide_from_process_list(args.rest, [sys.executable, "-m", "nsr_trl", "train"])

    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from ..run.launch import launch
    from ..training_log import quieten

    quieten()
    try:
        launch(args.rest, hidden_arguments(), is_dry_run=args.dry_run)
    except ValueError as error:
        parser.error(str(error))
    except ChildFailedError as error:  # it has printed its own traceback
        status = error.get_first_failure()[1].exitcode
        sys.exit(status if status in DELIBERATE else CRASH)
    except SignalException as error:  # the run has saved and said so
        sys.exit(128 + error.sigval)


def _recipes(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from ..run.recipe import describe, recipe_names

    groups: dict[str, dict[str, str]] = {}
    for name in recipe_names():
        what, _, where = describe(name).partition(". ")
        groups.setdefault(where, {})[name] = what
    print("\n\n".join(f"{where}\n\n{listing(recipes)}" for where, recipes in groups.items()))


def _show_recipe(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from ..run.recipe import read_recipe

    try:
        print(read_recipe(args.name).flat_text(), end="")
    except ValueError as error:
        parser.error(str(error))


def _copy_recipe(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from ..run.recipe import read_recipe

    path = Path(args.path or f"{args.name}.yaml")
    try:
        text = read_recipe(args.name).flat_text()
        if path.exists():
            raise ValueError(f"The file to write must be new; {str(path)!r} exists. Name another.")
        path.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"Wrote {path}; train with: nsr-trl train --config {shlex.quote(str(path))}")


def _doctor(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from ..run.doctor import examine, format_findings, sample
    from ..training_log import quieten

    quieten(all_bars=True)
    try:
        findings = examine(args.rest)
        print(format_findings(findings))
        if args.sample and not any(finding.level == "fail" for finding in findings):
            print(f"\n{sample(args.rest, args.sample)}")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    sys.exit(1 if any(finding.level == "fail" for finding in findings) else 0)
