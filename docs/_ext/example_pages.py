"""The programs and notebooks of `examples/` go in; a page of each comes out, in docs/examples, before the site is
read, and `examples/README.md`, with links to these pages, where a page says `<!-- examples -->`.

A notebook is run, so that its page shows what it prints and draws. `EXECUTED` keeps what was run until the notebook or
the package changes; the tests, which run every notebook, leave it there as well.
"""

import ast
import base64
import html
import os
import re
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat


ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
NOTEBOOKS = EXAMPLES / "notebooks"
EXECUTED = ROOT / "docs" / "_build" / "executed"
PAGES = ROOT / "docs" / "examples"
MARK = "<!-- examples -->"
NOISE = re.compile(r"(?m)^<IPython\S+ object>$|^\[[\d ,:-]+\] \[\w+\] .*\n?")
"""In the output of a cell: what was drawn as HTML, which has no text, and the lines of a logger."""


def program_page(path: Path) -> str:
    """A program under its docstring."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    summary, _, rest = (ast.get_docstring(tree) or "").partition("\n\n")
    body = "\n".join(source.splitlines()[tree.body[0].end_lineno :]).strip()
    return f"# {path.name}\n\n{summary}\n\n{_prose(rest)}\n\n```python\n{body}\n```\n"


def _prose(text: str) -> str:
    """A docstring as Markdown: the commands, which it indents, are blocks."""
    parts = re.split(r"(?m)((?:^ {4}.+\n?)+)", text)
    parts[::2] = [html.escape(part, quote=False) for part in parts[::2]]
    parts[1::2] = [f"```bash\n{textwrap.dedent(part).rstrip()}\n```\n" for part in parts[1::2]]
    return "".join(parts)


def notebook_page(notebook: nbformat.NotebookNode, name: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its figures by file name."""
    blocks, figures = [], {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            blocks.append(re.sub(r"\]\((\w+)\.ipynb", r"](\1.md", cell.source))
            continue
        blocks.append(f"```ipython3\n{cell.source}\n```")
        for kind, content in _shown(cell.get("outputs", [])):
            if kind == "image":
                file = f"{name}-{len(figures)}.png"
                figures[file] = base64.b64decode(content)
                blocks.append(f"![What the cell above draws]({file})")
            else:
                blocks.append(f"```{{code-block}} text\n:class: output\n\n{content}\n```")
    return "\n\n".join(blocks) + "\n", figures


def _shown(outputs: list) -> Iterator[tuple[str, str]]:
    """What a reader sees below a cell: figures and text, without the progress of downloads and bars."""
    for output in outputs:
        data = output.get("data", {})
        if "image/png" in data:
            yield "image", data["image/png"]
        else:
            text = data.get("text/plain", output.get("text", "") if output.get("name") == "stdout" else "")
            text = NOISE.sub("", text)
            if text.strip():
                yield "text", text.rstrip()


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs, from `EXECUTED` or from a run."""
    kept = EXECUTED / path.name
    sources = [path, *(ROOT / "nsr_trl").rglob("*.py")]
    if not kept.exists() or kept.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        with tempfile.TemporaryDirectory() as folder:
            keep(execute(path, Path(folder)), path.name)
    return nbformat.read(kept, as_version=4)


def execute(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Runs a notebook in a folder, as on a machine without a GPU."""
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    modules = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": modules}
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    return notebook


def keep(notebook: nbformat.NotebookNode, name: str) -> None:
    """Keeps what was run for the site."""
    EXECUTED.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, EXECUTED / name)


def overview() -> str:
    """`examples/README.md`, whose links lead to the pages, without its title."""
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8").partition("\n")[2]
    text = re.sub(r"\]\((?:notebooks/)?(\w+)\.(?:py|ipynb)\)", r"](examples/\1.md)", text)
    text = re.sub(r"\]\((\w+)/README\.md\)", r"](examples/\1.md)", text)
    text = re.sub(r"\]\((slurm/train\.sbatch|problems\.jsonl)\)", r"](../examples/\1)", text)
    names = [f"examples/{path.stem}" for path in (*_programs(), *_notebooks())]
    names += [f"examples/{path.parent.name}" for path in _folders()]
    return "\n".join([text, "```{toctree}", ":hidden:", "", *names, "```", ""])


def _programs() -> list[Path]:
    return sorted(EXAMPLES.glob("*.py"))


def _notebooks() -> list[Path]:
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def _folders() -> list[Path]:
    return sorted(EXAMPLES.glob("*/README.md"))


def folder_page(path: Path) -> str:
    """The README of a folder, whose links lead to the pages of programs and to the files beside it."""
    text = re.sub(r"\]\(\.\./(\w+)\.py\)", r"](\1.md)", path.read_text(encoding="utf-8"))
    return re.sub(r"\]\((\w+\.\w+)\)", lambda link: _beside(link, path.parent), text)


def _beside(link: re.Match[str], folder: Path) -> str:
    is_file = (folder / link[1]).exists()
    return f"](../../examples/{folder.name}/{link[1]})" if is_file else link[0]


def _write(app: Any) -> None:
    PAGES.mkdir(exist_ok=True)
    pages = {path.stem: program_page(path) for path in _programs()}
    pages |= {path.parent.name: folder_page(path) for path in _folders()}
    for path in _notebooks():
        pages[path.stem], figures = notebook_page(executed(path), path.stem)
        for file, data in figures.items():
            (PAGES / file).write_bytes(data)
    for name, text in pages.items():
        (PAGES / f"{name}.md").write_text(text, encoding="utf-8")


def _insert(app: Any, page: str, source: list[str]) -> None:
    source[0] = re.sub(r"\]\(\.\./examples/(\w+)/README\.md\)", r"](examples/\1.md)", source[0])
    source[0] = source[0].replace(MARK, overview()) if MARK in source[0] else source[0]


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's entry point."""
    app.connect("builder-inited", _write)
    app.connect("source-read", _insert)
    return {"parallel_read_safe": True}
