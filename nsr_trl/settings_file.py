"""Files of settings, in YAML: a recipe, a task, an accelerate config goes in; its text and its values come out."""

import re
from pathlib import Path
from typing import Any

import yaml


class SettingsLoader(yaml.SafeLoader):
    """YAML's safe loader, with two readings that a run needs: `1e-6` is a number, and a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Refuses keys that are set twice."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if repeated := sorted({key for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(
                None, None, f"{repeated[0]!r} is set {keys.count(repeated[0])} times", node.start_mark
            )
        return super().construct_mapping(node, deep)


SettingsLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_settings(kind: str, name: str | Path, path: Path) -> tuple[str, dict[str, Any]]:
    """
    Reads a file of settings.

    Args:
        kind (`str`):
            What it is, for messages: `"recipe"`, say.
        name (`str` or `Path`):
            As the user calls it.
        path (`Path`):
            The file.

    Returns:
        `tuple[str, dict[str, Any]]`: its text, and field to value

    Raises:
        ValueError: If it is no YAML mapping of fields.
    """
    article = "An" if kind[0] in "aeiou" else "A"
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = yaml.load(text, SettingsLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{article} {kind} must be a YAML file; {str(name)!r} cannot be read: {reason}. Correct it."
        ) from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ValueError(
            f"{article} {kind} must be `field: value` lines; {str(name)!r} is {text!r:.60}. Write it that way."
        )
    return text, values


def head_comment(text: str) -> str:
    """The comment lines at the head of a file, as they stand; a section heading (`# ---`) ends them."""
    lines = text.split("\n")
    end = next((n for n, line in enumerate(lines) if not line.startswith("#") or line.startswith("# ---")), 0)
    return "".join(f"{line}\n" for line in lines[:end])


def one_line(comment: str) -> str:
    """A comment as one line of text."""
    return " ".join(line.lstrip("# ") for line in comment.splitlines()).strip()
