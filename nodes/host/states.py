"""Clip states as files in the host's folders."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from vidrd_core.state import ClipState

NONE = "no state was saved yet"
_ROOTS = {"output": folder_paths.get_output_directory, "input": folder_paths.get_input_directory}


def saved_states() -> list[str]:
    """The safetensors files in the host's output and input folders, as "output/NAME", newest first."""
    found = [
        (path.stat().st_mtime, f"{root}/{path.relative_to(folder()).as_posix()}")
        for root, folder in _ROOTS.items()
        for path in Path(folder()).rglob("*.safetensors")
    ]
    return [name for _, name in sorted(found, reverse=True)] or [NONE]


def path_of(name: str) -> Path:
    """The file of a name that `saved_states` gave. Raises ValueError for a place outside, FileNotFoundError."""
    root, _, rest = name.partition("/")
    if root not in _ROOTS or not rest:
        raise ValueError(f"{name!r} is no saved state: choose one that Save VidRD State has written")
    folder = Path(_ROOTS[root]()).resolve()
    path = (folder / rest).resolve()
    if folder not in path.parents:
        raise ValueError(f"{name!r} lies outside the {root} folder: move it there")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: save a state first, or choose another")
    return path


def save(state: ClipState, prefix: str) -> str:
    """Write a state to the output folder under a name that is free; the name, as `saved_states` has it."""
    base = f"{prefix}_clip_{state.index:04d}"
    folder, filename, counter, subfolder, _ = folder_paths.get_save_image_path(base, _ROOTS["output"]())
    path = Path(folder) / f"{filename}_{counter:05}_.safetensors"
    state.save(path)
    return "/".join(part for part in ("output", Path(subfolder).as_posix().strip("."), path.name) if part)
