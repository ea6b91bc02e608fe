"""What there is in the drawn world: a thing with its pattern, a ground with its landmark, and the thing's motion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidrd_core.procedural.scenes import pick
from vidrd_core.procedural.shapes import EXTENTS, SHAPES

RGB = tuple[float, float, float]

COLORS = {"red": 0.0, "yellow": 55.0, "green": 120.0, "cyan": 180.0, "blue": 228.0, "pink": 310.0}  # hues in degrees
HUE_SLACK = 14.0  # how far a thing's hue may lie from its word's
PATTERNS = ("plain", "stripes", "dots", "checks", "halves")  # on a thing; no caption tells it
DARK = 0.5  # brightness of a pattern's dark part
RADII = (7.5 / 64, 12 / 64)

GROUNDS = ("plain", "striped", "checked", "dotted")
PERIODS = (2, 3)  # of a ground's pattern in a frame
STRIPE_WAVES = ((1, 0), (0, 1), (1, 1), (1, -1))  # periods across and down, in units of PERIODS
LANDMARK_RADII = (5 / 64, 7 / 64)

FOLLOWED = ("left", "right", "up", "down")
SPEEDS = (2.5 / 64, 5 / 64)  # a frame
ORBITS, ORBIT_TURNS = (9 / 64, 16 / 64), (math.radians(18), math.radians(34))  # radius; angle a frame
SWINGS, SWING_TURNS = (10 / 64, 18 / 64), (math.radians(18), math.radians(34))
PULSES, PULSE_TURNS = (0.2, 0.35), (math.radians(24), math.radians(48))  # share of the radius
SPINS = (math.radians(9), math.radians(20))
SPINNING_SHAPES = ("square", "triangle", "star", "cross")


@dataclass(frozen=True)
class Thing:
    """A thing.

    Args:
        shape: One of `shapes.SHAPES`.
        color: One of `COLORS`.
        hue: Its exact hue in degrees.
        radius: Its radius.
        pattern: One of `PATTERNS`.

    Raises:
        ValueError: A word is unknown.
    """

    shape: str
    color: str
    hue: float
    radius: float
    pattern: str

    def __post_init__(self) -> None:
        _check(self.shape, SHAPES)
        _check(self.color, COLORS)
        _check(self.pattern, PATTERNS)


@dataclass(frozen=True)
class Ground:
    """A ground, which repeats after a frame's width and height.

    Args:
        pattern: One of `GROUNDS`.
        tones: The colours of its two parts, RGB from 0 to 1.
        waves: Periods of the pattern in a frame, across and down.
        x: Where the pattern begins.
        y: The same, downwards.
        landmark: Where a pale stone lies on the ground, (x, y).
        landmark_radius: The stone's radius.

    Raises:
        ValueError: The pattern is unknown.
    """

    pattern: str
    tones: tuple[RGB, RGB]
    waves: tuple[int, int]
    x: float
    y: float
    landmark: tuple[float, float]
    landmark_radius: float

    def __post_init__(self) -> None:
        _check(self.pattern, GROUNDS)


@dataclass(frozen=True)
class Motion:
    """How a thing moves, by a law that goes on for ever; `motion.states` says where it is then.

    Args:
        word: One of `motion.MOTIONS`.
        x: Its place at time 0, or the middle of its orbit or swing.
        y: The same, downwards.
        speed: A frame (drift, follow, bounce).
        heading: Direction of a bounce at time 0, in radians.
        reach: Radius of an orbit or swing, or share of the radius by which it pulses.
        turn: Angle a frame, in radians (orbit, swing, pulse, spin).
        phase: Angle at time 0, in radians.
        angle: By how much the thing itself is turned at time 0, in radians.
    """

    word: str
    x: float
    y: float
    speed: float = 0.0
    heading: float = 0.0
    reach: float = 0.0
    turn: float = 0.0
    phase: float = 0.0
    angle: float = 0.0


@dataclass(frozen=True)
class Instance:
    """One thing in motion over a ground.

    Args:
        thing: The thing.
        ground: The ground.
        motion: The thing's motion.
    """

    thing: Thing
    ground: Ground
    motion: Motion


def random_instance(
    rng: np.random.Generator,
    motions: Sequence[str],
    shape: str | None = None,
    color: str | None = None,
    ground: str | None = None,
    radii: tuple[float, float] = RADII,
    speeds: tuple[float, float] = SPEEDS,
) -> Instance:
    """Draw an instance.

    Args:
        rng: The source of randomness.
        motions: The motions to choose from.
        shape: The thing's shape; None for any that its motion allows.
        color: Its color; None for any.
        ground: The ground's pattern; None for any.
        radii: Smallest and largest radius.
        speeds: Lowest and highest speed of what drifts, bounces or is followed.

    Returns:
        An instance at a moment of its motion.
    """
    word = pick(rng, motions)
    shape = shape or pick(rng, SPINNING_SHAPES if word == "spin" else SHAPES)
    thing = _thing(rng, shape, color or pick(rng, tuple(COLORS)), word, radii)
    return Instance(thing, _ground(rng, ground or pick(rng, GROUNDS)), _motion(rng, word, thing, speeds))


def hsv(hue: float, saturation: float, value: float) -> RGB:
    """The RGB of a hue in degrees, a saturation and a value from 0 to 1."""
    channels = (
        value - value * saturation * max(0, min(k, 4 - k, 1)) for k in ((n + hue / 60) % 6 for n in (5, 3, 1))
    )
    red, green, blue = channels
    return red, green, blue


def _check(word: str, known: Sequence[str] | dict[str, float]) -> None:
    if word not in known:
        raise ValueError(f"unknown word {word!r}, expected one of {', '.join(known)}")


def _thing(rng: np.random.Generator, shape: str, color: str, motion: str, radii: tuple[float, float]) -> Thing:
    hue = (COLORS[color] + float(rng.uniform(-HUE_SLACK, HUE_SLACK))) % 360
    low, high = radii
    if motion == "pulse":
        high /= 1 + PULSES[1]
        low = min(low * 1.1, high)
    patterns = [each for each in PATTERNS if (shape, each) != ("ring", "dots")]  # which would fall into its hole
    return Thing(shape, color, hue, float(rng.uniform(low, high)), pick(rng, patterns))


def _ground(rng: np.random.Generator, pattern: str) -> Ground:
    values = float(rng.uniform(0.22, 0.34)), float(rng.uniform(0.46, 0.58))
    # Far less colourful than any thing, so that a thing can be told from its ground by that alone.
    tones = tuple(hsv(float(rng.uniform(0, 360)), float(rng.uniform(0.1, 0.3)), value) for value in values)
    period = pick(rng, PERIODS)
    across, down = pick(rng, STRIPE_WAVES) if pattern == "striped" else (1, 1)
    x, y, *landmark = rng.uniform(0, 1, 4).tolist()
    radius = float(rng.uniform(*LANDMARK_RADII))
    waves = across * period, down * period
    return Ground(pattern, (tones[0], tones[1]), waves, x, y, (landmark[0], landmark[1]), radius)


def _motion(rng: np.random.Generator, word: str, thing: Thing, speeds: tuple[float, float]) -> Motion:
    x, y = rng.uniform(0, 1, 2).tolist()
    angle = float(rng.uniform(0, 2 * math.pi)) if thing.shape in SPINNING_SHAPES else 0.0
    if word == "bounce":
        edge = thing.radius * EXTENTS[thing.shape]
        x, y = rng.uniform(edge, 1 - edge, 2).tolist()
        heading = pick(rng, (1, 3, 5, 7)) * math.pi / 4 + float(rng.uniform(-0.45, 0.45))
        return Motion(word, x, y, float(rng.uniform(*speeds)), heading, angle=angle)
    if word.startswith(("drift", "follow")):
        return Motion(word, x, y, float(rng.uniform(*speeds)), angle=angle)
    ranges = {"orbit": (ORBITS, ORBIT_TURNS), "swing": (SWINGS, SWING_TURNS), "pulse": (PULSES, PULSE_TURNS)}
    phase = float(rng.uniform(0, 2 * math.pi))
    if word in ranges:
        reach, turn = (float(rng.uniform(*bounds)) for bounds in ranges[word])
        return Motion(word, x, y, reach=reach, turn=turn, phase=phase, angle=angle)
    turn = float(rng.uniform(*SPINS)) if word == "spin" else 0.0
    return Motion(word, x, y, turn=turn, angle=angle)
