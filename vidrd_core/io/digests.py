"""Digests that tell models, files and settings from others."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from torch import nn

SHORT = 12  # hex digits that are enough to tell a few thousand things apart


def signature(part: nn.Module, settings: str) -> str:
    """Twelve hex digits of a part's settings and of 64 to 127 values of each tensor: fast for large parts, too."""
    digest = hashlib.sha256(settings.encode())
    for name, tensor in part.state_dict().items():
        flat = tensor.detach().flatten()
        sample = flat[:: max(1, len(flat) // 64)].float().cpu().numpy()
        digest.update(name.encode() + sample.tobytes())
    return digest.hexdigest()[:SHORT]


def weights_digest(start: str, *parts: nn.Module) -> str:
    """Twelve hex digits of a text and of every value of the parts' tensors."""
    digest = hashlib.sha256(start.encode())
    for part in parts:
        for name, tensor in part.state_dict().items():
            digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:SHORT]


def non_defaults(config: Any) -> str:
    """The settings of a dataclass that differ from their defaults: the same after settings have been added to it."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    return repr(sorted((name, value) for name, value in values.items() if value != defaults[name]))


def hashed(*values: object) -> str:
    """The SHA-256 of values by their `repr`, 64 hex digits."""
    return hashlib.sha256("\n".join(map(repr, values)).encode()).hexdigest()


def file_digest(file: BinaryIO) -> str:
    """The SHA-256 of a file's bytes, 64 hex digits."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def stamp(paths: Iterable[Path], *values: object) -> str:
    """Twelve hex digits of files, by their names, sizes and modification times, and of other values."""
    stats = [(path.as_posix(), stat.st_size, stat.st_mtime_ns) for path in paths for stat in (path.stat(),)]
    return hashlib.sha256(repr((stats, values)).encode()).hexdigest()[:SHORT]
