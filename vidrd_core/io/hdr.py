"""Pictures of HDR (PQ and HLG), which Pillow takes for SDR: FFmpeg maps their tones as it does those of films."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, BinaryIO, TypeAlias

import av
import numpy as np
from numpy.typing import NDArray

from vidrd_core.io.decoded import HDR, FrameConverter, VideoError, decodable

FORMATS = "png_pipe,apng,mov"  # of PNG and AVIF; no playlists, which could make FFmpeg open other files
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

Source: TypeAlias = "str | os.PathLike[str] | BytesIO"


def hdr_of(source: Source) -> str:
    """What kind of HDR a PNG or AVIF picture is.

    Args:
        source: A file, or its bytes as a BytesIO.

    Returns:
        "PQ", "HLG", or "" if it is neither, or cannot be read.

    Raises:
        OSError: It cannot be read.

    Source:
        PNG specification, third edition, 11.3.2.6 (cICP); ITU-T H.273, 8.2.
    """
    with _file(source) as file:
        if file.read(8) == PNG_SIGNATURE:
            return HDR.get(_png_transfer(file), "")
    try:
        with _container(source) as container:
            return HDR.get(decodable(container.streams.video[0]).codec_context.color_trc, "")
    except (av.error.FFmpegError, IndexError, VideoError):
        return ""


def tone_mapped(source: Source) -> NDArray[np.uint8]:
    """The pixels of an HDR picture, tone-mapped to SDR, as they are stored: not turned, and without transparency.

    Args:
        source: A file, or its bytes as a BytesIO.

    Returns:
        uint8 [H, W, 3].

    Raises:
        VideoError: FFmpeg cannot decode it, or map its tones.
        av.error.FFmpegError: FFmpeg cannot read it.
    """
    with _container(source) as container:
        stream = decodable(container.streams.video[0])
        frame = next(container.decode(stream))
        return FrameConverter(stream).stored_rgb(frame)


def _png_transfer(file: BinaryIO) -> int:
    """The transfer characteristics that a PNG names after its signature; 0 for none."""
    while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        if head[4:] == b"cICP":
            return (file.read(2) + b"\0\0")[1]
        file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    return 0


@contextmanager
def _file(source: Source) -> Iterator[BinaryIO]:
    """A context with the source as an open file."""
    if isinstance(source, BytesIO):
        yield BytesIO(source.getvalue())  # the place in it stays
        return
    with open(source, "rb") as file:
        yield file


@contextmanager
def _container(source: Source) -> Iterator[Any]:
    """A context with the source as a container of PyAV."""
    with (
        _file(source) as file,
        av.open(BytesIO(file.read()), options={"format_whitelist": FORMATS}, metadata_errors="replace") as container,
    ):
        yield container
