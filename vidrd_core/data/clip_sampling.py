"""Sampling clips from video: how large they are, how many frames they have, where they begin."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidrd_core.data.decoding import facts_of, frame_times, frames_at_each
from vidrd_core.data.records import Record, UnfitError

MULTIPLE = 8  # pixels for each latent of Stable Diffusion: the sides of clips are multiples of it
LARGEST_SIDE = 16384  # pixels
ROUNDING = 0.02  # seconds: what a file's rounding of times, in GIF to 10 ms, makes of the length of a segment
CHOICES = ("middle", "random", "spread", "all")


@dataclass(frozen=True)
class ClipSettings:
    """The clips that are sampled from videos.

    Args:
        frames: Frames of a clip (N), 1 to 4096.
        fps: Frames a second of a clip, 0 to 1000; 0 takes the video's own rate.
        size: Shorter side in pixels, a multiple of 8; with a height, the width.
        height: Height in pixels, a multiple of 8, of clips cropped from the middle. None keeps the video's aspect
            ratio, as nearly as multiples of 8 pixels do.
        choice: Which clips of a video or scene: the middle one, random ones, evenly spread ones, or all of them.
        clips: Clips of each image, video or scene, at most. "all" takes as many as there are.
        enlarge: Also use files with fewer pixels than a clip.
        seed: Seed of random choices.

    Raises:
        ValueError: A setting is out of its range.
    """

    frames: int = 8
    fps: float = 8.0
    size: int = 256
    height: int | None = None
    choice: Literal["middle", "random", "spread", "all"] = "middle"
    clips: int = 1
    enlarge: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("frames", 1, 4096),
            ("size", MULTIPLE, LARGEST_SIDE),
            ("clips", 1, 10000),
            ("seed", 0, None),
        ):
            value = getattr(self, name)
            if value < least or (most and value > most):
                expected = f"{least} to {most}" if most else f"{least} or more"
                raise ValueError(f"{name} is {value}, expected {expected}")
        for name in ("size", "height"):
            value = getattr(self, name)
            if value is not None and (value < MULTIPLE or value % MULTIPLE):
                raise ValueError(f"{name} is {value}, expected a multiple of {MULTIPLE} pixels")
        if not (math.isfinite(self.fps) and 0 <= self.fps <= 1000):
            raise ValueError(f"fps is {self.fps}, expected 0 (the video's own) to 1000")
        if self.choice not in CHOICES:
            raise ValueError(f"choice is {self.choice!r}, expected one of {', '.join(CHOICES)}")

    def scaled_and_cropped(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The size that frames are scaled to, and the clip's, which is cropped from their middle.

        Args:
            width: Width of the video or image in pixels.
            height: Its height.

        Returns:
            Two pairs of width and height.

        Raises:
            UnfitError: It has too few pixels, or the clip would be too large.
        """
        if self.height:
            clip = (self.size, self.height)
        else:
            factor = self.size / min(width, height)
            clip = tuple(max(self.size, int(side * factor + 1e-6) // MULTIPLE * MULTIPLE) for side in (width, height))  # type: ignore[assignment]
        if max(clip) > LARGEST_SIDE:
            raise UnfitError(
                f"is {width} x {height} pixels, and clips of it {clip[0]} x {clip[1]}, over {LARGEST_SIDE} a side"
            )
        factor = max(clip[0] / width, clip[1] / height)
        if factor > 1 and not self.enlarge:
            raise UnfitError(
                f"is {width} x {height} pixels, fewer than the clip's {clip[0]} x {clip[1]}: make smaller clips, or "
                f"allow enlarging"
            )
        scaled = (max(clip[0], round(width * factor)), max(clip[1], round(height * factor)))
        return scaled, clip

    def start_times(self, record: Record, fps: float) -> list[float]:
        """When the clips of a segment begin, in seconds. Raises UnfitError for a segment that is too short."""
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
        count = min(self.clips, fitting)  # none of which overlap
        return [record.start + spare * (i + 0.5) / count for i in range(count)]


@dataclass(frozen=True)
class SampleClips:
    """A step that samples clips, with their frames, from a segment of video.

    Args:
        settings: Shape and choice of the clips.

    Raises:
        ValueError: More than one clip is asked for of the middle.
    """

    settings: ClipSettings

    def __post_init__(self) -> None:
        if self.settings.choice == "middle" and self.settings.clips > 1:
            raise ValueError(
                f"clips is {self.settings.clips} and choice middle, which is one clip: use spread, random or all"
            )

    def __call__(self, record: Record) -> Iterator[Record]:
        """A record for each clip. Raises UnfitError for a segment that does not fit the settings."""
        record = with_video_facts(record)
        facts, own = record.details, segment_rate(record)
        fps = self.settings.fps or own
        if own < 0.99 * fps:
            raise UnfitError(
                f"has {own:.4g} frames a second, fewer than the clip's {fps:g}: ask for fewer, or 0, its own"
            )
        scaled, clip = self.settings.scaled_and_cropped(*facts["source_size"])
        begins = self.settings.start_times(record, fps)
        times = [[begin + i / fps for i in range(self.settings.frames)] for begin in begins]
        for number, found in enumerate(frames_at_each(record.source, times, scaled)):
            frames, begin = center_crop(found, clip), begins[number]
            details = {**record.details, "begin": round(begin, 4)}
            yield replace(record, frames=frames, fps=fps, number=number, details=details)


def segment_rate(record: Record) -> float:
    """Frames a second of a segment, as most of its frames follow each other; the film's own if that is nearly it.

    Args:
        record: The segment, as `with_video_facts` gives it.

    Returns:
        The rate. Pauses, in which one picture stands long, do not count.

    Raises:
        UnfitError: The film cannot be decoded.
    """
    times, whole = frame_times(record.source), float(record.details["source_fps"])
    assert record.stop is not None
    steps = np.diff(times[(times >= record.start - 0.5 / whole) & (times < record.stop)])
    if not len(steps):
        return whole
    steps = steps[steps <= 1.5 * np.median(steps)]
    return whole if abs(steps.sum() - len(steps) / whole) <= ROUNDING else len(steps) / float(steps.sum())


def with_video_facts(record: Record) -> Record:
    """The record with its video's frame rate, size and damage, if any, as details, and its end. Raises UnfitError."""
    if "source_fps" in record.details:
        return record
    facts = facts_of(record.source)
    if record.start >= facts.seconds:
        raise UnfitError(f"is {facts.seconds:.2f} s long, and the segment begins at {record.start:.2f} s")
    stop = facts.seconds if record.stop is None else min(record.stop, facts.seconds)
    details = {**record.details, "source_fps": facts.fps, "source_size": (facts.width, facts.height)}
    if facts.damage:
        details["damage"] = facts.damage
    return replace(record, stop=stop, details=details)


def center_crop(frames: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The middle of frames [F, H, W, 3], of a size (width, height) in pixels."""
    left, top = ((whole - part) // 2 for whole, part in zip(frames.shape[2:0:-1], size, strict=True))
    return np.ascontiguousarray(frames[:, top : top + size[1], left : left + size[0]])
