"""A bank of procedural clips on disk, drawn once and read by number; every stage of training draws from one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidrd_core.data.shapes import Scene, caption, random_scene, render, trajectory

RULES = 3  # goes up when `vidrd_core.data.shapes` draws otherwise, so that older banks are known as such


@dataclass(frozen=True)
class ShapesData:
    """What is drawn: clip i is made from its own generator (seed, i), so a bank can be made in any order."""

    clips: int = 10000
    frames: int = 8
    size: int = 64
    two_objects: float = 0.15
    seed: int = 1

    def __post_init__(self) -> None:
        for name, least in {"clips": 1, "frames": 1, "size": 8, "seed": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"data: {name} is {getattr(self, name)}, expected {least} or more")
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

    def made_of(self) -> dict[str, Any]:
        """What a bank of these clips depends on."""
        return {**asdict(self), "rules": RULES}


class StaleBankError(ValueError):
    """A bank on disk was made from something else."""


def pixel_bank(data: ShapesData, path: Path) -> NDArray[np.uint8]:
    """All clips as a memory-mapped array uint8 [clips, F, H, W, 3]; drawn if `path` does not hold them yet."""
    shape, made_of = (data.clips, data.frames, data.size, data.size, 3), data.made_of()
    if not path.exists():
        frames = (data.frames_of(i)[None] for i in range(data.clips))
        save_bank(path, shape, np.dtype(np.uint8), frames, made_of)
    return open_bank(path, shape, made_of)


def open_bank(path: Path, shape: tuple[int, ...], made_of: dict[str, Any]) -> NDArray:
    """A bank made earlier. Raises StaleBankError if it is not of this shape or was made of something else."""
    bank, note = np.load(path, mmap_mode="r"), path.with_suffix(".json")
    was = json.loads(note.read_text(encoding="utf-8")) if note.exists() else "nobody knows"
    for mine, theirs in ((bank.shape, shape), (was, made_of)):
        if mine != theirs:
            raise StaleBankError(f"{path} was made as {mine}, expected {theirs}: delete it to have it made anew")
    return bank


def save_bank(
    path: Path, shape: tuple[int, ...], dtype: np.dtype, parts: Iterator[NDArray], made_of: dict[str, Any]
) -> None:
    """Write arrays one after the other into one .npy file of the given shape, which appears when it is whole.

    What it was made of is kept beside it as JSON, for `open_bank` to compare.
    """
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
    path.with_suffix(".json").write_text(json.dumps(made_of), encoding="utf-8")
    partial.replace(path)
