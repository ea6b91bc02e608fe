"""A bank of procedural clips on disk, drawn once and read by number; every stage of training draws from one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidrd_core.data.shapes import Scene, caption, random_scene, render, trajectory


@dataclass(frozen=True)
class ShapesData:
    """What is drawn: clip i is made from its own generator (seed, i), so a bank can be made in any order."""

    clips: int = 10000
    frames: int = 8
    size: int = 64
    two_objects: float = 0.15
    seed: int = 1

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


def pixel_bank(data: ShapesData, path: Path) -> NDArray[np.uint8]:
    """All clips as a memory-mapped array uint8 [clips, F, H, W, 3]; drawn if `path` does not hold them yet."""
    shape = (data.clips, data.frames, data.size, data.size, 3)
    if not path.exists():
        save_atomically(path, shape, np.dtype(np.uint8), (data.frames_of(i)[None] for i in range(data.clips)))
    return open_bank(path, shape)


def open_bank(path: Path, shape: tuple[int, ...]) -> NDArray:
    """A bank made earlier. Raises ValueError if it is not of this shape."""
    bank = np.load(path, mmap_mode="r")
    if bank.shape != shape:
        raise ValueError(f"{path} holds an array {bank.shape}, expected {shape}: delete it to have it made anew")
    return bank


def save_atomically(path: Path, shape: tuple[int, ...], dtype: np.dtype, parts: Iterator[NDArray]) -> None:
    """Write arrays one after the other into one .npy file of the given shape, which appears when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    bank = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
    done = 0
    for part in parts:
        bank[done : done + len(part)] = part
        done += len(part)
    if done != len(bank):
        raise ValueError(f"{path} was to hold {len(bank)} clips, got {done}")
    bank.flush()
    partial.replace(path)
