"""Docstrings in Hugging Face's form go in; the reStructuredText that Sphinx reads comes out."""

import re
from importlib.util import find_spec
from typing import Any


def to_rst(lines: list[str]) -> list[str]:
    """Turns Markdown's fences, code and references into reStructuredText; what stands in a fence is left alone."""
    converted: list[str] = []
    fence: str | None = None  # the indentation of the fence that is open
    for line in lines:
        if match := re.match(r"(\s*)```(\w*)", line):
            if fence is None:
                fence = match[1]
                converted += [f"{fence}.. code-block:: {match[2] or 'text'}", ""]
            else:
                fence = None
                converted.append("")
        elif fence is not None:
            converted.append(f"    {line}" if line.strip() else "")
        else:
            # the example stands beside its heading, where napoleon would have it indented
            converted += [".. rubric:: Example", ""] if line.strip() == "Example:" else [_inline(line)]
    return _google_heading(converted)


def _inline(line: str) -> str:
    line = re.sub(r"\[`~?([\w.]+)`\]", _reference, line)
    return re.sub(r"(?<![:`\w])`([^`]+)`(?!`)", r"``\1``", line)


def _reference(match: re.Match[str]) -> str:
    """[`verify`] and [`~verifier.verify`] lead to what is documented under that name; names of others are code."""
    root, _, rest = match[1].partition(".")
    is_foreign = rest and root != "nsr_trl" and find_spec(f"nsr_trl.{root}") is None
    return f"`{match[1]}`" if is_foreign else f":py:obj:`~.{match[1].rpartition('.')[2]}`"


def _google_heading(lines: list[str]) -> list[str]:
    """TRL underlines the heading `Parameters` of a configuration class; Google's form has a colon."""
    for i, line in enumerate(lines[:-1]):
        if line.strip() == "Parameters" and set(lines[i + 1].strip()) == {"-"}:
            return [*lines[:i], line.replace("Parameters", "Args:"), *lines[i + 2 :]]
    return lines


def _convert(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    from sphinx.ext.napoleon import Config, GoogleDocstring  # here, so that `to_rst` is tested without Sphinx

    lines[:] = to_rst(lines)
    if what not in ("attribute", "property"):  # of which napoleon reads what precedes a colon as the type
        lines[:] = GoogleDocstring(lines, Config(napoleon_use_ivar=True), app, what, name, obj, options).lines()


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's entry point."""
    app.connect("autodoc-process-docstring", _convert)
    return {"parallel_read_safe": True}
