"""Frames as encoders take them: YUV 4:2:0 for H.264 and VP9, a palette for GIF."""

from __future__ import annotations

from typing import Any

import av
import av.filter
import numpy as np
from PIL import Image

# What `YuvConverter` does, for encoder and container. The matrix is that of BT.601 at every size: Chromium without a
# GPU shows the blue of BT.709 up to 12 levels off, and programs that ignore the tag assume BT.601. Primaries and
# transfer stay those of the frames, sRGB.
YUV_TAGS = {
    "colorspace": "smpte170m",
    "color_primaries": "bt709",
    "color_trc": "iec61966-2-1",
    "color_range": "tv",
    "chroma_sample_location": "center",
}
# AREA makes each chroma sample the mean of its four pixels; without the other two flags chroma is rounded down.
_SCALE = "flags=area+accurate_rnd+full_chroma_inp:out_color_matrix=bt601:out_range=tv"


class YuvConverter:
    """Converts frames of one size to YUV 4:2:0; odd sizes are padded by a copy of the last row or column.

    Args:
        height: The frames' height in pixels.
        width: Their width.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height + height % 2, width + width % 2
        self._graph = av.filter.Graph()
        source = self._graph.add("buffer", f"width={self.width}:height={self.height}:pix_fmt=rgb24:time_base=1/1")
        steps = [source, *(self._graph.add(*each) for each in (("scale", _SCALE), ("format", "yuv420p")))]
        for step, following in zip(steps, [*steps[1:], self._graph.add("buffersink")], strict=True):
            step.link_to(following)
        self._graph.configure()

    def __call__(self, frame: np.ndarray) -> av.VideoFrame:
        """Convert a frame.

        Args:
            frame: uint8 [H, W, 3], RGB.

        Returns:
            The frame in "yuv420p", limited range, BT.601; each chroma sample is the mean of its four pixels.
        """
        padding = (0, self.height - frame.shape[0]), (0, self.width - frame.shape[1]), (0, 0)
        picture = av.VideoFrame.from_ndarray(np.pad(frame, padding, mode="edge"), format="rgb24")
        picture.pts = 0
        self._graph.push(picture)
        converted: Any = self._graph.pull()
        return converted


def palette_picture(frame: np.ndarray) -> av.VideoFrame:
    """Convert a frame to a palette of its own 256 colours; without dither, which would flicker.

    Args:
        frame: uint8 [H, W, 3], RGB.

    Returns:
        The frame in "pal8".
    """
    image = Image.fromarray(frame).quantize(256, method=Image.Quantize.MEDIANCUT)
    colours = np.asarray(image.getpalette(), np.uint8).reshape(-1, 3)
    palette = np.full((256, 4), 255, np.uint8)  # alpha, red, green, blue
    palette[: len(colours), 1:] = colours
    pixels: Any = (np.asarray(image), palette)
    return av.VideoFrame.from_ndarray(pixels, format="pal8")
