"""The documentation site: `make docs` builds it into docs/_build/html, with warnings as errors."""

import sys
from pathlib import Path


ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

import nsr_trl  # noqa: E402 (of this checkout)


project = "nsr-trl"
author = "The nsr-trl authors"
copyright = author
version = release = nsr_trl.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
extensions += ["command_reference", "descriptions", "docstrings", "example_pages", "mathml", "tables"]  # _ext
exclude_patterns = ["_build"]

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3

# what is copied is what is typed: no prompt, and nothing of a session's output
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_selector = "div:not(.output):not(.highlight-text) > div.highlight > pre"

autodoc_typehints = "none"  # the docstrings tell the types, with their defaults

html_theme = "furo"
html_title = f"nsr-trl {release}"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
highlight_language = "text"  # a block says its language, or is output
pygments_style = "tango"
pygments_dark_style = "github-dark"
