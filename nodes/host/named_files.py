"""The files that a workflow's values name, and their versions: those that the nodes which name them have read.

A node that loads a file is not run again by ComfyUI if only the file has changed, unless the node tells it so by
IS_CHANGED or fingerprint_inputs, as the stock loaders of models do not. What it made of the file stays in ComfyUI's
cache, or in the node, and the file's newest version is no longer the one that it stands for.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import folder_paths
from comfy_execution.graph_utils import is_link
from server import PromptServer

from vidrd_core.io.folders import walk_once

from .folders import file_version, weights_version

MOST_FILES = 2000  # of a folder: to look at more would take too long
LONGEST_NAME = 512
IN_TEXTS = {
    "embedding:": "embeddings",
    "<lora:": "loras",
    "<lyco:": "loras",
}  # marks of file names, and their folders
Version = tuple[Any, ...]
"""A path, and what differs once the file or folder there has changed."""

_seen: dict[tuple[str, str, str], Any] = {}
_said: set[str] = set()


class UnknownVersionError(ValueError):
    """It cannot be told which version of a file was read."""


def versions_of(value: Any, told: str = "") -> list[Version]:
    """The versions of all files that a node's value names.

    Those are files of ComfyUI's model folders and input folder, or with a whole path; folders with the files in them;
    and embeddings and LoRAs that a prompt names.

    Args:
        value: A text, or a list or mapping with texts at any depth.
        told: What the node says of the files' change, as a digest; "" if it says nothing.

    Returns:
        Their versions in a fixed order.

    Raises:
        UnknownVersionError: A file has changed since this process first saw it, and the node did not say so; or a
            folder holds too many files.
        OSError: A file was removed meanwhile.
    """
    found = []
    for text in _texts(value):
        versions = _named(text)
        for version in versions:
            _check_seen("path", version[0], told, version)
        _check_seen("value", text, told, versions)  # of which one may be new
        found += versions
    return found


def watch() -> None:
    """See the versions of files when their nodes are queued, which is before they are read."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.add_on_prompt_handler(_see)


def _see(request: dict[str, Any]) -> dict[str, Any]:
    """See the files of a request to run a graph, which is returned as it is."""
    nodes = request.get("prompt")
    for node in nodes.values() if isinstance(nodes, dict) else ():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        for value in inputs.values() if isinstance(inputs, dict) else ():
            if not is_link(value):
                try:
                    versions_of(value)
                except (OSError, ValueError, RecursionError):  # what cannot be told is said when a clip is made
                    continue
    return request


def _check_seen(kind: str, name: str, told: str, version: Any) -> None:
    """Raise UnknownVersionError if this process has seen another version first, of which the node says the same."""
    if _seen.setdefault((kind, name, told), version) == version:
        return
    if name not in _said:
        _said.add(name)
        logging.warning(
            "VidRD: %s has changed while ComfyUI runs: clips that depend on it are not kept until a restart",
            version[0] if kind == "path" else f"a file that {name[:80]!r} names",
        )
    raise UnknownVersionError(f"{name} has changed")


def _texts(value: Any) -> Iterator[str]:
    """The texts in a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)


def _named(text: str) -> list[Version]:
    """The versions of the files that a text names."""
    found = set(_in_prompt(text))
    if text.strip() and len(text) <= LONGEST_NAME and text.isprintable():
        for path in _places(text):
            if path.is_file():
                found.update(weights_version(path))
            elif path.is_dir() and path != path.parent:
                found.add(_folder_version(path))
    return sorted(found)


def _places(name: str) -> Iterator[Path]:
    """Where a file or folder of this name may be."""
    if os.path.isabs(name):
        yield Path(name)
    inside, base = folder_paths.annotated_filepath(name)  # "a.png [output]"
    roots = [base or folder_paths.get_input_directory()]
    for kind, (folders, endings) in list(folder_paths.folder_names_and_paths.items()):
        # Of models that are folders; of others no name is without an ending, so that the disk need not be asked.
        if kind != "custom_nodes" and (not endings or {"", "folder"} & set(endings)):
            roots += folders
        elif os.path.splitext(name)[1] and (path := folder_paths.get_full_path(kind, name)):
            yield Path(path)
    inside = os.path.normpath(inside)
    if inside != os.curdir and not inside.startswith(os.pardir) and not os.path.isabs(inside):
        yield from (Path(root, inside) for root in roots)


def _folder_version(folder: Path) -> Version:
    """The path of a folder, a digest of the versions of all files in it, and their number."""
    files: list[Path] = []
    for number, (place, _, names) in enumerate(walk_once(folder)):
        files += [path for name in names if (path := Path(place, name)).is_file()]
        if max(number, len(files)) > MOST_FILES:
            raise UnknownVersionError(f"{folder} holds more than {MOST_FILES} files")
    versions = sorted(map(file_version, files))
    return str(folder), hashlib.sha256(repr(versions).encode()).hexdigest(), len(files)


def _in_prompt(text: str) -> Iterator[Version]:
    """The versions of the files that a prompt may name, as "embedding:NAME" in brackets, with a weight, and so on.

    Encoders differ in where a name ends, and look in subfolders: it is any file whose name is somewhere in the text.
    """
    text = text.casefold()
    plain = text.replace("\\", "")  # of brackets in a name
    for kind in {kind for mark, kind in IN_TEXTS.items() if mark in text}:
        for name in folder_paths.get_filename_list(kind):
            if Path(name).stem.casefold() in plain and (path := folder_paths.get_full_path(kind, name)):
                yield file_version(Path(path))
