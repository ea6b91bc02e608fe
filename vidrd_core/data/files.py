"""Files of a folder, with their captions from sidecar files or a table."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from vidrd_core.data.records import Record, Skipped

Found = Record | Skipped
SIDECARS = {".txt", ".caption", ".json", ".jsonl", ".csv", ".md", ".srt", ".vtt"}  # files beside data, not data
FILE_COLUMNS, CAPTION_COLUMNS = ("file_name", "file", "path", "video", "image"), ("caption", "text", "prompt")


def find_files(folder: Path, suffixes: Sequence[str], expected: str, table: Path | None = None) -> Iterator[Found]:
    """Find the files under a folder, in order, with their captions.

    Args:
        folder: The folder.
        suffixes: Suffixes of the files that are wanted, with the dot, in lower case.
        expected: What these are called in the reason of a skipped file: "a video".
        table: CSV or JSON lines with a column for the file, named relative to the folder, and one for its caption.
            Without an entry there, a caption is the text of `NAME.txt` beside the file.

    Yields:
        A record for each file with one of the suffixes, with caption "" if there is none; Skipped for a file of
        another kind or with a caption that is not UTF-8. Sidecar files are left out.

    Raises:
        FileNotFoundError: There is no such folder or table.
        NotADirectoryError: `folder` is a file.
        ValueError: The table cannot be read.
    """
    captions = read_table(table) if table else {}
    for path in walk(folder):
        if path.suffix.lower() in SIDECARS and path.suffix.lower() not in suffixes:
            continue
        name = path.relative_to(folder).as_posix()
        try:
            record = Record(
                str(path), caption=captions.get(name, captions.get(path.name, "")) or sidecar_caption(path)
            )
        except UnicodeDecodeError as error:
            yield Skipped(
                Record(str(path)), f"has a caption that is no UTF-8 text ({error.reason}): save it as UTF-8"
            )
            continue
        if path.suffix.lower() in suffixes:
            yield record
        else:
            yield Skipped(
                record, f"is a {path.suffix or 'file without suffix'}, expected {expected}: {', '.join(suffixes)}"
            )


def walk(folder: Path) -> Iterator[Path]:
    """Files under a folder, in order of their names, without hidden ones and those in hidden folders.

    Raises FileNotFoundError, NotADirectoryError.
    """
    if not Path(folder).exists():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not Path(folder).is_dir():
        raise NotADirectoryError(f"{folder} is a file, expected a folder")
    for at, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(at) / name for name in sorted(files) if not name.startswith("."))


def sidecar_caption(path: Path) -> str:
    """The text of the file of the same name in .txt or .caption; "" without one. Raises UnicodeDecodeError."""
    for suffix in (".txt", ".caption"):
        text = path.with_suffix(suffix)
        if text.is_file():
            return one_line(text.read_text(encoding="utf-8"))
    return ""


def one_line(text: str) -> str:
    """Text on one line, with single spaces, without a byte order mark or null characters."""
    return " ".join(text.replace("\ufeff", "").replace("\x00", "").split())


def read_table(path: Path) -> dict[str, str]:
    """Captions by file name, from a CSV file with a header or JSON lines. Raises OSError, ValueError."""
    captions: dict[str, str] = {}
    for number, row in read_rows(path):
        file = next((row[name] for name in FILE_COLUMNS if row.get(name)), None)
        text = next((row[name] for name in CAPTION_COLUMNS if row.get(name)), None)
        if file is None or text is None:
            raise ValueError(
                f"{path}, line {number}: expected columns for a file ({', '.join(FILE_COLUMNS)}) and for its caption "
                f"({', '.join(CAPTION_COLUMNS)}), got {', '.join(map(str, row)) or 'nothing'}"
            )
        captions[str(file).replace("\\", "/")] = one_line(str(text))
    return captions


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and values by column of a CSV file with a header, or of JSON lines.

    Raises OSError, or ValueError if there are no lines or one is invalid.
    """
    found = False
    for number, row in _rows(path):
        found = True
        yield number, row
    if not found:
        raise ValueError(f"{path} has no lines: expected CSV whose first line names columns, or JSON lines")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    text = Path(path).read_text(encoding="utf-8-sig")
    if Path(path).suffix.lower() in (".jsonl", ".json", ".ndjson"):
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number} is {line[:40]!r}, expected names with values")
            yield number, row
        return
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter="\t" if Path(path).suffix.lower() == ".tsv" else ","
    )
    for row in reader:
        yield reader.line_num, {str(key).strip(): value for key, value in row.items() if key is not None and value}
