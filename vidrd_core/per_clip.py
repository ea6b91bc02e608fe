"""What may differ from clip to clip of a video: seed, cfg and alpha."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vidrd_core.reuse import ReuseSettings
from vidrd_core.settings import SampleSettings

PerClip = Mapping[str, Sequence[float | None]]
"""By name, the numbers of clips 0, 1, ...; None, or nothing at the end, is what holds for all."""
NAMES = ("seed", "cfg", "alpha")


def numbers_of(name: str, text: str, count: int, smallest: float, largest: float) -> list[float | None]:
    """What a text like "1, , 3" says for the first of `count` clips; None for an empty place.

    Raises ValueError for what is no number from `smallest` to `largest`, or one too many.
    """
    entries = [entry.strip() for entry in text.replace("\n", ",").split(",")] if text.strip() else []
    if len(entries) > count:
        raise ValueError(
            f"{name}_per_clip has {len(entries)} entries, but clips are {count}: take some out, or make more clips"
        )
    values: list[float | None] = []
    for number, entry in enumerate(entries, 1):
        try:
            value = (int if name == "seed" else float)(entry) if entry else None
        except ValueError:
            value = math.nan
        if value is not None and not smallest <= value <= largest:
            kind = "a whole number" if name == "seed" else "a number"
            span = f"from {smallest} to {largest}" if largest < math.inf else f"of {smallest} or more"
            raise ValueError(f"{name}_per_clip has {entry!r} for clip {number}, expected {kind} {span}")
        values.append(value)
    return values


def of_clip(
    index: int, sample: SampleSettings, reuse: ReuseSettings, per_clip: PerClip
) -> tuple[SampleSettings, ReuseSettings]:
    """What clip `index` is made with. Raises ValueError for what cannot be."""
    own: dict[str, Any] = {name: values[index] for name, values in per_clip.items() if index < len(values)}
    own = {name: value for name, value in own.items() if value is not None}
    if "alpha" in own:
        reuse = replace(reuse, alpha=own.pop("alpha"))
    return replace(sample, **own), reuse


def check(clips: int, sample: SampleSettings, reuse: ReuseSettings, per_clip: PerClip) -> None:
    """Raise ValueError unless each of so many clips can be made."""
    for name, values in per_clip.items():
        if name not in NAMES:
            raise ValueError(f"per_clip has {name!r}, expected {', '.join(NAMES)}")
        if len(values) > clips:
            raise ValueError(f"per_clip has {len(values)} numbers for {name}, but there are {clips} clips")
    for index in range(max(map(len, per_clip.values()), default=0)):
        try:
            of_clip(index, sample, reuse, per_clip)
        except ValueError as error:
            raise ValueError(f"of clip {index + 1} the {error}") from None
