"""JSON-lines files that a stopped run resumes: a header that describes the records, then one record per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from vidrd_core.io.configs import changes, parse_json

Record = dict[str, Any]


def read_lines(path: str | Path) -> Iterator[Record]:
    """Read the complete lines of a file; an incomplete last line is left out.

    Args:
        path: The file.

    Yields:
        The value of each line.

    Raises:
        OSError: The file cannot be read.
        ValueError: A complete line is not JSON.
    """
    with Path(path).open(encoding="utf-8") as file:
        try:
            for line in file:
                if line.endswith("\n"):
                    yield parse_json(line)
        except ValueError as error:  # UTF-8's, too
            raise ValueError(f"{path} is damaged: {error}; remove it, or choose another folder") from error


def resume(path: str | Path) -> tuple[Record | None, list[Record]]:
    """Read a file that will be appended to, and remove an incomplete last line from it.

    Args:
        path: The file.

    Returns:
        The header and the records; None and [] where there is no file or no complete line yet.

    Raises:
        OSError: The file cannot be read or written.
        ValueError: A complete line is not JSON.
    """
    path = Path(path)
    if not path.exists():
        return None, []
    with path.open("rb+") as file:
        file.truncate(file.read().rfind(b"\n") + 1)
    lines = list(read_lines(path))
    return (lines[0], lines[1:]) if lines else (None, [])


class JsonLines:
    """A context that appends records to a file; each is written as a complete line before the next one.

    Args:
        path: The file; it is created with its folders.
        header: The first line, which is written to a new or empty file.
    """

    def __init__(self, path: str | Path, header: Record | None = None) -> None:
        self.path, self.header = Path(path), header

    def __enter__(self) -> JsonLines:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a", encoding="utf-8", newline="\n")
        if self.header is not None and not self._file.tell():
            self.append(self.header)
        return self

    def append(self, record: Record) -> None:
        """Write a record. Raises ValueError for NaN or infinity, which JSON does not have."""
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def check_header(path: str | Path, expected: Record, found: Record) -> None:
    """Check that a file holds records of the expected settings.

    Args:
        path: The file.
        expected: The header of the settings now.
        found: The header of the file.

    Raises:
        ValueError: They differ; the message names what does.
    """
    absent = dict.fromkeys((*expected, *found), "absent")
    if differing := changes({**absent, **expected}, {**absent, **found}):
        raise ValueError(f"{path} holds records of other settings, now {differing}: choose another folder")
