"""Stretches of video that show something: neither black nor standing still, and long enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vidrd_core.data.clip_sampling import measured
from vidrd_core.data.decoding import frames_at
from vidrd_core.data.records import Record, UnfitError
from vidrd_core.metrics.appearance import LUMA

LOOKS, SIDE = 16, 64  # how many frames are looked at, and their longer side in pixels


@dataclass(frozen=True)
class LivelySettings:
    """What is dropped; our defaults, the paper names none. Levels are of 0 to 255.

    Raises ValueError for what cannot be.
    """

    least: float = 1.0  # seconds; shorter stretches are dropped
    black: float = 20.0  # a frame is black if 98 % of it is darker
    black_share: float = 0.5  # of the frames looked at that may be black
    motion: float = 0.5  # the least mean change of levels between frames an eighth of a second apart

    def __post_init__(self) -> None:
        for name, most in (("least", 1e6), ("black", 255), ("black_share", 1), ("motion", 255)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 to {most}")


@dataclass(frozen=True)
class Lively:
    """A step: gives up a stretch that is too short, black or static, and says how much it moves."""

    settings: LivelySettings

    def __call__(self, record: Record) -> Iterator[Record]:
        record = measured(record)
        assert record.stop is not None
        length = record.stop - record.start
        if length < self.settings.least:
            raise UnfitError(f"is too short, {max(length, 0):.2f} s, expected {self.settings.least:g} s or more")
        room = max(0.0, length - 1 / record.details["source_fps"])  # to when the last frame begins
        width, height = record.details["source_size"]
        factor = SIDE / max(width, height)
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        apart = min(0.125, room / 4)
        begins = [record.start + (room - apart) * i / max(1, LOOKS // 2 - 1) for i in range(LOOKS // 2)]
        times = sorted(time for begin in begins for time in (begin, begin + apart))
        luma = frames_at(record.source, times, size).astype(np.float64) @ LUMA
        black = float(np.mean(np.quantile(luma, 0.98, axis=(1, 2)) < self.settings.black))
        if black > self.settings.black_share:
            raise UnfitError(f"is black in {black:.0%} of its frames")
        order = {time: i for i, time in enumerate(times)}
        changes = [np.abs(luma[order[begin + apart]] - luma[order[begin]]).mean() for begin in begins]
        moved = float(np.median(changes))
        if moved < self.settings.motion:
            raise UnfitError(
                f"is static: levels change by {moved:.2f} of 255, expected {self.settings.motion:g} or more"
            )
        yield record.with_details(motion=round(moved, 3))
