"""Low-level appearance of frames, and how it drifts from clip to clip; no network is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vidrd_core.metrics.seams import Array, Video, check_video

LUMA = np.array([0.299, 0.587, 0.114])  # weights of red, green and blue (ITU-R BT.601)


@dataclass(frozen=True)
class Drift:
    """The drift of one frame statistic over the clips of a video.

    Args:
        slope: Change per clip, by least squares over the means of the clips.
        change: Mean of the last clip minus mean of the first clip.
    """

    slope: float
    change: float


def drift(video: Video, seams: Sequence[int]) -> dict[str, Drift]:
    """The drift of brightness, contrast, saturation and sharpness over the clips of a video.

    Only the means of the clips count, so motion within a clip does not.

    Args:
        video: uint8 [F, H, W, 3].
        seams: Indices of the first frame of each later clip.

    Returns:
        A `Drift` for each of `FRAME_STATISTICS`; zero for a single clip.

    Raises:
        ValueError: This is not a video, or a seam is outside it.
    """
    check_video(video, seams)
    edges = [0, *seams, len(video)]
    drifts = {}
    for name, statistic in FRAME_STATISTICS.items():
        values = statistic(video)
        means = np.array([values[start:end].mean() for start, end in pairwise(edges)])
        clips = np.arange(len(means)) - (len(means) - 1) / 2
        slope = float(clips @ means / (clips @ clips)) if len(means) > 1 else 0.0
        drifts[name] = Drift(slope, float(means[-1] - means[0]))
    return drifts


def brightness(video: Video) -> Array:
    """Mean luma of each frame, [F], 0 to 1."""
    return np.array([luma(frame).mean() for frame in video])


def contrast(video: Video) -> Array:
    """Standard deviation of luma in each frame (RMS contrast), [F], 0 to 0.5."""
    return np.array([luma(frame).std() for frame in video])


def saturation(video: Video) -> Array:
    """Mean of the largest minus the smallest of red, green and blue in each frame, [F], 0 for gray to 1."""
    return np.array([np.ptp(frame, axis=-1).mean() for frame in video]) / 255


def sharpness(video: Video) -> Array:
    """Variance of the Laplacian of luma in each frame, [F]; 0 for a uniform frame.

    Source:
        Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", 2000.
    """
    found = []
    for frame in video:
        y = np.pad(luma(frame), 1, mode="edge")
        neighbors = y[:-2, 1:-1] + y[2:, 1:-1] + y[1:-1, :-2] + y[1:-1, 2:]
        found.append((neighbors - 4 * y[1:-1, 1:-1]).var())
    return np.array(found)


def luma(frame: Video) -> Array:
    """Luma [H, W], 0 to 1, of a frame uint8 [H, W, 3]."""
    return np.asarray(frame @ LUMA / 255)


FRAME_STATISTICS: dict[str, Callable[[Video], Array]] = {
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "sharpness": sharpness,
}
