"""Procedural captioned clips: one or two coloured sprites on a plain background, with their exact truth.

A scene is free of resolution: places and lengths are fractions of the frame, time runs from 0 (first frame)
to 1 (last frame). In pixels the centre of the top left pixel is (0.5, 0.5), x points right and y down, so a
growing angle turns clockwise. Each motion starts where it has room: a caption settles every frame's place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Box = tuple[float, float, float, float]
T = TypeVar("T")

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
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

# Outlines in units of the radius, chosen for areas of about pi r^2 each (the pointed ones a little less).
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

MARGIN = 1.5 / 64  # keeps the anti-aliased edge too at least a pixel of 64 off the border
SPEEDS = (3 * 7 / 64, 5.5 * 7 / 64)  # way of a straight motion: 3 to 5.5 px a frame at 8 frames of 64 px
ORBITS = (12 / 64, 16 / 64)
TURNS = (math.radians(12 * 7), math.radians(15 * 7))
GROWTH = (0.45, 1.25)  # from and to, in units of the size's radius


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
        expected = 1 if self.layout == "single" else 2
        if self.layout not in JOINS or len(self.sprites) != expected:
            raise ValueError(f"layout {self.layout!r} does not fit {len(self.sprites)} sprites")


@dataclass(frozen=True, eq=False)
class SpriteTruth:
    """Position [F, 2] in px (x, y), velocity [F, 2] in px/frame, radius [F] in px, angle [F] in radians."""

    position: Array
    velocity: Array
    radius: Array
    angle: Array


@dataclass(frozen=True, eq=False)
class ShapesClip:
    """Frames uint8 [F, H, W, 3], their caption, and the scene and per-sprite truth they were drawn from."""

    frames: NDArray[np.uint8]
    caption: str
    scene: Scene
    truth: tuple[SpriteTruth, ...]


# --- drawing ---


def signed_distance(shape: str, x: Array, y: Array) -> Array:
    """Distance to a shape's outline, negative inside, at points (x, y) in units of its radius."""
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
    """Folds the plane into half a point of the star (36 degrees), where its outline is one straight line."""
    sector = 2 * math.pi / 5
    turn = np.arctan2(x, -y)  # 0 at the upper tip
    turn = turn - sector * np.round(turn / sector)
    length = np.hypot(x, y)
    along, across = length * np.cos(turn), np.abs(length * np.sin(turn))
    notch = STAR_NOTCH * math.cos(sector / 2), STAR_NOTCH * math.sin(sector / 2)
    edge = math.hypot(STAR_TIP - notch[0], notch[1])
    return ((along - STAR_TIP) * notch[1] + across * (STAR_TIP - notch[0])) / edge


def coverage(shape: str, truth: SpriteTruth, size: int) -> Array:
    """Share of each pixel that a sprite covers, float32 [F, size, size]."""
    centres = np.arange(size, dtype=np.float32) + 0.5
    x = centres[None, None, :] - truth.position[:, 0, None, None].astype(np.float32)
    y = centres[None, :, None] - truth.position[:, 1, None, None].astype(np.float32)
    if truth.angle.any():
        cos = np.cos(truth.angle)[:, None, None].astype(np.float32)
        sin = np.sin(truth.angle)[:, None, None].astype(np.float32)
        x, y = cos * x + sin * y, cos * y - sin * x
    radius = truth.radius[:, None, None].astype(np.float32)
    return np.clip(0.5 - radius * signed_distance(shape, x / radius, y / radius), 0, 1)


def trajectory(sprite: Sprite, frames: int, size: int) -> SpriteTruth:
    """Where a sprite is in each of `frames` frames of `size` pixels."""
    time: Array = np.linspace(0, 1, frames)
    zero: Array = np.zeros(frames)
    x: Array
    y: Array
    vx: Array
    vy: Array
    angle: Array
    scale: Array
    x, y, vx, vy, angle = zero + sprite.x, zero + sprite.y, zero, zero, zero
    scale = zero + 1
    if sprite.motion in DIRECTIONS:
        dx, dy = (sprite.reach * step for step in DIRECTIONS[sprite.motion])
        x, y, vx, vy = x + dx * time, y + dy * time, zero + dx, zero + dy
    elif sprite.motion == "bounce":
        y, vy = y - 4 * sprite.reach * time * (1 - time), 4 * sprite.reach * (2 * time - 1)
    elif sprite.motion == "circle":
        turn = sprite.phase + 2 * math.pi * time
        x, y = x + sprite.reach * np.cos(turn), y + sprite.reach * np.sin(turn)
        speed = 2 * math.pi * sprite.reach
        vx, vy = -speed * np.sin(turn), speed * np.cos(turn)
    elif sprite.motion == "spin":
        angle = sprite.reach * time
    elif sprite.motion in ("grow", "shrink"):
        first, last = GROWTH if sprite.motion == "grow" else GROWTH[::-1]
        scale = first + (last - first) * time
    return SpriteTruth(
        position=np.stack([x, y], 1) * size,
        velocity=np.stack([vx, vy], 1) * size / max(frames - 1, 1),
        radius=SIZES[sprite.size] * scale * size,
        angle=angle,
    )


def _draw(scene: Scene, truth: Sequence[SpriteTruth], size: int) -> NDArray[np.uint8]:
    """Lays the sprites over the background by their coverage: uint8 [F, size, size, 3]."""
    background = np.array(BACKGROUNDS[scene.background], np.float32)
    image = np.broadcast_to(background, (len(truth[0].angle), size, size, 3))
    for sprite, path in zip(scene.sprites, truth, strict=True):
        share = coverage(sprite.shape, path, size)[..., None]
        image = image + share * (np.array(COLORS[sprite.color], np.float32) - image)
    return np.rint(image).astype(np.uint8)


def render(scene: Scene, frames: int = 8, size: int = 64) -> NDArray[np.uint8]:
    """Draws a scene: uint8 [frames, size, size, 3]."""
    return _draw(scene, [trajectory(sprite, frames, size) for sprite in scene.sprites], size)


# --- random scenes ---


def _pick(rng: np.random.Generator, options: Sequence[T]) -> T:
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
    if motion in DIRECTIONS:
        dx, dy = DIRECTIONS[motion]
        reach = _way(rng, min(right - left if dx else 1.0, bottom - top if dy else 1.0), *SPEEDS)
        left, right = left + reach * (dx < 0), right - reach * (dx > 0)
        top, bottom = top + reach * (dy < 0), bottom - reach * (dy > 0)
    elif motion == "bounce":
        reach = _way(rng, bottom - top)
        top += reach
    elif motion == "circle":
        reach = float(rng.uniform(ORBITS[0], min(ORBITS[1], (right - left) / 2, (bottom - top) / 2)))
        slack = min(2 / 64, (right - left) / 2 - reach, (bottom - top) / 2 - reach)
        middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        left, right, top, bottom = middle[0] - slack, middle[0] + slack, middle[1] - slack, middle[1] + slack
        phase = float(rng.uniform(-0.4, 0.4)) - math.pi / 2  # always from about the top, to be predictable
    elif motion == "spin":
        reach = float(rng.uniform(*TURNS))
    x, y = float(rng.uniform(left, right)), float(rng.uniform(top, bottom))
    return Sprite(shape, color, size, motion, x, y, reach, phase)


def _sizes(motion: str) -> tuple[str, ...]:
    return ("medium", "large") if motion in ("grow", "shrink") else tuple(SIZES)


def random_scene(rng: np.random.Generator, two_objects: float = 0.15) -> Scene:
    """Draws a scene; with probability `two_objects` two of different colours, each in its own lane."""
    background = _pick(rng, tuple(BACKGROUNDS))
    if rng.random() < two_objects:
        return _two_lanes(rng, background)
    motion = _pick(rng, MOTIONS)
    shape = _pick(rng, SPINNING_SHAPES if motion == "spin" else SHAPES)
    sprite = _place(rng, shape, _pick(rng, tuple(COLORS)), _pick(rng, _sizes(motion)), motion)
    return Scene(background, (sprite,))


def _two_lanes(rng: np.random.Generator, background: str) -> Scene:
    layout = _pick(rng, ("stacked", "beside"))
    stacked = layout == "stacked"
    boxes: tuple[Box, Box] = ((0, 0, 1, 0.5), (0, 0.5, 1, 1)) if stacked else ((0, 0, 0.5, 1), (0.5, 0, 1, 1))
    motions = ("left", "right", "stay") if stacked else ("up", "down", "stay")
    first = _pick(rng, tuple(COLORS))
    second = _pick(rng, tuple(color for color in COLORS if color != first))
    sprites = tuple(
        _place(rng, _pick(rng, SHAPES), color, _pick(rng, ("small", "medium")), _pick(rng, motions), box)
        for color, box in zip((first, second), boxes, strict=True)
    )
    return Scene(background, sprites, layout)


def sample_clip(rng: np.random.Generator, frames: int = 8, size: int = 64, two_objects: float = 0.15) -> ShapesClip:
    """Draws a random captioned clip."""
    scene = random_scene(rng, two_objects)
    truth = tuple(trajectory(sprite, frames, size) for sprite in scene.sprites)
    return ShapesClip(_draw(scene, truth, size), caption(scene, rng), scene, truth)


def evaluation_scenes(count: int, seed: int) -> list[Scene]:
    """One-object scenes, fixed by the seed: shapes, colours, motions and backgrounds in balance."""
    rng = np.random.default_rng(seed)
    motions, shapes = _balanced(rng, MOTIONS, count), _balanced(rng, SHAPES, count)
    colors, backgrounds = _balanced(rng, tuple(COLORS), count), _balanced(rng, tuple(BACKGROUNDS), count)
    for index in range(count):
        if motions[index] != "spin" or shapes[index] in SPINNING_SHAPES:
            continue
        free = [i for i in range(count) if motions[i] != "spin" and shapes[i] in SPINNING_SHAPES]
        if free:  # a trade keeps the balance
            other = _pick(rng, free)
            shapes[index], shapes[other] = shapes[other], shapes[index]
        else:
            shapes[index] = _pick(rng, SPINNING_SHAPES)
    return [
        Scene(background, (_place(rng, shape, color, _pick(rng, _sizes(motion)), motion),))
        for motion, shape, color, background in zip(motions, shapes, colors, backgrounds, strict=True)
    ]


def _balanced(rng: np.random.Generator, options: Sequence[str], count: int) -> list[str]:
    """`count` words, every option as often as any other (to within one), in random order."""
    rounds = -(-count // len(options))
    return [options[int(i)] for _ in range(rounds) for i in rng.permutation(len(options))][:count]


# --- captions ---

ARTICLES = ("a", "an")
SIZE_WORDS: dict[str, tuple[str, ...]] = {"small": ("small", "tiny"), "medium": (), "large": ("large", "big")}
ON_BACKGROUND = ("on a {background} background", "over a {background} background")
JOINS: dict[str, tuple[str, ...]] = {
    "single": (),
    "stacked": ("{first} above {second}", "{first} and {second}", "{first} and below it {second}"),
    "beside": (
        "{first} to the left of {second}",
        "{first} and {second}",
        "{first} and to its right {second}",
    ),
}


def _straight(*ways: str) -> tuple[str, ...]:
    verbs = ("moving", "moves", "going", "goes", "sliding", "slides")
    return tuple(f"{verb} {way}" for way, verb in product(ways, verbs))


# The first phrase of each motion is the plain one, which `describe` uses.
MOTION_PHRASES: dict[str, tuple[str, ...]] = {
    **{side: _straight(side, f"to the {side}") for side in ("left", "right")},
    **{side: _straight(side, f"{side}wards") for side in ("up", "down")},
    **{
        f"{rise}-{side}": _straight(f"{rise} {side}", f"{rise} and to the {side}", f"diagonally {rise} {side}")
        for rise, side in product(("up", "down"), ("left", "right"))
    },
    "bounce": ("bouncing", "bounces"),
    "circle": ("orbiting", "orbits", "circling", "circling around", "going in a circle"),
    "grow": ("growing", "grows", "getting bigger", "gets bigger"),
    "shrink": ("shrinking", "shrinks", "getting smaller", "gets smaller"),
    "spin": ("spinning", "spins", "rotating", "rotates"),
    "stay": ("standing still", "stands still", "stays still", "not moving"),
}


def _noun(sprite: Sprite, size: str) -> str:
    """The article, the size word if there is one, colour and shape."""
    words = [*([size] if size else []), sprite.color, sprite.shape]
    return " ".join([ARTICLES[words[0][0] in "aeiou"], *words])


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One of the many ways to say what a scene shows; size and background are said half of the time."""
    parts = []
    for sprite in scene.sprites:
        sizes = () if sprite.motion in ("grow", "shrink") else SIZE_WORDS[sprite.size]
        said = _noun(sprite, _pick(rng, sizes) if sizes and rng.random() < 0.5 else "")
        parts.append(f"{said} {_pick(rng, MOTION_PHRASES[sprite.motion])}" if rng.random() < 0.95 else said)
    text = parts[0]
    if len(parts) == 2:
        text = _pick(rng, JOINS[scene.layout]).format(first=parts[0], second=parts[1])
    if rng.random() < 0.5:
        text = f"{text} {_pick(rng, ON_BACKGROUND).format(background=scene.background)}"
    return text


def describe(scene: Scene) -> str:
    """The plain caption that says all, as in "a large red circle moving right on a black background"."""
    parts = []
    for sprite in scene.sprites:
        sizes = () if sprite.motion in ("grow", "shrink") else SIZE_WORDS[sprite.size]
        parts.append(f"{_noun(sprite, sizes[0] if sizes else '')} {MOTION_PHRASES[sprite.motion][0]}")
    text = JOINS[scene.layout][0].format(first=parts[0], second=parts[1]) if len(parts) == 2 else parts[0]
    return f"{text} {ON_BACKGROUND[0].format(background=scene.background)}"


def _words(groups: Iterable[Iterable[str]]) -> tuple[str, ...]:
    text = " ".join(phrase for group in groups for phrase in group)
    return tuple(sorted({word for word in text.split() if "{" not in word}))


VOCABULARY: tuple[str, ...] = _words(
    (
        SHAPES,
        COLORS,
        BACKGROUNDS,
        ON_BACKGROUND,
        ARTICLES,
        *SIZE_WORDS.values(),
        *JOINS.values(),
        *MOTION_PHRASES.values(),
    )
)
