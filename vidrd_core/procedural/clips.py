"""Random captioned clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidrd_core.procedural.captions import caption
from vidrd_core.procedural.rendering import SpriteTruth, draw, trajectory
from vidrd_core.procedural.scenes import Scene, random_scene


@dataclass(frozen=True, eq=False)
class ShapesClip:
    """Frames uint8 [F, H, W, 3], their caption, and the scene and per-sprite truth they were drawn from."""

    frames: NDArray[np.uint8]
    caption: str
    scene: Scene
    truth: tuple[SpriteTruth, ...]


def sample_clip(rng: np.random.Generator, frames: int = 8, size: int = 64, two_objects: float = 0.15) -> ShapesClip:
    """Draws a random captioned clip."""
    scene = random_scene(rng, two_objects)
    truth = tuple(trajectory(sprite, frames, size) for sprite in scene.sprites)
    return ShapesClip(draw(scene, truth, size), caption(scene, rng), scene, truth)
