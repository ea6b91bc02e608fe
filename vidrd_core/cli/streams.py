"""Output streams that may end before the command does: `... | head`, a terminal or descriptor that is closed."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

GONE = (errno.EPIPE, errno.EIO, errno.ENXIO, errno.EBADF, *((errno.EINVAL,) if os.name == "nt" else ()))
STDERR = 2


class LastingStream:
    """A text stream that drops what its reader no longer takes; everything else is the stream's own.

    Args:
        stream: The stream.
        is_result: Whether other errors, as of a full disk, are raised; else the text is dropped then, too.
    """

    def __init__(self, stream: TextIO, is_result: bool = True) -> None:
        self._stream, self._is_result = stream, is_result

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError) as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        """Flush what was written, or drop it."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._drop(error)

    def _drop(self, error: OSError | ValueError) -> None:
        """Send this stream's output nowhere from now on. Raises the error unless the reader is gone."""
        is_gone = error.errno in GONE if isinstance(error, OSError) else self._stream.closed
        if isinstance(error, OSError) and error.errno == errno.EIO:
            is_gone = _was_terminal(self._stream)
        if not is_gone and (self._is_result or not isinstance(error, OSError)):
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:  # the descriptor itself, as libraries and Python's end write to it, too
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):  # a closed stream, or one without a descriptor
            self._stream = os.fdopen(nowhere, "w", encoding="utf-8")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _was_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal, which may have gone."""
    try:
        return os.path.realpath(f"/dev/fd/{stream.fileno()}").startswith(("/dev/pts", "/dev/tty", "/dev/console"))
    except (OSError, ValueError):
        return False


@contextmanager
def lasting_streams() -> Iterator[None]:
    """A context in which stdout and stderr drop what nobody reads.

    A descriptor that was closed at the start becomes one of nowhere: else the next file that is opened would get its
    number, and with it the messages of libraries.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        pass
    os.close(number)
    before = sys.stdout, sys.stderr
    open_ones = [stream or open(os.devnull, "w", encoding="utf-8") for stream in before]  # noqa: SIM115
    streams = [LastingStream(stream, is_result) for stream, is_result in zip(open_ones, (True, False), strict=True)]
    sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in streams)
    try:
        yield
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before
