"""Sphinx's settings for the documentation site (CONTRIBUTING.md, "The documentation site").

The source folder is the repository itself, so that every relative link and picture of a Markdown page is the same
here and on GitHub. `sphinx-build -W -c docs . build/docs` builds it; nothing is fetched.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import vidrd_core

ROOT = Path(__file__).resolve().parent.parent

REPOSITORY = "https://github.com/vidrd/vidrd"

project = "VidRD"
author = "the VidRD contributors"
copyright = author
release = version = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)[0]

# The pages, in the order of the menu. A page that is listed and missing is a warning, and so an error in CI.
PAGES = {
    "Use it": ["docs/command", "docs/comfyui", "docs/nodes", "docs/python", "docs/weights", "docs/released"],
    "How it works": ["docs/method", "docs/choices", "docs/long_videos"],
    "Go further": ["docs/training", "docs/measuring", "benchmarks/README", "vidrd_core/models/tiny/README"],
    "Reference": ["docs/api", "CHANGELOG", "SECURITY", "CONTRIBUTING", "tools/fire/README"],
}

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx.ext.apidoc"]
root_doc = "README"
include_patterns = ["README.md", "docs/api/*.rst", *(f"{page}.md" for pages in PAGES.values() for page in pages)]
exclude_patterns = [
    ".*",
    "docs/api/modules.rst",
    "build",
    "runs",
    "tests",
    "example_workflows",
    "node_modules",
    "**/__pycache__",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

myst_heading_anchors = 4  # GitHub's own names for headings
suppress_warnings = ["ref.python"]  # a name that a package exports, too, has two places
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
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
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


def _adapt(app: Any, docname: str, source: list[str]) -> None:
    """Adapt a page of the repository: links to folders go to GitHub, and the front page gets the menu."""
    page = ROOT / app.env.doc2path(docname)

    def of_repository(link: re.Match[str]) -> str:
        path = (page.parent / link[1]).resolve()
        return f"]({REPOSITORY}/tree/main/{path.relative_to(ROOT).as_posix()})" if path.is_dir() else link[0]

    source[0] = re.sub(r"\]\(([\w./-]+)\)", of_repository, source[0])
    if docname == "docs/api":  # names that the package exports are links to where they are documented
        for name in vidrd_core.__all__:
            home = getattr(getattr(vidrd_core, name), "__module__", None)
            source[0] = source[0].replace(f"`{name}`", f"{{py:obj}}`{name} <{home}.{name}>`" if home else f"`{name}`")
    if docname.startswith("docs/api/"):
        source[0] = re.sub(r"^(\S+) (module|package)$", r"\1", source[0], count=1, flags=re.MULTILINE)
    if docname == root_doc:
        for caption, pages in PAGES.items():
            entries = "\n".join(f"/{page}" for page in pages)
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _adapt)
