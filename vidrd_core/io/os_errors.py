"""What an operating-system error means for someone who writes a file, and what to do about it."""

from __future__ import annotations

import errno
import os

# cause, remedy
_MEANINGS = {
    errno.ENOENT: ("the folder does not exist", "create it first"),
    errno.EACCES: ("no permission to write there", "choose another folder"),
    errno.EPERM: ("no permission to write there", "choose another folder"),
    errno.EROFS: ("the disk is read-only", "choose another folder"),
    errno.ENOSPC: ("the disk is full", "free some space or choose another folder"),
    errno.ENOTDIR: ("a file is where a folder should be", "choose another path"),
    errno.EISDIR: ("a folder of that name is there", "choose another name"),
}


def why(number: int | None, otherwise: str) -> str:
    """The cause and the remedy of an error by its errno; `otherwise` where there is none.

    Args:
        number: The errno.
        otherwise: The text for an error without one.
    """
    if meaning := _MEANINGS.get(number or 0):
        return "; ".join(meaning)
    return os.strerror(number) if number else otherwise


def remedy(number: int | None) -> str:
    """What to do about an error by its errno, beside the system's own text; "" where nothing is known."""
    if number == errno.EEXIST:  # of a folder that is to be made
        number = errno.ENOTDIR
    cause, advice = _MEANINGS.get(number or 0, ("", ""))
    return f"{cause}; {advice}" if number == errno.ENOTDIR else advice


def cannot_write(path: str | os.PathLike[str], error: OSError) -> OSError:
    """An error of the same kind that names the file that was to be written, the cause and the remedy."""
    meaning = "; ".join(_MEANINGS.get(error.errno or 0, ())) or error.strerror or str(error)
    return OSError(error.errno, f"cannot write {os.fspath(path)}: {meaning}")
