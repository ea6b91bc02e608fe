"""Seams between clips, loops and mirrored motion, measured on the pixels of a video; no network is needed.

A video is uint8 [F, H, W, 3]. Its seams are the indices of the first frame of every clip but the first, so clips may
differ in length. Step t is the change from frame t to frame t + 1; the step across seam s is step s - 1. No single
figure is conclusive: a video without motion has perfect seams, so read these together with the metrics of motion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Video = NDArray[np.uint8]
Features = Callable[[Video], Array]
"""Features [F, D] of the frames of a video uint8 [F, H, W, 3]."""

MIN_STEP = 0.01 / 255  # a hundredth of a gray level: smaller changes are invisible
LOOP_REACH = 4  # frames between a period and the two lags that loopiness compares it with
THUMBNAIL_SIZE = 32  # pixels per side, about, at which frames are compared


@dataclass(frozen=True)
class ClipBoundaries:
    """Where the clips of a video meet.

    Args:
        seams: Index of the first frame of each clip after the first.
        window: Number of steps from a seam on that `worst_step` considers: M + 1 for M prompt frames.
        periods: Lags in frames at which the video may loop: N and 2N for clips of N frames.
    """

    seams: tuple[int, ...] = ()
    window: int = 1
    periods: tuple[int, ...] = ()

    @classmethod
    def regular(cls, length: int, frames: int, repeated: int = 0, prompt_frames: int = 0) -> ClipBoundaries:
        """Compute the boundaries of a video whose clips all have the same number of frames.

        Args:
            length: Frames of the video.
            frames: Frames of a clip (N), 1 or more.
            repeated: Leading frames of later clips that repeat the clip before and are not shown, 0 to N - 1.
            prompt_frames: Prompt frames of later clips (M), 0 to N - 1.

        Returns:
            A seam every N - `repeated` frames from frame N on, a window of M + 1 steps, and the periods
            N - `repeated`, N and 2N; no periods if there is no seam.

        Raises:
            ValueError: A number is out of range.
        """
        if frames < 1:
            raise ValueError(f"frames is {frames}, expected the 1 or more that a clip has")
        for name, value in (("repeated", repeated), ("prompt_frames", prompt_frames)):
            if not 0 <= value < frames:
                raise ValueError(f"{name} is {value}, expected 0 or more and less than the {frames} frames of a clip")
        seams = tuple(range(frames, length, frames - repeated))
        return cls(seams, prompt_frames + 1, (frames - repeated, frames, 2 * frames) if seams else ())


NO_SEAMS = ClipBoundaries()


def frame_changes(video: Video) -> Array:
    """Mean absolute change between neighboring frames.

    Args:
        video: uint8 [F, H, W, 3].

    Returns:
        Step sizes [F - 1], 0 to 1.
    """
    check_video(video, ())
    return np.array([np.abs(b.astype(np.int16) - a).mean() for a, b in pairwise(video)], np.float64) / 255


def seam_ratio(video: Video, seams: Sequence[int]) -> Array:
    """The step across each seam divided by the median step inside clips.

    `MIN_STEP` is added to both, so the result is always finite: 1 for a still video, hundreds for a jump in an
    otherwise still one.

    Args:
        video: uint8 [F, H, W, 3].
        seams: Indices of the first frame of each later clip.

    Returns:
        [S]. 1 is perfect, far below 1 is a frozen or duplicated frame, far above 1 is a jump.

    Raises:
        ValueError: This is not a video, or a seam is outside it.
    """
    return worst_step(video, seams, window=1)


def worst_step(video: Video, seams: Sequence[int], window: int) -> Array:
    """The largest of the `window` steps from each seam on, divided by the median step inside clips.

    A clip can pass its seam smoothly and jump a frame later; with M prompt frames use M + 1 steps. The window ends
    with the clip, so no later seam counts.

    Args:
        video: uint8 [F, H, W, 3].
        seams: Indices of the first frame of each later clip.
        window: Number of steps, 1 or more.

    Returns:
        [S], in the unit of `seam_ratio`.

    Raises:
        ValueError: This is not a video, a seam is outside it, or the window is empty.
    """
    check_video(video, seams)
    if window < 1:
        raise ValueError(f"window is {window}, expected 1 step or more")
    changes = frame_changes(video)
    inside = np.delete(changes, [seam - 1 for seam in seams])
    usual = (np.median(inside) if len(inside) else 0.0) + MIN_STEP
    ends = [*seams[1:], len(video)]
    worst = [changes[seam - 1 : min(seam + window, end) - 1].max() for seam, end in zip(seams, ends, strict=False)]
    return (np.array(worst, np.float64) + MIN_STEP) / usual


def thumbnail_features(video: Video) -> Array:
    """Frames averaged down to about 32 pixels per side and flattened: float32 [F, D]."""
    side = max(1, min(video.shape[1:3]) // THUMBNAIL_SIZE)
    rows, columns = video.shape[1] // side, video.shape[2] // side
    shape = (rows, side, columns, side, 3)
    small = [frame[: rows * side, : columns * side].reshape(shape).mean((1, 3), np.float32) for frame in video]
    return np.stack(small).reshape(len(video), -1)


def similarity(video: Video, lag: int, features: Features = thumbnail_features) -> float:
    """Mean similarity of frames t and t + lag.

    The similarity of two frames is the cosine between their differences from the video's mean frame, so a background
    common to all frames does not count. A frame equal to the mean frame, as in a still video, has similarity 0.

    Args:
        video: uint8 [F, H, W, 3].
        lag: Distance in frames, 1 or more.
        features: What frames are compared by.

    Returns:
        -1 to 1; NaN if the video is not longer than the lag.
    """
    check_video(video, ())
    return _mean_lagged_cosine(_centered(video, features), lag)


def loopiness(video: Video, period: int, features: Features = thumbnail_features, reach: int = LOOP_REACH) -> float:
    """How much more similar frames `period` apart are than the trend of similarity over lags predicts.

    The trend is the mean of the similarities at lags period - reach and period + reach. Motion that is periodic by
    itself, such as an orbit, is a loop as well.

    Args:
        video: uint8 [F, H, W, 3].
        period: Lag in frames at which a loop is expected.
        features: What frames are compared by.
        reach: Distance in frames to the two lags compared with, 1 to period - 1.

    Returns:
        Near 1 for a loop, 0 for none; NaN if the video has no frames period + reach apart.

    Raises:
        ValueError: `reach` is out of range.
    """
    check_video(video, ())
    if not 1 <= reach < period:
        raise ValueError(f"reach is {reach}, expected at least 1 and less than the period of {period} frames")
    differences = _centered(video, features)
    before, at, after = (_mean_lagged_cosine(differences, lag) for lag in (period - reach, period, period + reach))
    return at - (before + after) / 2


def mirror_score(video: Video, seams: Sequence[int], features: Features = thumbnail_features) -> Array:
    """How much more each clip resembles the previous clip played backwards than the previous clip itself.

    Continuing motion scores slightly above 0, because frames near a seam are alike. If two clips differ in length,
    only the frames next to their seam are compared.

    Args:
        video: uint8 [F, H, W, 3].
        seams: Indices of the first frame of each later clip.
        features: What frames are compared by.

    Returns:
        [S]. Towards 1 for a mirror image in time, towards -1 for a repetition, about 0 for neither or both.
    """
    check_video(video, seams)
    differences = _centered(video, features)
    scores = []
    for start, seam, end in zip([0, *seams], seams, [*seams[1:], len(video)], strict=False):
        length = min(seam - start, end - seam)
        before, after = differences[seam - length : seam], differences[seam : seam + length]
        mirrored, repeated = (np.einsum("fd,fd->f", after, other).mean() for other in (before[::-1], before))
        scores.append(float(mirrored - repeated))
    return np.array(scores, np.float64)


def check_video(video: Video, seams: Sequence[int]) -> None:
    """Check that this is a video with seams in it.

    Args:
        video: What should be a video uint8 [F, H, W, 3].
        seams: What should be rising indices of its frames, from 1.

    Raises:
        ValueError: It is not.
    """
    if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or 0 in video.shape:
        raise ValueError(f"expected a video uint8 [F, H, W, 3], got {video.dtype} {list(video.shape)}")
    if any(after <= before for before, after in pairwise([0, *seams, len(video)])):
        raise ValueError(f"seams are {list(seams)}, expected rising frame numbers from 1 to {len(video) - 1}")


def _centered(video: Video, features: Features) -> Array:
    """Each frame's difference from the mean frame, scaled to length 1, or 0 where there is none: [F, D]."""
    values = features(video).astype(np.float64)
    rounding = 1e-5 * np.linalg.norm(values, axis=1).max()
    values -= values.mean(0)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.where(lengths > rounding, values / np.maximum(lengths, np.finfo(np.float64).tiny), 0)


def _mean_lagged_cosine(differences: Array, lag: int) -> float:
    """Mean dot product of rows `lag` apart."""
    if lag < 1:
        raise ValueError(f"lag is {lag}, expected 1 frame or more")
    if lag >= len(differences):
        return float("nan")
    return float(np.einsum("fd,fd->f", differences[:-lag], differences[lag:]).mean())
