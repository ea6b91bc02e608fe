"""Whether a clip shows what its caption says, by the laws of the drawn world."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidrd_core.procedural.scenes import DIRECTIONS
from vidrd_core.procedural.shapes import EXTENTS
from vidrd_core.procedural.world.captions import Wanted
from vidrd_core.procedural.world.motion import WALL, sinusoid, slope
from vidrd_core.procedural.world.readout import Readout
from vidrd_core.procedural.world.things import ORBIT_TURNS, ORBITS, SPEEDS, SPINS, SWING_TURNS, SWINGS

Floats = NDArray[np.floating]
PIXEL = 1 / 64
STILL = 2.5 * PIXEL  # how far a thing that stands still may seem to move
NEAR = 1.5 * PIXEL  # how far from its law's path a thing may be seen
SLOW, FAST = 0.6 * SPEEDS[0], 1.4 * SPEEDS[1]
ANGLE = math.radians(20)  # from a direction
BREATH = 0.12  # spread of a radius, as a logarithm, that is not yet a pulse


@dataclass(frozen=True)
class Alignment:
    """What a clip shows as its caption says.

    Args:
        color: Whether its thing has the color.
        shape: Whether it has the shape.
        motion: Whether it moves so.
        ground: Whether the ground has the pattern.
    """

    color: bool
    shape: bool
    motion: bool
    ground: bool

    @property
    def all(self) -> bool:
        """Whether all of them do."""
        return self.color and self.shape and self.motion and self.ground


def alignment(wanted: Wanted, found: Readout) -> Alignment:
    """What of a caption a clip shows."""
    return Alignment(
        found.color == wanted.color,
        found.shape == wanted.shape,
        moves_as(wanted.motion, found),
        found.ground_pattern == wanted.ground,
    )


def moves_as(motion: str, found: Readout) -> bool:
    """Whether what a clip of 4 or more frames shows obeys the law of a motion, one of `MOTIONS`."""
    if len(found.visible) < 4 or not found.visible.all():
        return False
    kind, _, way = motion.partition(" ")
    path = np.unwrap(found.position, axis=0, period=1.0)
    is_still = bool(np.ptp(path, axis=0).max() < STILL)
    ground = (found.ground_moved[-1] - found.ground_moved[0]) / (len(path) - 1)
    if kind == "follow":
        return is_still and _heads(-ground, way)
    if np.linalg.norm(ground) > 0.5 * PIXEL:
        return False
    if kind == "drift":
        return _is_straight(path) and _heads(slope(path), way)
    if kind == "bounce":
        edge = EXTENTS.get(found.shape, 1.0) * float(np.median(found.radius))
        return _bounces(path, edge)
    if kind in ("orbit", "swing"):
        return _turns(kind, path)
    breath = float(np.ptp(np.log(found.radius)))
    turned = float(slope(found.angle[:, None])[0])
    if not is_still:
        return False
    if kind == "pulse":
        return breath > BREATH
    if kind == "spin":
        wobble = float(np.std(found.angle - turned * np.arange(len(path))))
        return breath < 2 * BREATH and 0.5 * SPINS[0] < turned < 1.5 * SPINS[1] and wobble < math.radians(8)
    return breath < BREATH and abs(turned) < 0.4 * SPINS[0]


def _is_straight(path: Floats) -> bool:
    time = np.arange(len(path)) - (len(path) - 1) / 2
    error = np.linalg.norm(path - path.mean(0) - time[:, None] * slope(path), axis=1)
    return bool(error.max() < NEAR)


def _heads(velocity: Floats, way: str) -> bool:
    """Whether a velocity has a direction, and a speed that there is."""
    speed = float(np.linalg.norm(velocity))
    unit = np.array(DIRECTIONS[way]) / math.hypot(*DIRECTIONS[way])
    return SLOW < speed < FAST and float(velocity @ unit) > speed * math.cos(ANGLE)


def _bounces(path: Floats, edge: float) -> bool:
    """Whether a path is straight between walls, across both axes, and turns back at walls alone."""
    steps = np.diff(path, axis=0)
    met = (path < edge + WALL) | (path > 1 - edge - WALL)
    free = ~(met[1:] | met[:-1])
    speeds = []
    for axis in (0, 1):
        own = steps[free[:, axis], axis] if free[:, axis].any() else steps[:, axis]
        speeds.append(float(np.median(np.abs(own))))
        if np.abs(np.abs(own) - speeds[-1]).max() > NEAR:
            return False
        signs = np.sign(steps[:, axis])
        for i in np.flatnonzero(signs[1:] != signs[:-1]):  # between steps i and i + 1
            if np.abs(steps[i : i + 2, axis]).max() > 0.5 * PIXEL and not met[i : i + 3, axis].any():
                return False
    speed = math.hypot(*speeds)
    return SLOW < speed < FAST and min(speeds) > 0.2 * speed


def _turns(kind: str, path: Floats) -> bool:
    """Whether a path is a circle run clockwise, or a swing from side to side."""
    turn, weights, error = sinusoid(path)
    if error > NEAR or turn < 0.8 * min(ORBIT_TURNS[0], SWING_TURNS[0]):
        return False
    reach = np.hypot(weights[0], weights[1])
    if kind == "swing":
        return bool(0.6 * SWINGS[0] < reach[0] < 1.5 * SWINGS[1] and np.ptp(path[:, 1]) < STILL)
    arm = path - weights[2]
    turned = np.diff(np.unwrap(np.arctan2(arm[:, 1], arm[:, 0])))
    even = 0.6 < reach[0] / max(reach[1], 1e-9) < 1 / 0.6
    return bool(even and 0.6 * ORBITS[0] < reach.mean() < 1.5 * ORBITS[1] and turned.min() > 0)
