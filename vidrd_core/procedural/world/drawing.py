"""The anti-aliased renderer of the drawn world."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vidrd_core.procedural.shapes import signed_distance
from vidrd_core.procedural.world.motion import State, states
from vidrd_core.procedural.world.things import DARK, Ground, Instance, hsv

Floats = NDArray[np.floating]
STONE = np.array([0.78, 0.76, 0.72], np.float32)
SATURATION, VALUE = 0.92, 0.97  # of a thing's bright part


def render(instance: Instance, frames: int = 8, size: int = 64, start: float = 0.0) -> NDArray[np.uint8]:
    """Draw an instance from a moment on.

    Args:
        instance: The instance.
        frames: Number of frames F.
        size: Pixels a side.
        start: Time of the first frame, in frames.

    Returns:
        uint8 [F, size, size, 3].
    """
    return draw(instance, states(instance, frames, start), size)


def draw(instance: Instance, state: State, size: int) -> NDArray[np.uint8]:
    """Draw an instance in given states, of F frames: uint8 [F, size, size, 3]."""
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.broadcast_arrays(centres[None, None, :], centres[None, :, None])
    image = _ground(instance.ground, x, y, state.ground.astype(np.float32), size)
    across, down = (
        _wrapped(each - state.position[:, i, None, None].astype(np.float32)) for i, each in ((0, x), (1, y))
    )
    radius = state.radius[:, None, None].astype(np.float32)
    cos, sin = (f(state.angle)[:, None, None].astype(np.float32) for f in (np.cos, np.sin))
    u, v = (cos * across + sin * down) / radius, (cos * down - sin * across) / radius
    share = np.clip(0.5 - size * radius * signed_distance(instance.thing.shape, u, v), 0, 1)[..., None]
    bright = pattern_of(instance.thing.pattern, u, v, size * radius)[..., None]
    color = np.array(hsv(instance.thing.hue, SATURATION, VALUE), np.float32)
    image = image + share * (color * (DARK + (1 - DARK) * bright) - image)
    return np.rint(255 * image).astype(np.uint8)


def pattern_of(pattern: str, u: Floats, v: Floats, radius: Floats | float) -> Floats:
    """How bright a thing is, 0 (dark) to 1, at places in units of its radius, which is given in pixels."""
    if pattern == "stripes":
        edge = np.abs((u + 0.3) % 1.2 - 0.6) - 0.3
    elif pattern == "dots":
        edge = np.hypot(np.abs(u) - 0.42, np.abs(v) - 0.42) - 0.26
    elif pattern == "checks":
        edge = -np.sign(u * v) * np.minimum(np.abs(u), np.abs(v))
    elif pattern == "halves":
        edge = v
    else:
        return np.ones_like(u)
    bright: Floats = np.clip(0.5 + radius * edge, 0, 1).astype(np.float32)
    return bright


def _ground(ground: Ground, x: Floats, y: Floats, moved: Floats, size: int) -> Floats:
    """The ground in each frame, float32 [F, size, size, 3]."""
    if not moved.any():
        moved, frames = moved[:1], len(moved)
        return np.repeat(_ground_at(ground, x, y, moved, size), frames, 0)
    return _ground_at(ground, x, y, moved, size)


def _ground_at(ground: Ground, x: Floats, y: Floats, moved: Floats, size: int) -> Floats:
    x, y = x - moved[:, 0, None, None], y - moved[:, 1, None, None]
    first, second = (np.array(tone, np.float32) for tone in ground.tones)
    part = ground_part(ground.pattern, ground.waves, x - ground.x, y - ground.y, size)[..., None]
    image = first + part * (second - first)
    apart = np.hypot(_wrapped(x - ground.landmark[0]), _wrapped(y - ground.landmark[1])) - ground.landmark_radius
    stone = np.clip(0.5 - size * apart, 0, 1)[..., None]
    mixed: Floats = (image + stone * (STONE - image)).astype(np.float32)
    return mixed


def ground_part(pattern: str, waves: tuple[int, int], x: Floats, y: Floats, size: int) -> Floats:
    """Which of a ground's two tones is at a place, 0 (the first) to 1."""
    across, down = waves
    if pattern == "striped":
        steep = size / (2 * math.pi * math.hypot(across, down))
        edge = steep * np.sin(2 * math.pi * (across * x + down * y))
    elif pattern == "checked":
        steep = size / (2 * math.pi * across)
        edge = steep * np.sin(2 * math.pi * across * x) * np.sin(2 * math.pi * down * y)
    elif pattern == "dotted":
        nearest = [((n * each + 0.5) % 1 - 0.5) / n for n, each in ((across, x), (down, y))]
        edge = size * (0.3 / across - np.hypot(*nearest))
    else:
        return np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
    part: Floats = np.clip(0.5 + edge, 0, 1).astype(np.float32)
    return part


def _wrapped(distance: Floats) -> Floats:
    """Signed distances on a circle of length 1, from -0.5 to 0.5."""
    wrapped: Floats = (distance + 0.5) % 1 - 0.5
    return wrapped
