"""Clips kept on disk, so that Long Video makes only what changed again, also after a restart.

ComfyUI's caches may free what an expanding node's children made before these are asked for again. So each clip, and
each encoded piece of a video, is kept here under a fingerprint of all that makes it: the nodes and values that it
depends on, the files that they name, and the versions of what computes.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import comfy.model_management as management
import folder_paths
import torch
from comfy_execution.graph_utils import is_link
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from comfyui_version import __version__ as comfyui_version
from torch import Tensor

import vidrd_core
from vidrd_core.io import safetensors
from vidrd_core.io.digests import file_digest
from vidrd_core.state import ClipState
from vidrd_core.video.sound import Sound

from .audio_video import join_latent, split_latent
from .memory import copy, in_memory, put_away, put_away_tensor
from .named_files import versions_of
from .named_values import NamedValue
from .progress import clip_position
from .sample_clip import PAST_KEY

LIMIT = "VIDRD_KEEP_GB"  # environment variable: gigabytes that are kept at most; 0 keeps nothing
DEFAULT_LIMIT = 8.0
ABANDONED = 24 * 3600  # seconds after which an unfinished entry is removed
CLIP, PIECE = "kept clip", "kept piece"  # kinds of safetensors files
SOUND, THUMBNAIL, STATE_FILE = "sound.npy", "thumbnail.jpg", "state.safetensors"
WRITES = "VidRD_WriteClip"
NOT_IN_A_PIECE = ("filename_prefix", "last")  # inputs of it that do not change what is encoded
STATE = ("VidRD_LongVideo", 1)  # an output of a node, and the inputs that do not change it
NOT_IN_A_STATE = ("filename_prefix", "format", "fps", "scale", "vae", "audio_vae", "before")
Known = dict[Any, str | None]
"""Fingerprints by a node's id, or by its id and an output's number where that depends on less."""
_fingerprints: WeakKeyDictionary[Any, Known] = WeakKeyDictionary()


@dataclass(frozen=True)
class KeptPiece:
    """A piece of a video, encoded.

    Args:
        path: Its file, or its folder of frames.
        frames: How many frames it has.
        tail: The latents that are context for the next piece.
        size: Pixels across and down.
        sound: Its sound; None for silence.
        thumbnail: A small picture of its first new frame; None if none is wanted.
    """

    path: Path
    frames: int
    tail: Tensor
    size: tuple[int, int]
    sound: Sound | None = None
    thumbnail: Path | None = None


def key_of_running_node(*computing: Any, given: Any = None) -> str | None:
    """The key of what the running node makes.

    Args:
        *computing: What else decides on the result, such as the dtype and device of the model.
        given: What the node is given, of which the tensors are part of the key: they depend on how ComfyUI was
            started, too, as on the data type of its text encoders.

    Returns:
        A key; None if the node is no part of Long Video or the like, if something that it depends on cannot be told
        to be the same, or if nothing is to be kept.
    """
    context = get_executing_context()
    if context is None or clip_position() is None or not limit():
        return None
    graph = get_progress_state().dynprompt
    try:
        found = _fingerprint(graph, context.node_id, context.prompt_id)
        tensors = None if found is None else _digest_of_tensors(given)
    except Exception as error:  # other packs' nodes are asked, too: the clip is sampled whatever they answer
        logging.warning("VidRD: a clip is not kept, as what it depends on cannot be told: %s", error)
        return None
    versions = (vidrd_core.__version__, torch.__version__, comfyui_version)
    # Of a list, each item is made by the same node.
    return (
        None if found is None else _digest([found, context.list_index or 0, tensors, *versions, *map(str, computing)])
    )


def find_clip(key: str | None) -> tuple[dict[str, Any], dict[str, Any], ClipState] | None:
    """The LATENTs of a clip's new frames and of all its frames, and its state; None if it is not kept."""

    def read(entry: Path) -> tuple[dict[str, Any], dict[str, Any], ClipState]:
        tensors, details = safetensors.read(entry / "latents.safetensors", CLIP)
        device = management.intermediate_device()
        new, whole = (
            {"samples": join_latent([tensors[f"{name}.{part}"].to(device) for part in range(details["parts"])])}
            for name in ("new", "whole")
        )
        more: dict[str, Any] = {name: tensors[f"with.{name}"] for name in details["with"]}
        if PAST_KEY in more:
            more[PAST_KEY] = put_away_tensor(more[PAST_KEY])
        state = ClipState.load(entry / STATE_FILE)
        return {**new, **more, **details["numbers"]}, whole, put_away(state, entry / STATE_FILE)

    return _found(key, read)


def keep_clip(key: str | None, new: dict[str, Any], whole: dict[str, Any], state: ClipState) -> None:
    """Keep what `find_clip` finds. An error is logged: it does not stop the video."""

    def write(entry: Path) -> None:
        parts = {"new": split_latent(new), "whole": split_latent(whole)}
        tensors = {f"{name}.{i}": part.clone() for name, each in parts.items() for i, part in enumerate(each)}
        values = {name: in_memory(value) for name, value in new.items() if name != "samples"}
        more = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        tensors |= {f"with.{name}": value.clone() for name, value in more.items()}
        numbers = {name: value for name, value in new.items() if isinstance(value, int)}
        details = {"parts": len(parts["new"]), "with": list(more), "numbers": numbers}
        safetensors.write(entry / "latents.safetensors", tensors, CLIP, **details)
        if state.waiting is None:
            state.save(entry / STATE_FILE)
        else:
            copy(state.waiting.path, entry / STATE_FILE)

    _keep(key, write)
    if key is not None and state.waiting is not None:
        state.waiting.copies.append(folder() / key / STATE_FILE)


def find_piece(key: str | None, target: Path) -> KeptPiece | None:
    """Put a kept piece at `target`, a new path; None if it is not kept."""

    def read(entry: Path) -> KeptPiece:
        tensors, details = safetensors.read(entry / "tail.safetensors", PIECE)
        kept = entry / f"piece{target.suffix}"
        if _digest_of_files(kept) != details["digest"]:
            raise ValueError(f"{kept} is not what was written")
        sound = None
        if details["sound"]:
            sound = Sound(sound_path(target), **details["sound"])
            copy(entry / SOUND, sound.path)
            sound.samples()  # raises ValueError if it is not whole
        thumbnail = thumbnail_path(target) if details["thumbnail"] else None
        if thumbnail:
            copy(entry / THUMBNAIL, thumbnail)
        copy(kept, target)
        return KeptPiece(target, details["frames"], tensors["tail"], tuple(details["size"]), sound, thumbnail)

    return _found(key, read)


def keep_piece(key: str | None, piece: KeptPiece) -> None:
    """Keep what `find_piece` finds. An error is logged: it does not stop the video."""

    def write(entry: Path) -> None:
        details = {"frames": piece.frames, "size": piece.size, "sound": None}
        details["digest"] = _digest_of_files(piece.path)
        details["thumbnail"] = piece.thumbnail is not None
        if piece.thumbnail:
            copy(piece.thumbnail, entry / THUMBNAIL)
        if piece.sound:
            details["sound"] = {"rate": piece.sound.rate, "lead": piece.sound.lead}
            copy(piece.sound.path, entry / SOUND)
        safetensors.write(entry / "tail.safetensors", {"tail": piece.tail}, PIECE, **details)
        copy(piece.path, entry / f"piece{piece.path.suffix}")

    _keep(key, write)


def sound_path(piece: Path) -> Path:
    """Where the sound of a piece is, beside it."""
    return piece.with_name(f"{piece.name}.npy")


def thumbnail_path(piece: Path) -> Path:
    """Where the thumbnail of a piece is, beside it."""
    return piece.with_name(f"{piece.name}.jpg")


def folder() -> Path:
    """Where clips are kept: in ComfyUI's folder for users, as its temporary folder is emptied at each start."""
    of_system = getattr(folder_paths, "get_system_user_directory", None)
    root = of_system("vidrd") if of_system else os.path.join(folder_paths.get_user_directory(), "__vidrd")
    return Path(root) / "clips"


def limit() -> float:
    """How many bytes are kept at most, as the environment says; 0 keeps nothing."""
    try:
        wanted = float(os.environ.get(LIMIT, "") or DEFAULT_LIMIT)
    except ValueError:
        logging.warning("VidRD: %s is %r, expected gigabytes as a number", LIMIT, os.environ[LIMIT])
        wanted = DEFAULT_LIMIT
    return max(0.0, wanted) * 1e9


def _found(key: str | None, read: Callable[[Path], Any]) -> Any:
    """What an entry holds; None without one. One that cannot be read is removed."""
    if key is None or not (entry := folder() / key).is_dir():
        return None
    try:
        found = read(entry)
        os.utime(entry)  # the least recently used go first
    except (OSError, ValueError, KeyError) as error:
        logging.warning("VidRD: a kept clip cannot be read and is made again: %s", error)
        shutil.rmtree(entry, ignore_errors=True)
        return None
    return found


def _keep(key: str | None, write: Callable[[Path], None]) -> None:
    """Make an entry, which appears whole or not at all; nothing without a key, or if there is one already."""
    root = folder()
    if key is None or (root / key).exists():
        return
    partial = None
    try:
        root.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=root))
        write(partial)
        if not (root / key).exists():  # by another process
            os.rename(partial, root / key)
        _trim(root)
    except OSError as error:
        logging.warning("VidRD: a clip could not be kept, so that a later run makes it again: %s", error)
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _trim(root: Path) -> None:
    """Remove the least recently used entries beyond the limit or half of the free disk, and abandoned ones."""
    entries = []
    for entry in root.iterdir():
        with suppress(OSError):  # removed meanwhile
            used = entry.stat().st_mtime
            if entry.name.startswith("partial-") and used < time.time() - ABANDONED:
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entries.append((used, _size(entry), entry))
    room = min(limit(), (sum(size for _, size, _ in entries) + shutil.disk_usage(root).free) / 2)
    for _, size, entry in sorted(entries, reverse=True):
        room -= size
        if room < 0:
            shutil.rmtree(entry, ignore_errors=True)


def _size(path: Path) -> int:
    """The bytes of a file, or of the files in a folder and below."""
    return sum(each.stat().st_size for each in _files(path))


def _digest_of_files(path: Path) -> str:
    """A digest of a file's bytes, or of those of the files in a folder and below."""
    digests = []
    for each in _files(path):
        with each.open("rb") as file:
            digests.append(file_digest(file))
    return _digest(digests)


def _files(path: Path) -> list[Path]:
    """A file, or the files in a folder and below, by name."""
    return [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())


def _fingerprint(graph: Any, node_id: str, prompt_id: str) -> str | None:
    """A fingerprint of a node and of all that it depends on; None if some of that differs from run to run."""
    known = _fingerprints.setdefault(graph, {})
    waiting = [node_id]
    while waiting:  # a chain of many clips is deeper than Python's recursion
        current = waiting[-1]
        node = graph.get_node(current)
        links = {name: value for name, value in node["inputs"].items() if is_link(value)}
        if missing := [source for source, _ in links.values() if source not in known]:
            waiting += missing
            continue
        waiting.pop()
        known[current] = None
        if current in getattr(graph, "node_overrides", {}):  # a loop of newer hosts has put another in its place
            continue
        kind, changed = node["class_type"], _change_of(graph, current, prompt_id)
        known[current] = _fingerprint_of(node, changed, known, NOT_IN_A_PIECE if kind == WRITES else ())
        if kind == STATE[0]:
            known[current, STATE[1]] = _fingerprint_of(node, changed, known, NOT_IN_A_STATE)
    return known[node_id]


def _fingerprint_of(node: dict[str, Any], changed: Any, known: Known, left_out: tuple[str, ...]) -> str | None:
    """A fingerprint of a node by those of its sources, without some inputs; None as for `_fingerprint`."""
    inputs = {name: value for name, value in node["inputs"].items() if name not in left_out}
    sources = {
        name: [known.get((source, slot), known[source]), slot]
        for name, (source, slot) in ((name, value) for name, value in inputs.items() if is_link(value))
    }
    if any(found is None for found, _ in sources.values()):
        return None
    values = {
        name: value.made_of if isinstance(value, NamedValue) else value
        for name, value in inputs.items()
        if name not in sources
    }
    try:
        files = versions_of(values, _digest(changed) if changed is not False else "")
        return _digest([node["class_type"], _code_version(node["class_type"]), changed, sources, values, files])
    except (TypeError, ValueError):  # for NaN, by which nodes ask to run again, and by `versions_of`
        return None


def _change_of(graph: Any, node_id: str, prompt_id: str) -> Any:
    """What a node says of its inputs' change, as the host asks it; some of its caches do not ask."""
    if "is_changed" in (node := graph.get_node(node_id)):
        return node["is_changed"]
    asking = import_module("execution").IsChangedCache(prompt_id, graph, None).get(node_id)
    try:
        asking.send(None)
    except StopIteration as answered:
        return answered.value
    asking.close()  # it waits for something else
    return float("nan")


@lru_cache
def _code_version(class_type: str) -> list[int]:
    """The newest file and the number of files of the pack that a node is of; the host's own have its version."""
    host_nodes = import_module("nodes")  # not this pack's folder of that name
    file = Path(inspect.getfile(host_nodes.NODE_CLASS_MAPPINGS[class_type]))
    for root in map(Path, folder_paths.get_folder_paths("custom_nodes")):
        if root in file.parents:
            pack = root / file.relative_to(root).parts[0]
            times = [each.stat().st_mtime_ns for each in ([pack] if pack.is_file() else pack.rglob("*.py"))]
            return [max(times), len(times)]
    return []


def _digest(value: Any) -> str:
    """A digest of JSON-ready values. Raises TypeError or ValueError for others, and for NaN."""
    text = json.dumps(value, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _digest_of_tensors(value: Any) -> str:
    """A digest of the tensors in lists and mappings, wherever they are in memory."""
    digest = hashlib.sha256()
    for place, tensor in _tensors(value):
        digest.update(f"{place} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _tensors(value: Any, place: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors in a value, with their places in it."""
    if getattr(value, "is_nested", False):  # ComfyUI's own class for video with sound
        value = value.unbind()
    value = in_memory(value)
    if isinstance(value, Tensor):
        yield place, value
    elif isinstance(value, Mapping):
        for name in sorted(value, key=str):
            yield from _tensors(value[name], f"{place}/{name}")
    elif isinstance(value, (list, tuple)):
        for number, each in enumerate(value):
            yield from _tensors(each, f"{place}/{number}")
