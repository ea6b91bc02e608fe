"""The blocks of GIF files (GIF89a specification, sections 17 to 27)."""

from __future__ import annotations

import json
import os
from pathlib import Path

EXTENSION, CONTROL = 0x21, 0xF9


def image_of(data: bytes) -> bytes:
    """Of a packet the one frame with its timing: no header before it, no comment and no end of file after it."""
    at = _header(data)
    control = b""
    while data[at] == EXTENSION:
        after = _after_blocks(data, at + 2)
        if data[at + 1] == CONTROL:
            control = data[at:after]
        at = after
    begin = at
    at += 10 + _table(data[at + 9])  # the image's place, size and own colours
    return control + data[begin : _after_blocks(data, at + 1)]  # over the first byte, the size of its codes


def header_of(data: bytes) -> bytes:
    """Of a file's first packet what comes before the frames: size, and colours if they are for all."""
    return data[: _header(data)]


def append_comment(path: Path, metadata: dict[str, str]) -> None:
    """Put metadata at the end of a GIF, as JSON; nothing if there is none."""
    if not metadata:
        return
    data = json.dumps(metadata).encode()
    blocks = [data[i : i + 255] for i in range(0, len(data), 255)]
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)  # over the trailer byte, which is written anew
        file.write(b"!\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0;")


def _header(data: bytes) -> int:
    """Where the header ends; 0 without one."""
    return 13 + _table(data[10]) if data.startswith(b"GIF8") else 0


def _table(flags: int) -> int:
    """Bytes of the colour table that flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    """Where a row of sub-blocks ends, which an empty one closes."""
    while data[at]:
        at += 1 + data[at]
    return at + 1
