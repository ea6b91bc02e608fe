"""Manifests of shards: a head with counts, then a line for each clip and each skipped record, checked when read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vidrd_core.io.configs import parse_json
from vidrd_core.io.tables import has_surrogates


class DataError(ValueError):
    """A folder of shards is damaged, incomplete or made with other settings."""


def manifests(folder: Path) -> Iterator[tuple[Path, dict[str, Any], list[dict[str, Any]]]]:
    """Read the manifests in a folder of shards.

    Args:
        folder: The folder.

    Yields:
        Tar file, head and lines of each shard with a manifest, in order.

    Raises:
        OSError: One cannot be read.
        DataError: One is damaged.
    """
    for path in sorted(folder.glob("shard_*.jsonl")):
        yield path.with_suffix(".tar"), *read_manifest(path)


def read_manifest(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read a manifest.

    Args:
        path: The file.

    Returns:
        Its head and its lines.

    Raises:
        OSError: It cannot be read.
        DataError: It is damaged: a field is missing, of another type, or no value that is possible.
    """
    try:
        head, *lines = map(parse_json, path.read_text(encoding="utf-8").rstrip("\n").split("\n"))
        _check(head, _HEAD)
        for line in lines:
            made = isinstance(line, dict) and "key" in line
            _check(line, _CLIP if made else _SKIPPED)
            if made and line["offset"] + line["length"] > head["bytes"]:
                raise ValueError(f"a clip ends at byte {line['offset'] + line['length']} of {head['bytes']}")
    except ValueError as error:
        raise DataError(
            f"{path} is damaged ({error}): delete it with its .tar and run the same 'vidrd data' again"
        ) from error
    return head, lines


def _check(line: Any, fields: dict[str, tuple[str, Callable[[Any], bool]]]) -> None:
    """Raise ValueError unless a line has the fields that are needed, and those that it has are possible."""
    if not isinstance(line, dict):
        raise ValueError(f"it has a line that is {str(line)[:40]!r}, expected names with values")
    for name, (expected, fits) in fields.items():
        if name not in line and name not in _OPTIONAL:
            raise ValueError(f"a line has no {name}")
        if name in line and not fits(line[name]):
            raise ValueError(f"{name} is {str(line[name])[:60]!a}, expected {expected}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not has_surrogates(value) and "\0" not in value


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def _is_stamp(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(each) is int for each in value)


_TEXT = ("text", _is_text)
_COUNT = ("a whole number of 0 or more", _is_count)
_SIZE = ("a whole number of 1 or more", _is_size)
_HEAD: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "bytes": _COUNT,
    "made": _COUNT,
    "sources": ("a list of texts", lambda value: isinstance(value, list) and all(map(_is_text, value))),
}
_SKIPPED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "source": _TEXT,
    "digest": _TEXT,
    "origin": _TEXT,
    "stamp": ("a size and a time", _is_stamp),
    "start": ("seconds", _is_time),
    "stop": ("seconds", lambda value: value is None or _is_time(value)),
    "reason": _TEXT,
}
_CLIP: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **{name: field for name, field in _SKIPPED.items() if name != "reason"},
    "key": ("the name of a file", lambda value: _is_text(value) and value != "" and not set(value) & set("/\\")),
    "kind": _TEXT,
    "caption": _TEXT,
    "label": _TEXT,
    "suffix": ("mp4 or jpg", lambda value: value in ("mp4", "jpg")),
    "frames": _SIZE,
    "height": _SIZE,
    "width": _SIZE,
    "fps": ("frames a second", lambda value: value is None or (_is_time(value) and value > 0)),
    "offset": _COUNT,
    "length": _COUNT,
}
_OPTIONAL = ("digest", "stamp", "start", "stop", "label", "fps")
