"""Tables in; tables that can be read on a phone out: intervals (44.1 [40.8, 47.4], +13.2 ±5.2) are not broken over
lines, and cells that hold a sentence are marked, so that the stylesheet keeps them wider than a word.
"""

import re
from typing import Any

from docutils import nodes


INTERVAL = re.compile(r"[+-]?[\d.]+%? (?:\[[^\[\]]*\]|±[\d.]+)")
SENTENCE = 30
"""Characters from which a cell counts as one."""


def _mark(app: Any, tree: nodes.document) -> None:
    for entry in tree.findall(nodes.entry):
        texts = [text for text in entry.findall(nodes.Text) if not isinstance(text.parent, nodes.literal)]
        if sum(map(len, texts)) > SENTENCE:
            entry["classes"].append("sentence")
        for text in texts:
            if INTERVAL.search(text):
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
    app.connect("doctree-read", _mark)
    return {"parallel_read_safe": True}
