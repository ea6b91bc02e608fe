"""Recognition of color, shape, motion and background from the pixels of a procedural clip, drawn or generated.

Nothing here is learned. The coverage of a pixel is its position on the line from the background's to the sprite's
measured color, a shape is the template with the best overlap over position, scale and angle, and a motion is
classified from the track by rules. A shape or motion that fits nothing well is "unclear", and so are the color of a
sprite that changes color or has a second one, and the shape of a sprite in several pieces.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidrd_core.procedural import BACKGROUNDS, COLORS, Array, Scene, Sprite
from vidrd_core.procedural.motion_words import UNCLEAR, classify_motion
from vidrd_core.procedural.shape_matching import PERIODS, match, normalize, templates

CONTRAST = 60.0  # least RGB distance of the foreground from the background
MIN_SHARE = 0.15  # a second sprite has at least this share of the foreground
MIN_AREA = 16 / 64**2  # a sprite smaller than this share of the frame is not visible
MAX_STRAY = 0.08  # share of a frame's foreground that may have the color of no sprite, or lie far from its sprite
MAX_STRAY_FRAMES = 1  # how many frames may have more than that


@dataclass(frozen=True, eq=False)
class RecognizedSprite:
    """A recognized sprite and its track, which is NaN in frames where it is not visible.

    Args:
        color: Color word, or "unclear".
        shape: Shape word, or "unclear".
        motion: Motion word, or "unclear".
        positions: Centers [F, 2] (x, y) in pixels.
        radius: [F] in pixels.
        angle: [F] in radians, modulo the shape's symmetry.
        shape_score: Mean overlap with the best template, 0 to 1.
        visible: [F].
    """

    color: str
    shape: str
    motion: str
    positions: Array
    radius: Array
    angle: Array
    shape_score: float
    visible: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class RecognizedScene:
    """What was recognized in a clip.

    Args:
        background: Background word, or "unclear".
        sprites: As many sprites as were asked for.
    """

    background: str
    sprites: tuple[RecognizedSprite, ...]


@dataclass(frozen=True)
class Comparison:
    """Whether a clip shows a scene, with all of its sprites.

    Args:
        color: Whether all colors match.
        shape: Whether all shapes match.
        motion: Whether all motions match.
        background: Whether the background matches.
    """

    color: bool
    shape: bool
    motion: bool
    background: bool

    @property
    def all(self) -> bool:
        """Whether color, shape and motion all match."""
        return self.color and self.shape and self.motion


def recognize(frames: NDArray[np.uint8], sprites: int = 1) -> RecognizedScene:
    """Recognize the sprites and the background of a clip.

    Args:
        frames: uint8 [F, H, W, 3].
        sprites: How many sprites the clip should show, 1 or 2 (of different colors).

    Returns:
        `sprites` sprites, the largest first, with "unclear" for everything that was not recognized.

    Raises:
        ValueError: The frames have another shape, or `sprites` is neither 1 nor 2.
    """
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
    return RecognizedScene(word, tuple(_recognize_sprite(*mask) for mask in masks))


def match_sprites(recognized: RecognizedScene, scene: Scene) -> list[tuple[RecognizedSprite, Sprite]]:
    """Match recognized sprites with those of a scene; two are matched by the order of their positions.

    Args:
        recognized: What was recognized in a clip.
        scene: The scene.

    Returns:
        Pairs (recognized sprite, sprite of the scene), in the order of the scene.

    Raises:
        ValueError: Their numbers of sprites differ.
    """
    if len(recognized.sprites) != len(scene.sprites):
        raise ValueError(
            f"{len(recognized.sprites)} sprites were recognized, expected the {len(scene.sprites)} of the scene"
        )
    found = list(recognized.sprites)
    if len(found) == 2 and all(sprite.visible.any() for sprite in found):
        axis = 1 if scene.layout == "stacked" else 0
        found.sort(key=lambda sprite: float(np.nanmean(sprite.positions[:, axis])))
    return list(zip(found, scene.sprites, strict=True))


def compare(recognized: RecognizedScene, scene: Scene) -> Comparison:
    """Compare what was recognized in a clip with a scene.

    Args:
        recognized: What was recognized.
        scene: The scene that the clip should show.

    Returns:
        What matches in all sprites, and whether the background does.

    Raises:
        ValueError: Their numbers of sprites differ.
    """
    pairs = match_sprites(recognized, scene)
    return Comparison(
        color=all(found.color == sprite.color for found, sprite in pairs),
        shape=all(found.shape == sprite.shape for found, sprite in pairs),
        motion=all(found.motion == sprite.motion for found, sprite in pairs),
        background=recognized.background == scene.background,
    )


# --- color and coverage ---


def _nearest(color: Array, words: Mapping[str, tuple[int, int, int]]) -> str:
    """The word with the nearest color."""
    return min(words, key=lambda word: float(np.sum((color - np.array(words[word])) ** 2)))


def _erode(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of [F, H, W] whose eight neighbors are set as well."""
    rows = mask.copy()
    rows[:, 1:-1] &= mask[:, 2:] & mask[:, :-2]
    inner = rows.copy()
    inner[:, :, 1:-1] &= rows[:, :, 2:] & rows[:, :, :-2]
    return inner


def _coverages(difference: Array, background: Array, sprites: int) -> list[tuple[str, Array]]:
    """The color word and soft mask [F, H, W] of each sprite, the largest first."""
    foreground = np.einsum("fhwc,fhwc->fhw", difference, difference) > CONTRAST**2
    core = _erode(foreground)
    if core.sum() < 0.1 * foreground.sum():  # thin or speckled: there is no interior
        core = foreground
    pixels = difference[core] + background.astype(np.float32)
    palette = np.array(list(COLORS.values()), np.float32)
    kind = np.argmin(np.sum(palette**2, 1) - 2 * pixels @ palette.T, axis=1)
    counts = np.bincount(kind, minlength=len(palette))
    found: list[tuple[str, Array]] = []
    places: list[NDArray[np.bool_]] = []
    frame = np.nonzero(core)[0]
    stray = np.ones(len(kind), np.bool_)
    for index in np.argsort(-counts, kind="stable")[:sprites]:
        if counts[index] < max(MIN_SHARE * len(kind), 1):
            continue
        stray &= kind != index
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
    share_of = np.bincount(frame[stray], minlength=len(core)) / np.maximum(np.bincount(frame, minlength=len(core)), 1)
    if (share_of > MAX_STRAY).sum() > MAX_STRAY_FRAMES:
        found = [(UNCLEAR, mask) for _, mask in found]
    empty = np.zeros_like(foreground, dtype=np.float32)
    return found + [(UNCLEAR, empty)] * (sprites - len(found))


def _nearer(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pixels [F, H, W] belong to the first of two blobs, by distance minus the blob's size."""
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
    """Masks [F, H, W] without what is far from their median, so that specks do not move the centroid."""
    core = mask > 0.5
    area = core.sum((1, 2))
    reach = 2.5 * np.sqrt(area / math.pi) + 2
    windows = []
    for counts in (core.sum(1), core.sum(2)):  # along x, then along y
        middle = np.argmax(np.cumsum(counts, 1) >= area[:, None] / 2, axis=1)
        windows.append(np.abs(np.arange(counts.shape[1]) - middle[:, None]) <= reach[:, None])
    return mask * windows[0][:, None, :] * windows[1][:, :, None]


def _recognize_sprite(color: str, coverage: Array) -> RecognizedSprite:
    """Recognize one sprite from its soft mask [F, H, W]."""
    mask = _near_median(coverage)
    area, x, y = _centroid(mask)
    astray = 1 - area / np.maximum(coverage.sum((1, 2)), 1)
    in_pieces = (astray > MAX_STRAY).sum() > MAX_STRAY_FRAMES
    visible = area >= MIN_AREA * mask.shape[1] * mask.shape[2]
    positions = np.where(visible[:, None], np.stack([x, y], 1), np.nan)
    radius, angle = np.full(len(mask), np.nan), np.full(len(mask), np.nan)
    if not visible.any():
        return RecognizedSprite(UNCLEAR, UNCLEAR, UNCLEAR, positions, radius, angle, 0.0, visible)
    samples = normalize(mask[visible], area[visible], x[visible], y[visible])
    shape, shape_score, clear, angle[visible] = match(samples)
    radius[visible] = np.sqrt(area[visible] / templates()[3][shape])
    if shape in PERIODS:
        angle[visible] = np.unwrap(angle[visible], period=PERIODS[shape])
    motion = classify_motion(positions * 64 / mask.shape[1], radius, angle, visible)
    named = shape if clear and not in_pieces else UNCLEAR
    return RecognizedSprite(color, named, motion, positions, radius, angle, shape_score, visible)
