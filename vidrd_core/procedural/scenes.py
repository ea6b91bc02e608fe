"""What a scene holds: a background and one or two sprites, each with its motion; and scenes at random."""

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
LAYOUTS = {"single": 1, "stacked": 2, "beside": 2}  # and their number of sprites

MARGIN = 1.5 / 64  # keeps the anti-aliased edge too at least a pixel of 64 off the border
SPEEDS = (3 * 7 / 64, 5.5 * 7 / 64)  # way of a straight motion: 3 to 5.5 px a frame at 8 frames of 64 px
ORBITS = (12 / 64, 16 / 64)
TURNS = (math.radians(12 * 7), math.radians(15 * 7))
# How far the middle of a way lies off the frame's, at most: a caption does not say where, a model has to know; and it
# has to know it closely if it is to draw the same shape at another angle.
SLACK, SPIN_SLACK = 4 / 64, 1 / 64
GROWTH = (0.55, 1.25)  # from and to, in units of the size's radius


@dataclass(frozen=True)
class Sprite:
    """One sprite and its trajectory: `x`, `y` is its place at time 0 (the centre, if it orbits) in the frame.

    `reach` is the way per axis (straight), the height (bounce), the orbit's radius (circle) or the turn in
    radians (spin); `phase` is an orbit's angle at time 0, in radians.
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
    """A background and one sprite, or two: "stacked" (the first is above) or "beside" (the first is left)."""

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
    return options[int(rng.integers(len(options)))]


def _way(rng: np.random.Generator, room: float, low: float = 0.0, high: float = 1.0) -> float:
    """How far to move: most of the room there is, within [low, high]."""
    high = min(room, high)
    return float(rng.uniform(min(high, max(low, 0.75 * room)), high))


def _place(
    rng: np.random.Generator, shape: str, color: str, size: str, motion: str, box: Box = (0, 0, 1, 1)
) -> Sprite:
    """Draws a trajectory that keeps the whole sprite inside a box (left, top, right, bottom) of the frame."""
    biggest = GROWTH[1] if motion in ("grow", "shrink") else 1.0
    edge = SIZES[size] * EXTENTS[shape] * biggest + MARGIN
    left, top, right, bottom = box[0] + edge, box[1] + edge, box[2] - edge, box[3] - edge
    reach = phase = 0.0
    aim = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]  # the start of the way whose middle is the box's
    if motion in DIRECTIONS:
        dx, dy = DIRECTIONS[motion]
        reach = _way(rng, min(right - left if dx else 1.0, bottom - top if dy else 1.0), *SPEEDS)
        left, right = left + reach * (dx < 0), right - reach * (dx > 0)
        top, bottom = top + reach * (dy < 0), bottom - reach * (dy > 0)
        aim = [aim[0] - dx * reach / 2, aim[1] - dy * reach / 2]
    elif motion == "bounce":
        reach = _way(rng, bottom - top)
        top += reach
        aim[1] += reach / 2
    elif motion == "circle":
        reach = float(rng.uniform(ORBITS[0], min(ORBITS[1], (right - left) / 2, (bottom - top) / 2)))
        left, right, top, bottom = left + reach, right - reach, top + reach, bottom - reach
        phase = float(rng.uniform(-0.4, 0.4)) - math.pi / 2  # always from about the top, to be predictable
    elif motion == "spin":
        reach = float(rng.uniform(*TURNS))
    slack = SPIN_SLACK if motion == "spin" else SLACK
    left, right = max(left, aim[0] - slack), min(right, aim[0] + slack)
    top, bottom = max(top, aim[1] - slack), min(bottom, aim[1] + slack)
    x, y = float(rng.uniform(left, right)), float(rng.uniform(top, bottom))
    return Sprite(shape, color, size, motion, x, y, reach, phase)


def _sizes(motion: str) -> tuple[str, ...]:
    return ("medium", "large") if motion in ("grow", "shrink") else tuple(SIZES)


def random_still(rng: np.random.Generator) -> Scene:
    """Draws a scene of one sprite that stands still."""
    background = pick(rng, tuple(BACKGROUNDS))
    sprite = _place(rng, pick(rng, SHAPES), pick(rng, tuple(COLORS)), pick(rng, tuple(SIZES)), "stay")
    return Scene(background, (sprite,))


def random_scene(rng: np.random.Generator, two_objects: float = 0.15) -> Scene:
    """Draws a scene; with probability `two_objects` two of different colours, each in its own lane."""
    background = pick(rng, tuple(BACKGROUNDS))
    if rng.random() < two_objects:
        return _two_lanes(rng, background)
    motion = pick(rng, MOTIONS)
    shape = pick(rng, SPINNING_SHAPES if motion == "spin" else SHAPES)
    sprite = _place(rng, shape, pick(rng, tuple(COLORS)), pick(rng, _sizes(motion)), motion)
    return Scene(background, (sprite,))


def _two_lanes(rng: np.random.Generator, background: str) -> Scene:
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
    """Scenes of one object, fixed by the seed: shapes, colours, motions and backgrounds in balance; or of two."""
    rng = np.random.default_rng(seed)
    if objects == 2:
        return [_two_lanes(rng, pick(rng, tuple(BACKGROUNDS))) for _ in range(count)]
    motions, shapes = _balanced(rng, MOTIONS, count), _balanced(rng, SHAPES, count)
    colors, backgrounds = _balanced(rng, tuple(COLORS), count), _balanced(rng, tuple(BACKGROUNDS), count)
    for index in range(count):
        if motions[index] != "spin" or shapes[index] in SPINNING_SHAPES:
            continue
        free = [i for i in range(count) if motions[i] != "spin" and shapes[i] in SPINNING_SHAPES]
        if free:  # a trade keeps the balance
            other = pick(rng, free)
            shapes[index], shapes[other] = shapes[other], shapes[index]
        else:
            shapes[index] = pick(rng, SPINNING_SHAPES)
    return [
        Scene(background, (_place(rng, shape, color, pick(rng, _sizes(motion)), motion),))
        for motion, shape, color, background in zip(motions, shapes, colors, backgrounds, strict=True)
    ]


def _balanced(rng: np.random.Generator, options: Sequence[str], count: int) -> list[str]:
    """`count` words, every option as often as any other (to within one), in random order."""
    rounds = -(-count // len(options))
    return [options[int(i)] for _ in range(rounds) for i in rng.permutation(len(options))][:count]
