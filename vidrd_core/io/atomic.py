"""Atomic writes: files and folders that appear complete or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from vidrd_core.io.os_errors import cannot_write, why

PARTIAL = ".partial"
RANDOM = "x" * 12  # room for what `tempfile` appends to a name
NAME_BYTES = 255  # of a file's name, on most disks


def fitting(name: str, end: str) -> str:
    """A name with an end, as `NAME.partial`; of a name that leaves no room for it, the beginning and a digest."""
    if len(os.fsencode(name + end)) <= NAME_BYTES:
        return name + end
    end = f"-{sha256(os.fsencode(name)).hexdigest()[:8]}{end}"
    room = NAME_BYTES - len(os.fsencode(end))
    while len(os.fsencode(name)) > room:
        name = name[:-1]
    return name + end


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """A context that writes a file atomically: the block writes to a partial file, which then replaces `path`.

    If the block raises, `path` is unchanged and the partial file is removed.

    Args:
        path: The file to write; its folder must exist.

    Yields:
        The partial file, `NAME.partial` beside `path`. If the block does not create it, nothing changes.

    Raises:
        OSError: The file cannot be written; the message names `path`, the reason and what to do.
    """
    path = Path(path)
    partial = path.with_name(fitting(path.name, PARTIAL))
    try:
        yield partial
        if partial.exists():
            os.replace(partial, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically, in UTF-8 with LF line ends. Raises OSError."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file atomically. Raises OSError."""
    with atomic_file(path) as partial:
        partial.write_bytes(data)


def write_json(path: str | Path, values: Any, indent: int | None = 1) -> None:
    """Write a JSON file atomically.

    Args:
        path: The file; its folder must exist.
        values: JSON-ready values; paths become strings.
        indent: Spaces of indentation, or None for a single line.

    Raises:
        OSError: The file cannot be written.
        TypeError: A value is not JSON-ready.
    """
    text = json.dumps(values, indent=indent, ensure_ascii=False, default=os.fspath)
    write_text(path, text + "\n" * (indent is not None))


@contextmanager
def atomic_folder(target: str | Path) -> Iterator[Path]:
    """A context for writing a folder atomically: the block writes to a staging folder, then moves files to `target`.

    The staging folder is on the same disk, so that files can be renamed, and is removed afterwards. Folders above
    `target` are created.

    Args:
        target: The folder, or file, to write.

    Yields:
        The staging folder.

    Raises:
        OSError: Something cannot be written; the message names `target`, the reason and what to do.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(
            tempfile.mkdtemp(prefix=fitting(f".{target.name}.", RANDOM)[: -len(RANDOM)], dir=target.parent)
        )
    except OSError as error:
        raise cannot_write(target, error) from error
    try:
        yield staging
    except OSError as error:  # its text may name a file in the staging folder
        raise cannot_write(target, OSError(error.errno, why(error.errno, str(error)))) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
