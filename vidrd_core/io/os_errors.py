"""Why a file cannot be written, by the system's number of the error, and what to do about it."""

from __future__ import annotations

import errno
import os

REASONS = {
    errno.ENOENT: "the folder does not exist; create it first",
    errno.EACCES: "no permission to write there; choose another folder",
    errno.EPERM: "no permission to write there; choose another folder",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.ENOTDIR: "a file is where a folder should be; choose another path",
    errno.EISDIR: "a folder of that name is there; choose another name",
}


def why(number: int | None, otherwise: str) -> str:
    """What an error of this number means; `otherwise` if it has none."""
    return REASONS.get(number or 0) or (os.strerror(number) if number else otherwise)
