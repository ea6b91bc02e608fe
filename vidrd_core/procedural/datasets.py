"""Captioned clips and stills that are drawn by program, by number: what the built-in model learns from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidrd_core.data.pseudo_video import CameraSettings, pseudo_video
from vidrd_core.procedural import Scene, caption, describe, random_scene, random_still, render, trajectory

RULES = 3  # goes up when `vidrd_core.procedural` draws otherwise, so that older banks are known as such


@dataclass(frozen=True)
class ShapesData:
    """Clips of moving shapes: clip i is made from its own generator (seed, i), so a bank can be made in any order."""

    clips: int = 10000
    frames: int = 8
    size: int = 64
    two_objects: float = 0.15
    seed: int = 1

    def __post_init__(self) -> None:
        _check(self, {"clips": 1, "frames": 1, "size": 8, "seed": 0})
        if not 0 <= self.two_objects <= 1:
            raise ValueError(f"data: two_objects is {self.two_objects}, expected a share from 0 to 1")

    def scene(self, index: int) -> Scene:
        return random_scene(np.random.default_rng((self.seed, index)), self.two_objects)

    def frames_of(self, index: int) -> NDArray[np.uint8]:
        """The frames of clip `index`, uint8 [F, H, W, 3]."""
        return render(self.scene(index), self.frames, self.size)

    def truth(self, index: int) -> NDArray[np.float32]:
        """Where the sprites of clip `index` are, [F, 10]: of each x, y, radius (shares of the frame), cosine and sine
        of its angle; zeros for a second one that is not there."""
        rows = np.zeros((self.frames, 2, 5), np.float32)
        for number, sprite in enumerate(self.scene(index).sprites):
            t = trajectory(sprite, self.frames, self.size)
            rows[:, number, :2] = t.position / self.size
            rows[:, number, 2] = t.radius / self.size
            rows[:, number, 3:] = np.stack([np.cos(t.angle), np.sin(t.angle)], axis=1)
        return rows.reshape(self.frames, 10)

    def caption(self, index: int, rng: np.random.Generator) -> str:
        return caption(self.scene(index), rng)

    def plain(self, index: int) -> str:
        """The plain caption that says all."""
        return describe(self.scene(index))

    def made_of(self) -> dict[str, Any]:
        """What a bank of these clips depends on."""
        return {**asdict(self), "rules": RULES}


@dataclass(frozen=True)
class StillsData:
    """Stills of shapes, as pseudo-videos of a camera over them, or as images."""

    clips: int = 2000
    frames: int = 8  # of a pseudo-video; 1 makes images
    size: int = 64
    zoom: float = 1.3
    pan: float = 0.15
    easing: str = "linear"
    seed: int = 1

    def __post_init__(self) -> None:
        _check(self, {"clips": 1, "frames": 1, "size": 8, "seed": 0})
        self.camera()

    def camera(self) -> CameraSettings:
        return CameraSettings(self.frames, self.size, self.size, self.zoom, self.pan, easing=self.easing)  # type: ignore[arg-type]

    def scene(self, index: int) -> Scene:
        return random_still(np.random.default_rng((self.seed, index)))

    def frames_of(self, index: int) -> NDArray[np.uint8]:
        """The frames of clip `index`, uint8 [F, H, W, 3]."""
        if self.frames == 1:
            return render(self.scene(index), 1, self.size)
        still = render(self.scene(index), 1, 2 * self.size)[0]
        return pseudo_video(still, self.camera(), np.random.default_rng((self.seed, index, 1)))

    def caption(self, index: int, rng: np.random.Generator) -> str:
        return caption(self.scene(index), rng, still=True)

    def made_of(self) -> dict[str, Any]:
        """What a bank of these clips depends on."""
        return {**asdict(self), "stills": True, "rules": RULES}


def _check(data: Any, least: dict[str, int]) -> None:
    for name, value in least.items():
        if getattr(data, name) < value:
            raise ValueError(f"data: {name} is {getattr(data, name)}, expected {value} or more")
