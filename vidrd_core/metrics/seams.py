"""Seams, loops and mirror images of a video made of clips, measured on its pixels: no weights are needed.

A video is uint8 [F, H, W, 3]. Its seams are the numbers of the first frame of each clip but the first, so clips may
differ in length. Step t is the change from frame t to t + 1; the step across seam s is number s - 1. None of these
numbers means much alone: a video that stands still has perfect seams, so look at its motion too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Video = NDArray[np.uint8]
Features = Callable[[Video], Array]
"""What similarity is measured on: a video to [F, D]."""

LEAST_STEP = 0.01 / 255  # a hundredth of a grey level: nobody sees a smaller change
LOOP_REACH = 4  # frames from a period to the lags beside it that loopiness compares it with
VIEW = 32  # pixels a side, about, at which frames are compared


def steps(video: Video) -> Array:
    """Mean absolute change between neighbouring frames, [F - 1], from 0 to 1."""
    check(video, ())
    return np.array([np.abs(b.astype(np.int16) - a).mean() for a, b in pairwise(video)], np.float64) / 255


def seam_ratio(video: Video, seams: Sequence[int]) -> Array:
    """The step across each seam over the median step inside clips, [S].

    1 is perfect, much less is a frozen or doubled frame, much more a jump. `LEAST_STEP` is added to both sides, so
    the answer is always finite: 1 for a video that stands still throughout, hundreds for a jump out of stillness.
    """
    return worst_step(video, seams, window=1)


def worst_step(video: Video, seams: Sequence[int], window: int) -> Array:
    """The largest of the `window` steps from each seam on, over the same median as `seam_ratio`, [S].

    A seam alone can be passed by jumping one frame later; with M prompt frames, look at M + 1 steps. The window
    ends with the clip: no seam answers for the next one.
    """
    check(video, seams)
    if window < 1:
        raise ValueError(f"window is {window}, expected 1 step or more")
    changes = steps(video)
    inside = np.delete(changes, [seam - 1 for seam in seams])
    usual = (np.median(inside) if len(inside) else 0.0) + LEAST_STEP
    ends = [*seams[1:], len(video)]
    worst = [changes[seam - 1 : min(seam + window, end) - 1].max() for seam, end in zip(seams, ends, strict=False)]
    return (np.array(worst, np.float64) + LEAST_STEP) / usual


def small_frames(video: Video) -> Array:
    """Frames shrunk to about VIEW pixels by averaging, flat: float32 [F, D]."""
    side = max(1, min(video.shape[1:3]) // VIEW)
    rows, columns = video.shape[1] // side, video.shape[2] // side
    shape = (rows, side, columns, side, 3)
    small = [frame[: rows * side, : columns * side].reshape(shape).mean((1, 3), np.float32) for frame in video]
    return np.stack(small).reshape(len(video), -1)


def similarity(video: Video, lag: int, features: Features = small_frames) -> float:
    """Mean similarity of frames t and t + lag, from -1 to 1; nan if the video is not longer than the lag.

    The similarity of two frames is the cosine of how they differ from the video's mean frame, so a background that
    all share does not count. A frame that is the mean frame has similarity 0 to all: so has a still video.
    """
    check(video, ())
    return _lagged(_differences(video, features), lag)


def loopiness(video: Video, period: int, features: Features = small_frames, reach: int = LOOP_REACH) -> float:
    """How much more similar frames `period` apart are than the trend there: near 1 for a loop, 0 for none.

    The trend is the straight line between the similarities at period - reach and period + reach, at its middle.
    nan if the video has no frames period + reach apart. Motion that repeats by itself (an orbit) is a loop, too.
    """
    check(video, ())
    if not 1 <= reach < period:
        raise ValueError(f"reach is {reach}, expected at least 1 and less than the period of {period} frames")
    differences = _differences(video, features)
    before, at, after = (_lagged(differences, lag) for lag in (period - reach, period, period + reach))
    return at - (before + after) / 2


def mirror_score(video: Video, seams: Sequence[int], features: Features = small_frames) -> Array:
    """How much more each clip is like the clip before run backwards than like that clip itself, [S].

    Towards 1 where it is the mirror image, towards -1 where it is the same again, about 0 where it is neither or
    both; motion that goes on scores a little above 0, for frames close to the seam are alike. Where the clips
    differ in length, the frames next to the seam are compared.
    """
    check(video, seams)
    differences = _differences(video, features)
    scores = []
    for start, seam, end in zip([0, *seams], seams, [*seams[1:], len(video)], strict=False):
        length = min(seam - start, end - seam)
        before, after = differences[seam - length : seam], differences[seam : seam + length]
        mirrored, again = (np.einsum("fd,fd->f", after, other).mean() for other in (before[::-1], before))
        scores.append(float(mirrored - again))
    return np.array(scores, np.float64)


def check(video: Video, seams: Sequence[int]) -> None:
    """Raise ValueError unless these are a video and seams in it."""
    if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or 0 in video.shape:
        raise ValueError(f"expected a video uint8 [F, H, W, 3], got {video.dtype} {list(video.shape)}")
    if any(after <= before for before, after in pairwise([0, *seams, len(video)])):
        raise ValueError(f"seams are {list(seams)}, expected rising frame numbers from 1 to {len(video) - 1}")


def _differences(video: Video, features: Features) -> Array:
    """Each frame's difference from the mean frame, scaled to length 1, or 0 where there is none: [F, D]."""
    values = features(video).astype(np.float64)
    rounding = 1e-5 * np.linalg.norm(values, axis=1).max()
    values -= values.mean(0)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.where(lengths > rounding, values / np.maximum(lengths, np.finfo(np.float64).tiny), 0)


def _lagged(differences: Array, lag: int) -> float:
    if lag < 1:
        raise ValueError(f"lag is {lag}, expected 1 frame or more")
    if lag >= len(differences):
        return float("nan")
    return float(np.einsum("fd,fd->f", differences[:-lag], differences[lag:]).mean())
