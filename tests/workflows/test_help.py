"""The help pages: complete, and only about what a node has. `python -m tools.node_files` writes their first draft."""

import re

import pytest
from PIL import Image

from ..stand_in import definitions
from .files import EXAMPLES, ROOT
from .slots import slots

DOCS = ROOT / "web" / "docs"
PAGES = sorted(DOCS.glob("*.md"))
PICTURE = re.compile(r"!\[([^]]*)]\(([^)]*)\)")
LINK = re.compile(r"(?<!!)\[[^]]*]\(([^)]*)\)")
ADDRESS = re.compile(r"(?:\w+:)?//([\w.-]+)")
HOSTS = {"arxiv.org", "docs.comfy.org"}


@pytest.fixture(params=PAGES, ids=lambda path: path.stem)
def path(request):
    """Each page's file."""
    return request.param


@pytest.fixture
def text(path):
    """Each page."""
    return path.read_text(encoding="utf-8")


@pytest.fixture
def node(path):
    """The definition of the page's node."""
    return definitions()[path.stem]


def named(text, heading):
    """The names in the list under a heading."""
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    items = [line for line in section.splitlines() if line]
    assert all(re.match("- `[^`]+`: .", item) for item in items), items
    return [item.split("`")[1] for item in items]


def test_every_node_has_its_page():
    assert {page.stem for page in PAGES} == set(definitions())


def test_its_title_is_the_nodes_name(text, node):
    assert text.splitlines()[0] == f"# {node['display_name']}"


def test_it_lists_all_inputs_and_outputs(text, node):
    assert named(text, "Inputs") == [each.name for each in slots(node)]
    assert named(text, "Outputs") == node["output_name"]


def test_nothing_is_wider_than_the_pages_narrow_panel(text):
    """It has 265 pixels at first, of which a table of two columns leaves some words a line."""
    assert not re.search(r"^\|", text, re.MULTILINE)
    assert not re.search(r"^(    |```)", text, re.MULTILINE)


def test_its_pictures_exist(text):
    for words, name in PICTURE.findall(text):
        assert words, name
        assert re.fullmatch(r"[\w.]+", name), name  # beside the pages, where the page looks for them
        assert (DOCS / name).stat().st_size < 40_000
        with Image.open(DOCS / name) as image:
            assert image.format == "PNG"


def test_its_links_are_absolute(text):
    """ComfyUI would resolve links to other files against its own address."""
    assert set(ADDRESS.findall(text)) <= HOSTS
    assert all(link.startswith("https://") for link in LINK.findall(text))
    assert not re.search(r"<\w", text)


def test_nodes_and_workflows_that_it_names_exist(text):
    names = {each["display_name"] for each in definitions().values()}
    assert set(re.findall(r"\*\*(.+?)\*\*", " ".join(text.split()))) <= names
    for name in re.findall(r"\*(\d_\w+)\*", text):
        assert (EXAMPLES / f"{name}.json").is_file(), name


def test_the_folder_holds_only_pages_and_their_pictures():
    shown = {name for page in PAGES for _, name in PICTURE.findall(page.read_text(encoding="utf-8"))}
    assert {each.name for each in DOCS.iterdir()} == shown | {page.name for page in PAGES}
