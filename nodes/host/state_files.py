"""Files of clip states in ComfyUI's output and input folders."""

from __future__ import annotations

import contextlib
import os
from functools import lru_cache
from pathlib import Path

import folder_paths

from vidrd_core.io import safetensors
from vidrd_core.state import KIND, ClipState

from . import folders

NONE = "no state was saved yet"
_ROOTS = {"output": folder_paths.get_output_directory, "input": folder_paths.get_input_directory}


def saved_states() -> list[str]:
    """The states in the output and input folders and below, as "output/NAME", the newest first.

    Files of other programs and damaged ones are left out. Where there are none the list has one entry, `NONE`, as a
    ComfyUI choice needs one.
    """
    found = []
    for root, folder in _ROOTS.items():
        for below, _, names in os.walk(folder(), followlinks=True):
            for path in (Path(below) / name for name in names if name.endswith(".safetensors")):
                with contextlib.suppress(OSError):  # deleted meanwhile, or a broken link
                    if _is_state(folders.file_version(path)):
                        found.append((path.stat().st_mtime, f"{root}/{path.relative_to(folder()).as_posix()}"))
    return [name for _, name in sorted(found, reverse=True)] or [NONE]


@lru_cache(maxsize=4096)
def _is_state(version: tuple[str, int, int]) -> bool:
    """Whether a file of this path, time and size holds a state, by its header alone."""
    try:
        return safetensors.has_kind(Path(version[0]), KIND)
    except (OSError, ValueError):
        return False


def path_of(name: str) -> Path:
    """Find the file of a state by its name.

    Args:
        name: "output/NAME" or "input/NAME", as `saved_states` lists them.

    Returns:
        The absolute path; symbolic links are not resolved.

    Raises:
        ValueError: The name is in neither folder.
        FileNotFoundError: There is no such file.
    """
    root, _, rest = name.partition("/")
    if root not in _ROOTS or not rest:
        raise ValueError(f"{name!r} is no saved state: choose one that Save VidRD State has written")
    folder = Path(os.path.abspath(_ROOTS[root]()))
    path = Path(os.path.abspath(folder / rest))  # not resolve(): a user's symbolic link may point outside
    if folder not in path.parents:
        raise ValueError(f"{name!r} lies outside the {root} folder: move it there")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: save a state first, or choose another")
    return path


def save(state: ClipState, prefix: str) -> str:
    """Write a state to a new file in the output folder.

    Args:
        state: The state.
        prefix: The start of the file's name, which may name folders in the output folder.

    Returns:
        The file's name, as `saved_states` lists it.

    Raises:
        ValueError: The prefix points outside the output folder, or is too long.
        OSError: The file cannot be written.
    """
    folders.check_prefix(prefix)
    path = folders.free_path(f"{folders.complete_prefix(prefix)}_clip_{state.index:04d}", ".safetensors")
    state.save(path)
    return f"output/{path.relative_to(_ROOTS['output']()).as_posix()}"
