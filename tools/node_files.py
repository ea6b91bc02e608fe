"""Make and check the files that accompany each node: `python -m tools.node_files [--check]`.

A node needs a help page (web/docs), its texts in English and other languages (locales), a record of the order of its
inputs and outputs (tests/nodes/inputs.json), a row in the table of docs/nodes.md, and a place in an example workflow.
This writes all that follows from the nodes' schemas, and lists what is left to do by hand. It never rewrites what a
person wrote in a help page. It needs no ComfyUI: tests/stand_in reads the schemas.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.locales import texts
from tests.nodes import inputs
from tests.stand_in import definitions
from tests.workflows.files import EXAMPLES, ROOT, nodes, read
from tests.workflows.slots import slots

HELP = ROOT / "web" / "docs"
DOCS = ROOT / "docs" / "nodes.md"
BEGIN, END = "<!-- begin nodes: python -m tools.node_files writes this table -->", "<!-- end nodes -->"
NODE_ID = re.compile(r'node_id="(\w+)"')

Definitions = dict[str, dict[str, Any]]


class ReorderError(ValueError):
    """The inputs or outputs of a node no longer start with the recorded ones, so saved workflows would break."""


@dataclass
class Files:
    """What the nodes' files must hold, and what only a person can do.

    Args:
        written: The text of each generated file.
        by_hand: What is left to do, a sentence or paragraph each.
    """

    written: dict[Path, str] = field(default_factory=dict)
    by_hand: list[str] = field(default_factory=list)

    @property
    def stale(self) -> dict[Path, str]:
        """The generated files that are missing or differ."""
        return {path: text for path, text in self.written.items() if _text_of(path) != text}


def files_for(known: Definitions, allow_reorder: bool = False, keep_translations: bool = False) -> Files:
    """All companion files.

    Args:
        known: The nodes' definitions by id, as ComfyUI's /object_info has them.
        allow_reorder: Record a new order of inputs or outputs, although saved workflows break.
        keep_translations: Keep the translations of texts that changed in English.

    Raises:
        ReorderError: If a recorded order changed and `allow_reorder` is not set.
    """
    files = Files()
    files.written[inputs.FILE] = input_record(known, allow_reorder)
    for name, definition in known.items():
        page = HELP / f"{name}.md"
        try:
            files.written[page] = help_page(definition, _text_of(page))
        except ValueError as error:
            files.by_hand.append(f"{_shown(page)}: {error}")
    add_locales(files, known, keep_translations)
    files.written[DOCS] = with_table(_text_of(DOCS) or f"# Nodes\n\n{BEGIN}\n{END}\n", known)
    files.by_hand += gaps(known)
    return files


def input_record(known: Definitions, allow_reorder: bool = False) -> str:
    """The record of the order of widgets, sockets and outputs, by which saved workflows refer to them.

    Raises:
        ReorderError: If anything but an addition at the end changed, unless `allow_reorder`.
    """
    now = {name: inputs.order(definition) for name, definition in sorted(known.items())}
    changed = []
    for name, before in inputs.recorded().items() if inputs.FILE.exists() else ():
        if name not in now:
            changed.append(f"{name} is gone")
            continue
        for kind, names in before.items():
            if now[name][kind][: len(names)] != names:
                changed.append(f"{name}: the {kind} were {', '.join(names)}; now {', '.join(now[name][kind])}")
    if changed and not allow_reorder:
        raise ReorderError(
            "saved workflows refer to inputs and outputs by their position, so new ones may only be appended:\n  "
            + "\n  ".join(changed)
            + "\nMove new inputs to the end (optional ones after all others), or pass --allow-reorder if saved "
            "workflows may break. Nothing was written."
        )
    return inputs.written(now)


def help_page(definition: dict[str, Any], text: str | None) -> str:
    """A node's help page.

    Args:
        definition: The node.
        text: The page so far; items for inputs and outputs that it lacks are added. None makes a new page of the
            node's description and tooltips.

    Raises:
        ValueError: If the page has no list under "## Inputs" or "## Outputs".
    """
    items = {
        "Inputs": {each.name: each.config.get("tooltip", "") for each in slots(definition)},
        "Outputs": dict(zip(definition["output_name"], definition["output_tooltips"], strict=True)),
    }
    title = f"# {definition['display_name']}"
    if text is None:
        lists = "\n".join(f"## {heading}\n\n" for heading in items)
        text = f"{title}\n\n{definition['description']}\n\n{lists}"
    for heading, words in items.items():
        text = _with_items(text, heading, words)
    return "\n".join([title, *text.split("\n")[1:]])


def _with_items(text: str, heading: str, items: dict[str, str | None]) -> str:
    """A page with these items in the list under a heading, in this order; those that it has stay as they are."""
    found = re.search(rf"^## {heading}\n\n((?:- `.*\n)*)", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"there is no list under ## {heading}")
    known = {line.split("`")[1]: line for line in found[1].splitlines()}
    new = {name: f"- `{name}`: {' '.join((words or '').split())}".rstrip(": ") for name, words in items.items()}
    made = [known.get(name, line) for name, line in new.items()]
    return text[: found.start(1)] + "".join(f"{line}\n" for line in made) + text[found.end(1) :]


def _cell(words: str | None) -> str:
    """A text as a cell of a table."""
    return " ".join((words or "").split()).replace("|", r"\|")


def add_locales(files: Files, known: Definitions, keep_translations: bool = False) -> None:
    """Add the texts of all languages: English as the schemas have it, the others as far as they are translated.

    Where a text changed in English its translation is taken out, so that no translation says something else. The same
    English text elsewhere lends its translation.
    """
    for file, now in texts.english(known).items():
        english, before = texts.flat(now), _flat(texts.place("en", file))
        files.written[texts.place("en", file)] = texts.written(now)
        for language in texts.OTHERS:
            path = texts.place(language, file)
            translated = _flat(path)
            changed = {}
            if not keep_translations:
                changed = {
                    key: translated[key]
                    for key, text in english.items()
                    if key in translated and before.get(key, text) != text
                }
            kept = {key: text for key, text in translated.items() if key in english and key not in changed}
            memory = {english[key]: text for key, text in kept.items() if _is_shared(key)}
            kept |= {
                key: memory[text]
                for key, text in english.items()
                if key not in kept and _is_shared(key) and text in memory
            }
            files.written[path] = texts.written(texts.arranged(texts.nested(kept), now))
            missing = [key for key in english if key not in kept]
            if missing:
                once = {english[key] if _is_shared(key) else key: key for key in reversed(missing)}
                files.by_hand.append(
                    f"{_shown(path)} lacks {len(missing)} texts: add a translation at each of these keys, and run "
                    "this again, which puts them in order and repeats them where the English is the same\n"
                    + "\n".join(_missing(key, english[key], changed.get(key)) for key in reversed(once.values()))
                )


def _is_shared(key: str) -> bool:
    """Whether a text has the same translation wherever it stands: sentences, and names of inputs."""
    return key.endswith((".tooltip", ".description")) or ".inputs." in key


def _missing(key: str, english: str, before: str | None) -> str:
    """A text to translate, with the translation of the sentence that it replaced."""
    return f"    {key}: {english!r}" + (f"\n        until now {before!r}" if before else "")


def with_table(text: str, known: Definitions) -> str:
    """The documentation page with the table of nodes between its markers. Raises ValueError if it has no markers."""
    start, end = text.find(BEGIN), text.find(END)
    if not 0 <= start < end:
        raise ValueError(f"{_shown(DOCS)} lacks the lines {BEGIN} and {END}, between which the table of nodes stands")
    lines = ["| node | id | what it does |", "| --- | --- | --- |"]
    for name, each in known.items():
        lines.append(f"| {each['display_name']} | `{name}` | {_cell(first_sentence(each['description']))} |")
    return f"{text[:start]}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{text[end:]}"


def first_sentence(text: str) -> str:
    """A text up to its first full stop."""
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


def gaps(known: Definitions) -> Iterator[str]:
    """What no generator can make: a place in the list of nodes and in an example workflow."""
    for path in sorted((ROOT / "nodes").glob("*.py")):
        for name in NODE_ID.findall(path.read_text(encoding="utf-8")):
            if name not in known:
                yield f"{_shown(path)} defines {name}, which is not in the list NODES of nodes/__init__.py"
    for page in sorted(HELP.glob("*.md")):
        if page.stem not in known:
            yield f"{_shown(page)} is the help page of no node: delete it"
    shown = {node["type"] for path in EXAMPLES.glob("*.json") for node in nodes(read(path))}
    for name in known:
        if name not in shown:
            yield f"{name} is in no workflow of {_shown(EXAMPLES)}: add it to one, or save one that shows it"


def _flat(path: Path) -> dict[str, str]:
    """The texts of a locale file by key; none if there is no file."""
    return texts.flat(texts.read(path.parent.name, path.stem)) if path.exists() else {}


def _text_of(path: Path) -> str | None:
    """A file's text, or None if there is no file."""
    return path.read_text(encoding="utf-8") if path.exists() else None


def _shown(path: Path) -> str:
    """A path as messages show it."""
    return path.relative_to(ROOT).as_posix()


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit code: 1 if something is missing or stale under --check, or was refused."""
    parser = argparse.ArgumentParser(prog="python -m tools.node_files", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; list what is missing or stale")
    parser.add_argument(
        "--allow-reorder", action="store_true", help="record inputs in a new order, which breaks saved workflows"
    )
    parser.add_argument(
        "--keep-translations",
        action="store_true",
        help="keep the translations of texts whose English changed in wording only",
    )
    given = parser.parse_args(arguments)
    try:
        files = files_for(definitions(), given.allow_reorder, given.keep_translations)
    except ValueError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    stale = files.stale
    for path, text in stale.items():
        if given.check:
            print(f"{_shown(path)} is {'stale' if path.exists() else 'missing'}: run python -m tools.node_files")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            print(f"wrote {_shown(path)}")
    for each in files.by_hand:
        print(f"to do: {each}")
    if not stale and not files.by_hand:
        print(f"the files of all {len(definitions())} nodes are up to date")
    return int(given.check and bool(stale or files.by_hand))


if __name__ == "__main__":
    sys.exit(main())
