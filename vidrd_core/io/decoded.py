"""Decoded frames as RGB: upright, with square pixels, on white, and with the colours that the file means."""

from __future__ import annotations

import threading
from collections import OrderedDict
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

GROUND = 255  # the level of the ground under transparent pixels: white, as browsers and viewers show it
KEPT_GRAPHS = 16
NO_ALPHA = ("rawvideo", "huffyuv")  # in AVI, where the fourth byte of a pixel has no meaning
HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics by their numbers in ITU-T H.273
MOST_PIXELS = 2**26  # of a frame: 8192 x 8192
MOST_STRETCHED = 16.0  # a pixel aspect beyond it, or its reciprocal, is an error in the file


class VideoError(ValueError):
    """A video cannot be read; the message goes on from the file's name, as in "is damaged"."""


def decodable(stream: Any) -> Any:
    """See that there is a decoder for a stream: PyAV 17 ends the process where it is decoded without one.

    Args:
        stream: A video stream of PyAV, of a file that is read.

    Returns:
        The stream; its decoder refuses frames of more than `MOST_PIXELS`.

    Raises:
        VideoError: There is no decoder, or the file claims larger frames.
    """
    codec = stream.codec_context
    if codec is None:
        raise VideoError("has video in a coding for which this FFmpeg has no decoder: convert it, as to H.264")
    if codec.width * codec.height > MOST_PIXELS:
        raise VideoError(f"has frames of {codec.width} x {codec.height}: expected at most {MOST_PIXELS} pixels")
    codec.options = {"max_pixels": str(MOST_PIXELS)}
    return stream


class _Graphs(threading.local):
    """Filter graphs by what they convert: a graph that tone-maps takes seconds to begin with."""

    def __init__(self) -> None:
        self.kept: OrderedDict[tuple[Any, ...], Graph] = OrderedDict()


_graphs = _Graphs()


class FrameConverter:
    """Converts the decoded frames of a video stream to RGB with FFmpeg's own scaler.

    Args:
        stream: The stream, of PyAV; it must stay open.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._orientations: dict[float, tuple[bool, bool, bool]] = {}

    def size(self, frame: Any) -> tuple[int, int]:
        """Width and height of a frame in square pixels, upright."""
        aspect = float(self._stream.sample_aspect_ratio or 1)
        if not 1 / MOST_STRETCHED <= aspect <= MOST_STRETCHED:
            aspect = 1.0
        width, height = max(1, round(frame.width * aspect)), frame.height
        return (height, width) if self._orientation(frame)[0] else (width, height)

    def is_hdr(self, frame: Any) -> bool:
        """Whether a frame is PQ or HLG, so that it is tone-mapped."""
        return self._transfer(frame) in HDR

    def rgb(self, frame: Any, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Convert a frame.

        Args:
            frame: A frame of the stream, of PyAV.
            size: Width and height to scale to; None: the frame's own, in square pixels.

        Returns:
            uint8 [H, W, 3]. PQ and HLG are tone-mapped to BT.709; what is transparent lies on white.

        Raises:
            VideoError: The frame is PQ or HLG, and the installed FFmpeg cannot tone-map it.
        """
        transposed, mirrored, flipped = self._orientation(frame)
        width, height = size or self.size(frame)
        if transposed:
            width, height = height, width
        pixels = self._scaled(frame, width, height)
        if transposed:
            pixels = pixels.transpose(1, 0, 2)
        if mirrored:
            pixels = pixels[:, ::-1]
        if flipped:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)

    def stored_rgb(self, frame: Any) -> NDArray[np.uint8]:
        """Convert a frame as `rgb`, but neither turned nor scaled.

        Args:
            frame: A frame of the stream, of PyAV.

        Returns:
            uint8 [H, W, 3].

        Raises:
            VideoError: The frame is PQ or HLG, and the installed FFmpeg cannot tone-map it.
        """
        return self._scaled(frame, frame.width, frame.height)

    def _orientation(self, frame: Any) -> tuple[bool, bool, bool]:
        """Whether a frame is to be transposed, then mirrored left to right, then flipped upside down."""
        # Side data and their frame refer to each other: read of each frame, they would keep hundreds in memory.
        rotation = getattr(frame, "rotation", 0)  # PyAV 12 and 13 do not tell it
        if rotation not in self._orientations:
            self._orientations[rotation] = _orientation(frame)
        return self._orientations[rotation]

    def _scaled(self, frame: Any, width: int, height: int) -> NDArray[np.uint8]:
        transfer = self._transfer(frame)
        if not self._has_alpha(frame):
            return self._converted(frame, width, height, transfer, "rgb24")
        # Before it is scaled, as the colours of clear pixels have no meaning.
        pixels = self._converted(frame, frame.width, frame.height, transfer, "rgba").astype(np.uint16)
        alpha = pixels[..., 3:]
        whole = ((pixels[..., :3] * alpha + GROUND * (255 - alpha) + 127) // 255).astype(np.uint8)
        if (width, height) == (frame.width, frame.height):
            return whole
        return self._converted(av.VideoFrame.from_ndarray(whole, format="rgb24"), width, height, 0, "rgb24")

    def _transfer(self, frame: Any) -> int:
        """A frame's transfer characteristics, as ITU-T H.273 numbers them."""
        return int(getattr(frame, "color_trc", None) or self._stream.codec_context.color_trc)

    def _has_alpha(self, frame: Any) -> bool:
        """Whether pixels of a frame may be transparent."""
        if self._stream.codec_context.name in NO_ALPHA and self._stream.container.format.name == "avi":
            return False
        return frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components)

    def _converted(self, frame: Any, width: int, height: int, transfer: int, pix_fmt: str) -> NDArray[np.uint8]:
        key = (
            pix_fmt,
            width,
            height,
            frame.width,
            frame.height,
            frame.format.name,
            frame.colorspace,
            frame.color_range,
            transfer,
        )
        try:
            graph = _graphs.kept.pop(key, None) or _graph(frame, width, height, transfer in HDR, pix_fmt)
            graph.push(frame)
            pixels = graph.pull().to_ndarray()
        except (av.error.FFmpegError, ValueError) as error:
            if transfer in HDR:
                raise VideoError(
                    f"is HDR video ({HDR[transfer]}), which the FFmpeg of PyAV {av.__version__} cannot tone-map: "
                    f"pip install -U av, or convert it to SDR"
                ) from error
            raise
        _graphs.kept[key] = graph
        if len(_graphs.kept) > KEPT_GRAPHS:
            _graphs.kept.popitem(last=False)
        return pixels  # type: ignore[return-value]


def _graph(frame: Any, width: int, height: int, hdr: bool, pix_fmt: str) -> Graph:
    """A filter graph that scales frames like this one and converts them to a pixel format."""
    # Area averaging where it shrinks, against aliasing; smooth where it grows.
    options = f"w={width}:h={height}:flags={'area' if width < frame.width else 'bicubic'}"
    if hdr:
        options += ":out_transfer=bt709:out_primaries=bt709:intent=perceptual"
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
    )
    nodes = [source, graph.add("scale", options), graph.add("format", f"pix_fmts={pix_fmt}"), graph.add("buffersink")]
    for one, other in pairwise(nodes):
        one.link_to(other)
    graph.configure()
    return graph


def _orientation(frame: Any) -> tuple[bool, bool, bool]:
    """What a frame's display matrix asks for."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()  # x' = a x + c y, y' = b x + d y
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0
