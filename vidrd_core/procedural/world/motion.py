"""The physics of the drawn world: where a thing is at any time, and where it will be, from where it was seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidrd_core.procedural.scenes import DIRECTIONS
from vidrd_core.procedural.shapes import EXTENTS
from vidrd_core.procedural.world.things import FOLLOWED, SPEEDS, Instance

Floats = NDArray[np.floating]
MOTIONS = (
    *(f"drift {way}" for way in DIRECTIONS),
    *(f"follow {way}" for way in FOLLOWED),
    "bounce",
    "orbit",
    "swing",
    "pulse",
    "spin",
    "stay",
)
WALL = SPEEDS[1] / 2  # a step that met a wall begins or ends so near to it
TURNS = np.radians(np.arange(10.0, 60.25, 0.25))  # angles a frame that `predict` tries for what swings or orbits


@dataclass(frozen=True, eq=False)
class State:
    """What is seen of an instance in each of F frames.

    Args:
        position: The thing's place [F, 2], x and y, each 0 to 1.
        radius: [F].
        angle: By how much the thing is turned [F], in radians.
        ground: How far the ground has moved [F, 2], 0 to 1.
    """

    position: Floats
    radius: Floats
    angle: Floats
    ground: Floats


def states(instance: Instance, frames: int, start: float = 0.0) -> State:
    """Compute what is seen of an instance.

    Args:
        instance: The instance.
        frames: Number of frames F.
        start: Time of the first frame, in frames.

    Returns:
        The state in each frame.
    """
    m, time = instance.motion, start + np.arange(frames, dtype=np.float64)
    kind, _, way = m.word.partition(" ")
    still: Floats = np.zeros(frames)
    x, y, radius, angle = still + m.x, still + m.y, still + instance.thing.radius, still + m.angle
    ground: Floats = np.zeros((frames, 2))
    turned = m.phase + m.turn * time
    if kind in ("drift", "follow"):
        step = np.array(DIRECTIONS[way]) * m.speed / math.hypot(*DIRECTIONS[way])
        if kind == "drift":
            x, y = x + step[0] * time, y + step[1] * time
        else:
            ground = -step * time[:, None]
    elif kind == "bounce":
        edge = instance.thing.radius * EXTENTS[instance.thing.shape]
        x = _reflected(x + m.speed * math.cos(m.heading) * time, edge)
        y = _reflected(y + m.speed * math.sin(m.heading) * time, edge)
    elif kind == "orbit":
        x, y = x + m.reach * np.cos(turned), y + m.reach * np.sin(turned)
    elif kind == "swing":
        x = x + m.reach * np.sin(turned)
    elif kind == "pulse":
        radius = radius * (1 + m.reach * np.sin(turned))
    elif kind == "spin":
        angle = angle + m.turn * time
    return State(np.stack([x, y], 1) % 1, radius, angle, ground % 1)


def predict(motion: str, position: Floats, frames: int, edge: float = 0.0) -> Floats:
    """Predict a thing's places from those in the frames before, by the law of its motion.

    Args:
        motion: One of `MOTIONS`.
        position: Its places [P, 2] in P consecutive frames, 3 or more for what turns, 2 or more for others.
        frames: How many frames to predict.
        edge: How near its middle comes to a wall, for a bounce.

    Returns:
        [frames, 2], each 0 to 1.

    Raises:
        ValueError: There are too few frames.
    """
    kind = motion.partition(" ")[0]
    least = 3 if kind in ("orbit", "swing") else 2
    if len(position) < least:
        raise ValueError(f"{len(position)} frames are given, expected {least} or more for {motion}")
    ahead: Floats = np.arange(1.0, frames + 1)[:, None]
    if kind == "bounce":
        return _bouncing(position, ahead[:, 0], edge)
    path = np.unwrap(position, axis=0, period=1.0)
    if kind == "drift":
        return (path[-1] + ahead * slope(path)) % 1
    if kind in ("orbit", "swing"):
        turn, weights, _ = sinusoid(path)
        then = turn * (len(path) - 1 + ahead[:, 0])
        return (np.stack([np.cos(then), np.sin(then), np.ones(frames)], 1) @ weights) % 1
    return np.repeat(path.mean(0, keepdims=True), frames, 0) % 1


def torus_distance(one: Floats, other: Floats) -> Floats:
    """The distance of places [..., 2] on the torus of side 1."""
    apart = np.abs(one - other) % 1
    return np.linalg.norm(np.minimum(apart, 1 - apart), axis=-1)


def _reflected(place: Floats, edge: float) -> Floats:
    """Places in a room from `edge` to 1 - `edge` whose walls throw back."""
    room = max(1 - 2 * edge, 1e-9)
    along = (place - edge) % (2 * room)
    return edge + np.where(along > room, 2 * room - along, along)


def _bouncing(position: Floats, ahead: Floats, edge: float) -> Floats:
    """The next places of what bounces: along each axis at the speed of the steps that met no wall."""
    steps = np.diff(position, axis=0)
    inside = (position > edge + WALL) & (position < 1 - edge - WALL)
    free = inside[1:] & inside[:-1]
    found = []
    for axis in (0, 1):
        speed = np.median(np.abs(steps[free[:, axis], axis])) if free[:, axis].any() else np.abs(steps[-1, axis])
        away = 1.0 if position[-1, axis] < 0.5 else -1.0  # where it goes after a wall
        way = np.sign(steps[-1, axis]) if free[-1, axis] else away
        found.append(_reflected(position[-1, axis] + way * speed * ahead, edge))
    return np.stack(found, 1)


def slope(path: Floats) -> Floats:
    """The change a frame of values [P, ...] that change evenly, by least squares."""
    time = np.arange(len(path)) - (len(path) - 1) / 2
    found: Floats = (time[:, None] * path).sum(0) / (time**2).sum()
    return found


def sinusoid(path: Floats) -> tuple[float, Floats, float]:
    """Fit a sinusoid to each axis of a path.

    Args:
        path: [P, 2], in 3 or more consecutive frames.

    Returns:
        The common angle a frame, of `TURNS`; the weights [3, 2] of cosine, sine and 1; the largest distance from it.
    """
    time = np.arange(len(path))
    fits = []
    for turn in TURNS:
        basis = np.stack([np.cos(turn * time), np.sin(turn * time), np.ones(len(time))], 1)
        weights = np.linalg.lstsq(basis, path, rcond=None)[0]
        apart = np.linalg.norm(basis @ weights - path, axis=1)
        fits.append((float((apart**2).sum()), float(turn), weights, float(apart.max())))
    _, turn, weights, error = min(fits, key=lambda fit: fit[0])
    return turn, weights, error
