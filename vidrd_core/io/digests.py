"""Digests that identify models, files and settings."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from torch import nn

SHORT = 12  # hex digits, which are enough for a few thousand different things


def signature(part: nn.Module, settings: str) -> str:
    """A fast digest of a network, by its settings and 64 to 127 values of each tensor.

    Args:
        part: The network, on any device and in any dtype.
        settings: Text that identifies its architecture, as from `non_defaults`.

    Returns:
        12 hex digits.
    """
    digest = hashlib.sha256(settings.encode())
    for name, tensor in part.state_dict().items():
        flat = tensor.detach().flatten()
        sample = flat[:: max(1, len(flat) // 64)].float().cpu().numpy()
        digest.update(name.encode() + sample.tobytes())
    return digest.hexdigest()[:SHORT]


def weights_digest(start: str, *parts: nn.Module) -> str:
    """A digest of networks by every value of their tensors.

    Args:
        start: Text that is part of the digest.
        *parts: The networks.

    Returns:
        12 hex digits.
    """
    digest = hashlib.sha256(start.encode())
    for part in parts:
        for name, tensor in part.state_dict().items():
            digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:SHORT]


NOT_IN_DIGESTS = {"in_digests": False}


def non_defaults(config: Any) -> str:
    """The fields of a dataclass instance that differ from their defaults, as text.

    It stays the same when a later version adds fields, and so do digests of it. Fields with the metadata
    `NOT_IN_DIGESTS` are left out.
    """
    values = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.metadata != NOT_IN_DIGESTS
    }
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    return repr(sorted((name, value) for name, value in values.items() if value != defaults[name]))


def hashed(*values: object) -> str:
    """The SHA-256 of values by their `repr`, as 64 hex digits."""
    return hashlib.sha256("\n".join(map(repr, values)).encode()).hexdigest()


def file_digest(file: BinaryIO) -> str:
    """The SHA-256 of the bytes of an open binary file, as 64 hex digits."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def stamp(paths: Iterable[Path], *values: object) -> str:
    """A digest of files without reading them, by their names, sizes and modification times.

    Args:
        paths: The files.
        *values: Other values that are part of the digest, by their `repr`.

    Returns:
        12 hex digits.

    Raises:
        OSError: A file does not exist.
    """
    stats = [(path.as_posix(), stat.st_size, stat.st_mtime_ns) for path in paths for stat in (path.stat(),)]
    return hashlib.sha256(repr((stats, values)).encode()).hexdigest()[:SHORT]
