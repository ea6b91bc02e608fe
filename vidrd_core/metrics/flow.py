"""Optical flow: how much moves in a video, and whether the motion turns at its seams.

Flow is Farneback's (2003), by OpenCV, unless another is given: RAFT, or whatever gives pixels a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from vidrd_core.metrics.seams import Array, Video, check

Flow = Callable[[Video], Iterator[Array]]
"""A video uint8 [F, H, W, 3] to the flow [H, W, 2] (x, y) of each of its F - 1 steps, in pixels."""

FASTEST = 0.05  # share of a frame's pixels that a frame's motion is told by (VBench)
DYNAMIC = 6.0  # pixels a step, of 256: from there on a step is dynamic (VBench)
DYNAMIC_SHARE = 0.25  # of a video's steps, so that the video is dynamic (VBench: 4 of 16 frames)
STILL = 1.0  # pixels a step, of 256: slower is standing still, and points nowhere
WINDOW = 3  # steps to either side of a seam


class MissingError(ImportError):
    """A package that a measure needs is not installed."""


def farneback(video: Video) -> Iterator[Array]:
    """Farneback's flow. Raises MissingError without OpenCV."""
    try:
        import cv2
    except ImportError as error:
        raise MissingError(
            "optical flow needs OpenCV: pip install opencv-python-headless, or give a flow of your own"
        ) from error
    grays = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in video)
    for before, after in pairwise(grays):
        yield cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 4, 11, 5, 5, 1.1, 0)  # type: ignore[call-overload]


def speeds(video: Video, flow: Flow = farneback) -> Array:
    """The mean length of the fastest twentieth of each step's flow, in 256ths of the shorter side, [F - 1]."""
    check(video, ())
    found = []
    for step in flow(video):
        lengths = np.linalg.norm(step, axis=-1).ravel()
        count = max(1, int(FASTEST * lengths.size))
        found.append(np.partition(lengths, -count)[-count:].mean())
    return np.array(found) * 256 / min(video.shape[1:3])


def is_dynamic(video: Video, flow: Flow = farneback) -> bool:
    """Whether a video moves: a quarter of its steps or more are of 6 pixels of 256 or more.

    The share of such videos is the dynamic degree of VBench (Huang et al., 2024), which takes RAFT's flow of videos
    at 8 frames a second; with other flow, figures are not VBench's.
    """
    return bool((speeds(video, flow) > DYNAMIC).sum() >= max(1, round(DYNAMIC_SHARE * len(video))))


def flow_jump(video: Video, seams: Sequence[int], flow: Flow = farneback, window: int = WINDOW) -> Array:
    """By how many degrees motion turns at each seam, [S]: 0 where it goes on, 180 where it turns back.

    The mean flow of the `window` steps before a seam is compared with that after it, of none of other clips, nor of
    the step across. Pixels count by how fast they move, so that a small thing in a large frame has its say. nan where
    there is no motion on either side, or none that points anywhere: what moves both ways cancels out.
    """
    check(video, seams)
    if window < 1:
        raise ValueError(f"window is {window}, expected 1 step or more")
    means = np.array([_main(step) for step in flow(video)])
    still = STILL * min(video.shape[1:3]) / 256
    found = []
    for start, seam, end in zip([0, *seams], seams, [*seams[1:], len(video)], strict=False):
        before, after = means[max(start, seam - 1 - window) : seam - 1], means[seam : min(seam + window, end - 1)]
        found.append(_angle(before.sum(0) / window, after.sum(0) / window, still))
    return np.array(found, np.float64)


def _main(step: Array) -> Array:
    """Mean flow [2] of a step [H, W, 2], each pixel with its speed for a weight."""
    lengths = np.linalg.norm(step, axis=-1, keepdims=True)
    return np.asarray((step * lengths).sum((0, 1)) / max(lengths.sum(), 1e-9))


def _angle(before: Array, after: Array, still: float) -> float:
    lengths = float(np.linalg.norm(before)), float(np.linalg.norm(after))
    if min(lengths) < still:
        return float("nan")
    return float(np.degrees(np.arccos(np.clip(before @ after / (lengths[0] * lengths[1]), -1, 1))))
