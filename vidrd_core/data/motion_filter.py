"""A filter that drops segments of video that show nothing: too short, black or static."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vidrd_core.data.clip_sampling import with_video_facts
from vidrd_core.data.decoding import frames_at
from vidrd_core.data.records import Record, UnfitError
from vidrd_core.metrics.appearance import LUMA

EXAMINED, SIDE = 16, 64  # how many frames are examined, and their longer side in pixels


@dataclass(frozen=True)
class MotionFilterSettings:
    """What is dropped. The paper gives no thresholds; the defaults are ours. Levels are of 0 to 255.

    Args:
        least: Seconds; shorter scenes are dropped.
        black: Level, of 255, below which a frame is black. That is, 98 % of its pixels are below it.
        black_share: Share of the examined frames that may be black, 0 to 1.
        motion: Least mean change of pixels in 1/8 s, in levels of 255; 0 keeps static scenes.

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
        room = max(0.0, length - 1 / record.details["source_fps"])  # to when the last frame begins
        width, height = record.details["source_size"]
        factor = SIDE / max(width, height)
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        apart = min(0.125, room / 4)
        begins = [record.start + (room - apart) * i / max(1, EXAMINED // 2 - 1) for i in range(EXAMINED // 2)]
        times = sorted(time for begin in begins for time in (begin, begin + apart))
        luma = frames_at(record.source, times, size).astype(np.float64) @ LUMA
        black = float(np.mean(np.quantile(luma, 0.98, axis=(1, 2)) < self.settings.black))
        if black > self.settings.black_share:
            raise UnfitError(f"is black in {black:.0%} of its frames")
        order = {time: i for i, time in enumerate(times)}
        changes = [np.abs(luma[order[begin + apart]] - luma[order[begin]]).mean() for begin in begins]
        motion = float(np.median(changes))
        if motion < self.settings.motion:
            raise UnfitError(
                f"is static: levels change by {motion:.2f} of 255, expected {self.settings.motion:g} or more"
            )
        yield record.with_details(motion=round(motion, 3))
