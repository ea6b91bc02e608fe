"""Images and videos made for the tests, intact and damaged."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from vidrd_core.video.sinks import frame_rate


def moving(seconds=1.0, fps=24.0, width=96, height=64, seed=0):
    """Frames of a bright square that goes from left to right over a pattern of its own."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(40, 216, (height // 8, width // 8, 3))
    ground = np.kron(colours, np.ones((8, 8, 1))).astype(np.uint8)[:height, :width]
    count = round(seconds * fps)
    frames = np.repeat(ground[None], count, axis=0)
    for i, frame in enumerate(frames):
        left = int((width - 16) * i / max(1, count - 1))
        frame[height // 2 - 8 : height // 2 + 8, left : left + 16] = (255, 255, 0)
    return frames


def still_frames(seconds=1.0, fps=24.0, width=96, height=64, level=None, seed=9):
    frame = moving(1 / fps, fps, width, height, seed)
    return np.repeat(frame if level is None else np.full_like(frame, level), round(seconds * fps), axis=0)


def numbered(count, fps=24.0, width=64, height=64):
    """Frames whose gray tells their number: 4 levels a frame."""
    return np.stack([np.full((height, width, 3), 20 + 4 * i, np.uint8) for i in range(count)])


def write_video(path: Path, frames, fps=24.0, codec="libx264", aspect=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=frame_rate(fps))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        if codec == "libx264":
            stream.options = {"crf": "10", "g": "12"}
        else:
            stream.bit_rate = 4_000_000
        if aspect:
            stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def turned(path: Path, quarters: int) -> Path:
    """Marks an MP4 to be shown turned by so many quarters clockwise, as telephones do."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # a version 0 box: the matrix comes after 40 bytes
    cosine, sine = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarters % 4]
    struct.pack_into(">9i", data, at, cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def write_still(path: Path, width=96, height=64, seed=0, caption=None, **saving):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(path, **saving)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)
    return path
