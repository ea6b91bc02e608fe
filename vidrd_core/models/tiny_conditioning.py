"""What only small models need beyond the paper: positions in the frame and in the clip, and the pooled caption."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vidrd_core.models import ops as core_ops
from vidrd_core.models.attention import sdpa
from vidrd_core.models.layers import sinusoid
from vidrd_core.models.temporal import zero_

POSITION_WAVES = 8
PICTURE_WAVES = 12  # of 16 places along a side of the tiny model's latents


def cosine_waves(numbers: range, length: int, device: torch.device | None = None) -> Tensor:
    """The DCT's waves of these numbers (half periods in the whole length), [len(numbers), length]."""
    share = (torch.arange(length, device=device) + 0.5) / length
    return torch.cos(math.pi * torch.arange(numbers.start, numbers.stop, device=device)[:, None] * share)


def position_features(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Where in the frame each place is, [2 * POSITION_WAVES, H, W]: the DCT's first waves across, then down."""
    numbers = range(1, POSITION_WAVES + 1)
    across = cosine_waves(numbers, width, device)[:, None, :].expand(-1, height, -1)
    return torch.cat([across, cosine_waves(numbers, height, device)[:, :, None].expand(-1, -1, width)])


class TextPooling(nn.Module):
    """Caption tokens [B, L, D] to one vector [B, dim], by attention from their mean."""

    def __init__(self, text_dim: int, dim: int, ops: Any = core_ops) -> None:
        super().__init__()
        self.norm = ops.LayerNorm(text_dim)
        self.to_q, self.to_k, self.to_v = (ops.Linear(text_dim, text_dim) for _ in range(3))
        self.proj = ops.Linear(text_dim, dim)

    def forward(self, text: Tensor) -> Tensor:
        text = self.norm(text)
        query = self.to_q(text.mean(dim=1, keepdim=True))
        pooled = sdpa(query, self.to_k(text), self.to_v(text), heads=4)
        return self.proj(pooled[:, 0])


class FrameEmbedding(nn.Module):
    """An addition to the timestep embedding for each frame, from the frame's number and the pooled caption.

    Not in the paper: it tells a small model directly where in its motion a frame is. `out` starts at zero.
    """

    def __init__(self, text_dim: int, hidden: int, dim: int, ops: Any = core_ops) -> None:
        super().__init__()
        self.pool = TextPooling(text_dim, hidden, ops)
        self.frame = ops.Linear(hidden, hidden)
        self.hidden = ops.Linear(hidden, hidden)
        self.out = ops.Linear(hidden, dim)
        zero_(self.out)

    def features(self, text: Tensor, numbers: Tensor) -> Tensor:
        """What is known of each frame, [B, F, hidden], from text [B, L, text_dim] and its numbers [B, F] or [F]."""
        position = sinusoid(numbers, self.frame.in_features, max_period=100.0).to(text.dtype)
        h = F.silu(self.frame(position) + self.pool(text)[:, None])
        return F.silu(self.hidden(h))


class FramePositions(nn.Module):
    """Paints what is known of a frame onto the places of `position_features`: a sum of waves, so that a layer can
    say "here". It starts at zero."""

    def __init__(self, hidden: int, width: int, ops: Any = core_ops) -> None:
        super().__init__()
        self.linear = ops.Linear(hidden, width * 2 * POSITION_WAVES)
        zero_(self.linear)

    def forward(self, moments: Tensor, places: Tensor) -> Tensor:
        """moments [B, F, hidden] of `FrameEmbedding.features`, places [P, H, W] -> [B*F, width, H, W]."""
        waves = rearrange(self.linear(moments), "b f (c p) -> (b f) c p", p=len(places))
        return (waves @ places.flatten(1)).unflatten(-1, places.shape[1:])


class FramePictures(nn.Module):
    """Paints a coarse picture of what is known of a frame: products of waves across and down, so that shapes can be
    shown at any angle. It starts at zero."""

    def __init__(self, hidden: int, channels: int, width: int, ops: Any = core_ops) -> None:
        super().__init__()
        self.hidden = ops.Linear(hidden, 2 * hidden)
        self.linear = ops.Linear(2 * hidden, channels * PICTURE_WAVES**2)
        self.out = ops.Conv2d(channels, width, 1)
        zero_(self.out)

    def forward(self, moments: Tensor, height: int, width: int) -> Tensor:
        """moments [B, F, hidden] of `FrameEmbedding.features` -> [B*F, width, H, W]."""
        return self.out(self.paint(moments, height, width))

    def paint(self, moments: Tensor, height: int, width: int) -> Tensor:
        """moments [B, F, hidden] -> pictures [B*F, channels, H, W]."""
        waves = self.linear(F.silu(self.hidden(moments)))
        waves = rearrange(waves, "b f (c y x) -> (b f) c y x", y=PICTURE_WAVES, x=PICTURE_WAVES)
        down, across = (
            cosine_waves(range(PICTURE_WAVES), length, waves.device).to(waves.dtype) for length in (height, width)
        )
        return down.T @ waves @ across
