"""Arrays on disk that are made once, part by part, and read by number: frames, latents, encoded captions."""

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

SAVED_EVERY = 30.0  # seconds: what a run that is stopped may lose


class StaleBankError(ValueError):
    """A bank on disk was made from something else."""


def bank(
    path: Path,
    shape: tuple[int, ...],
    dtype: Any,
    parts: Callable[[int], Iterable[NDArray]],
    made_of: dict[str, Any],
) -> NDArray:
    """A memory-mapped array of a shape; made if `path` does not hold it yet, of `parts(first)`: entries from one on.

    If making it is stopped, the next call goes on. Raises StaleBankError if it was made of something else, OSError if
    there is no room for it.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # of several processes one makes it, the others wait
            if not path.exists():
                _make(path, shape, np.dtype(dtype), parts, made_of)
    return open_bank(path, shape, made_of)


def open_bank(path: Path, shape: tuple[int, ...], made_of: dict[str, Any]) -> NDArray:
    """A bank made earlier. Raises StaleBankError if it is not of this shape or was made of something else."""
    found, note = np.load(path, mmap_mode="r"), path.with_suffix(".json")
    was = json.loads(note.read_text(encoding="utf-8")) if note.exists() else "nobody knows"
    for mine, theirs in ((found.shape, shape), (was, json.loads(json.dumps(made_of)))):
        if mine != theirs:
            raise StaleBankError(f"{path} was made as {mine}, expected {theirs}: delete it to have it made anew")
    return found


def _make(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype,
    parts: Callable[[int], Iterable[NDArray]],
    made_of: dict[str, Any],
) -> None:
    """Write parts one after the other into one .npy file, which appears when it is whole.

    What it is made of is kept beside it as JSON, for `open_bank` to compare, and until it is whole how far it is.
    """
    unfinished, begun = path.with_suffix(".partial"), path.with_suffix(".begun")
    array, done = _begun(unfinished, begun, shape, dtype, made_of)
    saved = time.monotonic()
    try:
        for part in parts(done):
            array[done : done + len(part)] = part
            done += len(part)
            if time.monotonic() - saved > SAVED_EVERY:
                _save(array, begun, done, made_of)
                print(f"{path.stem}: {done} of {len(array)}", flush=True)
                saved = time.monotonic()
    finally:
        _save(array, begun, done, made_of)
    if done != len(array):
        raise ValueError(f"{path} was to hold {len(array)} clips, got {done}")
    path.with_suffix(".json").write_text(json.dumps(made_of), encoding="utf-8")
    unfinished.replace(path)
    begun.unlink()


def _begun(
    unfinished: Path, begun: Path, shape: tuple[int, ...], dtype: np.dtype, made_of: dict[str, Any]
) -> tuple[NDArray, int]:
    """The array of a run that was stopped and how many entries it has, or a new one. Raises OSError without room."""
    if unfinished.exists() and begun.exists():
        note = json.loads(begun.read_text(encoding="utf-8"))
        if note["made_of"] == json.loads(json.dumps(made_of)):
            array = np.load(unfinished, mmap_mode="r+")
            if array.shape == shape and array.dtype == dtype:
                return array, note["done"]
    begun.unlink(missing_ok=True)  # before there is another array that it would be taken for
    try:
        array = np.lib.format.open_memmap(unfinished, mode="w+", dtype=dtype, shape=shape)
        _take_room(unfinished)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        size = int(np.prod(shape)) * dtype.itemsize
        told = f"{begun.stem} takes {size / 2**30:.1f} GiB: {error.strerror}"
        raise OSError(error.errno, told, str(unfinished)) from error
    return array, 0


def _take_room(path: Path) -> None:
    """Have a sparse file's room taken now: a disk that fills up under a memory map ends the process."""
    size = path.stat().st_size
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    elif shutil.disk_usage(path.parent).free < size:
        raise OSError(28, "No space left on device")


def _save(array: Any, begun: Path, done: int, made_of: dict[str, Any]) -> None:
    array.flush()
    write_json(begun, {"made_of": made_of, "done": done}, indent=None)
