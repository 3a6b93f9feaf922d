"""What the documentation site generates, and what holds for its pages. `make docs` builds it."""

import argparse
import importlib
import re
import sys
from pathlib import Path

import nbformat
import pytest

import nsr_trl
from nsr_trl.cli import build_parser
from nsr_trl.config import SignedRewardConfig


DOCS = Path(__file__).parent.parent / "docs"
sys.path.append(str(DOCS / "_ext"))
example_pages = importlib.import_module("example_pages")
command_reference = importlib.import_module("command_reference")
docstrings = importlib.import_module("docstrings")
tables = pytest.importorskip("docutils") and importlib.import_module("tables")
descriptions = importlib.import_module("descriptions")


def test_the_reference_shows_every_argument_of_every_command():
    sections = dict(re.findall(r"\n## (.+)\n((?:(?!\n## )[\s\S])*)", command_reference.reference(build_parser())))
    parsers = [parser for parser, _ in command_reference.commands(build_parser())]
    assert [parser.prog for parser in parsers] == list(sections)
    assert "%%" not in "".join(sections.values())  # argparse expands it in arguments, and not in descriptions
    for parser in parsers:
        if "format_help" in vars(parser):  # `train`, whose fields are not argparse's
            assert parser.format_help().rstrip() in sections[parser.prog]
            continue
        for action in command_reference.arguments(parser):
            shown = (action.option_strings or [action.metavar or action.dest])[-1]
            assert shown in sections[parser.prog]


def test_the_reference_shows_commands_of_commands_defaults_and_flags():
    parser = argparse.ArgumentParser(prog="tool")
    inner = parser.add_subparsers().add_parser("recipes", help="list recipes").add_subparsers()
    inner.add_parser("show", description="Prints one.").add_argument(
        "--k", type=int, default=8, help="is %(default)s, not --l or `a --b`"
    )
    text = command_reference.reference(parser)
    assert "## tool recipes\n\nList recipes." in text
    assert "## tool recipes show\n\nPrints one." in text
    assert "`--k K`\n: is 8, not `--l` or `a --b`\n" in text


def test_docstrings_become_restructured_text():
    markdown = [
        "Judges `x` as [`verify`] and [`~verifier.Verdict`] do, unlike [`~trl.GRPOTrainer`].",
        "Args:",
        "    x (`int`, *optional*, defaults to `1`):",
        r"        In a `\boxed{}`.",
        "Example:",
        "```python",
        ">>> `left` [`alone`]",
        "```",
    ]
    assert docstrings.to_rst(markdown) == [
        "Judges ``x`` as :py:obj:`~.verify` and :py:obj:`~.Verdict` do, unlike ``trl.GRPOTrainer``.",
        "Args:",
        "    x (``int``, *optional*, defaults to ``1``):",
        r"        In a ``\boxed{}``.",
        ".. rubric:: Example",
        "",
        ".. code-block:: python",
        "",
        "    >>> `left` [`alone`]",
        "",
    ]


def test_the_api_page_documents_every_public_name():
    text = (DOCS / "api.md").read_text()
    assert [name for name in nsr_trl.__all__ if f":: nsr_trl.{name}" not in text] == []


def test_every_page_is_in_the_table_of_contents():
    listed = re.findall(r"^(\w+)$", (DOCS / "index.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(page.stem for page in DOCS.glob("*.md") if page.stem != "index")


def test_the_page_of_a_program_is_its_docstring_and_its_code():
    text = example_pages.program_page(example_pages.EXAMPLES / "public_notebooks.py")
    assert text.startswith("# public_notebooks.py\n\nThree kinds of public GRPO notebook")
    assert "```bash\npython examples/public_notebooks.py --notebook xml" in text
    assert "asks for &lt;reasoning&gt;" in text  # no tag of the page
    assert "```python\nimport re\n" in text


def test_the_page_of_a_notebook_shows_what_cells_print_and_draw_and_no_progress():
    stream, figure = nbformat.v4.new_output("stream", name="stdout", text="12\n"), {"image/png": "aGk="}
    bar = nbformat.v4.new_output("stream", name="stderr", text="100%")
    table = nbformat.v4.new_output("display_data", data={"text/plain": "<IPython.core.display.HTML object>"})
    logged = "[2026-11-27 09:25:33,107] [WARNING] [real_accelerator.py:213] Setting accelerator.\n[1, 2]\n"
    line = nbformat.v4.new_output("stream", name="stdout", text=logged)
    outputs = [
        stream,
        bar,
        table,
        line,
        nbformat.v4.new_output("display_data", data=figure | {"text/plain": "<Figure>"}),
    ]
    cells = [
        nbformat.v4.new_markdown_cell("See [that](lora.ipynb)."),
        nbformat.v4.new_code_cell("f()", outputs=outputs),
    ]
    text, figures = example_pages.notebook_page(nbformat.v4.new_notebook(cells=cells), "mine")
    assert "See [that](lora.md)." in text
    assert "```ipython3\nf()\n```" in text
    assert "\n12\n```" in text
    assert "\n[1, 2]\n```" in text
    assert "100%" not in text
    assert "IPython" not in text
    assert "accelerator" not in text
    assert "Figure" not in text
    assert figures == {"mine-0.png": b"hi"}
    assert "](mine-0.png)" in text


def test_the_overview_of_the_examples_leads_to_a_page_of_each():
    pages = set(re.findall(r"\]\(examples/(\w+)\.md\)", example_pages.overview()))
    folder = example_pages.EXAMPLES
    folders = {path.parent.name for path in folder.glob("*/README.md")}
    assert pages == {path.stem for path in [*folder.glob("*.py"), *folder.glob("notebooks/*.ipynb")]} | folders


def test_the_page_of_a_folder_leads_to_its_files_and_to_other_pages(tmp_path):
    (tmp_path / "world").mkdir()
    readme = tmp_path / "world" / "README.md"
    (tmp_path / "world" / "driver.py").touch()
    readme.write_text("See [driver.py](driver.py), [own](../own_reward.py) and [notes](notes.md).")
    text = example_pages.folder_page(readme)
    assert text == "See [driver.py](../../examples/world/driver.py), [own](own_reward.md) and [notes](notes.md)."


def test_an_interval_in_a_table_is_not_broken_over_lines():
    text = "44.1 [40.8, 47.4], +14.9 [+12.7, +17.0], -0.7 ±0.8 and [2]"
    found = [match[0] for match in tables.INTERVAL.finditer(text)]
    assert found == ["44.1 [40.8, 47.4]", "+14.9 [+12.7, +17.0]", "-0.7 ±0.8"]


def test_a_page_is_described_by_the_beginning_of_its_text():
    docutils = importlib.import_module("docutils.core")
    page = docutils.publish_doctree("Title\n=====\n\n" + "Judges *answers*. " * 20 + "\n\nMore.")
    description = descriptions.describe(page)
    assert description.startswith("Judges answers. Judges")
    assert description.endswith(" ...")
    assert len(description) <= 160
    assert descriptions.describe(docutils.publish_doctree("")) == ""


def test_the_fields_that_the_migration_names_exist():
    table = (DOCS / "migrating.md").read_text().split("| verl fork | here | |")[1].split("\n\n")[0]
    cells = " ".join(row.split("|")[2] for row in table.splitlines()[2:])
    named = re.findall(r"`(\w+)(?:[=(][^`]*)?`", cells)
    known = {*SignedRewardConfig.__dataclass_fields__, *nsr_trl.__all__, "template"}
    assert len(named) > 20
    assert set(named) <= known
