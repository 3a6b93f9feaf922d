"""The notebooks run from the first cell to the last, on the model that ships with the package."""

import difflib
import importlib
import importlib.util
import re
import sys
from pathlib import Path

import nbformat
import pytest


sys.path.append(str(Path(__file__).parent.parent / "docs" / "_ext"))
example_pages = importlib.import_module("example_pages")
FOLDER = Path(__file__).parent.parent / "examples" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.processes
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name, tmp_path):
    notebook = example_pages.execute(FOLDER / f"{name}.ipynb", tmp_path)
    example_pages.keep(notebook, f"{name}.ipynb")  # the site shows it, and need not run it again
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert not any("Successfully installed" in output.get("text", "") for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs) or name == "lora"


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_without_outputs_and_without_paths_of_a_machine(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in code_cells(notebook))
    assert not re.search(r"[\"' (](/|~/|[A-Z]:\\)\w", "\n".join(cell.source for cell in notebook.cells))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["a checkout", "elsewhere"])
def test_where_the_package_is_missing_the_first_cell_installs_it(name, place, tmp_path, monkeypatch):
    monkeypatch.chdir(FOLDER if place == "a checkout" else tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    # IPython puts the values of names in braces into what %pip is given
    cell, extras = re.subn(r'%pip install --quiet "(.+?)".*', r'installed = f"\1"', code_cells(read(name))[0].source)
    assert extras == 1
    found = {}
    exec(cell, found)  # noqa: S102 (our own notebook)
    source = str(FOLDER.parents[1]) if place == "a checkout" else "nsr-trl"
    assert re.fullmatch(rf"{re.escape(source)}\[(peft,)?plot\]", found["installed"])


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_links_to_notebooks_that_exist(name):
    text = "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    assert all((FOLDER / target).exists() for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text))


def test_the_swap_is_of_two_lines():
    before, after = (
        cell.source.splitlines() for cell in code_cells(read("swap_the_trainer")) if "Trainer(" in cell.source
    )
    # what is kept afterwards, and under which name, is the notebook's own business
    before, after = ([line for line in lines if "log_history" not in line] for lines in (before, after))
    removed = [line for line in difflib.ndiff(before, after) if line.startswith("- ")]
    assert removed == ["- from trl import GRPOTrainer", "- trainer = GRPOTrainer("]
