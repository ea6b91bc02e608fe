"""Error handling and output of the commands: foreseeable errors become one line on stderr."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vidrd_core.io.os_errors import remedy, why

PACKAGE = Path(__file__).parents[1]
_MACHINE = {getattr(errno, name, 0) for name in ("ENOSPC", "EDQUOT", "EIO", "ENOMEM", "EMFILE", "EFBIG")}


class CommandError(Exception):
    """An error that ends the command with one line on stderr; with exit code 1, for a failure of the machine."""

    exit_code = 1


class InputError(CommandError):
    """Invalid input: ends the command with exit code 2."""

    exit_code = 2


@contextmanager
def input_checked(subject: str = "") -> Iterator[None]:
    """A context for code that depends on the input alone: ValueErrors and OSErrors in it become InputErrors.

    Errors of the machine, as a full disk, stay OSErrors.

    Args:
        subject: What the message begins with, as an option's name.

    Raises:
        InputError: The block raised a ValueError or an OSError.
    """
    try:
        yield
    except ValueError as error:
        raise InputError(subject + reason(error)) from error
    except OSError as error:
        if error.errno in _MACHINE:
            raise
        raise InputError(subject + reason(error)) from error


def reason(error: BaseException) -> str:
    """The message of an exception on one line, with a remedy where one is known."""
    if out_of_memory(error):
        return "out of memory: make smaller or fewer frames a clip, or close other programs"
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
        if error.filename is not None:  # Python's own error, whose text has no remedy
            hint = remedy(error.errno)
            if error.errno in (errno.EACCES, errno.EPERM):
                hint = f"no permission; {hint}"
            if error.errno == errno.ENOENT and Path(error.filename).parent.is_dir():
                hint = "check the name"
            text = f"cannot use {error.filename}: {text}" + (f" ({hint})" if hint else "")
        elif text == os.strerror(errno.ENOSPC):  # the system's own text
            text = why(errno.ENOSPC, text)
    return " ".join(text.split())


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that there was too little memory; PyTorch raises several kinds."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "memory" in text and ("alloc" in text or "out of memory" in text)
    )


def is_fault(error: BaseException) -> bool:
    """Whether an exception is a failure of the machine (disk, memory), not a bug."""
    return isinstance(error, OSError) or out_of_memory(error)


class _Output:
    """Whether only errors are printed."""

    quiet = False


def set_quiet(quiet: bool) -> None:
    """Print only errors from now on, or everything again."""
    _Output.quiet = quiet


def is_quiet() -> bool:
    """Whether only errors are printed."""
    return _Output.quiet


def note(text: str) -> None:
    """Print a line to stderr, unless --quiet is given."""
    if not _Output.quiet:
        fail(text)


def say(text: str) -> None:
    """Print a line to stdout, unless --quiet is given."""
    if not _Output.quiet:
        print(text, flush=True)


def fail(text: str) -> None:
    """Print a line to stderr."""
    print(f"vidrd: {text}", file=sys.stderr, flush=True)


def format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """In place of `warnings.formatwarning`: a UserWarning of this package is one line, as errors are."""
    if is_quiet():
        return ""
    if category is UserWarning and Path(filename).is_relative_to(PACKAGE):
        return f"vidrd: warning: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"
