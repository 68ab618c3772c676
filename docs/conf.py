"""How Sphinx builds the pages: Markdown by MyST, the reference from the docstrings."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

declared = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text(encoding="utf-8"))

project = "perdure"
author = copyright = "the perdure authors"
version = release = declared["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "alabaster"
html_title = f"perdure {release}"
html_theme_options = {"description": declared["project"]["description"], "fixed_sidebar": True}

default_role = "code"
autodoc_typehints = "description"
autodoc_member_order = "bysource"


def read_as_markdown(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are written as they are read, in light Markdown: outside of code no sign means anything."""
    for number, line in enumerate(lines):
        pieces = re.split(r"(`+[^`]*`+)", line)
        pieces[::2] = [re.sub(r"([*|\\]|_\b)", r"\\\1", piece) for piece in pieces[::2]]
        lines[number] = "".join(pieces)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", read_as_markdown)
