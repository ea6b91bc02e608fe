"""How a long video of the drawn world goes on: whether it stays the same instance, and its law holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidrd_core.procedural.shapes import EXTENTS
from vidrd_core.procedural.world.alignment import Alignment, alignment
from vidrd_core.procedural.world.captions import Wanted
from vidrd_core.procedural.world.motion import predict, torus_distance
from vidrd_core.procedural.world.readout import Readout, difference, read_out

LEAST = 4  # frames that a clip is read from
AHEAD = 3  # frames after a seam by which a direction is judged
MOVES = 1 / 64  # a thing that moves less within them has no direction
PIXELS = 64  # of a frame's side, in which errors are given


@dataclass(frozen=True)
class ChainFigures:
    """What became of a long video of K clips.

    Args:
        kept: Whether each later clip shows the instance of the first [K - 1].
        seam_error: How far the thing is from where its law puts it in the first frame of each later clip [K - 1], in
            pixels of a frame 64 wide; NaN where nothing can be told.
        step: How far the thing moves from frame to frame within clips, median, in the same pixels.
        direction: Whether the thing, or the ground, goes on in its direction after each seam, as 1 or 0 [K - 1]; NaN
            where nothing moves.
        shown: What of its caption each clip shows [K].
    """

    kept: tuple[bool, ...]
    seam_error: tuple[float, ...]
    step: float
    direction: tuple[float, ...]
    shown: tuple[Alignment, ...]


def measure_chain(video: NDArray[np.uint8], wanted: Wanted, frames: int, repeated: int = 0) -> ChainFigures:
    """Measure a long video against what its caption says.

    Args:
        video: uint8 [F, S, S, 3].
        wanted: What the caption says.
        frames: Frames of a clip, N, 4 or more.
        repeated: Leading frames of later clips that are the last ones of the clip before, and are not shown again.

    Returns:
        Its figures, of complete clips.

    Raises:
        ValueError: A clip has too few frames, or the video is shorter than one.
    """
    if frames < LEAST or len(video) < frames:
        raise ValueError(f"a clip has {min(frames, len(video))} frames, expected {LEAST} or more")
    begins = range(0, len(video) - frames + 1, frames - repeated)
    clips = [read_out(video[start : start + frames]) for start in begins]
    # The frames from the seam on: where some are repeated, not those of the clip.
    shown = [video[start + repeated : start + repeated + frames] for start in begins[1:]]
    after = [read_out(each) if len(each) >= LEAST else None for each in shown] if repeated else clips[1:]
    seams = [_seam(one, other, wanted.motion) for one, other in zip(clips[:-1], after, strict=True)]
    apart = [difference(clips[0], each) for each in clips[1:]]
    steps = np.concatenate([PIXELS * torus_distance(each.position[1:], each.position[:-1]) for each in clips])
    return ChainFigures(
        kept=tuple(each is not None and each.is_same for each in apart),
        seam_error=tuple(error for error, _ in seams),
        step=float(np.nanmedian(steps)) if np.isfinite(steps).any() else float("nan"),
        direction=tuple(direction for _, direction in seams),
        shown=tuple(alignment(wanted, each) for each in clips),
    )


def _seam(before: Readout, after: Readout | None, motion: str) -> tuple[float, float]:
    """The error in the first frame after a seam, in pixels, and whether the direction is kept (1, 0, or NaN)."""
    unknown = float("nan")
    if after is None or not (before.visible.all() and after.visible.all()):
        return unknown, unknown
    edge = EXTENTS.get(before.shape, 1.0) * float(np.mean(before.radius))
    expected = predict(motion, before.position, AHEAD, edge)
    error = PIXELS * float(torus_distance(expected[0], after.position[0]))
    if motion.startswith("follow"):
        moved = [each.ground_moved[1] - each.ground_moved[0] for each in (before, after)]
        return error, _same_way(moved[0] * AHEAD, moved[1] * AHEAD)
    path = [np.unwrap(each[:AHEAD], axis=0, period=1.0) for each in (expected, after.position)]
    return error, _same_way(path[0][-1] - path[0][0], path[1][-1] - path[1][0])


def _same_way(expected: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    """Whether a displacement is within 60 degrees of another; NaN where nothing was expected to move."""
    lengths = np.linalg.norm(expected), np.linalg.norm(found)
    if lengths[0] < MOVES:
        return float("nan")
    return float(lengths[1] > 0 and expected @ found > 0.5 * lengths[0] * lengths[1])
