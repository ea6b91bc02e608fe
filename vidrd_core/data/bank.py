"""Arrays on disk that are made once, part by part, and read by number: frames, latents, encoded captions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray


class StaleBankError(ValueError):
    """A bank on disk was made from something else."""


def bank(
    path: Path, shape: tuple[int, ...], dtype: Any, parts: Iterable[NDArray], made_of: dict[str, Any]
) -> NDArray:
    """A memory-mapped array of a shape; made of `parts`, one after the other, if `path` does not hold it yet.

    Raises StaleBankError if that was made of something else, OSError if there is no room for it.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # of several processes one makes it, the others wait
            if not path.exists():
                save_bank(path, shape, np.dtype(dtype), parts, made_of)
    return open_bank(path, shape, made_of)


def open_bank(path: Path, shape: tuple[int, ...], made_of: dict[str, Any]) -> NDArray:
    """A bank made earlier. Raises StaleBankError if it is not of this shape or was made of something else."""
    found, note = np.load(path, mmap_mode="r"), path.with_suffix(".json")
    was = json.loads(note.read_text(encoding="utf-8")) if note.exists() else "nobody knows"
    for mine, theirs in ((found.shape, shape), (was, json.loads(json.dumps(made_of)))):
        if mine != theirs:
            raise StaleBankError(f"{path} was made as {mine}, expected {theirs}: delete it to have it made anew")
    return found


def save_bank(
    path: Path, shape: tuple[int, ...], dtype: np.dtype, parts: Iterable[NDArray], made_of: dict[str, Any]
) -> None:
    """Write arrays one after the other into one .npy file of the given shape, which appears when it is whole.

    What it was made of is kept beside it as JSON, for `open_bank` to compare.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    try:
        array = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
        done = 0
        for part in parts:
            array[done : done + len(part)] = part
            done += len(part)
        if done != len(array):
            raise ValueError(f"{path} was to hold {len(array)} clips, got {done}")
        array.flush()
        path.with_suffix(".json").write_text(json.dumps(made_of), encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
