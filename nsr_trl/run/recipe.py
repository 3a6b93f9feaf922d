"""Recipes: a name or a file goes in; the values of a run come out, where each was written, and one flat text of them.

A recipe may say `extends: [NAME, ...]`: the named recipes, parts of `recipes/parts/` and files are read first, in that
order, and a key that comes later takes the place of one that came before. Each file is read by YAML's own loader and
the values are merged as dicts. The flat text, for people, joins the lines as they were written, comments included; it
is read back before it is shown, so that what is shown is what is trained.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..resources import find_yaml, resource, shipped_names
from ..settings_file import SettingsLoader, head_comment, one_line, read_settings


@dataclass(frozen=True)
class Recipe:
    """
    The settings of a recipe, those that it inherits included.

    Attributes:
        title (`str`):
            The comment at its head.
        values (`dict[str, Any]`):
            Field to value.
        sources (`dict[str, str]`):
            Field to the recipe, part or file in which the value was written.
        lines (`dict[str, str]`):
            Field to its lines, with the comments above them; section headings (`# ---`) stand under their own text.
    """

    title: str
    values: dict[str, Any]
    sources: dict[str, str]
    lines: dict[str, str]

    def flat_text(self) -> str:
        """One YAML file of all values, without `extends`. Comments are left out where lines cannot be joined."""
        text = self.title + "".join(self.lines.values())
        try:
            is_same = yaml.load(text, SettingsLoader) == self.values
        except yaml.YAMLError:  # an anchor whose line was overridden, say
            is_same = False
        return text if is_same else self.title + yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True)


def read_recipe(name: str | Path) -> Recipe:
    """
    Reads a recipe and what it extends.

    Args:
        name (`str` or `Path`):
            Name of a shipped recipe, or path of a YAML file.

    Raises:
        ValueError: If there is no such recipe, or one of its files is no YAML mapping of fields.
    """
    return _read(str(name), find_yaml("recipes", name), ())


def load_recipe(name: str | Path) -> dict[str, Any]:
    """The values of a recipe, as [`read_recipe`] finds them."""
    return read_recipe(name).values


def describe(name: str | Path) -> str:
    """The comment at the head of a recipe, as one line."""
    return one_line(read_recipe(name).title)


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return shipped_names("recipes")


def _read(name: str, path: Path, readers: tuple[Path, ...]) -> Recipe:
    """Reads a file, reached under a name from the files that extend it."""
    path = path.resolve()
    if path in readers:
        raise ValueError(
            f"A recipe must not extend itself; {path.name} is reached again from {readers[-1].name}. "
            "Take one of the two out of `extends`."
        )
    text, own = read_settings("recipe", name, path)
    parents = own.pop("extends", None) or []
    parents = [parents] if isinstance(parents, str) else parents
    if not (isinstance(parents, list) and all(isinstance(parent, str) for parent in parents)):
        raise ValueError(
            f"`extends` must be a name or a list of names; {name!r} has {parents!r:.60}. Write extends: [nsr, paper]."
        )
    title, lines = head_comment(text), _lines(text)
    lines.pop("extends", None)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    inherited: dict[str, str] = {}
    for parent in parents:
        recipe = _read(parent, _find_parent(parent, path), (*readers, path))
        values |= recipe.values
        sources |= recipe.sources
        inherited |= recipe.lines
    return Recipe(title, values | own, sources | dict.fromkeys(own, name), inherited | lines)


def _find_parent(name: str, child: Path) -> Path:
    beside, part = child.parent / name, resource("recipes", "parts") / f"{name}.yaml"
    return next((path for path in (beside, part) if path.is_file()), None) or find_yaml("recipes", name)


def _lines(text: str) -> dict[str, str]:
    """Key to its lines and the comments above it, those at the head of the file left out."""
    root: Any = yaml.compose(text, SettingsLoader)
    written = text.split("\n")
    lines: dict[str, str] = {}
    above = head_comment(text).count("\n")
    for key, value in root.value:
        start, end = key.start_mark.line, max(_last_line(key), _last_line(value)) + 1
        comments = ""
        for line in written[above:start]:
            if line.startswith("# ---"):  # a section: stays, whatever becomes of the key below it
                lines[line] = f"{comments}{line}\n"
                comments = ""
            elif not line.strip() or line.lstrip().startswith("#"):
                comments += f"{line}\n"
        lines[key.value] = comments + "".join(f"{line}\n" for line in written[start:end])
        above = end
    return lines


def _last_line(node: yaml.Node) -> int:
    """Number of the line on which a node ends; YAML ends a block only after the comments below it."""
    leaves = list(_leaves(node))
    end = leaves[-1].end_mark
    return end.line - 1 if end.column == 0 and end.line > leaves[-1].start_mark.line else end.line


def _leaves(node: yaml.Node) -> Iterator[yaml.Node]:
    if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
        yield node
        return
    for child in node.value:
        for part in child if isinstance(child, tuple) else (child,):
            yield from _leaves(part)
