"""Prompt travel: a new prompt that comes in over several clips."""

from __future__ import annotations

from collections.abc import Sequence

Fade = tuple[str, float]
"""The prompt before, and the share of the new one."""


def fade_of(prompts: Sequence[str], index: int, travel: int) -> Fade | None:
    """How far clip `index` is from the prompt before to its own, if prompts fade over `travel` clips.

    The shares of the clips with a new prompt are 1 / (travel + 1), 2 / (travel + 1), ...; None once it is all there.
    Where there are fewer prompts than clips the last one goes on.
    """

    def prompt(clip: int) -> str:
        return prompts[min(clip, len(prompts) - 1)]

    start = index
    while start > 0 and prompt(start - 1) == prompt(index):
        start -= 1
    if start == 0 or index - start >= travel:
        return None
    return prompt(start - 1), (index - start + 1) / (travel + 1)
