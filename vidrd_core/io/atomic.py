"""Atomic writes: files and folders that appear complete or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vidrd_core.io.os_errors import cannot_write, why
from vidrd_core.io.partial import Part


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """A context that writes a file atomically: the block writes to a partial file, which then replaces `path`.

    If the block raises, `path` is unchanged and the partial file is removed; that of a killed run is removed by the
    next one that writes in the folder.

    Args:
        path: The file to write; its folder must exist.

    Yields:
        The partial file beside `path`, empty.

    Raises:
        OSError: The file cannot be written; the message names `path`, the reason and what to do.
    """
    path = Path(path)
    part = Part(path, with_suffix=False)
    try:
        part.create()
        yield part.path
        os.replace(part.path, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        part.remove()


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
def atomic_folder(target: str | Path, parents: bool = True) -> Iterator[Path]:
    """A context for writing a folder atomically: the block writes to a staging folder, then moves files to `target`.

    The staging folder is on the same disk, so that files can be renamed, and is removed afterwards, that of a killed
    run by the next one that writes beside it.

    Args:
        target: The folder, or file, to write.
        parents: Whether folders above it are created.

    Yields:
        The staging folder.

    Raises:
        OSError: Something cannot be written; the message names `target`, the reason and what to do.
    """
    target = Path(target)
    part = Part(target, with_suffix=False)
    try:
        if parents:
            target.parent.mkdir(parents=True, exist_ok=True)
        part.create(folder=True)
    except OSError as error:
        raise cannot_write(target, error) from error
    try:
        yield part.path
    except OSError as error:  # its text may name a file in the staging folder
        raise cannot_write(target, OSError(error.errno, why(error.errno, str(error)))) from error
    finally:
        part.remove()
