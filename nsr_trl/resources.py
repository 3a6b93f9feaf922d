"""Shipped files: a name goes in, the path of a file inside the package comes out."""

import difflib
from pathlib import Path


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


def nearest(name: str, names: list[str]) -> str | None:
    """The name that is nearest to another, if one is near."""
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
    return found[0] if found else None


def did_you_mean(name: str, names: list[str]) -> str:
    """A sentence that points to the nearest name."""
    near = nearest(name, names)
    return "Check the spelling." if near is None else f"Did you mean {near!r}?"
