"""Sphinx's settings for the documentation site; docs/README is CONTRIBUTING.md, "The documentation site".

The source folder is the repository itself, so that every relative link and picture of a Markdown page is the same
here and on GitHub. `sphinx-build -W -c docs . build/docs` builds it; nothing is fetched.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

project = "VidRD"
author = "the VidRD contributors"
copyright = author
version = release = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)[1]  # type: ignore[index]

# The pages, in the order of the menu. A page that is listed and missing is a warning, and so an error in CI.
PAGES = {
    "Use it": ["docs/command", "docs/comfyui", "docs/nodes", "docs/python", "docs/weights"],
    "How it works": ["docs/method", "docs/choices", "docs/long_videos"],
    "Go further": [
        "docs/training",
        "docs/measuring",
        "docs/metrics",
        "benchmarks/README",
        "vidrd_core/models/tiny/README",
    ],
    "Reference": ["docs/api", "CHANGELOG", "CONTRIBUTING"],
}

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx.ext.apidoc"]
root_doc = "README"
include_patterns = ["README.md", "docs/api/*.rst", *(f"{page}.md" for pages in PAGES.values() for page in pages)]
exclude_patterns = [".*", "build", "runs", "tests", "example_workflows", "node_modules", "**/__pycache__"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
nitpicky = False

myst_heading_anchors = 4  # GitHub's own names for headings
myst_enable_extensions = ["dollarmath"]
default_role = "code"  # single backticks in docstrings are code, as in Markdown

# API pages: a page a module, of what has a docstring and no underscore.
apidoc_modules = [
    {
        "path": "../vidrd_core",
        "destination": "docs/api",
        "exclude_patterns": ["../vidrd_core/cli/**", "../vidrd_core/cli"],
        "separate_modules": True,
        "module_first": True,
        "include_private": False,
        "automodule_options": {"members"},
    }
]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"VidRD {release}"
html_favicon = "icon.png"
html_static_path: list[str] = []
templates_path = ["_templates"]
html_additional_pages = {"index": "redirect.html"}


def _add_menu(app: Any, docname: str, source: list[str]) -> None:
    """Append the menu to the front page: GitHub, which shows the same file, has no use for it."""
    if docname == root_doc:
        for caption, pages in PAGES.items():
            entries = "\n".join(f"/{page}" for page in pages)
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _add_menu)
