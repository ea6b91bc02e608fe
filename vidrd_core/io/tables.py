"""Text that people write, as lines and as tables of CSV, TSV and JSON lines; errors name the file and the line."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vidrd_core.io.configs import parse_json
from vidrd_core.io.pictures import PICTURE_SUFFIXES

VIDEO_SUFFIXES = (
    ".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".gif", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".ogv", ".3gp",
    ".m2ts", ".mts", ".vob", ".mxf", ".dv", ".asf", ".qt", ".f4v", ".3g2", ".m2t", ".m2v",
)  # fmt: skip
JSON_SUFFIXES = (".jsonl", ".json", ".ndjson")
DELIMITERS = {".tsv": "\t,;", "": ",;\t"}  # by suffix, the usual one first
TWICE = 'write a quotation mark inside a quoted field twice, as in "a 6"" nail"'
SUFFIX, NUMBER = re.compile(r"(?<=\S)\.(?=\w*[a-z])\w{2,5}$"), re.compile(r"-?\d+(\.\d*)?")
MEDIA = frozenset((*VIDEO_SUFFIXES, *PICTURE_SUFFIXES))
CODE = re.compile(r"(?=\S*([\d_/\\]|[a-z][A-Z]))\S+")  # a name that is no word of a text: clip_12, dogs/one, dQw4w9

NO_TEXT = " is no UTF-8 text: save the file as UTF-8"
NULL = " has a null character: expected text, saved as UTF-8"

Row = dict[str, Any]
"""Values by column, whose names are in lower case."""
Refuse = Callable[[int, str], None]
"""Gets the number of a row's line, and why it cannot be read, as it follows on "line 3"."""


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a text file.

    Args:
        path: The file.

    Returns:
        Its text, without a byte order mark; line ends are as in the file.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not UTF-8.
    """
    data = Path(path).read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line} is no UTF-8 text: save the file as UTF-8") from error


def read_text_lines(path: str | os.PathLike[str]) -> list[str]:
    """Read the lines of a text file.

    Args:
        path: The file.

    Returns:
        Its lines, which end in LF, CRLF or CR and nothing else.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not UTF-8, or has null characters.
    """
    lines = _lines(read_text(path))
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise ValueError(f"{path}, line {number}{NULL}")
    return lines


def read_rows(path: str | os.PathLike[str], refuse: Refuse | None = None) -> Iterator[tuple[int, Row]]:
    """Read a table: CSV or TSV, with commas, semicolons or tabs, whose first line names columns; or JSON lines.

    Args:
        path: The table; JSON lines end in .jsonl, .ndjson or .json.
        refuse: Gets the rows that cannot be read where that is certain to be of no other row; by default they are
            errors of the table.

    Yields:
        The number of the line in which a row begins, and its values; of CSV they are text, "" where there is none.
        Blank lines are left out.

    Raises:
        OSError: The file cannot be read.
        ValueError: It has no rows that can be read, or one that cannot be for certain, as with a stray quotation
            mark; without `refuse` for any that cannot be read, as in another encoding than UTF-8.
    """
    suffix = Path(path).suffix.lower()
    if refuse is None:
        lines = read_text_lines(path)
    else:  # bytes that are no UTF-8 become lone surrogates, which rows are searched for
        lines = _lines(Path(path).read_bytes().decode("utf-8", "surrogateescape").removeprefix("\ufeff"))

    first = ""

    def refused(number: int, reason: str) -> None:
        nonlocal first
        first = first or f"{path}, line {number}{reason}"
        if refuse is None:
            raise ValueError(first)
        refuse(number, reason)

    found = False
    kind = _json_rows if suffix in JSON_SUFFIXES else _csv_rows
    for number, row in kind(path, lines, suffix, refused):
        odd = [value for value in row.values() if isinstance(value, str) and (has_surrogates(value) or "\0" in value)]
        if odd and refuse is not None:
            refused(number, NULL if "\0" in odd[0] else NO_TEXT)
            continue
        found = True
        yield number, row
    if first and not found:
        raise ValueError(first)
    if not found and suffix not in JSON_SUFFIXES and any(line.strip() for line in lines):
        raise ValueError(f"{path} has no lines below its first, which names columns: expected a row for each file")
    if not found:
        raise ValueError(f"{path} has no lines: expected CSV whose first line names columns, or JSON lines")


def has_surrogates(text: str) -> bool:
    """Whether a text has lone surrogates, which stand for bytes that are no UTF-8 and cannot be written as UTF-8."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def printable(text: str) -> str:
    """A text with lone surrogates as escapes, which can be written as UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _lines(text: str) -> list[str]:
    return re.split(r"\r\n|\r|\n", text)


def _json_rows(
    path: str | os.PathLike[str], lines: Sequence[str], _suffix: str, refused: Refuse
) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        objects: list[list[tuple[str, Any]]] = []  # the outermost is the last

        def read(pairs: list[tuple[str, Any]], objects: list[list[tuple[str, Any]]] = objects) -> Row:
            objects.append(pairs)
            return dict(pairs)

        try:
            row = parse_json(line, object_pairs_hook=read)
        except ValueError as error:
            hint = ": expected JSON lines, not one list of all" if line.lstrip().startswith("[") else ""
            if hint:
                raise ValueError(f"{path}, line {number} is not JSON{hint}: {error}") from error
            refused(number, f" is not JSON: {error}")
            continue
        if not isinstance(row, dict):
            refused(number, f" is {line[:40]!r}, expected names with values")
            continue
        names = [name.strip().lower() for name, _ in objects[-1]]
        if twice := _twice(names):
            refused(number, twice)
            continue
        yield number, dict(zip(names, (value for _, value in objects[-1]), strict=True))


def _csv_rows(
    path: str | os.PathLike[str], lines: Sequence[str], suffix: str, refused: Refuse
) -> Iterator[tuple[int, Row]]:
    delimiter = _delimiter(path, next((line for line in lines if line.strip()), ""), suffix)
    reader = csv.reader(
        io.StringIO("\n".join(lines), newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    header: list[str] = []
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if not header or len(lines[number - 1]) <= csv.field_size_limit():  # else the field is of this line alone
                raise ValueError(f"{path}, line {number}: {_what_is_wrong(error)}") from error
            refused(number, f": {_what_is_wrong(error)}")
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if _holds_rows(cells, delimiter):
            raise ValueError(
                f"{path}, line {number}: a quoted field goes on over a line that looks like a row: close its "
                f"quotation mark there, and {TWICE}"
            )
        if not header:
            header = [cell.strip().lower() for cell in cells]
            if twice := _twice(header):
                raise ValueError(f"{path}, line {number}{twice}")
            if any(map(has_surrogates, header)) or "\0" in "".join(header):
                raise ValueError(f"{path}, line {number}{NO_TEXT}")
            continue
        if any(cell.strip() for cell in cells[len(header) :]):
            refused(
                number,
                f" has {len(cells)} fields, expected {len(header)} as in the first line: put a field with "
                f"{delimiter!r} in it in quotation marks",
            )
            continue
        yield number, dict(zip(header, cells + [""] * (len(header) - len(cells)), strict=False))


def _twice(names: Sequence[str]) -> str:
    """What is wrong with names of columns; "" if none is given twice."""
    twice = next((name for name in names if name and names.count(name) > 1), None)
    return f" names the column {twice} twice: rename one of them" if twice else ""


def _delimiter(path: str | os.PathLike[str], head: str, suffix: str) -> str:
    """What separates the columns: what makes most names of a table's first line, or what is usual."""
    candidates = DELIMITERS.get(suffix, DELIMITERS[""])
    try:
        return max(candidates, key=lambda each: len(next(csv.reader([head], delimiter=each), [])))
    except csv.Error as error:
        raise ValueError(f"{path}, line 1: {_what_is_wrong(error)}") from error


def _what_is_wrong(error: csv.Error) -> str:
    text = str(error)
    if "field larger" in text:
        return (
            f"it has a field of more than {csv.field_size_limit():,} characters: is a closing quotation mark missing?"
        )
    if "unexpected end" in text:
        return f"its quotation mark is never closed: close it, or {TWICE}"
    if "expected after" in text:
        return f"text follows after a closing quotation mark: {TWICE}"
    return text


def _holds_rows(cells: Sequence[str], delimiter: str) -> bool:
    """Whether a field of several lines seems to have swallowed rows, by what the row has in its other columns."""
    for column, cell in enumerate(cells):
        first, *others = _lines(cell)
        for at, line in ((column, first), *((0, other) for other in others)) if others else ():
            parts = line.split(delimiter)
            for place, part in enumerate(parts, at):
                if place == column or place >= len(cells):
                    continue
                is_row = len(parts) == len(cells)
                if _are_alike(part, cells[place]) or (is_row and _are_codes_of_a_kind(part, cells[place])):
                    return True
    return False


def _are_alike(part: str, cell: str) -> bool:
    """Whether both are names of media files, of files with the same suffix, or numbers."""
    suffix, other = (SUFFIX.search(text.strip().strip('"').lower()) for text in (part, cell))
    if suffix and other:
        return suffix[0] == other[0] or {suffix[0], other[0]} <= MEDIA
    return all(NUMBER.fullmatch(text.strip()) for text in (part, cell))


def _are_codes_of_a_kind(part: str, cell: str) -> bool:
    """Whether both are names such as clip_12 and clip_7, with the same kinds of letters in turn, or of one length."""
    names = [text.strip().strip('"') for text in (part, cell)]
    if not all(CODE.fullmatch(name) for name in names):
        return False
    one, other = (re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "1", name)) for name in names)
    return one == other or len(names[0]) == len(names[1])
