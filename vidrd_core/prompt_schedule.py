"""Prompt travel: a new prompt that comes in over several clips, or over the first frames of one."""

from __future__ import annotations

from collections.abc import Sequence

from vidrd_core.reuse import ReuseSettings

OVER_FRAMES = -1
"""Of clips, or as a share: within the first clip of a new prompt."""
Fade = tuple[str, float]
"""The prompt before, and the share of the new one, or OVER_FRAMES."""


def fade_of(prompts: Sequence[str], index: int, travel: int) -> Fade | None:
    """How far clip `index` is from the prompt before to its own, if prompts fade over `travel` clips.

    The shares of the clips with a new prompt are 1 / (travel + 1), 2 / (travel + 1), ...; None once it is all there.
    Over frames, it is OVER_FRAMES for the first of these clips. Where there are fewer prompts than clips the last one
    goes on.
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
    """The share of a new prompt in each frame of an extending clip of N frames, where it comes in over frames.

    It grows over the M prompt frames of a mirrored clip. Those of a forward clip are led to the end, and were shown
    with the old prompt: there it grows over the M frames after them. Without prompt frames all is new at once.
    """
    if not reuse.prompt_frames:
        return [1.0] * frames
    begins = reuse.repeated_frames
    return [min(1.0, max(0, j - begins + 1) / (reuse.prompt_frames + 1)) for j in range(frames)]
