"""How a video looks, frame by frame, and how that drifts from clip to clip: no weights are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vidrd_core.metrics.seams import Array, Video, check
from vidrd_core.video.tensors import LUMA


@dataclass(frozen=True)
class Drift:
    """How one trait goes: `slope` a clip, by least squares, and `change` from the first clip to the last."""

    slope: float
    change: float


def drift(video: Video, seams: Sequence[int]) -> dict[str, Drift]:
    """The drift of each of `TRAITS` in a video uint8 [F, H, W, 3] of clips that begin at 0 and at the seams.

    What counts is a clip's mean, so motion within clips does not. Zero for a single clip. Raises ValueError for what
    is no video.
    """
    check(video, seams)
    edges = [0, *seams, len(video)]
    drifts = {}
    for name, trait in TRAITS.items():
        values = trait(video)
        means = np.array([values[start:end].mean() for start, end in pairwise(edges)])
        clips = np.arange(len(means)) - (len(means) - 1) / 2
        slope = float(clips @ means / (clips @ clips)) if len(means) > 1 else 0.0
        drifts[name] = Drift(slope, float(means[-1] - means[0]))
    return drifts


def brightness(video: Video) -> Array:
    """Mean luma of each frame, [F], 0 to 1."""
    return np.array([luma(frame).mean() for frame in video])


def contrast(video: Video) -> Array:
    """Standard deviation of luma in each frame, [F], 0 to 0.5."""
    return np.array([luma(frame).std() for frame in video])


def saturation(video: Video) -> Array:
    """Mean of the largest less the smallest of red, green and blue, [F], 0 for gray to 1."""
    return np.array([np.ptp(frame, axis=-1).mean() for frame in video]) / 255


def sharpness(video: Video) -> Array:
    """Variance of luma's Laplacian in each frame, [F] (Pech-Pacheco et al., 2000); 0 for an even frame."""
    found = []
    for frame in video:
        y = np.pad(luma(frame), 1, mode="edge")
        around = y[:-2, 1:-1] + y[2:, 1:-1] + y[1:-1, :-2] + y[1:-1, 2:]
        found.append((around - 4 * y[1:-1, 1:-1]).var())
    return np.array(found)


def luma(frame: Video) -> Array:
    """[H, W], 0 to 1, of a frame [H, W, 3]."""
    return np.asarray(frame @ LUMA / 255)


TRAITS: dict[str, Callable[[Video], Array]] = {
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "sharpness": sharpness,
}
