"""Read video files and folders of PNG frames, whole or only their properties."""

from __future__ import annotations

import errno
import os
import re
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from vidrd_core.io.pictures import PictureError, picture_facts, read_picture

DEFAULT_FPS = 8.0
ALLOWED_FORMATS = "mov,mp4,matroska,webm,gif,avi"  # no playlists, which could make FFmpeg open other files


def read_video(path: str | os.PathLike[str], last: int | None = None) -> tuple[np.ndarray, float]:
    """Read a video into memory.

    Args:
        path: A video file, or a folder of PNG files, which are ordered by the numbers in their names.
        last: How many of the last frames to keep; by default all.

    Returns:
        The frames, uint8 [F, H, W, 3], RGB, and the frame rate in frames per second. A folder that does not record
        its rate, as those of `open_video` do, has DEFAULT_FPS.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The file is damaged or no video, or the folder has frames of several sizes.

    Example:
        >>> with open_video("frames/", fps=12) as video:
        ...     video.write(np.zeros((3, 16, 24, 3), np.uint8))
        >>> frames, fps = read_video("frames/", last=2)
        >>> frames.shape, fps
        ((2, 16, 24, 3), 12.0)
    """
    if not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, "no such video", os.fspath(path))
    found, fps = _read_folder(Path(path)) if os.path.isdir(path) else _read_file(path, last)
    frames = list(found)[-last:] if last else list(found)
    if not frames:
        raise ValueError(f"{path} is damaged or still empty: it has no frames")
    if other_shapes := {frame.shape for frame in frames} - {frames[0].shape}:
        raise ValueError(f"{path} mixes frames of {frames[0].shape} and {min(other_shapes)}")
    return np.stack(frames), fps


def _read_file(path: str | os.PathLike[str], last: int | None) -> tuple[deque[np.ndarray], float]:
    """The last frames of a file, or all, and its frame rate. Raises ValueError."""
    frames: deque[np.ndarray] = deque(maxlen=last)
    count = 0
    try:
        with av.open(os.path.abspath(path), options={"format_whitelist": ALLOWED_FORMATS}) as container:
            if not container.streams.video:
                raise ValueError(f"{path} has no video in it")
            stream = container.streams.video[0]
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise ValueError(f"{path} is damaged after {count} frames")
                frames.append(frame.to_ndarray(format="rgb24"))
                count += 1
                start = frame.time or 0.0  # when the last frame so far is shown, in seconds
            length = (container.duration or 0) / av.time_base
            if frames and len(container.streams) == 1 and length - start > 1 + 2 * start / count:
                raise ValueError(f"{path} is cut off at {start:.2f} s of its {length:.2f} s")
            rate = float(stream.average_rate or DEFAULT_FPS)
            if frames and container.format.name == "gif":
                rate = _gif_rate(count, start, rate)
            return frames, rate
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        state = f"damaged after {count} frames" if frames else "damaged, or no mp4, webm or gif video"
        raise ValueError(f"{path} is {state} ({error.strerror})") from error


@dataclass(frozen=True)
class VideoInfo:
    """The properties of a video file.

    Args:
        kind: Its container format, as FFmpeg calls it: "mov" for mp4, "matroska" for webm, "gif".
        codec: The video codec, as "h264".
        frames: How many there are.
        width: Width in pixels.
        height: Height in pixels.
        fps: Frames per second; 0 if unknown.
        tags: The container's metadata; the keys are in lower case.
    """

    kind: str
    codec: str
    frames: int
    width: int
    height: int
    fps: float
    tags: dict[str, str]


def probe_video(path: str | os.PathLike[str]) -> VideoInfo:
    """Read the properties of a video file, in constant memory.

    Args:
        path: The file.

    Returns:
        Its format, codec, frames, size, rate and tags.

    Raises:
        ValueError: The file is damaged or no video.
    """
    try:
        with av.open(os.path.abspath(path), options={"format_whitelist": ALLOWED_FORMATS}) as container:
            if not container.streams.video:
                raise ValueError(f"{path} has no video in it")
            stream, kind = container.streams.video[0], container.format.name.split(",")[0]
            rate = float(stream.average_rate or 0)
            if kind == "gif":  # its header records neither the number of frames nor the rate
                frames, start = 0, 0.0
                for frame in container.decode(stream):
                    frames, start = frames + 1, frame.time or 0.0
                rate = _gif_rate(frames, start, rate)
            else:
                frames = stream.frames or sum(packet.size > 0 for packet in container.demux(stream))
            codec = stream.codec_context
            tags = {key.lower(): value for key, value in container.metadata.items()}
            return VideoInfo(kind, codec.name, frames, codec.width, codec.height, rate, tags)
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} is damaged, or no mp4, webm or gif video") from error


def _gif_rate(count: int, start: float, rate: float) -> float:
    """Frames per second of a GIF: a whole number where rounding its times to 1/100 s explains the difference.

    `start` is when the last of `count` frames is shown, in seconds.
    """
    steps, seconds = (count - 1, start) if start else (1, 1 / (rate or DEFAULT_FPS))
    whole = max(1, round(steps / seconds))
    return float(whole) if abs(steps / whole - seconds) <= 0.01 else steps / seconds


def _read_folder(folder: Path) -> tuple[list[np.ndarray], float]:
    """The frames of a folder of PNG files and the rate that the first one records. Raises ValueError."""
    files = sorted(folder.glob("*.png"), key=lambda file: [int(n) for n in re.findall(r"\d+", file.stem)])
    frames, fps = [], DEFAULT_FPS
    for file in files:
        try:
            frames.append(read_picture(file))
            if file == files[0]:
                fps = float(picture_facts(file).texts.get("fps", fps))
        except PictureError as error:
            raise ValueError(f"{file} {error}") from error
        except ValueError as error:
            raise ValueError(f"{file} records a frame rate that is no number: {error}") from error
    return frames, fps
