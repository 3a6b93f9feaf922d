"""Shipped files: a name goes in, the path of a file inside the package comes out.

And what a user's own files offer: `module:function` goes in, the function comes out.
"""

import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
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
            Folder of shipped files: `"recipes"`, `"tasks"` or `"accelerate_configs"`.
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


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The name that is nearest to another, upper and lower case alike, if one is near."""
    of_lower = {other.lower(): other for other in names}
    found = difflib.get_close_matches(name.lower(), of_lower, n=1, cutoff=0.65)
    return of_lower[found[0]] if found else None


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """A sentence that points to the nearest name."""
    near = nearest(name, names)
    return "Check the spelling." if near is None else f"Did you mean {near!r}?"


def import_function(path: str, must: str, names: Sequence[str] = ()) -> Callable[..., Any]:
    """
    Imports a function of the user's.

    Args:
        path (`str`):
            `module:function`; a dotted path, `package.module.function`; or `file.py:function`. A module may stand in
            the current folder, as `python -m` finds it.
        must (`str`):
            How the error begins: what is named, and what else it might be.
        names (`Sequence[str]`, *optional*):
            The names that might have been meant by a path without a module.

    Raises:
        ValueError: If it cannot be imported, or is no function.
    """
    module, colon, name = path.rpartition(":" if ":" in path else ".")
    try:
        if not (module and name):
            raise ValueError(did_you_mean(path, list(names)))
        found = getattr(_import_file(module) if colon and module.endswith(".py") else _import_module(module), name)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise ValueError(
            f"{must} module:function of what can be imported; got {path!r} ({type(error).__name__}: {error}). "
            "Write my_module:score for the function score in my_module.py."
        ) from error
    if not callable(found):
        raise ValueError(f"{must} a function; {path!r} is of type {type(found).__name__}. Name one of that module.")
    return found


def _import_module(name: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return importlib.import_module(name)


def _import_file(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(spec.name, module)
    spec.loader.exec_module(module)
    return module
