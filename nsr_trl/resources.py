"""Shipped files: a name goes in, the path of a file inside the package comes out.

And what a user's own files offer: `module:function` goes in, the function comes out.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def resource(*parts: str) -> Path:
    """Path of a file or folder that ships with the package, such as `resource("templates", "model_card.md")`."""
    path = Path(__file__).parent.joinpath(*parts)
    assert path.exists(), f"the installed package lacks {path}"
    return path


def shipped_names(folder: str) -> list[str]:
    """Names of the YAML files in a folder that ships with the package, such as `"recipes"`."""
    return sorted(path.stem for path in resource(folder).glob("*.yaml"))


def find_yaml(folder: str, name: str | Path) -> Path:
    """
    Finds a YAML file by the name under which it ships, or by its path.

    Args:
        folder (`str`):
            Folder of shipped files: `"recipes"` or `"accelerate_configs"`.
        name (`str` or `Path`):
            Name of one of them, without `.yaml`, or path of a file of the user's.

    Raises:
        ValueError: If it is neither.
    """
    names = shipped_names(folder)
    if str(name) in names:
        return resource(folder, f"{name}.yaml")
    if not Path(name).is_file():
        raise ValueError(
            f"A name in {folder} must be one of {', '.join(names)}, or the path of a file; got {str(name)!r}. "
            f"{did_you_mean(str(name), names)}"
        )
    return Path(name)


def did_you_mean(name: str, names: list[str]) -> str:
    """A sentence that points to the nearest name."""
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"Did you mean {nearest[0]!r}?" if nearest else "Check the spelling."


def import_function(path: str, field: str) -> Callable[..., Any]:
    """
    Imports a function of the user's.

    Args:
        path (`str`):
            `module:function`; a module may stand in the current folder, as `python -m` finds it.
        field (`str`):
            The setting that names it, for the error.

    Raises:
        ValueError: If there is no such function.
    """
    module_name, _, name = path.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"`{field}` must be module:function of something that can be imported; got {path!r} ({error}). "
            "Write my_module:score for the function score in my_module.py."
        ) from error
    if not callable(found):
        raise ValueError(f"`{field}` must name a function; {path!r} is a {type(found).__name__}. Name a function.")
    return found
