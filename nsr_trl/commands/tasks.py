"""`nsr-trl tasks`: the tasks that ship with the package, and what a task is."""

import argparse
from typing import Any

from ..run.help import listing


def add_parsers(commands: Any) -> None:
    """Adds the command."""
    tasks = commands.add_parser(
        "tasks",
        help="list or show tasks: problems, how they are asked and how answers are scored",
        description="A task is a YAML file for --task of train, evaluate, verify, doctor and card: where problems "
        "come from, how they are asked, where the answer is read and how it is scored. Without an action lists those "
        "that ship with the package.",
    )
    actions = tasks.add_subparsers(metavar="ACTION")
    show = actions.add_parser("show", help="print a task's file, and what it amounts to")
    show.add_argument("name", metavar="TASK", help="name or YAML file of a task, a Hub id or a data file")
    tasks.set_defaults(run=_list)
    show.set_defaults(run=_show)


def _list(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from ..resources import resource, shipped_names
    from ..settings_file import head_comment, one_line

    files = {name: resource("tasks", f"{name}.yaml") for name in shipped_names("tasks")}
    rows = {name: one_line(head_comment(path.read_text(encoding="utf-8"))) for name, path in files.items()}
    print(listing({name: about.partition(" https://")[0] for name, about in rows.items()}))


def _show(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from pathlib import Path

    from ..resources import find_yaml, shipped_names
    from ..task import find_task

    try:
        task = find_task(args.name)
        facts = task.facts()
        if args.name in shipped_names("tasks") or Path(args.name).suffix in (".yaml", ".yml"):
            print(find_yaml("tasks", args.name).read_text(encoding="utf-8"))
    except ValueError as error:
        parser.error(str(error))
    width = max(map(len, facts))
    print("\n".join(f"# {name:<{width}}  {value}" for name, value in facts.items()))
