"""Where clips for training come from: drawn by program, or shards made by `vidrd data`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidrd_core.data.records import PSEUDO
from vidrd_core.data.shards import Shards
from vidrd_core.io.digests import hashed
from vidrd_core.procedural.datasets import ShapesData, StillsData


class Clips(Protocol):
    """Captioned clips by number."""

    def __len__(self) -> int: ...

    def shape(self, index: int) -> tuple[int, int, int]:
        """Frames, height and width."""

    def frames(self, index: int) -> NDArray[np.uint8]:
        """uint8 [F, H, W, 3]. Raises DataError if they cannot be read any more."""

    def caption(self, index: int, rng: np.random.Generator, plain: bool) -> str:
        """One way to say what it shows; the plain one, if there are several."""

    def made_of(self) -> Any:
        """What tells these clips from others, as JSON has it."""

    def part(self, numbers: NDArray[np.int64]) -> tuple[Clips, NDArray[np.int64]]:
        """Clips that hold these alone, and their numbers there."""


@dataclass(frozen=True)
class Drawn:
    """Clips drawn by program."""

    data: ShapesData | StillsData

    def __len__(self) -> int:
        return self.data.clips

    def shape(self, index: int) -> tuple[int, int, int]:
        return self.data.frames, self.data.size, self.data.size

    def frames(self, index: int) -> NDArray[np.uint8]:
        return self.data.frames_of(index)

    def caption(self, index: int, rng: np.random.Generator, plain: bool) -> str:
        if plain and isinstance(self.data, ShapesData):
            return self.data.plain(index)
        return self.data.caption(index, rng)

    def made_of(self) -> Any:
        return self.data.made_of()

    def part(self, numbers: NDArray[np.int64]) -> tuple[Clips, NDArray[np.int64]]:
        return self, numbers


@dataclass(frozen=True)
class FromShards:
    """Clips of a folder of shards."""

    folder: Path
    pseudo_videos: bool = True

    @cached_property
    def samples(self) -> list[Any]:
        found = Shards(self.folder).samples
        return [s for s in found if self.pseudo_videos or s.facts["kind"] != PSEUDO]

    def __len__(self) -> int:
        return len(self.samples)

    def shape(self, index: int) -> tuple[int, int, int]:
        facts = self.samples[index].facts
        return facts["frames"], facts["height"], facts["width"]

    def frames(self, index: int) -> NDArray[np.uint8]:
        return self.samples[index].frames()

    def caption(self, index: int, rng: np.random.Generator, plain: bool) -> str:
        return self.samples[index].caption

    def made_of(self) -> Any:
        return {"shards": hashed(*(sample.facts["key"] for sample in self.samples))[:16]}

    def part(self, numbers: NDArray[np.int64]) -> tuple[Clips, NDArray[np.int64]]:
        some = FromShards(self.folder, self.pseudo_videos)
        some.__dict__["samples"] = [self.samples[int(number)] for number in numbers]  # in place of all in the folder
        return some, np.arange(len(numbers))


@dataclass(frozen=True)
class SourceConfig:
    """A source of data in a recipe: one of `shapes`, `stills` (both drawn by program) and `shards`."""

    name: str = ""
    weight: float = 1.0
    shapes: dict[str, Any] | None = None
    stills: dict[str, Any] | None = None
    shards: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("shapes", "stills", "shards") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a source has {' and '.join(given) or 'none'} of shapes, stills and shards, expected one"
            )
        if not self.name:
            object.__setattr__(self, "name", Path(self.shards).name if self.shards else given[0])
        if not 0 <= self.weight < 1e9:
            raise ValueError(f"the weight of {self.name} is {self.weight}, expected 0 or more")


@dataclass(frozen=True)
class Share:
    """A source's part of a mixture."""

    name: str
    clips: int
    weight: float
    share: float  # of all that is drawn

    def visits(self, draws: int) -> float:
        """How often each of its clips is drawn."""
        return draws * self.share / self.clips if self.clips else 0.0


def shares(clips: Mapping[str, int], weights: Mapping[str, float]) -> list[Share]:
    """The shares of sources, by how many clips they have and how much more each clip counts.

    A weight is a source's, not a clip's: a source of weight 2 is drawn twice as often as one of weight 1, whatever
    their sizes. Raises ValueError for weights that cannot be.
    """
    if unknown := sorted(set(weights) - set(clips)):
        raise ValueError(f"there is no source {', '.join(unknown)}; the sources are {', '.join(clips)}")
    drawn = {name: float(weights.get(name, 1.0)) for name in clips}
    if wrong := {name: weight for name, weight in drawn.items() if not (math.isfinite(weight) and weight >= 0)}:
        raise ValueError(f"weights are {wrong}, expected numbers of 0 or more")
    if empty := [name for name, weight in drawn.items() if weight and not clips[name]]:
        raise ValueError(f"{', '.join(empty)} has no clips to draw from: give it weight 0, or clips")
    total = sum(drawn.values())
    if not total:
        why = f"all weights are 0, of {', '.join(clips)}" if clips else "no source is left that has clips"
        raise ValueError(f"there is nothing to draw from: {why}")
    return [Share(name, clips[name], drawn[name], drawn[name] / total) for name in clips]
