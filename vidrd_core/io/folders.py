"""Names that lead out of their folder, and folders below one, also behind links that lead back to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PureWindowsPath


def leads_out(name: str) -> bool:
    """Tell whether a path that should be in a folder leads out of it.

    Args:
        name: The path, of any system: both separators count, and drives do.

    Returns:
        Whether it is absolute, has a drive, or has more "..", from its beginning to any place, than folders.
    """
    path, depth = PureWindowsPath(name), 0
    for part in path.parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return bool(path.anchor)


def walk_once(
    top: str | os.PathLike[str], refuse: Callable[[Path, str], None] = lambda path, reason: None
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk through a folder as `os.walk` does from the top down, links included, without going round in a circle.

    Args:
        top: The folder.
        refuse: Gets each folder that is left out, and why: a link to a folder that it is in, or one that cannot be
            read.

    Yields:
        A folder, the names of the folders in it, of which those that are removed are not walked through, and of the
        files in it.
    """

    def unreadable(error: OSError) -> None:
        refuse(Path(os.fsdecode(error.filename)), f"cannot be read: {error.strerror or error}")

    above: dict[str, frozenset[tuple[int, int]]] = {}  # the folders that each is in, with itself
    for at, folders, files in os.walk(top, onerror=unreadable, followlinks=True):
        try:
            status = os.stat(at)
        except OSError as error:
            unreadable(error)
            continue
        inside = above.pop(at, frozenset()) | {(status.st_dev, status.st_ino)}
        for name in list(folders):
            path = os.path.join(at, name)
            try:
                status = os.stat(path)
            except OSError as error:  # removed meanwhile
                unreadable(error)
                folders.remove(name)
                continue
            if status.st_ino and (status.st_dev, status.st_ino) in inside:
                refuse(Path(path), "is a link to a folder that it is in: remove it")
                folders.remove(name)
            else:
                above[path] = inside
        yield at, folders, files
