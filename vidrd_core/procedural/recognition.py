"""Reads colour, shape, motion and background back from the pixels of a clip, real or generated.

Nothing here is learned. A pixel's coverage is its place on the line from the background's to the sprite's
measured colour, a shape is the template that overlaps best at any place, scale and angle, a motion a rule on
the track. A shape or motion that fits nothing well reads as "unclear": the nearest word is not good enough. So
does the colour of a sprite that changes it or has company, and the shape of one that falls into pieces.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vidrd_core.procedural import BACKGROUNDS, COLORS, SHAPES, Array, Scene, Sprite, signed_distance
from vidrd_core.procedural.motion_words import UNCLEAR, motion_word

PERIODS = {"square": math.pi / 2, "triangle": 2 * math.pi / 3, "star": 2 * math.pi / 5, "cross": math.pi / 2}

CONTRAST = 60.0  # least RGB distance from the background that counts as foreground
MIN_SHARE = 0.15  # a second sprite has at least this share of the foreground
MIN_AREA = 16 / 64**2  # a sprite smaller than this share of the frame is not visible
MAX_STRANGE = 0.08  # share of a frame's foreground that may have the colour of no sprite, or lie far from its sprite
MAX_STRANGE_FRAMES = 1  # in more frames than this, more of it is wrong
MIN_SHAPE_SCORE, MIN_RING_SCORE = 0.78, 0.72  # blur fills a ring's hole, but nothing else looks like one
MIN_SHAPE_LEAD = 0.035  # ahead of the next best shape: a blob lies between two
MIN_SHAPE_SHARE = 2 / 3  # of the frames in which the best shape is the best: a morphing one is none
GRID, SPAN = 28, 1.75  # a normalised mask has GRID^2 samples over +-SPAN radii of the disc of equal area
ANGLE_STEP = math.radians(5)


@dataclass(frozen=True, eq=False)
class SpriteReading:
    """What was read of one sprite. Where it is not `visible` [F] its positions [F, 2] (x, y in pixels),
    radius [F] (pixels) and angle [F] (radians, modulo the shape's symmetry) are nan."""

    color: str
    shape: str
    motion: str
    positions: Array
    radius: Array
    angle: Array
    shape_score: float
    visible: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Reading:
    """The background word and as many sprites as were asked for."""

    background: str
    sprites: tuple[SpriteReading, ...]


@dataclass(frozen=True)
class Score:
    """Whether each thing was read as the scene has it, for all of its sprites."""

    color: bool
    shape: bool
    motion: bool
    background: bool

    @property
    def all(self) -> bool:
        """Colour, shape and motion together."""
        return self.color and self.shape and self.motion


def read_clip(frames: NDArray[np.uint8], sprites: int = 1) -> Reading:
    """Reads frames uint8 [F, H, W, 3] that should show one or two sprites (of different colours)."""
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"expected frames [F, H, W, 3], got {list(frames.shape)}")
    if sprites not in (1, 2):
        raise ValueError(f"expected 1 or 2 sprites, got {sprites}")
    video = frames.astype(np.float32)
    strips = [video[:, :2], video[:, -2:], video[:, :, :2], video[:, :, -2:]]
    border = np.concatenate([strip.reshape(len(video), -1, 3) for strip in strips], axis=1)
    background = np.median(border.reshape(-1, 3), axis=0)
    words = {_nearest(color, BACKGROUNDS) for color in np.median(border, axis=1)}
    masks = _coverages(video - background.astype(np.float32), background, sprites)
    word = words.pop() if len(words) == 1 else UNCLEAR
    return Reading(word, tuple(_read_sprite(*mask) for mask in masks))


def matched(reading: Reading, scene: Scene) -> list[tuple[SpriteReading, Sprite]]:
    """The sprites read, each with the one of the scene that it should be; two are in the order of their lanes."""
    if len(reading.sprites) != len(scene.sprites):
        raise ValueError(f"read {len(reading.sprites)} sprites of a scene of {len(scene.sprites)}")
    found = list(reading.sprites)
    if len(found) == 2 and all(sprite.visible.any() for sprite in found):
        axis = 1 if scene.layout == "stacked" else 0
        found.sort(key=lambda sprite: float(np.nanmean(sprite.positions[:, axis])))
    return list(zip(found, scene.sprites, strict=True))


def score(reading: Reading, scene: Scene) -> Score:
    """Compares a reading with a scene."""
    pairs = matched(reading, scene)
    return Score(
        color=all(read.color == sprite.color for read, sprite in pairs),
        shape=all(read.shape == sprite.shape for read, sprite in pairs),
        motion=all(read.motion == sprite.motion for read, sprite in pairs),
        background=reading.background == scene.background,
    )


# --- colour and coverage ---


def _nearest(color: Array, words: Mapping[str, tuple[int, int, int]]) -> str:
    return min(words, key=lambda word: float(np.sum((color - np.array(words[word])) ** 2)))


def _erode(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keeps the pixels of [F, H, W] whose eight neighbours are set too."""
    rows = mask.copy()
    rows[:, 1:-1] &= mask[:, 2:] & mask[:, :-2]
    inner = rows.copy()
    inner[:, :, 1:-1] &= rows[:, :, 2:] & rows[:, :, :-2]
    return inner


def _coverages(difference: Array, background: Array, sprites: int) -> list[tuple[str, Array]]:
    """The colour word and soft mask [F, H, W] of each sprite, the largest first."""
    foreground = np.einsum("fhwc,fhwc->fhw", difference, difference) > CONTRAST**2
    core = _erode(foreground)
    if core.sum() < 0.1 * foreground.sum():  # thin or speckled: there is no inside to speak of
        core = foreground
    pixels = difference[core] + background.astype(np.float32)
    palette = np.array(list(COLORS.values()), np.float32)
    kind = np.argmin(np.sum(palette**2, 1) - 2 * pixels @ palette.T, axis=1)
    counts = np.bincount(kind, minlength=len(palette))
    found: list[tuple[str, Array]] = []
    places: list[NDArray[np.bool_]] = []
    frame = np.nonzero(core)[0]
    strange = np.ones(len(kind), np.bool_)
    for index in np.argsort(-counts, kind="stable")[:sprites]:
        if counts[index] < max(MIN_SHARE * len(kind), 1):
            continue
        strange &= kind != index
        full = pixels[kind == index].mean(0)
        line = (full - background).astype(np.float32)
        share = difference @ (line / (line @ line))
        # The stretch is symmetric about one half: it keeps an edge's area and drops noise at both ends.
        found.append((_nearest(full, COLORS), np.clip((share - 0.12) / 0.76, 0, 1)))
        place = np.zeros_like(core)
        place[core] = kind == index
        places.append(place)
    if len(found) == 2:
        nearer = _nearer(places[0], places[1])
        found = [(found[0][0], found[0][1] * nearer), (found[1][0], found[1][1] * ~nearer)]
    share_of = np.bincount(frame[strange], minlength=len(core)) / np.maximum(
        np.bincount(frame, minlength=len(core)), 1
    )
    if (share_of > MAX_STRANGE).sum() > MAX_STRANGE_FRAMES:
        found = [(UNCLEAR, mask) for _, mask in found]
    empty = np.zeros_like(foreground, dtype=np.float32)
    return found + [(UNCLEAR, empty)] * (sprites - len(found))


def _nearer(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pixels [F, H, W] belong to the first of two blobs, by distance less the blob's size."""
    powers = []
    for blob in (first, second):
        area, x, y = _centroid(blob.astype(np.float32))
        rows, columns = np.arange(blob.shape[1])[:, None] + 0.5, np.arange(blob.shape[2]) + 0.5
        power = (columns - x[:, None, None]) ** 2 + (rows - y[:, None, None]) ** 2 - area[:, None, None] / math.pi
        powers.append(np.where(area[:, None, None] > 0, power, np.inf))
    return powers[0] <= powers[1]


def _centroid(mask: Array) -> tuple[Array, Array, Array]:
    """Area, x and y [F] of soft masks [F, H, W], in pixels; an empty mask is at (0, 0)."""
    across, down = mask.sum(1), mask.sum(2)
    area = across.sum(1)
    safe = np.maximum(area, 1e-6)
    return (
        area,
        across @ (np.arange(mask.shape[2]) + 0.5) / safe,
        down @ (np.arange(mask.shape[1]) + 0.5) / safe,
    )


def _near_median(mask: Array) -> Array:
    """Zeroes what is far from the middle of masks [F, H, W]: stray specks must not move the centroid."""
    core = mask > 0.5
    area = core.sum((1, 2))
    reach = 2.5 * np.sqrt(area / math.pi) + 2
    windows = []
    for counts in (core.sum(1), core.sum(2)):  # along x, then along y
        middle = np.argmax(np.cumsum(counts, 1) >= area[:, None] / 2, axis=1)
        windows.append(np.abs(np.arange(counts.shape[1]) - middle[:, None]) <= reach[:, None])
    return mask * windows[0][:, None, :] * windows[1][:, :, None]


# --- shape ---


@lru_cache(maxsize=1)
def _templates() -> tuple[Array, Array, NDArray[np.int64], dict[str, float]]:
    """Masks [N, GRID^2] and angles [N], the shape each is of [N], and each shape's area in radii squared."""
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


def _normalised(mask: Array, area: Array, x: Array, y: Array) -> Array:
    """Samples masks [F, H, W] about their centroids, scaled to the same area: [F, GRID * GRID]."""
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


def _match(samples: Array) -> tuple[str, float, bool, Array]:
    """Best shape of normalised masks [V, GRID^2], its mean overlap, whether that is clear, angles [V]."""
    templates, angles, kinds, _ = _templates()
    gap = np.stack([np.abs(templates - sample).sum(1) for sample in samples])
    both = samples.sum(1)[:, None] + templates.sum(1)
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
    """The angle [V] of the best overlap [V, A], refined between the steps by a parabola through three."""
    count = len(angles)
    if count == 1:
        return np.zeros(len(overlap))
    top = overlap.argmax(1)
    before, at, after = (overlap[np.arange(len(top)), (top + step) % count] for step in (-1, 0, 1))
    bend = np.maximum(2 * at - before - after, 1e-6)
    return angles[top] + ANGLE_STEP * np.clip((after - before) / (2 * bend), -0.5, 0.5)


def _read_sprite(color: str, coverage: Array) -> SpriteReading:
    """Reads one sprite from its soft mask [F, H, W]."""
    mask = _near_median(coverage)
    area, x, y = _centroid(mask)
    astray = 1 - area / np.maximum(coverage.sum((1, 2)), 1)
    in_pieces = (astray > MAX_STRANGE).sum() > MAX_STRANGE_FRAMES
    visible = area >= MIN_AREA * mask.shape[1] * mask.shape[2]
    positions = np.where(visible[:, None], np.stack([x, y], 1), np.nan)
    radius, angle = np.full(len(mask), np.nan), np.full(len(mask), np.nan)
    if not visible.any():
        return SpriteReading(UNCLEAR, UNCLEAR, UNCLEAR, positions, radius, angle, 0.0, visible)
    samples = _normalised(mask[visible], area[visible], x[visible], y[visible])
    shape, shape_score, clear, angle[visible] = _match(samples)
    radius[visible] = np.sqrt(area[visible] / _templates()[3][shape])
    if shape in PERIODS:
        angle[visible] = np.unwrap(angle[visible], period=PERIODS[shape])
    motion = motion_word(positions * 64 / mask.shape[1], radius, angle, visible)
    named = shape if clear and not in_pieces else UNCLEAR
    return SpriteReading(color, named, motion, positions, radius, angle, shape_score, visible)
