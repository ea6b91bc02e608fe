"""Video files and folders of PNG files, read back, or only looked at."""

from __future__ import annotations

import errno
import os
import re
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image

DEFAULT_FPS = 8.0
PLAYABLE = "mov,mp4,matroska,webm,gif,avi"  # no playlists, which could have us open other files


def read_video(path: str | os.PathLike[str], last: int | None = None) -> tuple[np.ndarray, float]:
    """Read a video file, or a folder of PNG files by number: (uint8 [F, H, W, 3], frames a second).

    `last` is how many of its last frames are kept; all unless told. A PNG folder that does not say its rate,
    as `open_video`'s do, has DEFAULT_FPS.
    Raises FileNotFoundError, and ValueError for a file that is damaged or no video.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, "no such video", os.fspath(path))
    found, fps = _read_folder(Path(path)) if os.path.isdir(path) else _read_file(path, last)
    frames = list(found)[-last:] if last else list(found)
    if not frames:
        raise ValueError(f"{path} is damaged or still empty: it has no frames")
    if others := {frame.shape for frame in frames} - {frames[0].shape}:
        raise ValueError(f"{path} mixes frames of {frames[0].shape} and {min(others)}")
    return np.stack(frames), fps


def _read_file(path: str | os.PathLike[str], last: int | None) -> tuple[deque[np.ndarray], float]:
    frames: deque[np.ndarray] = deque(maxlen=last)
    count = 0
    try:
        with av.open(os.path.abspath(path), options={"format_whitelist": PLAYABLE}) as container:
            if not container.streams.video:
                raise ValueError(f"{path} has no video in it")
            stream = container.streams.video[0]
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise ValueError(f"{path} is damaged after {count} frames")
                frames.append(frame.to_ndarray(format="rgb24"))
                count += 1
                begun = frame.time or 0.0  # when the last frame so far begins, in seconds
            length = (container.duration or 0) / av.time_base
            if frames and len(container.streams) == 1 and length - begun > 1 + 2 * begun / count:
                raise ValueError(f"{path} is cut off at {begun:.2f} s of its {length:.2f} s")
            rate = float(stream.average_rate or DEFAULT_FPS)
            if frames and container.format.name == "gif":
                rate = _gif_rate(count, begun, rate)
            return frames, rate
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        state = f"damaged after {count} frames" if frames else "damaged, or no mp4, webm or gif video"
        raise ValueError(f"{path} is {state} ({error.strerror})") from error


@dataclass(frozen=True)
class VideoFacts:
    """What a video file is."""

    kind: str
    codec: str
    frames: int
    width: int
    height: int
    fps: float
    tags: dict[str, str]  # by names in lower case


def look_at(path: str | os.PathLike[str]) -> VideoFacts:
    """What a video file is, in memory that does not grow with its length.

    Raises ValueError for a file that is damaged or no video.
    """
    try:
        with av.open(os.path.abspath(path), options={"format_whitelist": PLAYABLE}) as container:
            if not container.streams.video:
                raise ValueError(f"{path} has no video in it")
            stream, kind = container.streams.video[0], container.format.name.split(",")[0]
            rate = float(stream.average_rate or 0)
            if kind == "gif":  # its header says neither number nor rate
                frames, begun = 0, 0.0
                for frame in container.decode(stream):
                    frames, begun = frames + 1, frame.time or 0.0
                rate = _gif_rate(frames, begun, rate)
            else:
                frames = stream.frames or sum(packet.size > 0 for packet in container.demux(stream))
            codec = stream.codec_context
            tags = {key.lower(): value for key, value in container.metadata.items()}
            return VideoFacts(kind, codec.name, frames, codec.width, codec.height, rate, tags)
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} is damaged, or no mp4, webm or gif video") from error


def _gif_rate(count: int, begun: float, rate: float) -> float:
    """Frames a second of a GIF: a whole number where rounding its times to 1/100 s explains it."""
    steps, seconds = (count - 1, begun) if begun else (1, 1 / (rate or DEFAULT_FPS))
    whole = max(1, round(steps / seconds))
    return float(whole) if abs(steps / whole - seconds) <= 0.01 else steps / seconds


def _read_folder(folder: Path) -> tuple[list[np.ndarray], float]:
    files = sorted(folder.glob("*.png"), key=lambda file: [int(n) for n in re.findall(r"\d+", file.stem)])
    frames, fps = [], DEFAULT_FPS
    for file in files:
        try:
            with Image.open(file) as image:
                frames.append(np.asarray(image.convert("RGB")))
                fps = float(image.info["fps"]) if file == files[0] and "fps" in image.info else fps
        except (OSError, SyntaxError, ValueError) as error:  # Pillow's three ways to say so
            raise ValueError(f"{file} is damaged or no PNG image ({error})") from error
    return frames, fps
