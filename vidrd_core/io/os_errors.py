"""Errors in messages: the cause and the remedy of those of the system, the first line of those of libraries."""

from __future__ import annotations

import errno
import os

_CANNOT = "cannot write "
# cause, remedy
_MEANINGS = {
    errno.ENOENT: ("the folder does not exist", "create it first"),
    errno.EACCES: ("no permission to write there", "choose another folder"),
    errno.EPERM: ("no permission to write there", "choose another folder"),
    errno.EROFS: ("the disk is read-only", "choose another folder"),
    errno.ENOSPC: ("the disk is full", "free some space or choose another folder"),
    errno.EFBIG: ("the file would be larger than is allowed", "raise the limit or choose another folder"),
    getattr(errno, "EDQUOT", -1): ("the quota of the disk is used up", "free some space or choose another folder"),
    errno.ENOTDIR: ("a file is where a folder should be", "choose another path"),
    errno.EISDIR: ("a folder of that name is there", "choose another name"),
}


def why(number: int | None, otherwise: str) -> str:
    """The cause and the remedy of an error.

    Args:
        number: Its errno, if it has one.
        otherwise: The text for an error without errno.

    Returns:
        Text such as "the disk is full; free some space or choose another folder"; the system's own text for an errno
        that is not in the table.
    """
    if meaning := _MEANINGS.get(number or 0):
        return "; ".join(meaning)
    return os.strerror(number) if number else otherwise


def remedy(number: int | None) -> str:
    """What to do about an error with this errno, as an addition to the system's text; "" where nothing is known."""
    if number == errno.EEXIST:  # when a folder is created
        number = errno.ENOTDIR
    cause, advice = _MEANINGS.get(number or 0, ("", ""))
    return f"{cause}; {advice}" if number == errno.ENOTDIR else advice


def cannot_write(path: str | os.PathLike[str], error: OSError) -> OSError:
    """An error with the same errno whose message names the path, the cause and the remedy.

    Args:
        path: What was to be written.
        error: The original error.

    Returns:
        An OSError, or the subclass of its errno, to be raised `from error`.
    """
    text = error.strerror or str(error)
    if text.startswith(_CANNOT):  # a file in what was to be written
        return OSError(error.errno, text)
    return OSError(
        error.errno, f"{_CANNOT}{os.fspath(path)}: {'; '.join(_MEANINGS.get(error.errno or 0, ())) or text}"
    )


def first_line(error: BaseException) -> str:
    """The first line of an error of a library, as PyTorch or Ray, whose others are about its insides."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
