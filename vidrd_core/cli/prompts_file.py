"""Prompts files (`--prompts-file`): a video on each line, as text or as a table with columns named as options."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from vidrd_core.cli.errors import InputError, reason
from vidrd_core.cli.options import PER_CLIP_GROUP, PRESET_GROUP, REUSE_GROUP, SAMPLE_GROUP, VIDEO_GROUP
from vidrd_core.cli.run_file import option_value, parameters, shown
from vidrd_core.io.configs import meant
from vidrd_core.io.tables import JSON_SUFFIXES, has_surrogates, printable, read_rows, read_text_lines

TABLES = (".csv", ".tsv", *JSON_SUFFIXES)
COMMENT = "#"
GROUPS = (VIDEO_GROUP, SAMPLE_GROUP, PRESET_GROUP, REUSE_GROUP, PER_CLIP_GROUP)
OWN = ("prompt", "name")  # columns that are no options


@dataclass(frozen=True)
class Row:
    """A video that a file asks for.

    Args:
        where: The file and the line.
        prompts: A prompt for each clip.
        name: What its file is called; "" for its number.
        options: Values of the command's parameters by their names.
        error: Why it cannot be read, "" if it can.
    """

    where: str
    prompts: list[str]
    name: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def read_prompts_file(context: Any, path: Path) -> list[Row]:
    """Read a prompts file.

    Args:
        context: Click's context of the command, whose options are the columns of a table.
        path: A table in .csv, .tsv or JSON lines, or else text.

    Returns:
        A row for each video, one at least. A value that is not valid is an error of its row.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds no prompts, is not UTF-8 or no table, or has a column that is none.
    """
    table = path.suffix.lower() in TABLES
    rows = list(_table_rows(context, path) if table else _text_rows(path))
    if not rows:
        raise ValueError(f"there are no prompts in {path}: give one a line")
    return rows


def _text_rows(path: Path) -> Iterator[Row]:
    for number, line in enumerate(read_text_lines(path), 1):
        if (prompt := line.strip()) and not prompt.startswith(COMMENT):
            yield Row(f"{path}, line {number}", [prompt])


def _table_rows(context: Any, path: Path) -> Iterator[Row]:
    """The rows of a table. Raises InputError for columns that are not known."""
    every, signature = parameters(context.command), inspect.signature(context.command.callback)
    allowed = {each.name for group in GROUPS for each in group.fields} - {"output"}
    known = {name: each for name, each in every.items() if each.name in allowed}
    columns = [*OWN, *(name for name, each in known.items() if name == shown(each.name))]
    for number, row in read_rows(path):
        where = f"{path}, line {number}"
        named = {shown(name).replace(" ", "-"): value for name, value in row.items() if name or value}
        if unknown := [name for name in named if name not in known and name not in OWN]:
            raise InputError(f"{where} has a column {meant(unknown, [*OWN, *known])}, expected {', '.join(columns)}")
        if "prompt" not in named:
            raise InputError(f"{where} has no column prompt, expected one beside {', '.join(named)}")
        options: dict[str, Any] = {}
        error = ""
        for name, value in named.items():
            if name in OWN or value is None or (isinstance(value, str) and not value.strip()):
                continue
            parameter = known[name]
            if parameter.name in options:
                raise InputError(f"{where} has {parameter.name} in two columns, one of them {name}: remove one")
            annotation = get_args(signature.parameters[parameter.name].annotation)[0]
            try:
                options[parameter.name] = option_value(context, parameter, annotation, name, value)
            except ValueError as refused:
                error = error or reason(refused)
        texts = _prompts(named["prompt"])
        name = str(named.get("name") or "").strip()
        if odd := [text for text in (*texts, name) if not isinstance(text, str) or has_surrogates(text)]:
            error, texts, name = error or f"it has {odd[0]!a:.60}, expected text", [""], printable(name)
        yield Row(where, texts, name, options, error)


def _prompts(value: Any) -> list[Any]:
    """The prompts of a cell: one on each line of it, or in JSON a list of them."""
    if isinstance(value, list):
        return value or [""]
    if not isinstance(value, str):
        return [""] if value is None else [value]  # which is refused with its row
    return [line.strip() for line in value.splitlines() if line.strip()] or [""]
