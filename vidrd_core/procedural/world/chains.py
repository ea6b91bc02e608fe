"""How a long video of the drawn world goes on: whether it stays the same instance, and its law holds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidrd_core.procedural.shapes import EXTENTS
from vidrd_core.procedural.world.alignment import alignment
from vidrd_core.procedural.world.captions import Wanted
from vidrd_core.procedural.world.motion import predict, torus_distance
from vidrd_core.procedural.world.readout import Readout, difference, read_out

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
        faithful: Whether each clip shows what the caption says [K].
    """

    kept: tuple[bool, ...]
    seam_error: tuple[float, ...]
    step: float
    direction: tuple[float, ...]
    faithful: tuple[bool, ...]


def measure_chain(frames: NDArray[np.uint8], starts: Sequence[int], wanted: Wanted) -> ChainFigures:
    """Measure a long video against what its caption says.

    Args:
        frames: uint8 [F, S, S, 3].
        starts: Numbers of the frames with which clips begin, from 0 on; each clip has 4 or more.
        wanted: What the caption says.

    Returns:
        Its figures.

    Raises:
        ValueError: A clip has too few frames.
    """
    ends = [*starts[1:], len(frames)]
    if short := [end - start for start, end in zip(starts, ends, strict=True) if end - start < 4]:
        raise ValueError(f"a clip has {short[0]} frames, expected 4 or more")
    clips = [read_out(frames[start:end]) for start, end in zip(starts, ends, strict=True)]
    seams = [_seam(before, after, wanted.motion) for before, after in itertools.pairwise(clips)]
    apart = [difference(clips[0], each) for each in clips[1:]]
    steps = [PIXELS * torus_distance(each.position[1:], each.position[:-1]) for each in clips]
    seen = np.concatenate(steps)
    return ChainFigures(
        kept=tuple(each is not None and each.is_same for each in apart),
        seam_error=tuple(error for error, _ in seams),
        step=float(np.nanmedian(seen)) if np.isfinite(seen).any() else float("nan"),
        direction=tuple(direction for _, direction in seams),
        faithful=tuple(alignment(wanted, each).all for each in clips),
    )


def _seam(before: Readout, after: Readout, motion: str) -> tuple[float, float]:
    """The error in the first frame after a seam, in pixels, and whether the direction is kept (1, 0, or NaN)."""
    unknown = float("nan")
    if not (before.visible.all() and after.visible.all()):
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
