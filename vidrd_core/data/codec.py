"""Clips as bytes for shards, and back: MP4 (H.264) for clips, JPEG for single frames."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidrd_core.io.decoded import decodable
from vidrd_core.io.pictures import picture_facts, read_picture
from vidrd_core.video.sinks import frame_rate

CRF = 12  # of H.264: the loss is invisible, and a VAE loses more
CODEC = "h264"
SMALL = 128  # pixels of the shorter side, below which chroma subsampling would blur edges
JPEG = {"quality": 95, "subsampling": 0}
Shape = tuple[int, int, int]  # frames, height and width


def encode_clip(frames: NDArray[np.uint8], fps: float) -> bytes:
    """Encode frames uint8 [F, H, W, 3], of even sides, as an MP4; small ones without chroma subsampling (yuv444p)."""
    file = io.BytesIO()
    height, width = frames.shape[1:3]
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=frame_rate(fps))
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p" if min(width, height) < SMALL else "yuv420p"
        stream.codec_context.thread_count = 1
        # No lookahead: with it, one clip in hundreds is encoded to different bits than the last time.
        stream.options = {"crf": str(CRF), "tune": "zerolatency", "colorspace": "smpte170m", "color_range": "tv"}
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return file.getvalue()


def decode_clip(data: bytes, shape: Shape) -> NDArray[np.uint8]:
    """The frames of an MP4, uint8 [F, H, W, 3]. Raises ValueError if it is damaged, or has not this F, H and W."""
    try:
        file: Any = io.BytesIO(data)
        with av.open(file, "r", options={"format_whitelist": "mov,mp4"}, metadata_errors="replace") as container:
            stream = decodable(container.streams.video[0])
            if (name := stream.codec_context.name) != CODEC:
                raise ValueError(f"is coded as {name}, expected {CODEC}, as 'vidrd data' writes it")
            frames = list[NDArray[np.uint8]]()
            for frame in container.decode(stream):
                _check((max(shape[0], len(frames) + 1), frame.height, frame.width), shape)
                frames.append(frame.to_ndarray(format="rgb24"))
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"is damaged: {error}") from error
    _check((len(frames), *shape[1:]), shape)
    return np.stack(frames)


def encode_image(frame: NDArray[np.uint8]) -> bytes:
    """Encode a frame uint8 [H, W, 3] as a JPEG."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", **JPEG)
    return file.getvalue()


def decode_image(data: bytes, shape: Shape) -> NDArray[np.uint8]:
    """An image as a clip of one frame, uint8 [1, H, W, 3]. Raises ValueError if it is damaged, or of another size."""
    facts = picture_facts(io.BytesIO(data))
    _check((1, facts.height, facts.width), shape)
    return read_picture(io.BytesIO(data))[None]


def _check(found: Shape, expected: Shape) -> None:
    """Raise ValueError for a clip of another size, before memory is taken for it."""
    if found != expected:
        raise ValueError(f"is {found} frames, height and width, expected {expected}")
