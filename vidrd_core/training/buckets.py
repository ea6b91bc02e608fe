"""Aspect-ratio buckets: clips of one shape, from which batches are drawn; images are clips of one frame."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidrd_core.data.manifests import DataError
from vidrd_core.training.datasets import Clips

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, eq=False)
class Bucket:
    """Clips of one source with the same number of frames and the same size.

    Args:
        source: The source's name.
        clips: The source's clips.
        indices: Which of them are in the bucket.
        frames: Frames of each clip.
        size: Width and height that they are scaled and cropped to.
        share: Share of all draws, 0 to 1.
        held_out: Whether they are held out of training.
        probabilities: Of each clip within the bucket, with sum 1; None: all the same.
    """

    source: str
    clips: Clips
    indices: NDArray[np.int64]
    frames: int
    size: Size
    share: float
    held_out: bool = False
    probabilities: NDArray[np.float64] | None = None

    @property
    def name(self) -> str:
        """A name for files."""
        suffix = "_held_out" if self.held_out else ""
        return f"{self.source}_{self.frames}x{self.size[0]}x{self.size[1]}{suffix}"

    def subset(self, which: slice) -> Bucket:
        """A bucket of some of the clips that holds nothing of the others, to be sent to another process."""
        clips, indices = self.clips.subset(self.indices[which])
        return replace(self, clips=clips, indices=indices, probabilities=None)

    def pixels(self, number: int) -> NDArray[np.uint8]:
        """The bucket's clip `number`, uint8 [F, H, W, 3], scaled and cropped to its size."""
        return cover(self.clips.frames(int(self.indices[number])), self.size)


def all_pixels(bucket: Bucket) -> NDArray[np.uint8]:
    """All clips of a bucket, uint8 [clips, F, H, W, 3]."""
    return np.stack([bucket.pixels(number) for number in range(len(bucket.indices))])


@dataclass(frozen=True)
class ClipSlice:
    """Some consecutive frames of a clip.

    Args:
        bucket: Where the clip is.
        number: The clip's number in the bucket.
        start: The first frame.
    """

    bucket: Bucket
    number: int
    start: int


@dataclass(frozen=True)
class BucketSampler:
    """Draws batches from buckets; all clips of a batch have the same size, so that they form one tensor.

    Args:
        buckets: The buckets.
        clip_frames: Frames of a clip (N).
    """

    buckets: tuple[Bucket, ...]
    clip_frames: int
    by_size: dict[tuple[Size, bool], tuple[list[Bucket], NDArray[np.float64]]] = field(init=False)

    def __post_init__(self) -> None:
        by_size = {}
        for size in sorted({bucket.size for bucket in self.buckets}):
            for images in (False, True):
                fitting = [
                    b for b in self.buckets if b.size == size and (images or b.frames >= self.clip_frames) and b.share
                ]
                if fitting:
                    by_size[size, images] = fitting, np.array([bucket.share for bucket in fitting])
        object.__setattr__(self, "by_size", by_size)

    def has(self, images: bool) -> bool:
        """Whether there are clips, or with `images` clips or images, to draw."""
        return any(key[1] == images for key in self.by_size)

    def draw(self, rng: np.random.Generator, count: int, frames: int, images: bool) -> list[ClipSlice]:
        """Draw slices of clips, all of one size, each source by its share.

        Args:
            rng: Decides the size, the clips and their first frames.
            count: How many.
            frames: Frames of each.
            images: Whether images are drawn as well as clips; for single frames.

        Returns:
            `count` slices; those of different buckets are mixed.
        """
        known = [key for key in self.by_size if key[1] == images]
        totals = np.array([self.by_size[key][1].sum() for key in known])
        buckets, shares = self.by_size[known[rng.choice(len(known), p=totals / totals.sum())]]
        which = rng.choice(len(buckets), size=count, p=shares / shares.sum())
        slices: list[ClipSlice | None] = [None] * count
        for i, bucket in enumerate(buckets):
            places = np.flatnonzero(which == i)
            chosen = rng.choice(len(bucket.indices), size=len(places), p=bucket.probabilities)
            starts = rng.integers(bucket.frames - frames + 1, size=len(places))
            for place, number, start in zip(places, chosen, starts, strict=True):
                slices[place] = ClipSlice(bucket, int(number), int(start))
        return [each for each in slices if each is not None]


def into_buckets(
    name: str, clips: Clips, share: float, clip_frames: int, sizes: Sequence[Size], chosen: NDArray[np.int64]
) -> tuple[list[Bucket], dict[str, int]]:
    """Sort clips of a source into buckets, each to the size of the nearest aspect ratio that it covers.

    Args:
        name: The source's name.
        clips: Its clips.
        share: Its share of all draws.
        clip_frames: Frames of a clip (N).
        sizes: Widths and heights of the buckets.
        chosen: Indices of the clips to sort.

    Returns:
        The buckets, and for clips that fit into none the reasons with counts: they cover no size, or have more than
        one frame and fewer than `clip_frames`.

    Raises:
        DataError: No clip fits.
    """
    found: dict[tuple[int, Size], list[int]] = defaultdict(list)
    unfit: Counter[str] = Counter()
    for index in chosen.tolist():
        frames, height, width = clips.shape(index)
        covered = [size for size in sizes if width >= size[0] and height >= size[1]]
        if not covered:
            text = " or ".join(f"{across} x {down}" for across, down in sizes)
            unfit[f"{width} x {height} pixels, too small for {text}: make its shards larger, or train smaller"] += 1
        elif 1 < frames < clip_frames:
            unfit[
                f"{frames} frames, and {clip_frames} are trained: use --frames {clip_frames} for its shards, "
                f"or train fewer"
            ] += 1
        else:
            found[frames, min(covered, key=lambda size: _distance(size, (width, height)))].append(index)
    if not found:
        reason, count = unfit.most_common(1)[0]
        raise DataError(f"source {name} has {count} clips of {reason}")
    total = sum(map(len, found.values()))
    buckets = [
        Bucket(name, clips, np.array(indices), frames, size, share * len(indices) / total)
        for (frames, size), indices in sorted(found.items())
    ]
    return buckets, dict(unfit)


def _distance(one: Size, other: Size) -> float:
    """How far apart two aspect ratios are, as a logarithm; of the same ones the larger size is nearer."""
    return abs(float(np.log(one[0] * other[1] / one[1] / other[0]))) - 1e-9 * one[0]


def cover(frames: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Frames [F, H, W, 3] scaled to cover a size and cropped to it in the middle."""
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
