"""Where decoding can begin so that every frame from there on is the one that decoding from the start gives.

Containers and FFmpeg call more packets key frames: those of H.264 and HEVC from which a picture is refreshed bit by
bit, which show other pictures until that is done, and, where a file's index is wrong or absent, any.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

START_CODE = re.compile(rb"\x00\x00\x01")
SLICE, IDR, SEI = (1, 2), 5, 6  # types of NAL units in H.264; 2 is a slice's first partition
RECOVERY_POINT = 6  # type of an SEI message
SLICES, RANDOM_ACCESS = range(32), range(16, 24)  # types of NAL units in HEVC: BLA, IDR and CRA


class Starts:
    """Tells the packets of a stream from which it can be decoded.

    Args:
        stream: The stream, of PyAV.
    """

    def __init__(self, stream: Any) -> None:
        self._codec = stream.codec_context.name
        head = bytes(stream.codec_context.extradata or b"")
        self._length_size = 0  # bytes of the length before each NAL unit; 0: start codes are between them
        if self._codec == "h264" and len(head) > 6 and head[0] == 1:
            self._length_size = 1 + (head[4] & 3)
        elif self._codec == "hevc" and len(head) > 22 and (head[0] or head[1] or head[2] > 1):
            self._length_size = 1 + (head[21] & 3)

    def has(self, packet: Any) -> bool:
        """Whether decoding can begin with a packet.

        Args:
            packet: A packet of the stream, of PyAV.

        Returns:
            True for a key frame; in H.264 for an IDR picture, and another after which all pictures are exactly those
            of decoding from an earlier one, as in open groups of pictures; in HEVC for an IRAP picture.

        Source:
            ITU-T H.264, 7.4.1 and D.2.8 (recovery point); ITU-T H.265, 7.4.2.2.
        """
        if not packet.is_keyframe or packet.pts is None:
            return False
        if self._codec == "h264":
            return self._is_h264_start(bytes(packet))
        if self._codec == "hevc":
            kinds = (unit[0] >> 1 & 63 for unit in self._units(bytes(packet)))
            return next((kind in RANDOM_ACCESS for kind in kinds if kind in SLICES), False)
        return True

    def _is_h264_start(self, data: bytes) -> bool:
        recovers = False
        for unit in self._units(data):
            kind = unit[0] & 31
            if kind == IDR or kind in SLICE:
                return kind == IDR or recovers
            recovers = recovers or (kind == SEI and _recovers_at_once(bytes(unit)))
        return False

    def _units(self, data: bytes) -> Iterator[memoryview]:
        """The NAL units of a packet that are not empty."""
        view, at = memoryview(data), 0
        if not self._length_size:
            begin = None
            for code in START_CODE.finditer(data):
                if begin is not None and begin < code.start():
                    yield view[begin : code.start()]
                begin = code.end()
            if begin is not None and begin < len(data):
                yield view[begin:]
            return
        while at + self._length_size < len(data):
            begin = at + self._length_size
            at = begin + int.from_bytes(view[at:begin], "big")
            if begin < min(at, len(data)):
                yield view[begin:at]


def _recovers_at_once(unit: bytes) -> bool:
    """Whether an SEI unit has a recovery point of no further frames, from which on pictures match exactly."""
    data, at = unit.replace(b"\0\0\3", b"\0\0"), 1
    while at + 2 < len(data):
        fields = []
        for _ in range(2):  # type and size of a message
            value = 0
            while at < len(data) and data[at] == 255:
                value, at = value + 255, at + 1
            fields.append(value + (data[at] if at < len(data) else 0))
            at += 1
        if fields[0] == RECOVERY_POINT and at < len(data):
            return data[at] >> 6 == 0b11  # the count 0 is one bit, 1; after it the flag of an exact match
        at += fields[1]
    return False


def checksum(frame: Any) -> int:
    """A number that differs, all but certainly, for decoded frames with different pixels.

    Args:
        frame: The frame, of PyAV.

    Returns:
        The CRC-32 of its first plane: luma, palette indices, or all colours; of its grey levels if its rows are
        stored upside down.
    """
    plane = frame.planes[0]
    if plane.line_size <= 0:
        return zlib.crc32(frame.to_ndarray(format="gray").tobytes())
    parts = frame.format.components
    packed = all(part.plane == 0 for part in parts)
    bits = frame.format.padded_bits_per_pixel if packed else 8 * -(-parts[0].bits // 8)
    used = min(plane.line_size, -(-frame.width * bits // 8))  # the rest of a row is padding, of any value
    rows = np.frombuffer(plane, np.uint8)[: frame.height * plane.line_size].reshape(frame.height, plane.line_size)
    return zlib.crc32(rows[:, :used].tobytes())
