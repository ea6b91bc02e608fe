"""Files of a folder, with their captions from sidecar files or a table."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from vidrd_core.data.records import Record, Skipped
from vidrd_core.io.folders import walk_once
from vidrd_core.io.tables import Refuse, has_surrogates, printable, read_rows, read_text

Found = Record | Skipped
SIDECARS = {".txt", ".caption", ".json", ".jsonl", ".csv", ".md", ".srt", ".vtt"}  # files beside data, not data
FILE_COLUMNS, CAPTION_COLUMNS = ("file_name", "file", "path", "video", "image"), ("caption", "text", "prompt")


def find_files(folder: Path, suffixes: Sequence[str], expected: str, table: Path | None = None) -> Iterator[Found]:
    """Find the files under a folder, in order, with their captions.

    Args:
        folder: The folder.
        suffixes: Suffixes of the files that are wanted, with the dot, in lower case.
        expected: What these are called in the reason of a skipped file: "a video".
        table: CSV, TSV or JSON lines with a column for the file, named relative to the folder or alone, and one for
            its caption. The table comes first: the text of `NAME.txt` beside a file is the caption of one that the
            table does not name.

    Yields:
        A record for each file with one of the suffixes, with caption "" if there is none; Skipped for a file of
        another kind, and for a name, a caption or a line of the table that cannot be read. Sidecar files are left
        out.

    Raises:
        FileNotFoundError: There is no such folder or table.
        NotADirectoryError: `folder` is a file.
        ValueError: The table cannot be read.
    """
    refused = Refused()
    captions = read_table(table, refused.line_of(table)) if table else {}
    names = []
    for path in walk(folder, refused):
        names.append(path.relative_to(folder).as_posix())
        if path.suffix.lower() in SIDECARS and path.suffix.lower() not in suffixes:
            continue
        try:
            record = Record(str(path), caption=caption_of(path, names[-1], captions))
        except ValueError as error:
            yield Skipped(Record(str(path)), str(error))
            continue
        if path.suffix.lower() in suffixes:
            yield record
        else:
            yield Skipped(
                record, f"is a {path.suffix or 'file without suffix'}, expected {expected}: {', '.join(suffixes)}"
            )
    yield from refused.records
    if table:
        warn_of_absent(table, captions, names, folder)


class Refused:
    """What cannot be read on the way to the files of a stage, each as a skipped record.

    Attributes:
        records: The records.
    """

    def __init__(self) -> None:
        self.records: list[Skipped] = []

    def __call__(self, path: Path, reason: str) -> None:
        """Add a file or folder, and why it is left out."""
        self.records.append(Skipped(Record(printable(str(path))), reason))

    def line_of(self, table: Path) -> Refuse:
        """What adds a line of a table."""

        def refuse(number: int, reason: str) -> None:
            self(Path(f"{table}, line {number}"), reason.lstrip(": "))

        return refuse


def warn_of_absent(table: Path, listed: Collection[str], names: Iterable[str], folder: Path) -> None:
    """Warn if a table lists files that are not there; the warning says how many, and names one.

    Args:
        table: The table.
        listed: The files that it lists, with `plain_name`.
        names: The paths in the folder of the files that are there.
        folder: The folder.
    """
    present = {plain_name(each) for name in names for each in (name, PurePosixPath(name).name)}
    if absent := [name for name in listed if name not in present]:
        warnings.warn(
            f"{len(absent)} of the {len(listed)} files in {table} are not in {folder}, such as {absent[0]}: expected "
            "paths in that folder, or names alone",
            stacklevel=2,
        )


def plain_name(name: str) -> str:
    """A file's path in one form: slashes, no ./ at its beginning, and composed letters, which macOS takes apart."""
    return PurePosixPath(unicodedata.normalize("NFC", name).replace("\\", "/")).as_posix()


def walk(folder: Path, refuse: Callable[[Path, str], None] = lambda path, reason: None) -> Iterator[Path]:
    """Files under a folder, in order of their names, without hidden ones and those in hidden folders.

    Args:
        folder: The folder.
        refuse: Gets folders that cannot be read or link to one that they are in, and files whose names are no UTF-8,
            which are left out.

    Yields:
        Paths that begin with the folder's.

    Raises:
        FileNotFoundError: There is no such folder.
        NotADirectoryError: It is a file.
    """
    if not Path(folder).exists():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not Path(folder).is_dir():
        raise NotADirectoryError(f"{folder} is a file, expected a folder")

    def visible(path: Path, reason: str) -> None:
        if not path.name.startswith("."):
            refuse(path, reason)

    for at, folders, files in walk_once(folder, visible):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [name for name in folders if has_surrogates(name)]:
            refuse(Path(at) / name, "is a folder whose name is no UTF-8: rename it")
            folders.remove(name)
        for name in sorted(name for name in files if not name.startswith(".")):
            if has_surrogates(name):
                refuse(Path(at) / name, "has a name that is no UTF-8: rename it")
            else:
                yield Path(at) / name


def caption_of(path: Path, name: str, captions: Mapping[str, str]) -> str:
    """Find the caption of a file: that of the table, else the text beside the file.

    Args:
        path: The file, or a folder of frames.
        name: Its path in the folder that is searched, as the table may name it.
        captions: The table's, as `read_table` gives them; {} without a table.

    Returns:
        The caption on one line, "" if there is none: the table's for the name, then for the name without folders,
        then the text of the file of the same name in .txt or .caption.

    Raises:
        ValueError: The text cannot be read, or is not UTF-8.
    """
    if found := captions.get(plain_name(name), captions.get(plain_name(path.name))):
        return found
    texts = (path.with_suffix(suffix) for suffix in (".txt", ".caption"))
    # os.path.isfile() takes a name that is too long with .caption for one that is not there, Path.is_file() fails
    beside = next((text for text in texts if os.path.isfile(text)), None)
    try:
        return one_line(read_text(beside)) if beside else ""
    except OSError as error:
        raise ValueError(f"has a caption that cannot be read: {beside}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"has a caption that cannot be read: {error}") from error


def one_line(text: str) -> str:
    """Text on one line, with single spaces, without a byte order mark or null characters."""
    return " ".join(text.replace("\ufeff", "").replace("\x00", "").split())


def read_table(path: Path, refuse: Refuse | None = None) -> dict[str, str]:
    """Read captions by file name.

    Args:
        path: A table as `io.tables.read_rows` reads it, with a column for the file (file_name, file, path, video or
            image) and one for its caption (caption, text or prompt).
        refuse: Gets the lines that are left out, as in `read_rows`; by default they are errors.

    Returns:
        The captions, each on one line, by `plain_name`.

    Raises:
        OSError: The table cannot be read.
        ValueError: A line lacks a file or its caption, or a file has two captions.
    """
    captions: dict[str, str] = {}
    lines: dict[str, int] = {}
    first_absent, has_columns = "", False
    for number, row in read_rows(path, refuse):
        where = f"{path}, line {number}"
        try:
            file, text = (_value(row, names) for names in (FILE_COLUMNS, CAPTION_COLUMNS))
        except ValueError as error:
            if refuse is None:
                raise ValueError(f"{where}: {error}") from error
            refuse(number, str(error))
            continue
        if file is None or text is None:
            absent = (
                f": expected columns for a file ({', '.join(FILE_COLUMNS)}) and for its caption "
                f"({', '.join(CAPTION_COLUMNS)}), got {', '.join(row) or 'nothing'}"
            )
            if refuse is None:
                raise ValueError(f"{where}{absent}")
            first_absent = first_absent or f"{where}{absent}"
            refuse(number, absent)
            continue
        has_columns = True
        name = plain_name(file)
        if captions.get(name, text) != text:
            again = f" has {name} again, with another caption than in line {lines[name]}: keep one of them"
            if refuse is None:
                raise ValueError(f"{where}{again}")
            refuse(number, again)
            continue
        captions[name], lines[name] = text, number
    if first_absent and not has_columns:  # a table of something else, not a bad line
        raise ValueError(first_absent)
    return captions


def _value(row: dict[str, Any], names: Sequence[str]) -> str | None:
    """The text of the first of some columns that has any, on one line; None if there are no such columns.

    Raises ValueError for one that is no text.
    """
    present = [name for name in names if name in row]
    if not present:
        return None
    name = next((name for name in present if row[name] not in (None, "")), present[0])
    value = "" if row[name] is None else row[name]
    if not isinstance(value, str) or has_surrogates(value):
        raise ValueError(f"{name} is {value!a:.60}, expected text")
    if not one_line(value):
        raise ValueError(f"its {name} is empty: fill it in, or leave the line out")
    if name not in FILE_COLUMNS:
        return one_line(value)
    if {"\n", "\r"} & {*value.strip()}:
        raise ValueError(f"its {name} has a line break: is a quotation mark missing, or one too many?")
    return value.strip().replace("\ufeff", "").replace("\x00", "")
