"""Read video files and folders of PNG frames, whole or only their properties."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidrd_core.io.decoded import VideoError
from vidrd_core.io.partial import REPLACING
from vidrd_core.io.pictures import PictureError, picture_facts, read_picture
from vidrd_core.video.animation_reader import is_animation, probe_animation, read_animation
from vidrd_core.video.film import film_of
from vidrd_core.video.timeline import DEFAULT_FPS

ANIMATED = ("gif", "webp", "apng", "avif")  # kinds that are formats of pictures, too
UNREADABLE = "damaged, or no mp4, webm or gif video"


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
    found: Iterable[np.ndarray]
    if os.path.isdir(path):
        found, fps = _read_folder(Path(path))
    elif is_animation(path):
        found, fps = read_animation(path, last)
    else:
        found, fps = _read_file(path, last)
    frames = list(found)[-last:] if last else list(found)
    if not frames:
        raise ValueError(f"{path} is damaged or still empty: it has no frames")
    if other_shapes := {frame.shape for frame in frames} - {frames[0].shape}:
        raise ValueError(f"{path} mixes frames of {frames[0].shape} and {min(other_shapes)}")
    return np.stack(frames), fps or DEFAULT_FPS


def _read_file(path: str | os.PathLike[str], last: int | None) -> tuple[list[np.ndarray], float]:
    """The last frames of a file, or all, and its frame rate. Raises ValueError."""
    frames: list[np.ndarray] = []
    try:
        film = film_of(path)
        for frame in film.last_frames(last) if last else film.frames():
            frames.append(frame)
        return frames, film.timeline.fps
    except VideoError as error:
        raise ValueError(f"{path} {_reason(error, len(frames))}") from error


def _reason(error: VideoError, frames: int = 0) -> str:
    """Why a file cannot be read, of which so many frames could be."""
    if not str(error).startswith("is damaged"):
        return str(error)
    state = f"damaged after {frames} frames" if frames else UNREADABLE
    detail = str(error).removeprefix("is damaged or no video: ").removeprefix("is damaged ")
    return f"is {state} ({detail})"


@dataclass(frozen=True)
class VideoInfo:
    """The properties of a video file, as its pictures say.

    Args:
        kind: Its container format, as FFmpeg calls it: "mov" for mp4, "matroska" for webm, "gif", "webp", "apng",
            "avif".
        codec: The video codec, as "h264".
        frames: How many are shown.
        width: Width in square pixels, upright.
        height: Height in square pixels, upright.
        fps: Frames per second, between the first frame and the last one.
        tags: The container's metadata; the keys are in lower case.
        seconds: From the first frame to the end of the last one.
    """

    kind: str
    codec: str
    frames: int
    width: int
    height: int
    fps: float
    tags: dict[str, str]
    seconds: float


def probe_video(path: str | os.PathLike[str]) -> VideoInfo:
    """Read the properties of a video file.

    Args:
        path: The file.

    Returns:
        Its format, codec, frames, size, rate, tags and length.

    Raises:
        ValueError: The file is damaged or no video.
    """
    if is_animation(path):
        found = probe_animation(path)
        tags = {name.lower(): text for name, text in found.texts.items()}
        return VideoInfo(found.kind, found.kind, found.frames, *found.size, found.fps, tags, found.seconds)
    try:
        film = film_of(path)
        facts, times = film.facts, film.timeline
    except VideoError as error:
        raise ValueError(f"{path} {_reason(error)}") from error
    size = facts.width, facts.height
    return VideoInfo(facts.kind, facts.codec, len(times.times), *size, times.fps, facts.tags, times.seconds)


def _read_folder(folder: Path) -> tuple[list[np.ndarray], float]:
    """The frames of a folder of PNG files and the rate that the first one records. Raises ValueError."""
    if (folder / REPLACING).exists():
        raise ValueError(
            f"{folder} was being replaced when its run ended, so that its frames are of two videos: write it again"
        )
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
