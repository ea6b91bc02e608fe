"""What is written beside its target, locked meanwhile, so that what killed runs left can be told and removed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import sys
from hashlib import sha256
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PART = re.compile(r"(?P<stem>.+)\.part-[0-9a-f]{6}(?P<suffix>\.\w+)?")
KEPT = ".unfinished-"  # in place of .part- in the names of those that are kept for their users
REPLACING = ".replacing"  # in a folder whose files are being replaced one by one
_EXCHANGE = 2  # flag of the system calls that exchange two names, on Linux and macOS
_HERE = -100  # AT_FDCWD of Linux
NAME_BYTES = 255  # of a file's name, on most disks


def fitting(name: str, end: str) -> str:
    """A name with an end, as `NAME.part-0a1b2c`; of a name that leaves no room for it, the beginning and a digest."""
    if len(os.fsencode(name + end)) <= NAME_BYTES:
        return name + end
    end = f"-{sha256(os.fsencode(name)).hexdigest()[:8]}{end}"
    room = NAME_BYTES - len(os.fsencode(end))
    while len(os.fsencode(name)) > room:
        name = name[:-1]
    return name + end


class Part:
    """A file or folder beside its target, on the same disk.

    Args:
        target: Its final name.
        with_suffix: Whether it has the target's suffix, by which players, and lists of files, know the format.

    Attributes:
        path: Its name until then.
    """

    def __init__(self, target: Path, with_suffix: bool = True) -> None:
        name, end = (target.stem, target.suffix) if with_suffix else (target.name, "")
        self.path = target.with_name(fitting(name, f".part-{secrets.token_hex(3)}{end}"))
        self._descriptor = -1

    def create(self, folder: bool = False) -> None:
        """Create it, empty, and remove what killed runs left beside it. Raises OSError."""
        sweep(self.path.parent)
        while True:
            if folder:
                self.path.mkdir()
            else:
                self.path.touch(exist_ok=False)
            self._descriptor = _locked(self.path, wait=True)
            if self.path.exists() if self._descriptor < 0 else _is_open_at(self._descriptor, self.path):
                return
            self.release()  # it was swept before it was locked

    def take(self, other: Part) -> None:
        """Let another one, which is whole, take this one's name. Raises OSError."""
        os.replace(other.path, self.path)
        self.release()
        self._descriptor, other._descriptor = other._descriptor, -1

    def keep(self) -> Path:
        """Rename it, so that it is never swept; where it is then. After an error it has its old name."""
        kept = self.path.with_name(self.path.name.replace(".part-", KEPT))
        with contextlib.suppress(OSError):
            os.replace(self.path, kept)
            self.path = kept
        self.release()
        return self.path

    def remove(self) -> None:
        """Remove it, if it is there."""
        if self.path.is_dir():
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Give up the lock: it has its final name, or is gone."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def sweep(folder: Path) -> None:
    """Remove the partial files and folders that killed runs left in a folder; of running ones they are locked."""
    with contextlib.suppress(OSError):
        for path in [path for path in folder.iterdir() if PART.fullmatch(path.name)]:
            if fcntl is None:
                with contextlib.suppress(OSError):  # an open file, which cannot be removed there
                    path.unlink()
                continue
            descriptor = _locked(path)
            if descriptor < 0:
                continue
            try:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
            finally:
                os.close(descriptor)


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two files or folders in one step, where system and disk can; whether it was done."""
    names = os.fsencode(one), os.fsencode(other)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return bool(libc.renamex_np(*names, _EXCHANGE) == 0)
        return bool(libc.renameat2(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0)
    except (OSError, AttributeError, TypeError):  # Windows, and older systems
        return False


def _locked(path: Path, wait: bool = False) -> int:
    """A descriptor with a lock on a file or folder; -1 where that is held by another, or cannot be."""
    if fcntl is None:
        return -1
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return -1
    return descriptor


def _is_open_at(descriptor: int, path: Path) -> bool:
    """Whether an open file still has a name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False
