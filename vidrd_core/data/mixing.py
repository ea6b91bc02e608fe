"""What share of a model's training each source of data has (VidRD, section 5 and Table 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


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
