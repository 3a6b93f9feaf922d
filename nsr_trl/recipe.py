"""Recipes: a name or a file goes in; one flat, commented YAML text comes out, and the values it holds.

A recipe may say `extends: [NAME, ...]`: the named recipes, parts of `recipes/parts/` and files are read first, in that
order, and a key that comes later takes the place of one that came before. The values of a run are read from the flat
text, so what is shown is what is trained.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from .resources import find_yaml, resource, shipped_names


def load_recipe(name: str | Path) -> dict[str, Any]:
    """
    Reads the values of a recipe.

    Args:
        name (`str` or `Path`):
            Name of a shipped recipe, or path of a YAML file.

    Returns:
        `dict[str, Any]`: field to value.

    Raises:
        ValueError: If there is no such recipe, or it is no YAML mapping.
    """
    text = flat_text(name)
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(
            f"A recipe must be YAML; in {str(name)!r} {' '.join(str(error).split())}. Correct that line."
        ) from error
    if not isinstance(values, dict):
        raise ValueError(f"A recipe must be `field: value` lines; {str(name)!r} is {text!r:.60}. Write it that way.")
    return values


def flat_text(name: str | Path) -> str:
    """The recipe as one YAML file without `extends`, its comments and those of its parts included."""
    title, blocks = _read(find_yaml("recipes", name), ())
    return "\n".join([*title, *blocks.values()]) + "\n"


def describe(name: str | Path) -> str:
    """The comment at the head of a recipe, as one line."""
    title, _ = _read(find_yaml("recipes", name), ())
    return " ".join(line.lstrip("# ") for line in title).strip()


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return shipped_names("recipes")


def _read(path: Path, readers: tuple[Path, ...]) -> tuple[list[str], dict[str, str]]:
    """(Comment lines at the head, key -> its lines) of a file and of what it extends."""
    path = path.resolve()
    if path in readers:
        raise ValueError(
            f"A recipe must not extend itself; {path.name} is reached again from {readers[-1].name}. "
            "Take one of the two out of `extends`."
        )
    title, own = _blocks(path.read_text(encoding="utf-8"))
    blocks: dict[str, str] = {}
    if "extends" in own:
        parents = yaml.safe_load(own.pop("extends"))["extends"]
        for parent in [parents] if isinstance(parents, str) else parents:
            _, inherited = _read(_find_parent(parent, path), (*readers, path))
            blocks |= inherited
    return title, blocks | own


def _find_parent(name: str, child: Path) -> Path:
    beside, part = child.parent / name, resource("recipes", "parts") / f"{name}.yaml"
    return next((path for path in (beside, part) if path.is_file()), None) or find_yaml("recipes", name)


def _blocks(text: str) -> tuple[list[str], dict[str, str]]:
    """(Comment lines at the head, key -> its lines with the comments and blank lines above them)."""
    title: list[str] = []
    blocks: dict[str, str] = {}
    pending: list[str] = []
    key = None
    for line in text.splitlines():
        if line.startswith("#") and key is None and not pending and not blocks:
            title.append(line)
        elif line.startswith("# ---"):  # a section: stays, whatever becomes of the key below it
            blocks[line] = "\n".join([*pending, line])
            pending = []
        elif match := re.match(r"([\w-]+)\s*:", line):
            key = match[1]
            blocks[key] = "\n".join([*pending, line])
            pending = []
        elif line.startswith((" ", "- ")) and key is not None and not pending:
            blocks[key] += "\n" + line
        else:
            pending.append(line)
    if key is None and pending:  # nothing that looks like a field: let YAML say what it is
        blocks[""] = "\n".join(pending)
    return title, blocks
