"""Anchored statistics: clips keep the brightness, colours and contrast of the first one, channel by channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vidrd_core.reuse import ReuseSettings

if TYPE_CHECKING:
    from vidrd_core.state import ClipState

LEAST_STD = 1e-6


def anchoring(previous: Sequence[ClipState], settings: ReuseSettings) -> Callable[[Tensor, float], None] | None:
    """Make the correction that keeps clips' statistics near those of their first clips.

    Args:
        previous: The states that the clips of a batch extend, one each.
        settings: What they reuse.

    Returns:
        `correct(x0, share of the steps done)` for `StagedGuidance`; None if `anchor` is 0 or no state holds the
        statistics of its first clip.
    """
    targets = [state.statistics for state in previous if state.statistics is not None]
    if not settings.anchor or not targets:
        return None
    return anchor_statistics(torch.cat(targets, dim=1), settings.anchor)


def channel_statistics(latents: Tensor, frame_dim: int = 2) -> Tensor:
    """The mean and standard deviation of each channel [2, B, C] of latents [B, C, N, h, w]."""
    dims = (frame_dim, -2, -1)
    return torch.stack([latents.float().mean(dims), latents.float().std(dims)])


def anchor_statistics(target: Tensor, strength: float) -> Callable[[Tensor, float], None]:
    """A correction for `StagedGuidance` that pulls the channels' statistics towards `target`, more at later steps.

    Early predictions are blurred and have less contrast than a finished clip, so they are left nearly as they are.

    Args:
        target: The mean and standard deviation of each channel [2, B, C].
        strength: 0 not at all, 1 completely.

    Returns:
        `correct(x0, share of the steps done)`, which changes x0 [B, C, N, h, w] in place.
    """

    def correct(x0: Tensor, share: float) -> None:
        mean, std = target.to(x0)[:, :, :, None, None, None]
        own_mean, own_std = channel_statistics(x0).to(x0)[:, :, :, None, None, None]
        matched = (x0 - own_mean) * (std / own_std.clamp(min=LEAST_STD)) + mean
        x0.lerp_(matched, strength * share)

    return correct
