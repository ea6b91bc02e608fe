"""Clips of all sources in groups of one shape, drawn by their shares; images are clips of one frame."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidrd_core.data.shards import DataError
from vidrd_core.training.datasets import Clips

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, eq=False)
class Group:
    """Clips of a source that are alike in frames and size."""

    source: str
    clips: Clips
    numbers: NDArray[np.int64]  # of its clips in the source
    frames: int
    size: Size  # to which they are cut
    share: float  # of all that is drawn
    held_out: bool = False
    chances: NDArray[np.float64] | None = None  # of each clip, adding up to 1; alike unless told

    @property
    def name(self) -> str:
        """A name for files."""
        kept = "_held_out" if self.held_out else ""
        return f"{self.source}_{self.frames}x{self.size[0]}x{self.size[1]}{kept}"

    def part(self, which: slice) -> Group:
        """Some of its clips, and nothing of the others: for another process."""
        clips, numbers = self.clips.part(self.numbers[which])
        return replace(self, clips=clips, numbers=numbers, chances=None)

    def pixels(self, number: int) -> NDArray[np.uint8]:
        """The frames of the group's clip, uint8 [F, H, W, 3], cut to its size."""
        return fitted(self.clips.frames(int(self.numbers[number])), self.size)


def pixels_of(group: Group) -> NDArray[np.uint8]:
    """The frames of all of a group's clips, uint8 [clips, F, H, W, 3]."""
    return np.stack([group.pixels(number) for number in range(len(group.numbers))])


@dataclass(frozen=True)
class Pick:
    """A stretch of a clip."""

    group: Group
    number: int  # of the clip in the group
    start: int  # its first frame


@dataclass(frozen=True)
class Pool:
    """What batches are drawn from; all of a batch have one size, so that they fit into one tensor."""

    groups: tuple[Group, ...]
    whole: int  # frames of a clip
    sizes: dict[tuple[Size, bool], tuple[list[Group], NDArray[np.float64]]] = field(init=False)

    def __post_init__(self) -> None:
        sizes = {}
        for size in sorted({group.size for group in self.groups}):
            for still in (False, True):
                fitting = [g for g in self.groups if g.size == size and (still or g.frames >= self.whole) and g.share]
                if fitting:
                    sizes[size, still] = fitting, np.array([group.share for group in fitting])
        object.__setattr__(self, "sizes", sizes)

    def has(self, still: bool) -> bool:
        """Whether there is anything to draw."""
        return any(key[1] == still for key in self.sizes)

    def draw(self, rng: np.random.Generator, count: int, frames: int, still: bool) -> list[Pick]:
        """`count` stretches of `frames` frames of one size, each source by its share; `still`: of images, too."""
        known = [key for key in self.sizes if key[1] == still]
        totals = np.array([self.sizes[key][1].sum() for key in known])
        groups, shares = self.sizes[known[rng.choice(len(known), p=totals / totals.sum())]]
        which = rng.choice(len(groups), size=count, p=shares / shares.sum())
        picks: list[Pick | None] = [None] * count
        for i, group in enumerate(groups):
            places = np.flatnonzero(which == i)
            chosen = rng.choice(len(group.numbers), size=len(places), p=group.chances)
            starts = rng.integers(group.frames - frames + 1, size=len(places))
            for place, number, start in zip(places, chosen, starts, strict=True):
                picks[place] = Pick(group, int(number), int(start))
        return [pick for pick in picks if pick is not None]


def grouped(
    name: str, clips: Clips, share: float, whole: int, sizes: Sequence[Size], chosen: NDArray[np.int64]
) -> tuple[list[Group], dict[str, int]]:
    """The chosen clips of a source by shape, each put into the size of nearest aspect ratio that it covers.

    Clips that cover none, or have more than one frame and fewer than `whole`, are left out: reasons with their
    counts. Raises DataError if none is left.
    """
    found: dict[tuple[int, Size], list[int]] = defaultdict(list)
    unfit: Counter[str] = Counter()
    for number in chosen.tolist():
        frames, height, width = clips.shape(number)
        covered = [size for size in sizes if width >= size[0] and height >= size[1]]
        if not covered:
            told = " or ".join(f"{across} x {down}" for across, down in sizes)
            unfit[f"{width} x {height} pixels, too small for {told}: make its shards larger, or train smaller"] += 1
        elif 1 < frames < whole:
            unfit[
                f"{frames} frames, and {whole} are trained: use --frames {whole} for its shards, or train fewer"
            ] += 1
        else:
            found[frames, min(covered, key=lambda size: _unlike(size, (width, height)))].append(number)
    if not found:
        reason, count = unfit.most_common(1)[0]
        raise DataError(f"source {name} has {count} clips of {reason}")
    total = sum(map(len, found.values()))
    groups = [
        Group(name, clips, np.array(numbers), frames, size, share * len(numbers) / total)
        for (frames, size), numbers in sorted(found.items())
    ]
    return groups, dict(unfit)


def _unlike(one: Size, other: Size) -> float:
    """How far apart two aspect ratios are; of those alike the larger size is nearer."""
    return abs(float(np.log(one[0] * other[1] / one[1] / other[0]))) - 1e-9 * one[0]


def fitted(frames: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Frames [F, H, W, 3] scaled to cover a size, and cut to it in the middle."""
    height, width = frames.shape[1:3]
    if (width, height) == size:
        return frames
    factor = max(size[0] / width, size[1] / height)
    across, down = max(size[0], round(width * factor)), max(size[1], round(height * factor))
    left, top = (across - size[0]) // 2, (down - size[1]) // 2
    box = (left, top, left + size[0], top + size[1])
    if (across, down) == (width, height):
        return np.ascontiguousarray(frames[:, box[1] : box[3], box[0] : box[2]])
    scaled = (Image.fromarray(frame).resize((across, down), Image.Resampling.LANCZOS).crop(box) for frame in frames)
    return np.stack([np.asarray(image) for image in scaled])
