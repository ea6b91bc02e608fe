"""README, documentation pages and the files about the project: links, commands, versions."""

import ast
import functools
import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer

import vidrd_core
from vidrd_core import cli

ROOT = Path(__file__).parent.parent
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "vidrd_core" / "models" / "tiny" / "README.md",
]
LINK = re.compile(r"\[(?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]


def prose(page):
    """A page without its code."""
    return re.sub(r"`[^`\n]+`", "code", FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors(page):
    """The names that GitHub gives to a page's headings."""
    found = []
    for title in re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.append(name if name not in found else f"{name}-{found.count(name)}")
    return found


def commands(page):
    """Each `vidrd` command of a page's code blocks and code spans, as words."""
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(code for _, language, code in FENCE.findall(text) if language in ("sh", "bash", "console"))
    spans = [span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", FENCE.sub("", text))]
    for line in [*blocks.replace("\\\n", " ").splitlines(), *spans]:
        for command in re.split(r"&&|;(?= )", line):
            if match := re.match(r"\s*(?:\S*/)?vidrd (?=\S)(.*)", command):
                yield shlex.split(match[1], comments=True)


@functools.cache
def root_command():
    return typer.main.get_command(cli.app)


def unknown(words):
    """The first word of a command that `vidrd` does not know: a subcommand or an option."""
    command = root_command()
    for word in words:
        if hasattr(command, "commands") and not word.startswith("-"):
            if word not in command.commands:
                return word
            command = command.commands[word]
        elif word.startswith("--") or re.fullmatch(r"-[a-zA-Z]", word):
            name = word.partition("=")[0]
            options = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
            if name not in options and name not in ("--help", "-h"):
                return name
    return None


def test_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150


def test_readme_has_the_two_commands_that_ci_runs():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for mark, word in (("first command", "vidrd generate"), ("test command", "pytest")):
        block = text.partition(f"<!-- {mark} -->\n```sh\n")[2].partition("```")[0]
        assert word in block
        assert len(block.splitlines()) == 1


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_resolve(page):
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        to = (page.parent / unquote(path)).resolve() if path else page
        assert to.exists(), f"{page.name} links to {target}"
        assert to.is_relative_to(ROOT)
        if anchor:
            assert anchor in anchors(to), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_exist(page):
    for words in commands(page):
        assert unknown(words) is None, f"{page.name}: vidrd {shlex.join(words)} has {unknown(words)}"


def test_pictures_of_the_documentation_are_shown():
    shown = {
        name for page in PAGES for name in re.findall(r"[\w.]+\.(?:png|gif|jpg)", page.read_text(encoding="utf-8"))
    }
    shown |= {"icon.png", "banner.png"}  # of the registry
    assert {path.name for path in (ROOT / "docs").iterdir() if path.suffix in (".png", ".gif", ".jpg")} <= shown


def test_every_exported_name_is_in_the_table_of_the_api():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    table = "".join(line.partition(" | ")[0] for line in text.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", table)) == set(vidrd_core.__all__) - {"__version__"}


def test_every_page_is_in_the_menu_of_the_site():
    menu = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    for page in PAGES:
        name = page.relative_to(ROOT).with_suffix("").as_posix()
        assert f'"{name}"' in menu, f"docs/conf.py has no {name}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_python_examples_are_python_and_import_what_there_is(page):
    for _, language, code in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.ImportFrom) and node.module.startswith("vidrd_core"):
                    exec(compile(ast.unparse(node), str(page), "exec"), {})
