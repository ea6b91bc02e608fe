"""Films whose frames carry their own number, in the containers and codecs that people have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

BITS, COLUMNS = 10, 5


def numbered(count: int, width: int = 160, height: int = 64, first: int = 0) -> list[np.ndarray]:
    """Frames with their number as bright and dark blocks, in two rows of five bits."""
    frames = []
    for number in range(first, first + count):
        frame = np.full((height, width, 3), 40, np.uint8)
        for bit in range(BITS):
            if number >> bit & 1:
                frame[_block(bit, width, height, 2)] = 220
        frames.append(frame)
    return frames


def number_of(frame: np.ndarray) -> int:
    """The number that a frame carries."""
    height, width = frame.shape[:2]
    return sum((frame[_block(bit, width, height, 6)].mean() > 128) << bit for bit in range(BITS))


def numbers_of(frames: Sequence[np.ndarray] | np.ndarray) -> list[int]:
    return [number_of(frame) for frame in frames]


def _block(bit: int, width: int, height: int, margin: int) -> tuple[slice, slice]:
    row, column = divmod(bit, COLUMNS)
    across, down = width // COLUMNS, height // 2
    return (
        slice(row * down + margin, (row + 1) * down - margin),
        slice(column * across + margin, (column + 1) * across - margin),
    )


def encode(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = "libx264",
    *,
    fps: float | Fraction = 24,
    ticks: Sequence[int] | None = None,
    last: int | None = None,
    pix_fmt: str = "yuv420p",
    kind: str | None = None,
    muxing: dict[str, str] | None = None,
    prepare: Callable[[Any], None] | None = None,
    also: Callable[[Any], Any] | None = None,
    **options: str,
) -> Path:
    """Write a film by PyAV: a frame a tick of 1/fps, or at given ticks of 1/1000 s; the last one stands `last` ms."""
    with av.open(str(path), "w", format=kind, options=muxing or {}) as container:
        finish = also(container) if also else None
        rate = Fraction(fps).limit_denominator(1001)
        stream: Any = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pix_fmt
        stream.options = options
        base = 1 / rate if ticks is None else Fraction(1, 1000)
        stream.codec_context.time_base = base
        if prepare:
            prepare(stream)
        end = 0 if ticks is None else ticks[-1]
        for i, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = i if ticks is None else ticks[i], base
            for packet in stream.encode(picture):
                _mux(container, packet, end, last)
        for packet in stream.encode(None):
            _mux(container, packet, end, last)
        if finish:
            finish()
    return path


def _mux(container: Any, packet: Any, end: int, last: int | None) -> None:
    if last is not None and round(packet.pts * packet.time_base * 1000) == end:
        packet.duration = round(Fraction(last, 1000) / packet.time_base)
    container.mux(packet)
