"""A filter that drops segments of video that show nothing: too short, black or static."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidrd_core.data.clip_sampling import segment_rate, with_video_facts
from vidrd_core.data.decoding import frame_times, frames_at
from vidrd_core.data.records import Record, UnfitError
from vidrd_core.metrics.appearance import LUMA

WINDOWS, SECONDS = 8, 1.0  # how many windows of a segment are examined, and their length
APART = 0.125  # seconds between frames that are compared, where frames do not stand longer
SIDE = 64  # pixels of the longer side of frames


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
        width, height = record.details["source_size"]
        factor = SIDE / max(width, height)
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        windows = _windows(frame_times(record.source), record.start, record.stop, segment_rate(record))
        times = sorted({time for window in windows for time in window})
        luma = frames_at(record.source, times, size).astype(np.float64) @ LUMA
        black = float(np.mean(np.quantile(luma, 0.98, axis=(1, 2)) < self.settings.black))
        if black > self.settings.black_share:
            raise UnfitError(f"is black in {black:.0%} of its frames")
        order = {time: i for i, time in enumerate(times)}
        motion = float(np.median([_change(luma[[order[time] for time in window]]) for window in windows]))
        if motion < self.settings.motion:
            raise UnfitError(
                f"is static: levels change by {motion:.2f} of 255, expected {self.settings.motion:g} or more"
            )
        yield record.with_details(motion=round(motion, 3))


def _windows(times: NDArray[np.float64], start: float, stop: float, fps: float) -> list[list[float]]:
    """Times of different frames, at least 1/8 s apart, in windows over all of a segment. Raises UnfitError."""
    slack = 0.25 / fps  # for times that the file rounds
    inside = times[(times > start - slack) & (times < stop - slack)]
    if not len(inside):
        raise UnfitError(f"is empty: no frame begins between {start:.2f} and {stop:.2f} s")
    windows = []
    for begin in np.linspace(inside[0], max(inside[0], inside[-1] - SECONDS), WINDOWS):
        window = [float(inside[max(0, np.searchsorted(inside, begin + slack) - 1)])]
        while True:
            after = max(
                np.searchsorted(inside, window[-1] + APART - slack), np.searchsorted(inside, window[-1], side="right")
            )
            if after >= len(inside) or (len(window) > 1 and inside[after] > window[0] + SECONDS + slack):
                break
            window.append(float(inside[after]))
        windows.append(window)
    return windows


def _change(luma: NDArray[np.float64]) -> float:
    """The third largest mean change from one frame [H, W] to the next.

    So pictures that stand for some frames, as in animation, count by how they change; two key frames a second, which
    change a static scene a little, do not.
    """
    changes = np.sort(np.abs(np.diff(luma, axis=0)).mean(axis=(1, 2)))
    return float(changes[-min(3, len(changes))]) if len(changes) else 0.0
