"""Pages in; the same pages out with a description for search engines and previews: the beginning of the text."""

import html
import textwrap
from typing import Any

from docutils import nodes


def describe(page: nodes.document) -> str:
    """The first paragraph of a page, up to 160 characters."""
    paragraph = next(iter(page.findall(nodes.paragraph)), None)
    return textwrap.shorten(paragraph.astext(), 160, placeholder=" ...") if paragraph is not None else ""


def _add(app: Any, name: str, template: str, context: dict[str, Any], page: nodes.document | None) -> None:
    if page is not None:
        context["metatags"] += f'<meta name="description" content="{html.escape(describe(page))}">\n'


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's entry point."""
    app.connect("html-page-context", _add)
    return {"parallel_read_safe": True}
