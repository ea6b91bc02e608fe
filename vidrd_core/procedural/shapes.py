"""The outlines of the shapes as signed distance functions, in units of the radius."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")

# Sizes are chosen for areas of about pi r^2 (pointed shapes a little less).
SQUARE_SIDE = 0.87
TRIANGLE_TIP = 1.3
STAR_TIP, STAR_NOTCH = 1.3, 0.64
CROSS_ARM, CROSS_WIDTH = 1.16, 0.42
RING_RIM, RING_HOLE = 1.16, 0.64
EXTENTS = {  # the circumscribed circle
    "circle": 1.0,
    "square": SQUARE_SIDE * math.sqrt(2),
    "triangle": TRIANGLE_TIP,
    "star": STAR_TIP,
    "cross": math.hypot(CROSS_ARM, CROSS_WIDTH),
    "ring": RING_RIM,
}


def signed_distance(shape: str, x: Array, y: Array) -> Array:
    """The signed distance of points to a shape's outline, negative inside.

    Args:
        shape: One of `SHAPES`.
        x: In units of the radius, to the right of the center.
        y: In units of the radius, below the center.

    Returns:
        Distances in units of the radius.

    Raises:
        ValueError: There is no such shape.
    """
    if shape == "circle":
        return np.hypot(x, y) - 1
    if shape == "ring":
        return np.abs(np.hypot(x, y) - (RING_RIM + RING_HOLE) / 2) - (RING_RIM - RING_HOLE) / 2
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - SQUARE_SIDE
    if shape == "cross":
        x, y = np.abs(x), np.abs(y)
        return np.maximum(np.maximum(x, y) - CROSS_ARM, np.minimum(x, y) - CROSS_WIDTH)
    if shape == "triangle":
        return np.maximum(y, math.sqrt(0.75) * np.abs(x) - 0.5 * y) - TRIANGLE_TIP / 2
    if shape == "star":
        return _star_distance(x, y)
    raise ValueError(f"unknown shape {shape!r}, expected one of {', '.join(SHAPES)}")


def _star_distance(x: Array, y: Array) -> Array:
    """Distance to the star: the plane folds into half a point (36 degrees), whose outline is a straight line."""
    sector = 2 * math.pi / 5
    turn = np.arctan2(x, -y)  # 0 at the upper tip
    turn = turn - sector * np.round(turn / sector)
    length = np.hypot(x, y)
    along, across = length * np.cos(turn), np.abs(length * np.sin(turn))
    notch = STAR_NOTCH * math.cos(sector / 2), STAR_NOTCH * math.sin(sector / 2)
    edge = math.hypot(STAR_TIP - notch[0], notch[1])
    return ((along - STAR_TIP) * notch[1] + across * (STAR_TIP - notch[0])) / edge
