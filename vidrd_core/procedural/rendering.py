"""The anti-aliased renderer of scenes, with the exact track of each sprite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidrd_core.procedural.captions import caption
from vidrd_core.procedural.scenes import BACKGROUNDS, COLORS, DIRECTIONS, GROWTH, SIZES, Scene, Sprite, random_scene
from vidrd_core.procedural.shapes import Array, signed_distance


@dataclass(frozen=True, eq=False)
class SpriteTruth:
    """The exact track of a sprite.

    Args:
        position: Centers [F, 2] (x, y) in pixels.
        velocity: [F, 2] in pixels per frame.
        radius: [F] in pixels.
        angle: [F] in radians.
    """

    position: Array
    velocity: Array
    radius: Array
    angle: Array


def coverage(shape: str, truth: SpriteTruth, size: int) -> Array:
    """The share of each pixel that a sprite covers.

    Args:
        shape: One of `shapes.SHAPES`.
        truth: The track of the sprite, of F frames.
        size: Pixels per side.

    Returns:
        float32 [F, size, size], 0 to 1.
    """
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
    """Compute the track of a sprite.

    Args:
        sprite: The sprite.
        frames: Number of frames.
        size: Pixels per side of a frame.

    Returns:
        Positions, velocities and radii in pixels, and angles in radians, in each frame.
    """
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


def draw(scene: Scene, truth: Sequence[SpriteTruth], size: int) -> NDArray[np.uint8]:
    """Draw the sprites of a scene on given tracks over its background.

    Args:
        scene: The scene.
        truth: The track of each sprite, of F frames.
        size: Pixels per side.

    Returns:
        uint8 [F, size, size, 3].
    """
    background = np.array(BACKGROUNDS[scene.background], np.float32)
    image = np.broadcast_to(background, (len(truth[0].angle), size, size, 3))
    for sprite, path in zip(scene.sprites, truth, strict=True):
        share = coverage(sprite.shape, path, size)[..., None]
        image = image + share * (np.array(COLORS[sprite.color], np.float32) - image)
    return np.rint(image).astype(np.uint8)


def render(scene: Scene, frames: int = 8, size: int = 64) -> NDArray[np.uint8]:
    """Draw a scene.

    Args:
        scene: The scene.
        frames: Number of frames.
        size: Pixels per side.

    Returns:
        uint8 [frames, size, size, 3].
    """
    return draw(scene, [trajectory(sprite, frames, size) for sprite in scene.sprites], size)


@dataclass(frozen=True, eq=False)
class ShapesClip:
    """A random captioned clip.

    Args:
        frames: uint8 [F, H, W, 3].
        caption: Its caption.
        scene: What was drawn.
        truth: The track of each sprite.
    """

    frames: NDArray[np.uint8]
    caption: str
    scene: Scene
    truth: tuple[SpriteTruth, ...]


def sample_clip(rng: np.random.Generator, frames: int = 8, size: int = 64, two_objects: float = 0.15) -> ShapesClip:
    """Draw a random captioned clip.

    Args:
        rng: The source of randomness.
        frames: Number of frames.
        size: Pixels per side.
        two_objects: Probability of two sprites, 0 to 1.

    Returns:
        The clip uint8 [frames, size, size, 3], with its caption and its ground truth.
    """
    scene = random_scene(rng, two_objects)
    truth = tuple(trajectory(sprite, frames, size) for sprite in scene.sprites)
    return ShapesClip(draw(scene, truth, size), caption(scene, rng), scene, truth)
