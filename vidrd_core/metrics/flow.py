"""Optical flow: how much moves in a video, and whether motion changes direction at its seams.

By default flow is Farneback's, from OpenCV. Any other can be passed, such as RAFT's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from vidrd_core.io import MissingPackageError
from vidrd_core.metrics.seams import Array, Video, check_video

Flow = Callable[[Video], Iterator[Array]]
"""A video uint8 [F, H, W, 3] to the flow [H, W, 2] (x, y) of each of its F - 1 steps, in pixels."""

FASTEST = 0.05  # share of a frame's pixels whose speed represents the frame (VBench)
DYNAMIC = 6.0  # pixels per step at a shorter side of 256: a faster step is dynamic (VBench)
DYNAMIC_SHARE = 0.25  # share of dynamic steps that makes a video dynamic (VBench: 4 of 16 frames)
STILL = 1.0  # pixels per step at a shorter side of 256: slower motion has no direction
WINDOW = 3  # steps on either side of a seam


def farneback(video: Video) -> Iterator[Array]:
    """Dense optical flow by Farneback's method.

    Args:
        video: uint8 [F, H, W, 3].

    Yields:
        Flow [H, W, 2] (x, y) in pixels, for each of the F - 1 steps.

    Raises:
        MissingPackageError: OpenCV is not installed.

    Source:
        Farneback, "Two-frame motion estimation based on polynomial expansion", 2003.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingPackageError(
            "optical flow needs OpenCV: pip install opencv-python-headless, or pass another flow function"
        ) from error
    grays = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in video)
    for before, after in pairwise(grays):
        yield cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 4, 11, 5, 5, 1.1, 0)  # type: ignore[call-overload]


def speeds(video: Video, flow: Flow = farneback) -> Array:
    """The mean flow magnitude of the fastest 5 % of the pixels, at each step.

    Args:
        video: uint8 [F, H, W, 3].
        flow: Optical flow.

    Returns:
        [F - 1], in 256ths of the frame's shorter side per step.
    """
    check_video(video, ())
    found = []
    for step in flow(video):
        lengths = np.linalg.norm(step, axis=-1).ravel()
        count = max(1, int(FASTEST * lengths.size))
        found.append(np.partition(lengths, -count)[-count:].mean())
    return np.array(found) * 256 / min(video.shape[1:3])


def is_dynamic(video: Video, flow: Flow = farneback) -> bool:
    """Determine whether a video moves, by the speed of its steps (`speeds`).

    The share of such videos is VBench's dynamic degree, which uses RAFT's flow of videos at 8 frames per second;
    figures from another flow are not comparable with VBench's.

    Args:
        video: uint8 [F, H, W, 3], of two frames or more.
        flow: Optical flow.

    Returns:
        True if as many steps as a quarter of the frames, at least one, are faster than 6 pixels per step at a shorter
        side of 256.

    Source:
        Huang et al., "VBench", CVPR 2024, dynamic degree.
    """
    return are_dynamic(speeds(video, flow))


def are_dynamic(pace: Array) -> bool:
    """Whether the speeds [F - 1] that `speeds` returns are those of a dynamic video."""
    return bool((pace > DYNAMIC).sum() >= max(1, round(DYNAMIC_SHARE * (len(pace) + 1))))


def flow_jump(video: Video, seams: Sequence[int], flow: Flow = farneback, window: int = WINDOW) -> Array:
    """The angle by which the direction of motion changes at each seam.

    The mean flow of the `window` steps before a seam is compared with that of the `window` steps after it, never
    beyond the two clips that meet there and without the step across the seam. Pixels are weighted by their speed, so
    that a small moving object in a large frame counts.

    Args:
        video: uint8 [F, H, W, 3].
        seams: Indices of the first frame of each later clip.
        flow: Optical flow.
        window: Number of steps on either side, 1 or more.

    Returns:
        Degrees [S]: 0 for continuing, 180 for reversed motion; NaN where either side does not move or has no common
        direction, as opposite motions cancel out.

    Raises:
        ValueError: This is not a video, a seam is outside it, or the window is empty.
    """
    check_video(video, seams)
    if window < 1:
        raise ValueError(f"window is {window}, expected 1 step or more")
    means = np.array([_mean_flow(step) for step in flow(video)])
    still = STILL * min(video.shape[1:3]) / 256
    found = []
    for start, seam, end in zip([0, *seams], seams, [*seams[1:], len(video)], strict=False):
        before, after = means[max(start, seam - 1 - window) : seam - 1], means[seam : min(seam + window, end - 1)]
        found.append(_angle(before.sum(0) / window, after.sum(0) / window, still))
    return np.array(found, np.float64)


def _mean_flow(step: Array) -> Array:
    """Mean flow [2] of a step [H, W, 2], pixels weighted by their speed."""
    lengths = np.linalg.norm(step, axis=-1, keepdims=True)
    return np.asarray((step * lengths).sum((0, 1)) / max(lengths.sum(), 1e-9))


def _angle(before: Array, after: Array, still: float) -> float:
    """Degrees between two vectors [2]; NaN if either is shorter than `still`."""
    lengths = float(np.linalg.norm(before)), float(np.linalg.norm(after))
    if min(lengths) < still:
        return float("nan")
    return float(np.degrees(np.arccos(np.clip(before @ after / (lengths[0] * lengths[1]), -1, 1))))
