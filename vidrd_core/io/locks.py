"""A lock on a folder: no other run uses it, nothing is left in it, and a killed process holds none."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"  # the file that is locked where folders cannot be


class FolderLock:
    """A lock on a folder, between processes of a machine.

    On Unix the folder itself is locked; where that cannot be, as on Windows and on some network disks, a file in it.

    Args:
        folder: The folder, which need not exist yet.
        name: A file in it, of one of several runs that share the folder: that is locked instead, and made if need be.
    """

    def __init__(self, folder: Path, name: str = "") -> None:
        self._path, self._flags, self._descriptor = folder / name, os.O_RDONLY | (os.O_CREAT if name else 0), -1
        self._file = FileLock(folder / f"{name}{LOCK}")

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor >= 0 or self._file.is_locked

    def acquire(self) -> bool:
        """Take the lock, if it is free; whether it is held then. Raises OSError for a folder that is not there."""
        if self.is_held:
            return True
        if fcntl is not None:
            descriptor = os.open(self._path, self._flags, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            except OSError:  # not on this disk
                os.close(descriptor)
            else:
                self._descriptor = descriptor
                return True
        with contextlib.suppress(Timeout):
            self._file.acquire(timeout=0)
        return self._file.is_locked

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._file.release()
