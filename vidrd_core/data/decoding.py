"""Decoding for data preparation: frames of video files at chosen times, and pictures, upright, with square pixels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidrd_core.data.records import UnfitError
from vidrd_core.io.decoded import VideoError
from vidrd_core.io.pictures import PictureError, read_picture
from vidrd_core.video.film import View, film_of


@dataclass(frozen=True)
class VideoFacts:
    """What a video is.

    Args:
        seconds: Its length.
        fps: Frames a second.
        width: Width in pixels, as displayed.
        height: Height in pixels, as displayed.
        damage: What of it is missing, as "is cut off at 3.20 s"; "" if nothing is known to be.
        hdr: Whether it is PQ or HLG, so that reading it takes long.
    """

    seconds: float
    fps: float
    width: int
    height: int
    damage: str = ""
    hdr: bool = False


def facts_of(path: str | os.PathLike[str]) -> VideoFacts:
    """Length, frame rate, size and damage of a video. Raises UnfitError for one of which nothing can be decoded."""
    with _unfit_errors():
        film = film_of(path)
        facts, times = film.facts, film.timeline
        return VideoFacts(times.seconds, times.fps, facts.width, facts.height, film.damage, facts.hdr)


def frames_at(
    path: str | os.PathLike[str], times: Sequence[float], size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """The frames displayed at given times; no more of the file is decoded than they need.

    Args:
        path: A video file.
        times: Seconds from the first frame, in ascending order.
        size: Width and height to scale to; None: the video's own.

    Returns:
        uint8 [F, H, W, 3].

    Raises:
        UnfitError: The file ends, or is damaged, before the last time.
    """
    with _unfit_errors():
        return film_of(path).at(times, size)


def frames_at_each(
    path: str | os.PathLike[str], groups: Sequence[Sequence[float]], size: tuple[int, int] | None = None
) -> Iterator[NDArray[np.uint8]]:
    """As `frames_at`, of several groups of times, for which the file is read once where they are near each other.

    Args:
        path: A video file.
        groups: Seconds from the first frame, in ascending order in each group, the groups by their first.
        size: Width and height to scale to; None: the video's own.

    Yields:
        uint8 [F, H, W, 3] for each group.

    Raises:
        UnfitError: The file ends, or is damaged, before the last time of the next group.
    """
    with _unfit_errors():
        yield from film_of(path).at_each(groups, size)


def frame_times(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """When each frame of a video is shown, float64 [F], in seconds from the first one. Raises UnfitError."""
    with _unfit_errors():
        return film_of(path).timeline.times


def all_frames(path: str | os.PathLike[str], size: tuple[int, int]) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """All frames one by one, with their times in seconds: uint8 [H, W, 3], scaled to a size (width, height).

    Frames that are damaged are left out. Raises UnfitError for a video of which none can be decoded.
    """
    with _unfit_errors():
        yield from film_of(path).timed_frames(size)


def all_views(path: str | os.PathLike[str]) -> Iterator[tuple[int, View]]:
    """The frames of `all_frames` by number, each to be converted to any size. Raises as `all_frames`."""

    def checked(view: View) -> View:
        def converted(size: tuple[int, int] | None) -> NDArray[np.uint8]:
            with _unfit_errors():
                return view(size)

        return converted

    with _unfit_errors():
        for number, view in film_of(path).views():
            yield number, checked(view)


@contextmanager
def _unfit_errors() -> Iterator[None]:
    """A context whose errors of decoding become UnfitError."""
    try:
        yield
    except VideoError as error:
        raise UnfitError(str(error)) from error
    except OSError as error:
        raise UnfitError(f"cannot be read: {error.strerror or error}") from error
    except (ValueError, IndexError, ZeroDivisionError, MemoryError) as error:
        raise UnfitError(f"cannot be decoded: {error}") from error


def read_image(path: str) -> NDArray[np.uint8]:
    """A picture as `io.pictures` reads it, uint8 [H, W, 3]. Raises UnfitError if it cannot be read."""
    try:
        return read_picture(path)
    except PictureError as error:
        raise UnfitError(str(error)) from error
    except OSError as error:
        raise UnfitError(f"cannot be read: {error.strerror or error}") from error
