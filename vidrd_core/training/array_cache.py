"""A cache of arrays on disk, filled once and part by part, read by index: frames, latents, encoded captions."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from vidrd_core.io.atomic import write_json

SAVE_INTERVAL = 30.0  # seconds: what a run that is stopped may lose


class StaleCacheError(ValueError):
    """A cached array on disk was made from something else."""


def cached_array(
    path: Path,
    shape: tuple[int, ...],
    dtype: Any,
    parts: Callable[[int], Iterable[NDArray]],
    source: dict[str, Any],
    report: Callable[[str], None] = print,
) -> NDArray:
    """Open a memory-mapped array, and fill it first if `path` does not exist.

    Filling that was interrupted continues with the next call.

    Args:
        path: A .npy file.
        shape: The array's shape; the first axis counts the entries.
        dtype: Its NumPy dtype.
        parts: Gives the entries from an index on, some at a time, as arrays [n, ...].
        source: What determines the entries, as JSON-ready values; kept beside the file and compared.
        report: Gets a line every 30 seconds while the array is filled.

    Returns:
        The array, read-only.

    Raises:
        StaleCacheError: The file has another shape or was made from something else.
        OSError: There is no space for it.
        ValueError: `parts` gave too few entries.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # of several processes one fills it, the others wait
            if not path.exists():
                _fill(path, shape, np.dtype(dtype), parts, source, report)
    return open_cached_array(path, shape, source)


def open_cached_array(path: Path, shape: tuple[int, ...], source: dict[str, Any]) -> NDArray:
    """An array that was filled earlier. Raises StaleCacheError for another shape or source."""
    found, note = np.load(path, mmap_mode="r"), path.with_suffix(".json")
    before = json.loads(note.read_text(encoding="utf-8")) if note.exists() else "an unknown source"
    for had, expected in ((found.shape, shape), (before, json.loads(json.dumps(source)))):
        if had != expected:
            raise StaleCacheError(f"{path} holds {had}, expected {expected}: delete it to have it made again")
    return found


def _fill(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype,
    parts: Callable[[int], Iterable[NDArray]],
    source: dict[str, Any],
    report: Callable[[str], None],
) -> None:
    """Write the parts into one .npy file, which appears when it is complete.

    Its source is kept beside it as JSON, for `open_cached_array` to compare; until it is complete, its progress, too.
    """
    unfinished, begun = path.with_suffix(".partial"), path.with_suffix(".begun")
    array, done = _open_unfinished(unfinished, begun, shape, dtype, source)
    saved = time.monotonic()
    try:
        for part in parts(done):
            array[done : done + len(part)] = part
            done += len(part)
            if time.monotonic() - saved > SAVE_INTERVAL:
                _save(array, begun, done, source)
                report(f"{path.stem}: {done} of {len(array)}")
                saved = time.monotonic()
    finally:
        _save(array, begun, done, source)
    if done != len(array):
        raise ValueError(f"{path} was to hold {len(array)} entries, got {done}")
    write_json(path.with_suffix(".json"), source, indent=None)
    unfinished.replace(path)
    begun.unlink()


def _open_unfinished(
    unfinished: Path, begun: Path, shape: tuple[int, ...], dtype: np.dtype, source: dict[str, Any]
) -> tuple[NDArray, int]:
    """The array of a run that was stopped and how many entries it has, or a new one. Raises OSError without space."""
    if unfinished.exists() and begun.exists():
        note = json.loads(begun.read_text(encoding="utf-8"))
        if note["made_of"] == json.loads(json.dumps(source)):
            array = np.load(unfinished, mmap_mode="r+")
            if array.shape == shape and array.dtype == dtype:
                return array, note["done"]
    begun.unlink(missing_ok=True)  # first, or it would be taken for the progress of the new array
    try:
        array = np.lib.format.open_memmap(unfinished, mode="w+", dtype=dtype, shape=shape)
        _allocate(unfinished)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        size = int(np.prod(shape)) * dtype.itemsize
        text = f"{begun.stem} takes {size / 2**30:.1f} GiB: {error.strerror}"
        raise OSError(error.errno, text, str(unfinished)) from error
    return array, 0


def _allocate(path: Path) -> None:
    """Allocate a sparse file's blocks: a disk that fills up under a memory map ends the process."""
    size = path.stat().st_size
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    elif shutil.disk_usage(path.parent).free < size:
        raise OSError(28, "No space left on device")


def _save(array: Any, begun: Path, done: int, source: dict[str, Any]) -> None:
    array.flush()
    write_json(begun, {"made_of": source, "done": done}, indent=None)
