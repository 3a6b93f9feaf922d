"""Tables in; the same tables out, whose intervals (44.1 [40.8, 47.4], +13.2 ±5.2) are not broken over lines."""

import re
from typing import Any

from docutils import nodes


INTERVAL = re.compile(r"[+-]?[\d.]+%? (?:\[[^\[\]]*\]|±[\d.]+)")


def _keep_together(app: Any, tree: nodes.document) -> None:
    for entry in tree.findall(nodes.entry):
        for text in list(entry.findall(nodes.Text)):
            if INTERVAL.search(text) and not isinstance(text.parent, nodes.literal):
                text.parent.replace(text, list(_parts(str(text))))


def _parts(text: str) -> Any:
    end = 0
    for match in INTERVAL.finditer(text):
        yield nodes.Text(text[end : match.start()])
        yield nodes.inline(match[0], match[0], classes=["number"])
        end = match.end()
    yield nodes.Text(text[end:])


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's entry point."""
    app.connect("doctree-read", _keep_together)
    return {"parallel_read_safe": True}
