"""Large tensors of outputs, which ComfyUI's caches hold, wait in files in its temporary folder."""

from __future__ import annotations

import ctypes
import logging
import os
import secrets
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import folder_paths
from torch import Tensor

from vidrd_core.io import safetensors
from vidrd_core.io.waiting import WaitingTensor, WaitingTensors
from vidrd_core.state import ClipState

LEAST = 2**16  # bytes from which on something is put away
FREE = 2**30  # bytes that are left on the disk at least
PAST = "past latents"  # kind of a safetensors file


def put_away(state: ClipState, kept: Path | None = None) -> ClipState:
    """Let a state's tensors wait in a file.

    Args:
        state: The state, just made.
        kept: A file of it that may be removed at some time; None for none.

    Returns:
        The same state; it is still in memory if it is small, or the disk is full.
    """
    if (path := _new_path(state.get_ram_usage())) is None:
        return state
    try:
        if kept is not None:
            copy(kept, path)
        return state.put_away(path, [kept] if kept else [])
    except OSError as error:
        return _stays(state, path, error)


def put_away_tensor(tensor: Tensor) -> Tensor | WaitingTensor:
    """Let a tensor wait in a file, for `in_memory`; it stays in memory if it is small, or the disk is full."""
    if (path := _new_path(tensor.nbytes)) is None:
        return tensor
    try:
        safetensors.write(path, {"tensor": tensor}, PAST)
        return WaitingTensor(WaitingTensors(path, {"tensor": tensor}), "tensor")
    except OSError as error:
        return _stays(tensor, path, error)


def in_memory(value: Any) -> Any:
    """The tensor of a value that waits in a file; any other value as it is."""
    return value.load() if isinstance(value, WaitingTensor) else value


def return_free_memory() -> None:
    """Give the system what is free in this process, where glibc keeps it between small blocks that are in use."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def copy(source: Path, target: Path) -> None:
    """Copy a file, without taking more room if the disk can, or a folder."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link)
    else:
        _link(str(source), str(target))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)


def _new_path(size: int) -> Path | None:
    """A path in ComfyUI's temporary folder, which it empties at each start; None if `size` bytes stay in memory."""
    if size < LEAST:
        return None
    folder = Path(folder_paths.get_temp_directory()) / "vidrd"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        room = shutil.disk_usage(folder).free
    except OSError:  # the folder is read-only, or a file
        return None
    return folder / f"{secrets.token_hex(8)}.safetensors" if room > size + FREE else None


def _stays(value: Any, path: Path, error: OSError) -> Any:
    logging.warning("VidRD: a clip's state stays in memory, as it cannot be written to a file: %s", error)
    with suppress(OSError):
        path.unlink()
    return value
