"""Decoding: frames of video files at chosen times (PyAV) and pictures, upright, with square pixels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from vidrd_core.data.records import UnfitError
from vidrd_core.io.pictures import PictureError, read_picture

# No playlists, which could open other files.
FORMATS = "mov,mp4,matroska,webm,gif,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,m4v"
QUARTERS = {0: 0, 90: 1, -90: 3, 180: 2, -180: 2, 270: 3}


@dataclass(frozen=True)
class VideoFacts:
    """What a video is.

    Args:
        seconds: Its length.
        fps: Frames a second.
        width: Width in pixels, as displayed.
        height: Height in pixels, as displayed.
    """

    seconds: float
    fps: float
    width: int
    height: int


@contextmanager
def open_video_file(path: str | os.PathLike[str]) -> Iterator[tuple[Any, Any]]:
    """A context with a file's container and video stream. Raises UnfitError if it is damaged or no video."""
    try:
        with av.open(os.fspath(path), options={"format_whitelist": FORMATS}) as container:
            if not container.streams.video:
                raise UnfitError("has no video in it")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except av.error.FFmpegError as error:
        raise UnfitError(f"is damaged or no video: {error.strerror or error}") from error
    except (ValueError, IndexError, ZeroDivisionError, MemoryError) as error:
        if isinstance(error, UnfitError):
            raise
        raise UnfitError(f"cannot be decoded: {error}") from error


def facts_of(path: str | os.PathLike[str]) -> VideoFacts:
    """Length, frame rate and size of a video. Raises UnfitError for one that is damaged or has no known length."""
    with open_video_file(path) as (container, stream):
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        seconds = _seconds(container, stream, rate)
        if seconds <= 0 or rate <= 0:
            raise UnfitError("has no known length or frame rate")
        first = next(iter(container.decode(stream)), None)
        if first is None:
            raise UnfitError("has no frame that can be decoded")
        width, height = _display_size(stream, first)
        return VideoFacts(seconds, rate, width, height)


def _seconds(container: Any, stream: Any, rate: float) -> float:
    """Length of a stream: its own, the container's, or from its packets' times; 0 if unknown."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return container.duration / av.time_base
    packets = [packet for packet in container.demux(stream) if packet.pts is not None]
    container.seek(0)
    times = sorted(float(packet.pts * packet.time_base) for packet in packets)
    return times[-1] - times[0] + 1 / rate if times and rate else 0.0


def _display_size(stream: Any, frame: Any) -> tuple[int, int]:
    """Width and height with square pixels, after rotation."""
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1
    width, height = max(1, round(frame.width * float(aspect))), frame.height
    return (height, width) if QUARTERS.get(round(frame.rotation), 0) % 2 else (width, height)


def frames_at(
    path: str | os.PathLike[str], times: Sequence[float], size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """The frames displayed at given times; the file is read only from the key frame before the first of them.

    Args:
        path: A video file.
        times: Seconds, in ascending order.
        size: Width and height to scale to; None: the video's own.

    Returns:
        uint8 [F, H, W, 3].

    Raises:
        UnfitError: The file is damaged or ends before the last time.
    """
    with open_video_file(path) as (container, stream):
        begun = float((stream.start_time or 0) * stream.time_base)
        if times[0] > 0:
            container.seek(int((begun + times[0]) / stream.time_base), stream=stream, backward=True)
        found: list[NDArray[np.uint8]] = []
        shown: Any = None  # the newest frame that is not after the time asked for
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        for number, frame in enumerate(_reject_corrupt(container.decode(stream))):
            at = number / rate if frame.time is None else frame.time - begun
            while len(found) < len(times) and at > times[len(found)] + 0.5 / rate:
                found.append(_pixels(stream, shown or frame, size))
            if len(found) == len(times):
                break
            shown = frame
        if shown is not None and len(found) == len(times) - 1 and at >= times[-1] - 1.5 / rate:
            found.append(_pixels(stream, shown, size))
        if len(found) < len(times):
            raise UnfitError(f"ends or is damaged before {times[len(found)]:.2f} s")
        return np.stack(found)


def all_frames(path: str | os.PathLike[str], size: tuple[int, int]) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """All frames one by one, with their times in seconds: uint8 [H, W, 3], scaled to a size (width, height)."""
    with open_video_file(path) as (container, stream):
        begun = float((stream.start_time or 0) * stream.time_base)
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        for number, frame in enumerate(_reject_corrupt(container.decode(stream))):
            at = number / rate if frame.time is None else frame.time - begun
            yield at, _pixels(stream, frame, size)


def _reject_corrupt(frames: Iterator[Any]) -> Iterator[Any]:
    """The same frames. Raises UnfitError for one that is corrupt."""
    for frame in frames:
        if frame.is_corrupt:
            raise UnfitError(f"is damaged at {frame.time or 0.0:.2f} s")
        yield frame


def _pixels(stream: Any, frame: Any, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """A frame, uint8 [H, W, 3], rotated and scaled."""
    quarters = QUARTERS.get(round(frame.rotation), 0)
    width, height = size or _display_size(stream, frame)
    if quarters % 2:
        width, height = height, width
    # Area averaging where it shrinks, against aliasing; smooth where it grows.
    how = "AREA" if width < frame.width else "BICUBIC"
    pixels = frame.reformat(width=width, height=height, format="rgb24", interpolation=how).to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, quarters))


def read_image(path: str) -> NDArray[np.uint8]:
    """A picture as `io.pictures` reads it, uint8 [H, W, 3]. Raises UnfitError if it cannot be read."""
    try:
        return read_picture(path)
    except PictureError as error:
        raise UnfitError(str(error)) from error
    except OSError as error:
        raise UnfitError(f"cannot be read: {error.strerror or error}") from error
