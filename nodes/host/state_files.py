"""Files of clip states in ComfyUI's output and input folders."""

from __future__ import annotations

import asyncio
import contextlib
import os
from functools import lru_cache
from pathlib import Path

import folder_paths
from aiohttp import web
from server import PromptServer

from vidrd_core.io import safetensors
from vidrd_core.io.folders import leads_out, walk_once
from vidrd_core.state import KIND, ClipState
from vidrd_core.state_files import StateSummary, listing

from . import folders

NONE = "no state was saved yet"
ROUTE = "vidrd"
_ROOTS = {"output": folder_paths.get_output_directory, "input": folder_paths.get_input_directory}


def saved_states() -> list[str]:
    """The states in the output and input folders and below, as "output/NAME", the newest first.

    Files of other programs and damaged ones are left out. Where there are none the list has one entry, `NONE`, as a
    ComfyUI choice needs one.
    """
    found = summaries()
    return sorted(found, key=lambda name: (-found[name].written, name)) or [NONE]


def summaries() -> dict[str, StateSummary]:
    """What the files say of their clips, by the names in `saved_states`."""
    found = {}
    for root, folder in _ROOTS.items():
        for below, _, names in walk_once(folder()):
            for path in (Path(below) / name for name in names if name.endswith(".safetensors")):
                with contextlib.suppress(OSError):  # deleted meanwhile, or a broken link
                    if (summary := _summary(folders.file_version(path))) is not None:
                        found[f"{root}/{path.relative_to(folder()).as_posix()}"] = summary
    return found


@lru_cache(maxsize=4096)
def _summary(version: tuple[str, int, int]) -> StateSummary | None:
    """What a file of this path, time and size says of its clip; None if it holds no state."""
    path = Path(version[0])
    try:
        return StateSummary.of(path) if safetensors.has_kind(path, KIND) else None
    except Exception:  # whatever a file of another program holds: a list that failed would keep the pack from loading
        return None


def serve() -> None:
    """Let the page ask for the saved states, and for the picture of each."""
    server = getattr(PromptServer, "instance", None)
    if server is None:
        return

    @server.routes.get(f"/{ROUTE}/states")
    async def states(_: web.Request) -> web.Response:
        return web.json_response(await asyncio.to_thread(lambda: listing(summaries())))

    @server.routes.get(f"/{ROUTE}/state_picture")
    async def state_picture(request: web.Request) -> web.Response:
        try:
            path = path_of(request.query.get("file", ""))
            picture = (await asyncio.to_thread(StateSummary.of, path)).preview
        except (OSError, ValueError):
            picture = b""
        return web.Response(body=picture, content_type="image/webp") if picture else web.Response(status=404)


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
    root, _, rest = name.partition("/") if isinstance(name, str) else ("", "", "")
    if root not in _ROOTS or not rest:
        raise ValueError(f"{name!r} is no saved state: choose one that Save VidRD State has written")
    folder = Path(os.path.abspath(_ROOTS[root]()))
    path = Path(os.path.abspath(folder / rest))  # not resolve(): a user's symbolic link may point outside
    if folder not in path.parents or leads_out(rest):
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
