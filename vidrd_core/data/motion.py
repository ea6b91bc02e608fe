"""How bright the frames of a film are and how much they change; measured in passing, it costs no second decoding."""

from __future__ import annotations

import os
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vidrd_core.data.decoding import facts_of, frame_times
from vidrd_core.metrics.appearance import LUMA
from vidrd_core.video.film import View

APART = 0.125  # seconds between frames that are compared, where frames do not stand longer
SIDE = 64  # pixels of the longer side of frames


class Measures:
    """What has been measured of a film's frames so far, in levels of 0 to 255.

    Args:
        apart: The numbers of the film's frames that are 1/8 s apart, ascending.

    Attributes:
        levels: The level below which 98 % of a frame's pixels are, by its number.
        changes: The mean change of pixels from one frame to another, by their numbers.
    """

    def __init__(self, apart: NDArray[np.intp] | None = None) -> None:
        self.apart = np.empty(0, np.intp) if apart is None else apart
        self.levels: dict[int, float] = {}
        self.changes: dict[tuple[int, int], float] = {}
        self._last: tuple[int, NDArray[np.float64]] | None = None

    def add(self, number: int, frame: NDArray[np.uint8]) -> None:
        """Measure a frame, uint8 [H, W, 3], and its change from the last one that was added."""
        luma = frame.astype(np.float64) @ LUMA
        self.levels[number] = float(np.quantile(luma, 0.98))
        if self._last is not None:
            last, before = self._last
            self.changes[last, number] = float(np.abs(luma - before).mean())
        self._last = number, luma


class InPassing:
    """Measures the frames of a film that are 1/8 s apart while all of them are decoded for something else.

    Args:
        path: The film.

    Raises:
        UnfitError: It cannot be decoded.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        facts = facts_of(path)
        self._size = small(facts.width, facts.height)
        self._measures = measures_of(path)
        self._wanted = frozenset(self._measures.apart.tolist())

    def see(self, number: int, view: View) -> None:
        """Measure a frame, if it is one of them; they come in the order of their numbers."""
        if number in self._wanted and number not in self._measures.levels:
            self._measures.add(number, view(self._size))


def apart(times: NDArray[np.float64], fps: float) -> NDArray[np.intp]:
    """Choose frames that are at least 1/8 s apart.

    Args:
        times: When each frame is shown, float64 [F], in seconds.
        fps: Frames a second.

    Returns:
        Their numbers, from 0 on.
    """
    slack = 0.25 / fps  # for times that the file rounds
    found, last = [], -np.inf
    for number, time in enumerate(times.tolist()):
        if time >= last + APART - slack:
            found.append(number)
            last = time
    return np.array(found, np.intp)


def small(width: int, height: int) -> tuple[int, int]:
    """The size, in pixels, at which frames of a film of a width and height are measured."""
    factor = SIDE / max(width, height)
    return max(1, round(width * factor)), max(1, round(height * factor))


def measures_of(path: str | os.PathLike[str]) -> Measures:
    """What has been measured of a film in this process, unless the file has changed since.

    Args:
        path: The film.

    Returns:
        The measures.

    Raises:
        OSError: There is no such file.
        UnfitError: It cannot be decoded.
    """
    status = os.stat(path)
    return _measures(os.path.abspath(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1)
def _measures(path: str, size: int, changed: int) -> Measures:
    return Measures(apart(frame_times(path), facts_of(path).fps))
