"""How the commands fail: one line for what could be foreseen."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vidrd_core.io.os_errors import remedy, why

_MACHINE = {getattr(errno, name, 0) for name in ("ENOSPC", "EDQUOT", "EIO", "ENOMEM", "EMFILE", "EFBIG")}


class CommandError(Exception):
    """Ends the command with one line on stderr."""

    exit_code = 1  # a fault of the machine


class InputError(CommandError):
    """What was asked for cannot be."""

    exit_code = 2


@contextmanager
def input_checked(subject: str = "") -> Iterator[None]:
    """Everything in the block depends on the input alone: what goes wrong there is told as an InputError."""
    try:
        yield
    except ValueError as error:
        raise InputError(subject + reason(error)) from error
    except OSError as error:
        if error.errno in _MACHINE:
            raise
        raise InputError(subject + reason(error)) from error


def reason(error: BaseException) -> str:
    """What an exception says, on one line."""
    if out_of_memory(error):
        return "out of memory: make smaller or fewer frames a clip, or close other programs"
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
        if error.filename is not None:  # Python's own, which says little
            hint = remedy(error.errno)
            if error.errno in (errno.EACCES, errno.EPERM):
                hint = f"no permission; {hint}"
            if error.errno == errno.ENOENT and Path(error.filename).parent.is_dir():
                hint = "check the name"
            text = f"cannot use {error.filename}: {text}" + (f" ({hint})" if hint else "")
        elif text == os.strerror(errno.ENOSPC):  # as the system says it
            text = why(errno.ENOSPC, text)
    return " ".join(text.split())


def out_of_memory(error: BaseException) -> bool:
    """Whether the machine had no memory left; PyTorch has several ways to say so."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "memory" in text and ("alloc" in text or "out of memory" in text)
    )


def is_fault(error: BaseException) -> bool:
    """Whether the machine is to blame, not the program."""
    return isinstance(error, OSError) or out_of_memory(error)


class _Report:
    """Whether anything but errors is printed."""

    quiet = False


def set_quiet(quiet: bool) -> None:
    """Print nothing but errors from now on, or everything again."""
    _Report.quiet = quiet


def is_quiet() -> bool:
    """Whether nothing but errors is printed."""
    return _Report.quiet


def note(text: str) -> None:
    """Print a line to stderr, unless --quiet is given."""
    if not _Report.quiet:
        fail(text)


def say(text: str) -> None:
    """Print a line to stdout, unless --quiet is given."""
    if not _Report.quiet:
        print(text, flush=True)


def fail(text: str) -> None:
    """Print a line to stderr."""
    print(f"vidrd: {text}", file=sys.stderr, flush=True)
