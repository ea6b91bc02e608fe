"""What a state holds for the clip that follows it, and what it must hold for some settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vidrd_core.beyond import draw_towards
from vidrd_core.reuse import ReuseSettings
from vidrd_core.state import ClipState


def check_following(state: ClipState, settings: ReuseSettings) -> None:
    """Raise ValueError unless a state holds what these settings ask of the first clip."""
    if state.made_with.get("reuse", {}).get("loop") == "close":
        raise ValueError("the state is that of a clip that closed a loop: nothing follows it; take an earlier state")
    if settings.drift and state.statistics is None:
        raise ValueError(
            "drift needs the statistics of the first clip, which this state, of an older version, does not tell: "
            "set drift to 0, or make the clips anew"
        )
    kept = state.opening_noise.shape[2]
    if settings.loop != "none" and settings.opening_frames > kept:
        told = f"keeps only {kept} frames" if kept else "keeps nothing"
        raise ValueError(
            f"the state {told} of how the first clip began, and closing the loop needs prompt_frames (M) = "
            f"{settings.prompt_frames}: make the first clip with loop 'keep' and as many prompt frames"
        )


def correction(before: Sequence[ClipState], settings: ReuseSettings) -> Callable[[Tensor, float], None] | None:
    """What keeps following clips' statistics near those of their first clips, if `drift` asks for it."""
    wanted = [state.statistics for state in before if state.statistics is not None]
    if not settings.drift or not wanted:
        return None
    return draw_towards(torch.cat(wanted, dim=1), settings.drift)


def handed_on(before: ClipState | None, noise: Tensor, opening: Tensor) -> dict[str, Tensor]:
    """What states hand on of the first clip: its statistics, and how it began if a loop is to be closed."""
    if before is None:
        return {"opening": opening, "opening_noise": noise[:, :, : opening.shape[3]].cpu().clone()}
    anchor = before.statistics
    known = {} if anchor is None else {"anchor": anchor}
    return {**known, "opening": before.opening, "opening_noise": before.opening_noise}
