"""Where training clips come from: procedural clips, or shards made by `vidrd data`; and their shares of a mixture."""

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
from vidrd_core.procedural.datasets import ShapesData, StillsData, WorldData


class Clips(Protocol):
    """A dataset of captioned clips, read by index."""

    def __len__(self) -> int: ...

    def shape(self, index: int) -> tuple[int, int, int]:
        """Frames, height and width of a clip."""

    def frames(self, index: int) -> NDArray[np.uint8]:
        """A clip, uint8 [F, H, W, 3]. Raises DataError if it can no longer be read."""

    def caption(self, index: int, rng: np.random.Generator, plain: bool) -> str:
        """A caption of a clip; with `plain` the complete, plain one, where there are several."""

    def fingerprint(self) -> Any:
        """What identifies these clips, as JSON-ready values."""

    def subset(self, indices: NDArray[np.int64]) -> tuple[Clips, NDArray[np.int64]]:
        """A dataset that needs to hold the clips of these indices only, and their indices in it."""


@dataclass(frozen=True)
class ProceduralClips:
    """Clips rendered by `vidrd_core.procedural`.

    Args:
        data: What is rendered.
    """

    data: ShapesData | StillsData | WorldData

    def __len__(self) -> int:
        return self.data.clips

    def shape(self, index: int) -> tuple[int, int, int]:
        """Frames, height and width of a clip."""
        return self.data.frames, self.data.size, self.data.size

    def frames(self, index: int) -> NDArray[np.uint8]:
        """A clip, uint8 [F, H, W, 3]."""
        return self.data.frames_of(index)

    def caption(self, index: int, rng: np.random.Generator, plain: bool) -> str:
        """A caption of a clip; stills have no plain one."""
        if plain and not isinstance(self.data, StillsData):
            return self.data.plain(index)
        return self.data.caption(index, rng)

    def fingerprint(self) -> Any:
        """The settings, and the version of the renderer."""
        return self.data.made_of()

    def subset(self, indices: NDArray[np.int64]) -> tuple[Clips, NDArray[np.int64]]:
        """The same dataset: it holds no clips."""
        return self, indices


@dataclass(frozen=True)
class ShardClips:
    """Clips of a folder of shards.

    Args:
        folder: The folder.
        pseudo_videos: Whether clips made from stills are among them.
    """

    folder: Path
    pseudo_videos: bool = True

    @cached_property
    def samples(self) -> list[Any]:
        """The clips as `data.shards.Sample`."""
        found = Shards(self.folder).samples
        return [s for s in found if self.pseudo_videos or s.facts["kind"] != PSEUDO]

    def __len__(self) -> int:
        return len(self.samples)

    def shape(self, index: int) -> tuple[int, int, int]:
        """Frames, height and width of a clip."""
        facts = self.samples[index].facts
        return facts["frames"], facts["height"], facts["width"]

    def frames(self, index: int) -> NDArray[np.uint8]:
        """A clip, uint8 [F, H, W, 3]. Raises DataError if it can no longer be read."""
        return self.samples[index].frames()

    def caption(self, index: int, rng: np.random.Generator, plain: bool) -> str:
        """The caption of a clip; there is one of each."""
        return self.samples[index].caption

    def fingerprint(self) -> Any:
        """A digest of the clips' keys."""
        return {"shards": hashed(*(sample.facts["key"] for sample in self.samples))[:16]}

    def subset(self, indices: NDArray[np.int64]) -> tuple[Clips, NDArray[np.int64]]:
        """A dataset of these clips alone, which is quick to send to another process."""
        some = ShardClips(self.folder, self.pseudo_videos)
        some.__dict__["samples"] = [self.samples[int(index)] for index in indices]  # in place of all in the folder
        return some, np.arange(len(indices))


@dataclass(frozen=True)
class SourceConfig:
    """A data source in a recipe: exactly one of `shapes`, `stills`, `world` (all procedural) and `shards`.

    Args:
        name: The source's name; by default that of its folder, or its kind.
        weight: How often it is drawn from, relative to the other sources; 0 or more.
        shapes: Settings of `procedural.datasets.ShapesData`.
        stills: Settings of `procedural.datasets.StillsData`.
        world: Settings of `procedural.datasets.WorldData`.
        shards: A folder made by `vidrd data`.

    Raises:
        ValueError: None or several of the four are given, or the weight is out of its range.
    """

    name: str = ""
    weight: float = 1.0
    shapes: dict[str, Any] | None = None
    stills: dict[str, Any] | None = None
    world: dict[str, Any] | None = None
    shards: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("shapes", "stills", "world", "shards") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a source has {' and '.join(given) or 'none'} of shapes, stills, world and shards, expected one"
            )
        if not self.name:
            object.__setattr__(self, "name", Path(self.shards).name if self.shards else given[0])
        if not 0 <= self.weight < 1e9:
            raise ValueError(f"the weight of {self.name} is {self.weight}, expected 0 or more")


@dataclass(frozen=True)
class Share:
    """A source's part of a mixture.

    Args:
        name: The source.
        clips: How many clips it has.
        weight: Its weight.
        share: Its share of all draws, 0 to 1.
    """

    name: str
    clips: int
    weight: float
    share: float

    def visits(self, draws: int) -> float:
        """How often each of its clips is drawn on average, in `draws` draws from the mixture."""
        return draws * self.share / self.clips if self.clips else 0.0


def shares(clips: Mapping[str, int], weights: Mapping[str, float]) -> list[Share]:
    """Compute the shares of the sources of a mixture.

    A weight is a source's, not a clip's: a source of weight 2 is drawn from twice as often as one of weight 1,
    whatever their sizes.

    Args:
        clips: How many clips each source has.
        weights: Weights by source, 0 or more; 1 by default.

    Returns:
        For each source of `clips`, in its order: its weight, and its share of all draws; the shares sum to 1.

    Raises:
        ValueError: A weight is negative, of an unknown source or of one without clips, or all are 0.
    """
    if unknown := sorted(set(weights) - set(clips)):
        raise ValueError(f"there is no source {', '.join(unknown)}; the sources are {', '.join(clips)}")
    used = {name: float(weights.get(name, 1.0)) for name in clips}
    if wrong := {name: weight for name, weight in used.items() if not (math.isfinite(weight) and weight >= 0)}:
        raise ValueError(f"weights are {wrong}, expected numbers of 0 or more")
    if empty := [name for name, weight in used.items() if weight and not clips[name]]:
        raise ValueError(f"{', '.join(empty)} has no clips to draw from: give it weight 0, or clips")
    total = sum(used.values())
    if not total:
        why = f"all weights are 0, of {', '.join(clips)}" if clips else "no source is left that has clips"
        raise ValueError(f"there is nothing to draw from: {why}")
    return [Share(name, clips[name], used[name], used[name] / total) for name in clips]
