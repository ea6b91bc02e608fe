"""The delays of GIFs as browsers have them: 100 ms for a frame that has none, or less than 20 ms.

FFmpeg 8 takes them as they are, and all pictures without a graphic control extension, in which delays are, for one.
"""

from __future__ import annotations

import os
import struct
from itertools import pairwise

SIGNATURES = (b"GIF87a", b"GIF89a")
LEAST, USUAL = 2, 10  # in 1/100 s: the least delay that counts, and the one in place of a shorter one
EXTENSION, PICTURE, CONTROL = 0x21, 0x2C, 0xF9  # what begins a block, and the label of a graphic control extension


def with_usual_delays(path: str | os.PathLike[str]) -> bytes | None:
    """A GIF in which each frame has its delay in a graphic control extension.

    Args:
        path: A file of any kind.

    Returns:
        The file's bytes with these delays; None if it has them already, is a still, or no GIF.

    Raises:
        OSError: It cannot be read.

    Source:
        Graphics Interchange Format, version 89a, CompuServe 1990.
    """
    with open(path, "rb") as file:
        if file.read(6) not in SIGNATURES:
            return None
        file.seek(0)
        data = bytearray(file.read())
    missing: list[int] = []  # where pictures without an extension begin
    short: list[int] = []  # where delays are that are too short
    pictures, has_control = 0, False
    try:
        at = 13 + _table(data[10])
        while data[at] in (EXTENSION, PICTURE):
            if data[at] == EXTENSION:
                if data[at + 1] == CONTROL:
                    has_control = True
                    if int.from_bytes(data[at + 4 : at + 6], "little") < LEAST:
                        short.append(at + 4)
                at += 2
            else:
                pictures += 1
                if not has_control:
                    missing.append(at)
                has_control = False
                at += 11 + _table(data[at + 9])  # and the length of the codes
            while data[at]:  # blocks of data
                at += 1 + data[at]
            at += 1
    except IndexError:
        pass  # it is cut off
    if pictures < 2 or not (missing or short):
        return None
    for place in short:
        struct.pack_into("<H", data, place, USUAL)
    control = struct.pack("<BBBBHBB", EXTENSION, CONTROL, 4, 0, USUAL, 0, 0)
    edges = [0, *missing, len(data)]
    return control.join(bytes(data[one:other]) for one, other in pairwise(edges))


def _table(flags: int) -> int:
    """How many bytes a table of colours has, by the flags of the screen or picture that it is for."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
