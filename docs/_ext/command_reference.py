"""The parser of the command goes in; its reference, in Markdown, comes out where a page says `<!-- commands -->`."""

import argparse
import re
from collections.abc import Iterator
from typing import Any


MARK = "<!-- commands -->"


def reference(parser: argparse.ArgumentParser) -> str:
    """The commands below `parser`, each with its usage and its arguments."""
    return "\n".join(line for command, summary in commands(parser) for line in _section(command, summary))


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """The parser and the one-line summary of every command below `parser`, and of the commands below those."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, command in action.choices.items():
                yield command, summaries.get(name, "")
                yield from commands(command)


def arguments(command: argparse.ArgumentParser) -> list[argparse.Action]:
    """What a command takes, without `--help`, its own commands, and what its help hides."""
    others = (argparse._HelpAction, argparse._SubParsersAction)
    return [a for a in command._actions if not isinstance(a, others) and a.help != argparse.SUPPRESS]


def _section(command: argparse.ArgumentParser, summary: str) -> Iterator[str]:
    yield f"\n## {command.prog}\n"
    yield _flags_as_code(command.description or f"{summary[:1].upper()}{summary[1:]}.") + "\n"
    if "format_help" in vars(command):  # a help of its own, which says it all
        yield f"```text\n{command.format_help().rstrip()}\n```\n"
        return
    usage = re.sub(r"\n\s+", "\n    ", command.format_usage().removeprefix("usage: ").rstrip())
    yield f"```text\n{usage}\n```\n"
    formatter = command._get_formatter()
    for action in arguments(command):
        yield f"`{formatter._format_action_invocation(action)}`"
        yield f": {_flags_as_code(formatter._expand_help(action) if action.help else '')}\n"
    if command.epilog:
        yield _flags_as_code(command.epilog) + "\n"


def _flags_as_code(text: str) -> str:
    # what is code already is matched first, and stays
    return re.sub(r"`[^`]*`|(?<![\w-])--[a-z][\w-]*", lambda match: f"`{match[0].strip('`')}`", text)


def _insert(app: Any, page: str, source: list[str]) -> None:
    if MARK in source[0]:
        from nsr_trl.cli import build_parser

        source[0] = source[0].replace(MARK, reference(build_parser()))


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's entry point."""
    app.connect("source-read", _insert)
    return {"parallel_read_safe": True}
