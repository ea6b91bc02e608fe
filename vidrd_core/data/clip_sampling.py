"""How large clips are, how many frames they have, and where in a video they are taken."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidrd_core.data.decoding import facts_of, frames_at
from vidrd_core.data.records import Record, UnfitError

SIDE = 8  # pixels that a latent of Stable Diffusion stands for; sides of clips are multiples of it
LARGEST = 16384  # pixels along a side
CHOICES = ("middle", "random", "spread", "all")


@dataclass(frozen=True)
class ClipSettings:
    """The clips that videos are cut into. Raises ValueError for what cannot be.

    With `height`, clips are `size` x `height` pixels, cut from the middle; without, their shorter side is `size` and
    they keep the video's aspect ratio, as near as multiples of eight pixels come.
    """

    frames: int = 8
    fps: float = 8.0  # frames a second of a clip; 0 takes the video's own
    size: int = 256
    height: int | None = None
    choice: Literal["middle", "random", "spread", "all"] = "middle"
    clips: int = 1  # of a stretch of video; `all` takes as many as there are, one after the other
    enlarge: bool = False  # take videos that have fewer pixels than a clip, too
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("frames", 1, 4096),
            ("size", SIDE, LARGEST),
            ("clips", 1, 10000),
            ("seed", 0, None),
        ):
            value = getattr(self, name)
            if value < least or (most and value > most):
                expected = f"{least} to {most}" if most else f"{least} or more"
                raise ValueError(f"{name} is {value}, expected {expected}")
        for name in ("size", "height"):
            value = getattr(self, name)
            if value is not None and (value < SIDE or value % SIDE):
                raise ValueError(f"{name} is {value}, expected a multiple of {SIDE} pixels")
        if not (math.isfinite(self.fps) and 0 <= self.fps <= 1000):
            raise ValueError(f"fps is {self.fps}, expected 0 (the video's own) to 1000")
        if self.choice not in CHOICES:
            raise ValueError(f"choice is {self.choice!r}, expected one of {', '.join(CHOICES)}")

    def sides(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The size to which a picture is scaled, and the clip's, which is cut from its middle; width and height.

        Raises UnfitError for a picture with too few pixels.
        """
        if self.height:
            clip = (self.size, self.height)
        else:
            factor = self.size / min(width, height)
            clip = tuple(max(self.size, int(side * factor + 1e-6) // SIDE * SIDE) for side in (width, height))  # type: ignore[assignment]
        if max(clip) > LARGEST:
            raise UnfitError(
                f"is {width} x {height} pixels, and clips of it {clip[0]} x {clip[1]}, over {LARGEST} a side"
            )
        factor = max(clip[0] / width, clip[1] / height)
        if factor > 1 and not self.enlarge:
            raise UnfitError(
                f"is {width} x {height} pixels, fewer than the clip's {clip[0]} x {clip[1]}: make smaller clips, or "
                f"allow to enlarge"
            )
        scaled = (max(clip[0], round(width * factor)), max(clip[1], round(height * factor)))
        return scaled, clip

    def begins(self, record: Record, fps: float) -> list[float]:
        """When the clips of a stretch begin, in seconds. Raises UnfitError for a stretch that is too short."""
        assert record.stop is not None
        length, room = self.frames / fps, record.stop - record.start
        spare = room - length
        if spare < -0.5 / fps:
            raise UnfitError(
                f"is {room:.2f} s long, too short for {self.frames} frames at {fps:g} a second ({length:.2f} s)"
            )
        spare = max(0.0, spare)
        if self.choice == "middle":
            return [record.start + spare / 2]
        if self.choice == "random":
            return sorted(record.start + record.rng(self.seed).uniform(0, spare, self.clips))
        fitting = 1 + int(spare / length + 1e-6)
        if self.choice == "all":
            return [record.start + length * i for i in range(fitting)]
        count = min(self.clips, fitting)  # no two that overlap
        return [record.start + spare * (i + 0.5) / count for i in range(count)]


@dataclass(frozen=True)
class Cut:
    """A step: a stretch of video -> its clips, with frames."""

    settings: ClipSettings

    def __post_init__(self) -> None:
        if self.settings.choice == "middle" and self.settings.clips > 1:
            raise ValueError(
                f"clips is {self.settings.clips} and choice middle, which is one clip: use spread, random or all"
            )

    def __call__(self, record: Record) -> Iterator[Record]:
        record = measured(record)
        facts = record.details
        fps = self.settings.fps or facts["source_fps"]
        if facts["source_fps"] < 0.99 * fps:
            raise UnfitError(
                f"has {facts['source_fps']:.4g} frames a second, fewer than the clip's {fps:g}: ask for fewer, or 0, "
                f"its own"
            )
        scaled, clip = self.settings.sides(*facts["source_size"])
        for number, begin in enumerate(self.settings.begins(record, fps)):
            times = [begin + i / fps for i in range(self.settings.frames)]
            frames = middle(frames_at(record.source, times, scaled), clip)
            details = {**record.details, "begin": round(begin, 4)}
            yield replace(record, frames=frames, fps=fps, number=number, details=details)


def measured(record: Record) -> Record:
    """The record with its video's rate and size, and where it ends. Raises UnfitError."""
    if "source_fps" in record.details:
        return record
    facts = facts_of(record.source)
    if record.start >= facts.seconds:
        raise UnfitError(f"is {facts.seconds:.2f} s long, and should begin at {record.start:.2f} s")
    stop = facts.seconds if record.stop is None else min(record.stop, facts.seconds)
    details = {**record.details, "source_fps": facts.fps, "source_size": (facts.width, facts.height)}
    return replace(record, stop=stop, details=details)


def middle(frames: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The middle of frames [F, H, W, 3], of a size (width, height)."""
    left, top = ((whole - part) // 2 for whole, part in zip(frames.shape[2:0:-1], size, strict=True))
    return np.ascontiguousarray(frames[:, top : top + size[1], left : left + size[0]])
