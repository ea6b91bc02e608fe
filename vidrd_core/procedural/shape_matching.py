"""Which shape a mask has and how far it is turned, by the overlap with templates."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vidrd_core.procedural.shapes import SHAPES, Array, signed_distance

PERIODS = {"square": math.pi / 2, "triangle": 2 * math.pi / 3, "star": 2 * math.pi / 5, "cross": math.pi / 2}
MIN_SHAPE_SCORE, MIN_RING_SCORE = 0.78, 0.72  # lower for rings: blur fills the hole, but nothing else looks like one
MIN_SHAPE_LEAD = 0.035  # least lead over the next best shape, which a shapeless blob does not have
MIN_SHAPE_SHARE = 2 / 3  # least share of frames where the best shape is the best: a morphing one has none
GRID, SPAN = 28, 1.75  # a normalized mask has GRID^2 samples over +-SPAN radii of the disc of equal area
ANGLE_STEP = math.radians(5)


@lru_cache(maxsize=1)
def templates() -> tuple[Array, Array, NDArray[np.int64], dict[str, float]]:
    """Masks [N, GRID^2], angles [N] and shapes [N] of the templates, and each shape's area in squared radii."""
    masks, angles, kinds, areas = [], [], [], {}
    fine = np.linspace(-1.5, 1.5, 601)
    grid = np.linspace(-SPAN, SPAN, GRID)
    for kind, shape in enumerate(SHAPES):
        areas[shape] = float((signed_distance(shape, fine[None, :], fine[:, None]) < 0).sum() * (3 / 600) ** 2)
        unit = math.sqrt(areas[shape] / math.pi)
        count = round(PERIODS[shape] / ANGLE_STEP) if shape in PERIODS else 1
        for turn in np.arange(count) * ANGLE_STEP:
            x, y = grid[None, :] * unit, grid[:, None] * unit
            x, y = math.cos(turn) * x + math.sin(turn) * y, math.cos(turn) * y - math.sin(turn) * x
            masks.append(np.clip(0.5 - signed_distance(shape, x, y) / 0.12, 0, 1).ravel())
            angles.append(turn)
            kinds.append(kind)
    return np.array(masks, np.float32), np.array(angles), np.array(kinds), areas


def normalize(mask: Array, area: Array, x: Array, y: Array) -> Array:
    """Masks [F, H, W] resampled around their centroids to the same area: [F, GRID * GRID]."""
    grid = np.linspace(-SPAN, SPAN, GRID)
    radius = np.sqrt(area / math.pi)[:, None]
    index, weight = [], []
    for centre, length in ((y, mask.shape[1]), (x, mask.shape[2])):
        place = np.clip(centre[:, None] + radius * grid + 0.5, 0, length + 0.99)  # + 0.5: one pixel of padding
        index.append(place.astype(np.int64))
        weight.append((place - index[-1]).astype(np.float32))
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    frame = np.arange(len(mask))[:, None, None]
    (row, column), (down, right) = index, weight
    rows = [padded[frame, row[:, :, None] + step, :][:, :, 0] for step in (0, 1)]
    lines = rows[0] + down[:, :, None] * (rows[1] - rows[0])
    sides = [np.take_along_axis(lines, column[:, None, :] + step, axis=2) for step in (0, 1)]
    return (sides[0] + right[:, None, :] * (sides[1] - sides[0])).reshape(len(mask), -1)


def match(samples: Array) -> tuple[str, float, bool, Array]:
    """The best shape of normalized masks [V, GRID^2], its mean overlap, whether it is clear, and angles [V]."""
    known, angles, kinds, _ = templates()
    gap = np.stack([np.abs(known - sample).sum(1) for sample in samples])
    both = samples.sum(1)[:, None] + known.sum(1)
    overlap = (both - gap) / (both + gap)  # sum of minima over sum of maxima
    scores = np.stack([overlap[:, kinds == kind].max(1) for kind in range(len(SHAPES))], axis=1)
    means = scores.mean(0)
    best, following = (int(kind) for kind in np.argsort(-means, kind="stable")[:2])
    clear = (
        means[best] >= (MIN_RING_SCORE if SHAPES[best] == "ring" else MIN_SHAPE_SCORE)
        and means[best] - means[following] >= MIN_SHAPE_LEAD
        and (scores.argmax(1) == best).mean() >= MIN_SHAPE_SHARE
    )
    angle = _peak_angle(overlap[:, kinds == best], angles[kinds == best])
    return SHAPES[best], float(means[best]), bool(clear), angle


def _peak_angle(overlap: Array, angles: Array) -> Array:
    """The angle [V] of the best overlap [V, A], refined between steps by a parabola through three."""
    count = len(angles)
    if count == 1:
        return np.zeros(len(overlap))
    top = overlap.argmax(1)
    before, at, after = (overlap[np.arange(len(top)), (top + step) % count] for step in (-1, 0, 1))
    bend = np.maximum(2 * at - before - after, 1e-6)
    return angles[top] + ANGLE_STEP * np.clip((after - before) / (2 * bend), -0.5, 0.5)
