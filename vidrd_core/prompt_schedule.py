"""What changes from clip to clip of a video: prompts and how they fade (prompt travel), seeds, cfg and alpha."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vidrd_core.reuse import ReuseSettings
from vidrd_core.settings import SampleSettings

OVER_FRAMES = -1
"""A number of clips, or a share, with which a new prompt fades in within its first clip."""
Fade = tuple[str, float]
"""The previous prompt, and the share of the new one, 0 to 1, or OVER_FRAMES."""
PerClip = Mapping[str, Sequence[float | None]]
"""Values for clips 0, 1, ... by name ("seed", "cfg", "alpha"); None, or a missing one, means the video's value."""
NAMES = ("seed", "cfg", "alpha")


def fade_of(prompts: Sequence[str], index: int, travel: int) -> Fade | None:
    """How far a clip has faded from the previous prompt to its own (prompt travel).

    Args:
        prompts: A prompt for each clip; the last one repeats.
        index: The clip's number, from 0.
        travel: The number of clips over which a new prompt fades in, or OVER_FRAMES.

    Returns:
        The previous prompt and the share of the new one, 1 / (travel + 1), 2 / (travel + 1), ... in the clips after a
        change; OVER_FRAMES as a share in the first of them; None where the new prompt has faded in completely.
    """

    def prompt(clip: int) -> str:
        return prompts[min(clip, len(prompts) - 1)]

    start = index
    while start > 0 and prompt(start - 1) == prompt(index):
        start -= 1
    clips = 1 if travel == OVER_FRAMES else travel
    if start == 0 or index - start >= clips:
        return None
    share = OVER_FRAMES if travel == OVER_FRAMES else (index - start + 1) / (travel + 1)
    return prompt(start - 1), share


def shares_of_frames(reuse: ReuseSettings, frames: int) -> list[float]:
    """The share of a new prompt in each frame of an extending clip in which it fades in over frames.

    It grows over the M prompt frames of a mirrored clip. Those of a forward clip replay and were shown with the old
    prompt: there it grows over the M frames after them. Without prompt frames the new prompt is there at once.

    Args:
        reuse: What the clip reuses.
        frames: N.

    Returns:
        N numbers, 0 to 1.
    """
    if not reuse.prompt_frames:
        return [1.0] * frames
    begins = reuse.repeated_frames
    return [min(1.0, max(0, j - begins + 1) / (reuse.prompt_frames + 1)) for j in range(frames)]


def parse_per_clip(name: str, text: str, count: int, smallest: float, largest: float) -> list[float | None]:
    """The values of single clips from a text such as "1, , 3".

    Args:
        name: "seed", "cfg" or "alpha".
        text: Values separated by commas or lines; an empty place means the video's value.
        count: The number of clips.
        smallest: The lowest valid value.
        largest: The highest valid value.

    Returns:
        A value, or None, for each place.

    Raises:
        ValueError: An entry is no number in the range, or there are more entries than clips.
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


def settings_of_clip(
    index: int, sample: SampleSettings, reuse: ReuseSettings, per_clip: PerClip
) -> tuple[SampleSettings, ReuseSettings]:
    """The settings of one clip. Raises ValueError for a value that is not valid."""
    own: dict[str, Any] = {name: values[index] for name, values in per_clip.items() if index < len(values)}
    own = {name: value for name, value in own.items() if value is not None}
    if "alpha" in own:
        reuse = replace(reuse, alpha=own.pop("alpha"))
    return replace(sample, **own), reuse


def check_per_clip(clips: int, sample: SampleSettings, reuse: ReuseSettings, per_clip: PerClip) -> None:
    """Raise ValueError unless the values of single clips are valid for so many clips."""
    for name, values in per_clip.items():
        if name not in NAMES:
            raise ValueError(f"per_clip has {name!r}, expected {', '.join(NAMES)}")
        if len(values) > clips:
            raise ValueError(f"per_clip has {len(values)} numbers for {name}, but there are {clips} clips")
    for index in range(max(map(len, per_clip.values()), default=0)):
        try:
            settings_of_clip(index, sample, reuse, per_clip)
        except ValueError as error:
            raise ValueError(f"of clip {index + 1} the {error}") from None
