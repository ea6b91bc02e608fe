"""Scenes: a background and one or two sprites, each with its motion; random ones, and fixed ones for evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from vidrd_core.procedural.shapes import EXTENTS, SHAPES

Box = tuple[float, float, float, float]
T = TypeVar("T")

SPINNING_SHAPES = ("square", "triangle", "star", "cross")
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (228, 30, 40),
    "green": (40, 185, 60),
    "blue": (40, 90, 245),
    "yellow": (250, 230, 50),
    "orange": (250, 135, 20),
    "purple": (165, 55, 215),
    "cyan": (50, 215, 230),
    "white": (245, 245, 245),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (10, 10, 10),
    "gray": (105, 105, 105),
    "navy": (15, 25, 80),
    "brown": (95, 55, 25),
}
SIZES = {"small": 8 / 64, "medium": 11 / 64, "large": 14 / 64}  # radius as a fraction of the frame

DIRECTIONS: dict[str, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "up-left": (-1, -1),
    "up-right": (1, -1),
    "down-left": (-1, 1),
    "down-right": (1, 1),
}
MOTIONS = (*DIRECTIONS, "bounce", "circle", "grow", "shrink", "spin", "stay")
LAYOUTS = {"single": 1, "stacked": 2, "beside": 2}  # number of sprites of each

EVALUATION_SEED = 2309  # training uses the generators (1, i)

MARGIN = 1.5 / 64  # keeps even the anti-aliased edge a pixel of 64 away from the border
SPEEDS = (3 * 7 / 64, 5.5 * 7 / 64)  # path length of straight motion: 3 to 5.5 px per frame for 8 frames of 64 px
ORBITS = (12 / 64, 16 / 64)
TURNS = (math.radians(12 * 7), math.radians(15 * 7))
# How far the middle of a path may lie from the center of the frame. A caption does not say where, so a model has to
# guess; it must guess closely if it is to draw the same shape at another angle.
SLACK, SPIN_SLACK = 4 / 64, 1 / 64
GROWTH = (0.55, 1.25)  # from and to, in units of the size's radius


@dataclass(frozen=True)
class Sprite:
    """A sprite and its motion; lengths are fractions of the frame.

    Args:
        shape: One of `SHAPES`.
        color: One of `COLORS`.
        size: One of `SIZES`.
        motion: One of `MOTIONS`.
        x: Position at time 0, or the center of an orbit.
        y: The vertical position, downwards.
        reach: Path length per axis (straight), height (bounce), radius (circle), or rotation in radians (spin).
        phase: Angle of an orbit at time 0, in radians.

    Raises:
        ValueError: A word is unknown.
    """

    shape: str
    color: str
    size: str
    motion: str
    x: float
    y: float
    reach: float = 0.0
    phase: float = 0.0

    def __post_init__(self) -> None:
        for value, known in (
            (self.shape, SHAPES),
            (self.color, COLORS),
            (self.size, SIZES),
            (self.motion, MOTIONS),
        ):
            if value not in known:
                raise ValueError(f"unknown word {value!r}, expected one of {', '.join(known)}")


@dataclass(frozen=True)
class Scene:
    """A background and its sprites.

    Args:
        background: One of `BACKGROUNDS`.
        sprites: One, or two.
        layout: "single"; of two "stacked" (the first is above) or "beside" (the first is on the left).

    Raises:
        ValueError: The background is unknown, or the layout does not fit the number of sprites.
    """

    background: str
    sprites: tuple[Sprite, ...]
    layout: str = "single"

    def __post_init__(self) -> None:
        if self.background not in BACKGROUNDS:
            known = ", ".join(BACKGROUNDS)
            raise ValueError(f"unknown background {self.background!r}, expected one of {known}")
        if LAYOUTS.get(self.layout) != len(self.sprites):
            raise ValueError(f"layout {self.layout!r} does not fit {len(self.sprites)} sprites")


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """A random option."""
    return options[int(rng.integers(len(options)))]


def _path_length(rng: np.random.Generator, room: float, low: float = 0.0, high: float = 1.0) -> float:
    """A random path length: most of the available room, within [low, high]."""
    high = min(room, high)
    return float(rng.uniform(min(high, max(low, 0.75 * room)), high))


def _place(
    rng: np.random.Generator, shape: str, color: str, size: str, motion: str, box: Box = (0, 0, 1, 1)
) -> Sprite:
    """A sprite with a random path that keeps all of it inside a box (left, top, right, bottom) of the frame."""
    biggest = GROWTH[1] if motion in ("grow", "shrink") else 1.0
    edge = SIZES[size] * EXTENTS[shape] * biggest + MARGIN
    left, top, right, bottom = box[0] + edge, box[1] + edge, box[2] - edge, box[3] - edge
    reach = phase = 0.0
    aim = [
        (box[0] + box[2]) / 2,
        (box[1] + box[3]) / 2,
    ]  # the start of the path whose middle is the center of the box
    if motion in DIRECTIONS:
        dx, dy = DIRECTIONS[motion]
        reach = _path_length(rng, min(right - left if dx else 1.0, bottom - top if dy else 1.0), *SPEEDS)
        left, right = left + reach * (dx < 0), right - reach * (dx > 0)
        top, bottom = top + reach * (dy < 0), bottom - reach * (dy > 0)
        aim = [aim[0] - dx * reach / 2, aim[1] - dy * reach / 2]
    elif motion == "bounce":
        reach = _path_length(rng, bottom - top)
        top += reach
        aim[1] += reach / 2
    elif motion == "circle":
        reach = float(rng.uniform(ORBITS[0], min(ORBITS[1], (right - left) / 2, (bottom - top) / 2)))
        left, right, top, bottom = left + reach, right - reach, top + reach, bottom - reach
        phase = float(rng.uniform(-0.4, 0.4)) - math.pi / 2  # always from near the top, so that it is predictable
    elif motion == "spin":
        reach = float(rng.uniform(*TURNS))
    slack = SPIN_SLACK if motion == "spin" else SLACK
    left, right = max(left, aim[0] - slack), min(right, aim[0] + slack)
    top, bottom = max(top, aim[1] - slack), min(bottom, aim[1] + slack)
    x, y = float(rng.uniform(left, right)), float(rng.uniform(top, bottom))
    return Sprite(shape, color, size, motion, x, y, reach, phase)


def _sizes(motion: str) -> tuple[str, ...]:
    """The sizes that a sprite with this motion may have."""
    return ("medium", "large") if motion in ("grow", "shrink") else tuple(SIZES)


def random_still(rng: np.random.Generator) -> Scene:
    """A random scene of one sprite that stands still."""
    background = pick(rng, tuple(BACKGROUNDS))
    sprite = _place(rng, pick(rng, SHAPES), pick(rng, tuple(COLORS)), pick(rng, tuple(SIZES)), "stay")
    return Scene(background, (sprite,))


def random_scene(rng: np.random.Generator, two_objects: float = 0.15) -> Scene:
    """Sample a random scene.

    Args:
        rng: The source of randomness.
        two_objects: Probability of two sprites, of different colors and each in its own lane, 0 to 1.

    Returns:
        A scene in which every sprite stays inside the frame.
    """
    background = pick(rng, tuple(BACKGROUNDS))
    if rng.random() < two_objects:
        return _two_lanes(rng, background)
    motion = pick(rng, MOTIONS)
    shape = pick(rng, SPINNING_SHAPES if motion == "spin" else SHAPES)
    sprite = _place(rng, shape, pick(rng, tuple(COLORS)), pick(rng, _sizes(motion)), motion)
    return Scene(background, (sprite,))


def _two_lanes(rng: np.random.Generator, background: str) -> Scene:
    """A random scene of two sprites."""
    layout = pick(rng, ("stacked", "beside"))
    stacked = layout == "stacked"
    boxes: tuple[Box, Box] = ((0, 0, 1, 0.5), (0, 0.5, 1, 1)) if stacked else ((0, 0, 0.5, 1), (0.5, 0, 1, 1))
    motions = ("left", "right", "stay") if stacked else ("up", "down", "stay")
    first = pick(rng, tuple(COLORS))
    second = pick(rng, tuple(color for color in COLORS if color != first))
    sprites = tuple(
        _place(rng, pick(rng, SHAPES), color, pick(rng, ("small", "medium")), pick(rng, motions), box)
        for color, box in zip((first, second), boxes, strict=True)
    )
    return Scene(background, sprites, layout)


def evaluation_scenes(count: int, seed: int, objects: int = 1) -> list[Scene]:
    """The scenes of an evaluation, determined by a seed.

    Args:
        count: Number of scenes.
        seed: Seed of the random generator; the usual one is `EVALUATION_SEED`.
        objects: Sprites of a scene, 1 or 2.

    Returns:
        Scenes; of one object with balanced shapes, colors, motions and backgrounds.
    """
    rng = np.random.default_rng(seed)
    if objects == 2:
        return [_two_lanes(rng, pick(rng, tuple(BACKGROUNDS))) for _ in range(count)]
    motions, shapes = _balanced(rng, MOTIONS, count), _balanced(rng, SHAPES, count)
    colors, backgrounds = _balanced(rng, tuple(COLORS), count), _balanced(rng, tuple(BACKGROUNDS), count)
    for index in range(count):
        if motions[index] != "spin" or shapes[index] in SPINNING_SHAPES:
            continue
        free = [i for i in range(count) if motions[i] != "spin" and shapes[i] in SPINNING_SHAPES]
        if free:  # swapping keeps the balance
            other = pick(rng, free)
            shapes[index], shapes[other] = shapes[other], shapes[index]
        else:
            shapes[index] = pick(rng, SPINNING_SHAPES)
    return [
        Scene(background, (_place(rng, shape, color, pick(rng, _sizes(motion)), motion),))
        for motion, shape, color, background in zip(motions, shapes, colors, backgrounds, strict=True)
    ]


def _balanced(rng: np.random.Generator, options: Sequence[str], count: int) -> list[str]:
    """`count` words in random order, every option equally often (to within one)."""
    rounds = -(-count // len(options))
    return [options[int(i)] for _ in range(rounds) for i in rng.permutation(len(options))][:count]
