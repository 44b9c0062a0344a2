"""Sphinx: the documents in this folder, as a site. C{make docs} builds it, and takes a warning for an error."""

from __future__ import annotations

import re
from pathlib import Path

project = "lemmytx"
author = "The lemmytx authors"
copyright = "2026, The lemmytx authors"
version = release = re.findall(
    r'__version__ = "(.+)"', (Path(__file__).parent.parent / "lemmytx" / "__init__.py").read_text()
)[0]

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 3
nitpicky = True

html_theme = "alabaster"
html_theme_options = {"description": "An HTTP reverse proxy on Twisted", "fixed_sidebar": True, "page_width": "1100px"}
html_copy_source = False
