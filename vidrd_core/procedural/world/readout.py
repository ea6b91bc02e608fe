"""What can be read from the pixels of a clip of the drawn world, drawn or generated: what it shows, and which.

Nothing here is learned. A thing is what is more colourful than any ground; its shape is the best of the templates,
its pattern the best of those that could be on it. The ground is what remains, moved back by how far it moved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vidrd_core.procedural.motion_words import UNCLEAR
from vidrd_core.procedural.shape_matching import PERIODS, match, normalize, templates
from vidrd_core.procedural.world.drawing import ground_part, pattern_of
from vidrd_core.procedural.world.things import (
    COLORS,
    DARK,
    GROUNDS,
    PATTERNS,
    STRIPE_WAVES,
)
from vidrd_core.procedural.world.things import PERIODS as GROUND_PERIODS

Floats = NDArray[np.floating]
CHROMA = (0.2, 0.4)  # of a ground at most, and of a thing's dark part at least
MIN_AREA = 30 / 64**2  # of a frame: a smaller thing is not visible
MAX_STRAY = 0.2  # share of what is colourful that may lie far from the thing
TONES = (0.40, 0.66)  # brightness between a ground's two tones, and between the brighter one and the landmark
PLAIN_SHARE = 0.1  # of a ground whose second tone covers less
FLAT = 0.13  # spread of brightness over a thing without a pattern, as a share of its mean
EVEN = 0.03  # spread of brightness over a ground on which there is nothing
MAX_SHIFT = 8 / 64  # of the ground, a frame
HIDDEN = 0.4  # of the mask: what is hidden by a thing, grown by two pixels
STILL = 0.97  # a ground stands still if it is so much like itself there, as a share of the best likeness
SAMPLES = np.linspace(-1.2, 1.2, 25)  # across a thing, in units of its radius


@dataclass(frozen=True, eq=False)
class Readout:
    """What a clip of F frames shows, and which instance; NaN where a thing is not visible.

    Args:
        visible: Where a thing can be seen [F].
        position: [F, 2], x and y, each 0 to 1.
        radius: [F], in frames' sides.
        angle: [F], in radians, modulo the shape's symmetry.
        hue: [F], in degrees.
        color: The word of its hue, or "unclear" if the hue is near none or the clip shows several things.
        shape: Its shape, or "unclear".
        pattern: Its pattern.
        ground_pattern: The ground's pattern.
        ground_moved: How far the ground has moved since the first frame [F, 2], at one speed.
        ground: The ground as in the first frame [S, S, 3], RGB 0 to 1; NaN where the thing always hid it.
    """

    visible: NDArray[np.bool_]
    position: Floats
    radius: Floats
    angle: Floats
    hue: Floats
    color: str
    shape: str
    pattern: str
    ground_pattern: str
    ground_moved: Floats
    ground: Floats


def read_out(frames: NDArray[np.uint8]) -> Readout:
    """Read a clip.

    Args:
        frames: uint8 [F, S, S, 3].

    Returns:
        What it shows.

    Raises:
        ValueError: The frames have another shape.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.shape[1] != frames.shape[2]:
        raise ValueError(f"expected square frames [F, S, S, 3], got {list(frames.shape)}")
    video, size = frames.astype(np.float32) / 255, frames.shape[1]
    chroma = video.max(-1) - video.min(-1)
    mask = np.clip((chroma - CHROMA[0]) / (CHROMA[1] - CHROMA[0]), 0, 1)
    middle, centred, near = _centred(mask)
    area = (centred * near).sum((1, 2))
    visible = area > MIN_AREA * size**2
    stray = 1 - area / np.maximum(mask.sum((1, 2)), 1e-6)
    ground = _ground(video, mask, size)
    nothing = np.full(len(frames), np.nan)
    if not visible.any():
        places = np.stack([nothing, nothing], 1)
        return Readout(visible, places, nothing, nothing, nothing, UNCLEAR, UNCLEAR, UNCLEAR, *ground)
    own = centred * near
    axis = np.arange(size) + 0.5
    x, y = (own.sum(1) @ axis / np.maximum(area, 1e-6), own.sum(2) @ axis / np.maximum(area, 1e-6))
    position = (np.stack([x, y], 1) / size + middle - 0.5) % 1
    shape, _, clear, angles = match(normalize(own[visible], area[visible], x[visible], y[visible]))
    radius, angle, hue = nothing.copy(), nothing.copy(), nothing.copy()
    radius[visible] = np.sqrt(area[visible] / templates()[3][shape]) / size
    period = PERIODS.get(shape)
    angle[visible] = np.unwrap(angles, period=period) if period else 0.0
    rolled = _rolled(video, middle)
    hue[visible] = _hues(rolled[visible], own[visible])
    pattern = _pattern(
        rolled.max(-1)[visible], own[visible], shape, x[visible], y[visible], radius[visible], angle[visible]
    )
    position[~visible] = np.nan
    single = (stray[visible] < MAX_STRAY).mean() > 0.8
    color = _color_word(float(circular_mean(hue[visible], 360.0))) if single else UNCLEAR
    named = shape if clear and single else UNCLEAR
    return Readout(visible, position, radius, angle, hue, color, named, pattern, *ground)


def circular_mean(values: Floats, period: float) -> float:
    """The mean of values on a circle of a given length."""
    turned = np.exp(2j * math.pi * np.asarray(values) / period).mean()
    return float(np.angle(turned) * period / (2 * math.pi) % period)


def circular_distance(one: float, other: float, period: float) -> float:
    """The distance of two values on a circle of a given length."""
    apart = abs(one - other) % period
    return min(apart, period - apart)


@dataclass(frozen=True)
class Difference:
    """How far two clips are from showing the same instance.

    Args:
        hue: Degrees between the hues of their things.
        size: Ratio of the radii, 1 or more.
        pattern: Whether the patterns on the things differ.
        ground: 1 minus the correlation of their grounds, at the best shift; 0 for the same ground.
        tones: Distance of their grounds' mean colours, RGB 0 to 1.
    """

    hue: float
    size: float
    pattern: bool
    ground: float
    tones: float

    @property
    def is_same(self) -> bool:
        """Whether it is the same thing over the same ground, as far as pixels tell."""
        same_thing = self.hue < 10 and self.size < 1.3 and not self.pattern
        return same_thing and self.ground < 0.35 and self.tones < 0.08


def difference(one: Readout, other: Readout) -> Difference | None:
    """How far two clips are from showing the same instance; None if one shows no thing, or no ground."""
    if not all(each.visible.any() and np.isfinite(each.ground).any() for each in (one, other)):
        return None
    hues = [circular_mean(each.hue[each.visible], 360.0) for each in (one, other)]
    sizes = [float(np.exp(np.log(each.radius[each.visible]).mean())) for each in (one, other)]
    return Difference(
        hue=circular_distance(hues[0], hues[1], 360.0),
        size=max(sizes) / min(sizes),
        pattern=one.pattern != other.pattern,
        ground=1 - _likeness(one.ground, other.ground),
        tones=float(np.linalg.norm(np.nanmean(one.ground, (0, 1)) - np.nanmean(other.ground, (0, 1)))),
    )


# --- the thing ---


def _centred(mask: Floats) -> tuple[Floats, Floats, Floats]:
    """Where the thing is roughly [F, 2], masks with it in the middle, and what lies near enough to be part of it."""
    size = mask.shape[1]
    turns = np.exp(2j * math.pi * (np.arange(size) + 0.5) / size)
    found = [np.angle(mask.sum(axis) @ turns) / (2 * math.pi) for axis in (1, 2)]
    middle = np.stack(found, 1) % 1
    middle = np.round(middle * size) / size
    centred = _rolled(mask[..., None], middle)[..., 0]
    away = np.abs(np.arange(size) + 0.5 - size / 2)
    reach = 0.32 * size
    near = ((away[:, None] < reach) & (away[None, :] < reach))[None].astype(np.float32)
    return middle, centred, near


def _rolled(video: Floats, middle: Floats) -> Floats:
    """Frames [F, S, S, C] rolled so that a place is in their middle."""
    size = video.shape[1]
    steps = np.rint((0.5 - middle) * size).astype(int)
    return np.stack([np.roll(frame, (dy, dx), (0, 1)) for frame, (dx, dy) in zip(video, steps, strict=True)])


def _hues(video: Floats, mask: Floats) -> Floats:
    """The mean hue [F] in degrees of what a mask covers, weighted by how colourful it is."""
    top, low = video.max(-1), video.min(-1)
    chroma = np.maximum(top - low, 1e-6)
    red, green, blue = np.moveaxis(video, -1, 0)
    turn = np.where(
        top == red,
        (green - blue) / chroma,
        np.where(top == green, 2 + (blue - red) / chroma, 4 + (red - green) / chroma),
    )
    weights = mask * chroma
    turned = (weights * np.exp(1j * math.pi / 3 * turn)).sum((1, 2))
    hues: Floats = np.degrees(np.angle(turned)) % 360
    return hues


def _color_word(hue: float) -> str:
    """The word of a hue, or "unclear" between two."""
    word = min(COLORS, key=lambda each: circular_distance(hue, COLORS[each], 360.0))
    return word if circular_distance(hue, COLORS[word], 360.0) < 26 else UNCLEAR


def _pattern(value: Floats, mask: Floats, shape: str, x: Floats, y: Floats, radius: Floats, angle: Floats) -> str:
    """The pattern on a thing, from frames' brightness [V, S, S] and masks with the thing at x and y, in pixels."""
    size = value.shape[1]
    u, v = np.meshgrid(SAMPLES, SAMPLES)
    period = PERIODS.get(shape)
    turns = np.arange(0, 2 * math.pi - 1e-6, period) if period else np.zeros(1)
    best = (0.0, PATTERNS[0])
    looks, covers = [], []
    for turn in turns:  # the angle is known up to the shape's symmetry
        cos, sin = np.cos(angle + turn)[:, None, None], np.sin(angle + turn)[:, None, None]
        pixels = radius[:, None, None] * size
        across = x[:, None, None] + pixels * (cos * u - sin * v) - 0.5
        down = y[:, None, None] + pixels * (sin * u + cos * v) - 0.5
        looks.append(_sampled(value, across, down).mean(0))
        covers.append(_sampled(mask, across, down).mean(0))
    for look, cover in zip(looks, covers, strict=True):
        inside = cover > 0.9
        if inside.sum() < 12:
            continue
        seen = look[inside]
        if seen.std() < FLAT * seen.mean():
            return "plain"
        for pattern in PATTERNS[1:]:
            wanted = (DARK + (1 - DARK) * pattern_of(pattern, u, v, float(np.mean(radius)) * size * 0.6))[inside]
            if wanted.std() > 0:
                best = max(best, (float(np.corrcoef(seen, wanted)[0, 1]), pattern))
    return best[1]


def _sampled(images: Floats, x: Floats, y: Floats) -> Floats:
    """Images [V, S, S] at places [V, h, w] in pixels, bilinearly."""
    size = images.shape[1]
    x, y = np.clip(x, 0, size - 1.001), np.clip(y, 0, size - 1.001)
    left, top = x.astype(int), y.astype(int)
    right, low = x - left, y - top
    number = np.arange(len(images))[:, None, None]
    upper = images[number, top, left] * (1 - right) + images[number, top, left + 1] * right
    lower = images[number, top + 1, left] * (1 - right) + images[number, top + 1, left + 1] * right
    mixed: Floats = upper * (1 - low) + lower * low
    return mixed


# --- the ground ---


def _ground(video: Floats, mask: Floats, size: int) -> tuple[str, Floats, Floats]:
    """The ground's pattern, how far it moved [F, 2], and the ground as in the first frame [S, S, 3]."""
    seen = (_grown(mask) < HIDDEN).astype(np.float32)
    light = video.max(-1)
    moved = np.arange(len(video))[:, None] * _shift(_smoothed(light), seen)
    back = np.rint(-moved * size).astype(int)
    total, weight = np.zeros((size, size, 3)), np.zeros((size, size, 1))
    for frame, share, (dx, dy) in zip(video, seen[..., None], back, strict=True):
        total += np.roll(frame * share, (dy, dx), (0, 1))
        weight += np.roll(share, (dy, dx), (0, 1))
    ground = np.where(weight > 0, total / np.maximum(weight, 1e-6), np.nan)
    return _ground_word(ground), moved, ground


def _grown(mask: Floats) -> Floats:
    """Masks [F, S, S] grown by two pixels, on the torus."""
    for axis in (1, 2):
        mask = np.max([np.roll(mask, step, axis) for step in (-2, -1, 0, 1, 2)], axis=0)
    return mask


def _shift(light: Floats, seen: Floats) -> Floats:
    """How far a ground [F, S, S] moves from frame to frame, (x, y) in frames' sides: along one axis, at one speed."""
    size, pairs = light.shape[1], range(len(light) - 1)
    moved = np.zeros(2)
    if not len(pairs):
        return moved
    reach = round(MAX_SHIFT * size)
    steps = np.arange(-reach, reach + 1)
    scores = np.mean([_correlations(light[i], seen[i], light[i + 1], seen[i + 1]) for i in pairs], axis=0)
    along = [scores[0, steps], scores[steps, 0]]  # x, y
    axis = int(along[1].max() > along[0].max())
    if scores[0, 0] < STILL * along[axis].max():
        moved[axis] = (_peak(along[axis], int(along[axis].argmax())) - reach) / size
    return moved


def _smoothed(light: Floats) -> Floats:
    """Images [F, S, S] averaged over three by three pixels, on the torus."""
    for axis in (1, 2):
        light = (np.roll(light, 1, axis) + light + np.roll(light, -1, axis)) / 3
    return light


def _peak(scores: Floats, at: int) -> float:
    """Where a parabola through a maximum and its neighbours is highest."""
    if not 0 < at < len(scores) - 1:
        return float(at)
    left, top, right = scores[at - 1 : at + 2]
    bend = max(2 * top - left - right, 1e-9)
    return at + float(np.clip((right - left) / (2 * bend), -0.5, 0.5))


def _correlations(one: Floats, seen_one: Floats, other: Floats, seen_other: Floats) -> Floats:
    """The correlation of two images for every shift of the first, over the pixels that are seen in both: [S, S]."""

    def cross(a: Floats, b: Floats) -> Floats:
        found: Floats = np.fft.irfft2(np.conj(np.fft.rfft2(a)) * np.fft.rfft2(b), s=a.shape)
        return found

    middle = one[seen_one > 0].mean() if seen_one.any() else 0.0
    a, b = (one - middle) * seen_one, (other - middle) * seen_other
    count = np.maximum(cross(seen_one, seen_other), 1)
    mean_a, mean_b = cross(a, seen_other) / count, cross(seen_one, b) / count
    both = cross(a, b) / count - mean_a * mean_b
    spread = (cross(a * a, seen_other) / count - mean_a**2) * (cross(seen_one, b * b) / count - mean_b**2)
    found: Floats = both / np.sqrt(np.maximum(spread, 1e-10))
    return np.where(count > 0.2 * one.size, found, -1)


def _likeness(one: Floats, other: Floats) -> float:
    """The correlation of two grounds [S, S, 3], with gaps, at the shift at which it is highest."""
    seen = [np.isfinite(each[..., 0]).astype(np.float32) for each in (one, other)]
    lights = [np.nan_to_num(each.max(-1)) for each in (one, other)]
    if all(np.nanstd(each.max(-1)) < EVEN for each in (one, other)):  # nothing to tell them by
        return 1.0
    return float(_correlations(lights[0], seen[0], lights[1], seen[1]).max())


def _ground_word(ground: Floats) -> str:
    """The pattern of a ground [S, S, 3]."""
    light = np.nan_to_num(ground.max(-1))
    seen = (np.isfinite(ground[..., 0]) & (light < TONES[1])).astype(np.float32)
    if not seen.any():
        return UNCLEAR
    bright = float(((light > TONES[0]) * seen).sum() / seen.sum())
    if bright < PLAIN_SHARE:
        return "plain"
    return max(
        (float(_correlations(light, seen, part, np.ones_like(part)).max()), word)
        for word, part in _grounds(len(ground))
    )[1]


@lru_cache(maxsize=4)
def _grounds(size: int) -> list[tuple[str, Floats]]:
    """All patterns of a ground with their words, [size, size]."""
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.meshgrid(centres, centres)
    found = []
    for word in GROUNDS[1:]:
        for across, down in STRIPE_WAVES if word == "striped" else ((1, 1),):
            found += [(word, ground_part(word, (n * across, n * down), x, y, size)) for n in GROUND_PERIODS]
    return found
