"""Shipped files: a name goes in, the path of a file inside the package comes out."""

from pathlib import Path


def resource(*parts: str) -> Path:
    """Path of a file or folder that ships with the package, such as `resource("templates", "model_card.md")`."""
    path = Path(__file__).parent.joinpath(*parts)
    assert path.exists(), f"the installed package lacks {path}"
    return path
