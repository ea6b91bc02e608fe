"""Datasets of procedural captioned clips and stills by index, which the built-in model is trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidrd_core.data.pseudo_video import CameraSettings, pseudo_video
from vidrd_core.procedural import Scene, caption, describe, random_scene, random_still, render, trajectory, world
from vidrd_core.procedural.world.things import RADII, SPEEDS

WORLD_RULES = 1  # version of what `vidrd_core.procedural.world` draws
RULES = 3  # version of what `vidrd_core.procedural` draws, so that older array caches are recognized


@dataclass(frozen=True)
class ShapesData:
    """Clips of moving shapes; clip i has its own generator (seed, i), so clips can be made in any order.

    Args:
        clips: Number of clips.
        frames: Frames of a clip.
        size: Pixels per side.
        two_objects: Share of clips with two sprites, 0 to 1.
        seed: Seed of the dataset.

    Raises:
        ValueError: A number is out of range.
    """

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
        """The scene of clip `index`."""
        return random_scene(np.random.default_rng((self.seed, index)), self.two_objects)

    def frames_of(self, index: int) -> NDArray[np.uint8]:
        """The frames of clip `index`, uint8 [F, H, W, 3]."""
        return render(self.scene(index), self.frames, self.size)

    def truth(self, index: int) -> NDArray[np.float32]:
        """Compute where the sprites of a clip are.

        Args:
            index: Number of the clip, from 0.

        Returns:
            float32 [F, 10]: of each of two sprites x, y and radius as fractions of the frame, and cosine and sine of
            its angle; zeros for a second sprite that does not exist.
        """
        rows = np.zeros((self.frames, 2, 5), np.float32)
        for number, sprite in enumerate(self.scene(index).sprites):
            t = trajectory(sprite, self.frames, self.size)
            rows[:, number, :2] = t.position / self.size
            rows[:, number, 2] = t.radius / self.size
            rows[:, number, 3:] = np.stack([np.cos(t.angle), np.sin(t.angle)], axis=1)
        return rows.reshape(self.frames, 10)

    def caption(self, index: int, rng: np.random.Generator) -> str:
        """A random caption of clip `index`."""
        return caption(self.scene(index), rng)

    def plain(self, index: int) -> str:
        """The canonical caption of clip `index`."""
        return describe(self.scene(index))

    def made_of(self) -> dict[str, Any]:
        """The settings that the content of the dataset depends on."""
        return {**asdict(self), "rules": RULES}


@dataclass(frozen=True)
class StillsData:
    """Stills of shapes, as pseudo-videos with a moving camera or as images.

    Args:
        clips: Number of stills.
        frames: Frames of a pseudo-video; 1 makes images.
        size: Pixels per side.
        zoom: Largest zoom of the camera; see `data.pseudo_video`.
        pan: Largest pan of the camera, as a fraction of the frame.
        easing: How the camera accelerates.
        seed: Seed of the dataset.

    Raises:
        ValueError: A number is out of range.
    """

    clips: int = 2000
    frames: int = 8
    size: int = 64
    zoom: float = 1.3
    pan: float = 0.15
    easing: str = "linear"
    seed: int = 1

    def __post_init__(self) -> None:
        _check(self, {"clips": 1, "frames": 1, "size": 8, "seed": 0})
        self.camera()

    def camera(self) -> CameraSettings:
        """The camera of its pseudo-videos."""
        return CameraSettings(self.frames, self.size, self.size, self.zoom, self.pan, easing=self.easing)  # type: ignore[arg-type]

    def scene(self, index: int) -> Scene:
        """The scene of still `index`."""
        return random_still(np.random.default_rng((self.seed, index)))

    def frames_of(self, index: int) -> NDArray[np.uint8]:
        """The frames of clip `index`, uint8 [F, H, W, 3]."""
        if self.frames == 1:
            return render(self.scene(index), 1, self.size)
        still = render(self.scene(index), 1, 2 * self.size)[0]
        return pseudo_video(still, self.camera(), np.random.default_rng((self.seed, index, 1)))

    def caption(self, index: int, rng: np.random.Generator) -> str:
        """A random caption of still `index`."""
        return caption(self.scene(index), rng, still=True)

    def made_of(self) -> dict[str, Any]:
        """The settings that the content of the dataset depends on."""
        return {**asdict(self), "stills": True, "rules": RULES}


@dataclass(frozen=True)
class WorldData:
    """Clips of the drawn world; clip i has its own generator (seed, i), so clips can be made in any order.

    Args:
        clips: Number of clips.
        frames: Frames of a clip.
        size: Pixels per side.
        motions: Which motions there are, each as often as any other; all of them by default.
        grounds: Patterns of the grounds, likewise.
        radii: Smallest and largest radius of a thing, in 64ths of a frame's side.
        speeds: Lowest and highest speed of what drifts, bounces or is followed, in 64ths of the side a frame.
        seed: Seed of the dataset.

    Raises:
        ValueError: A number is out of range, or a motion or a ground is unknown.
    """

    clips: int = 10000
    frames: int = 8
    size: int = 64
    motions: tuple[str, ...] = world.MOTIONS
    grounds: tuple[str, ...] = world.GROUNDS
    radii: tuple[float, float] = (64 * RADII[0], 64 * RADII[1])
    speeds: tuple[float, float] = (64 * SPEEDS[0], 64 * SPEEDS[1])
    seed: int = 1

    def __post_init__(self) -> None:
        _check(self, {"clips": 1, "frames": 1, "size": 8, "seed": 0})
        for name, known in (("motions", world.MOTIONS), ("grounds", world.GROUNDS)):
            given = getattr(self, name)
            if unknown := [word for word in given if word not in known] or not given:
                named = repr(unknown[0]) if isinstance(unknown, list) else "none"
                raise ValueError(f"data: {name} has {named}, expected some of {', '.join(known)}")
        for name, least, most in (("radii", 4, 20), ("speeds", 0.5, 16)):
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(
                    f"data: {name} are {low:g} and {high:g}, expected a lower and a higher number from {least} to "
                    f"{most}"
                )

    def instance(self, index: int) -> world.Instance:
        """The instance in clip `index`."""
        rng = np.random.default_rng((self.seed, index))
        ground = None if self.grounds == world.GROUNDS else str(rng.choice(self.grounds))
        radii, speeds = ((low / 64, high / 64) for low, high in (self.radii, self.speeds))
        return world.random_instance(rng, self.motions, ground=ground, radii=radii, speeds=speeds)

    def frames_of(self, index: int) -> NDArray[np.uint8]:
        """The frames of clip `index`, uint8 [F, H, W, 3]."""
        return world.render(self.instance(index), self.frames, self.size)

    def caption(self, index: int, rng: np.random.Generator) -> str:
        """A random caption of clip `index`."""
        return world.caption(self.instance(index), rng)

    def plain(self, index: int) -> str:
        """The canonical caption of clip `index`."""
        return world.describe(self.instance(index))

    def made_of(self) -> dict[str, Any]:
        """The settings that the content of the dataset depends on."""
        settings, usual = asdict(self), WorldData()
        for name in ("grounds", "radii", "speeds"):  # which older caches do not tell
            if settings[name] == getattr(usual, name):
                del settings[name]
        return {**settings, "world": WORLD_RULES}


def _check(data: Any, least: dict[str, int]) -> None:
    """Raise ValueError for a setting below its least value."""
    for name, value in least.items():
        if getattr(data, name) < value:
            raise ValueError(f"data: {name} is {getattr(data, name)}, expected {value} or more")
