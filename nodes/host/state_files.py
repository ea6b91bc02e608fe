"""Clip states as files in the host's folders."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import folder_paths

from vidrd_core.state import ClipState

from . import folders

NONE = "no state was saved yet"
_ROOTS = {"output": folder_paths.get_output_directory, "input": folder_paths.get_input_directory}


def saved_states() -> list[str]:
    """The safetensors files in the host's output and input folders, as "output/NAME", newest first."""
    found = []
    for root, folder in _ROOTS.items():
        for below, _, names in os.walk(folder(), followlinks=True):
            for path in (Path(below) / name for name in names if name.endswith(".safetensors")):
                with contextlib.suppress(OSError):  # gone since, or a link to nothing
                    found.append((path.stat().st_mtime, f"{root}/{path.relative_to(folder()).as_posix()}"))
    return [name for _, name in sorted(found, reverse=True)] or [NONE]


def path_of(name: str) -> Path:
    """The file of a name that `saved_states` gave. Raises ValueError for a place outside, FileNotFoundError."""
    root, _, rest = name.partition("/")
    if root not in _ROOTS or not rest:
        raise ValueError(f"{name!r} is no saved state: choose one that Save VidRD State has written")
    folder = Path(os.path.abspath(_ROOTS[root]()))
    path = Path(os.path.abspath(folder / rest))  # links that the user made lead where they like
    if folder not in path.parents:
        raise ValueError(f"{name!r} lies outside the {root} folder: move it there")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: save a state first, or choose another")
    return path


def save(state: ClipState, prefix: str) -> str:
    """Write a state to the output folder under a name that is free; the name, as `saved_states` has it.

    Raises ValueError for a place outside, OSError.
    """
    folders.check_prefix(prefix)
    path = folders.free_path(f"{folders.whole(prefix)}_clip_{state.index:04d}", ".safetensors")
    state.save(path)
    return f"output/{path.relative_to(_ROOTS['output']()).as_posix()}"
