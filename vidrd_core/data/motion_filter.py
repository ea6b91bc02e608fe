"""A filter that drops segments of video that show nothing: too short, black or static."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from vidrd_core.data.clip_sampling import segment_rate, with_video_facts
from vidrd_core.data.decoding import frame_times, frames_at
from vidrd_core.data.motion import Measures, apart, measures_of, small
from vidrd_core.data.records import Record, UnfitError

WINDOWS, SECONDS = 8, 1.0  # how many windows of a segment are examined, and their length
LEAST = 3  # frames of a segment that are 1/8 s apart in the film; with fewer, its own are taken


@dataclass(frozen=True)
class MotionFilterSettings:
    """What is dropped. The paper gives no thresholds; the defaults are ours. Levels are of 0 to 255.

    Args:
        least: Seconds; shorter scenes are dropped.
        black: Level, of 255, below which a frame is black. That is, 98 % of its pixels are below it.
        black_share: Share of the examined frames that may be black, 0 to 1.
        motion: Least mean change of pixels in 1/8 s, or from one picture to the next where pictures stand longer, in
            levels of 255; 0 keeps static scenes.

    Raises:
        ValueError: A setting is out of its range.
    """

    least: float = 1.0
    black: float = 20.0
    black_share: float = 0.5
    motion: float = 0.5

    def __post_init__(self) -> None:
        for name, most in (("least", 1e6), ("black", 255), ("black_share", 1), ("motion", 255)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 to {most}")


@dataclass(frozen=True)
class MotionFilter:
    """A step that skips segments that are too short, black or static, and records how much the others move.

    Args:
        settings: The thresholds.
    """

    settings: MotionFilterSettings

    def __call__(self, record: Record) -> Iterator[Record]:
        """The record with the detail `motion`. Raises UnfitError to skip it."""
        record = with_video_facts(record)
        assert record.stop is not None
        length = record.stop - record.start
        if length < self.settings.least:
            raise UnfitError(f"is too short, {max(length, 0):.2f} s, expected {self.settings.least:g} s or more")
        times, known = frame_times(record.source), measures_of(record.source)
        windows = _windows(times, record, known.apart)
        levels, changes = _measured(record, windows, known)
        black = float(np.mean([level < self.settings.black for level in levels]))
        if black > self.settings.black_share:
            raise UnfitError(f"is black in {black:.0%} of its frames")
        motion = float(np.median([_third_largest(each) for each in changes]))
        if motion < self.settings.motion:
            raise UnfitError(
                f"is static: levels change by {motion:.2f} of 255, expected {self.settings.motion:g} or more"
            )
        yield record.with_details(motion=round(motion, 3))


def _windows(times: NDArray[np.float64], record: Record, of_film: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Numbers of frames, at least 1/8 s apart, in windows over all of a segment. Raises UnfitError."""
    slack = 0.25 / segment_rate(record)
    assert record.stop is not None
    (inside,) = np.nonzero((times > record.start - slack) & (times < record.stop - slack))
    if not len(inside):
        raise UnfitError(f"is empty: no frame begins between {record.start:.2f} and {record.stop:.2f} s")
    examined = of_film[(of_film >= inside[0]) & (of_film <= inside[-1])]
    if len(examined) < LEAST:  # those of the film are elsewhere
        examined = inside[apart(times[inside], record.details["source_fps"])]
    at = times[examined]
    windows = []
    for begin in np.linspace(at[0], max(at[0], at[-1] - SECONDS), WINDOWS):
        first = max(0, np.searchsorted(at, begin + slack) - 1)
        after = np.searchsorted(at, at[first] + SECONDS + slack, side="right")
        windows.append(examined[first : max(after, first + 2)])
    return windows


def _measured(
    record: Record, windows: list[NDArray[np.intp]], known: Measures
) -> tuple[list[float], list[list[float]]]:
    """The levels of all frames in windows, and for each window, how much each frame changes from the one before it.

    What was measured in passing is not decoded again. Raises UnfitError.
    """
    numbers = sorted({int(number) for window in windows for number in window})
    pairs = [[(int(one), int(other)) for one, other in pairwise(window)] for window in windows]
    if not (known.levels.keys() >= set(numbers) and known.changes.keys() >= set(chain.from_iterable(pairs))):
        times, size = frame_times(record.source)[numbers].tolist(), small(*record.details["source_size"])
        known = Measures()
        for number, frame in zip(numbers, frames_at(record.source, times, size), strict=True):
            known.add(number, frame)
    return [known.levels[number] for number in numbers], [[known.changes[pair] for pair in each] for each in pairs]


def _third_largest(changes: list[float]) -> float:
    """The third largest change of a window, or the smallest if there are fewer; 0 without any.

    So pictures that stand for some frames, as in animation, count by how they change; two key frames a second, which
    change a static scene a little, do not.
    """
    return sorted(changes)[-min(3, len(changes))] if changes else 0.0
