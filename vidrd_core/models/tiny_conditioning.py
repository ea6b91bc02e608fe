"""Conditioning for small models, beyond the paper: positions in the frame and the clip, and the pooled caption."""

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


def cosine_waves(frequencies: range, length: int, device: torch.device | None = None) -> Tensor:
    """Basis vectors of the discrete cosine transform (DCT-II).

    Args:
        frequencies: Number of half periods in `length` of each vector.
        length: The number of places.
        device: Of the result.

    Returns:
        [len(frequencies), length], in -1 .. 1.
    """
    share = (torch.arange(length, device=device) + 0.5) / length
    return torch.cos(math.pi * torch.arange(frequencies.start, frequencies.stop, device=device)[:, None] * share)


def position_features(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Features of each place in a frame: the first DCT basis vectors across, then down.

    Args:
        height: Places down.
        width: Places across.
        device: Of the result.

    Returns:
        [2 * POSITION_WAVES, height, width], in -1 .. 1.
    """
    frequencies = range(1, POSITION_WAVES + 1)
    across = cosine_waves(frequencies, width, device)[:, None, :].expand(-1, height, -1)
    return torch.cat([across, cosine_waves(frequencies, height, device)[:, :, None].expand(-1, -1, width)])


class TextPooling(nn.Module):
    """Attention pooling of caption tokens, with their mean as the query.

    Args:
        text_dim: Width of the tokens, a multiple of 4.
        dim: Width of the result.
        ops: Namespace of the layers.
    """

    def __init__(self, text_dim: int, dim: int, ops: Any = core_ops) -> None:
        super().__init__()
        self.norm = ops.LayerNorm(text_dim)
        self.to_q, self.to_k, self.to_v = (ops.Linear(text_dim, text_dim) for _ in range(3))
        self.proj = ops.Linear(text_dim, dim)

    def forward(self, text: Tensor) -> Tensor:
        """text [B, L, text_dim] -> [B, dim]."""
        text = self.norm(text)
        query = self.to_q(text.mean(dim=1, keepdim=True))
        pooled = sdpa(query, self.to_k(text), self.to_v(text), heads=4)
        return self.proj(pooled[:, 0])


class FrameEmbedding(nn.Module):
    """An addition to the timestep embedding of each frame, from its position in the clip and the pooled caption.

    It gives a small model the state of the motion in each frame directly. `out` is zero-initialised.

    Args:
        text_dim: Width of the caption's tokens.
        hidden: Width of the frame features.
        dim: Width of the timestep embedding.
        ops: Namespace of the layers.
    """

    def __init__(self, text_dim: int, hidden: int, dim: int, ops: Any = core_ops) -> None:
        super().__init__()
        self.pool = TextPooling(text_dim, hidden, ops)
        self.frame = ops.Linear(hidden, hidden)
        self.hidden = ops.Linear(hidden, hidden)
        self.out = ops.Linear(hidden, dim)
        zero_(self.out)

    def features(self, text: Tensor, frame_positions: Tensor) -> Tensor:
        """Features of each frame, which `out` and the layers below take.

        Args:
            text: Caption tokens [B, L, text_dim].
            frame_positions: Positions of the frames in the clip, [B, F] or [F], integers from 0 on.

        Returns:
            [B, F, hidden].
        """
        position = sinusoid(frame_positions, self.frame.in_features, max_period=100.0).to(text.dtype)
        h = F.silu(self.frame(position) + self.pool(text)[:, None])
        return F.silu(self.hidden(h))


class FramePositions(nn.Module):
    """A feature map of each frame, as a weighted sum of `position_features`: enough to mark a place in the frame.

    Zero-initialised.

    Args:
        hidden: Width of the frame features.
        width: Channels of the feature map.
        ops: Namespace of the layers.
    """

    def __init__(self, hidden: int, width: int, ops: Any = core_ops) -> None:
        super().__init__()
        self.linear = ops.Linear(hidden, width * 2 * POSITION_WAVES)
        zero_(self.linear)

    def forward(self, frame_features: Tensor, places: Tensor) -> Tensor:
        """frame_features [B, F, hidden], places [P, H, W] of `position_features` -> [B*F, width, H, W]."""
        waves = rearrange(self.linear(frame_features), "b f (c p) -> (b f) c p", p=len(places))
        return (waves @ places.flatten(1)).unflatten(-1, places.shape[1:])


class FramePictures(nn.Module):
    """A feature map of each frame, as a low-resolution image in 2-D DCT coefficients: enough for shapes at any angle.

    Zero-initialised.

    Args:
        hidden: Width of the frame features.
        channels: Channels of the image.
        width: Channels of the feature map.
        ops: Namespace of the layers.
    """

    def __init__(self, hidden: int, channels: int, width: int, ops: Any = core_ops) -> None:
        super().__init__()
        self.hidden = ops.Linear(hidden, 2 * hidden)
        self.linear = ops.Linear(2 * hidden, channels * PICTURE_WAVES**2)
        self.out = ops.Conv2d(channels, width, 1)
        zero_(self.out)

    def forward(self, frame_features: Tensor, height: int, width: int) -> Tensor:
        """frame_features [B, F, hidden] -> [B*F, width of the feature map, height, width]."""
        return self.out(self.paint(frame_features, height, width))

    def paint(self, frame_features: Tensor, height: int, width: int) -> Tensor:
        """frame_features [B, F, hidden] -> images [B*F, channels, height, width]."""
        waves = self.linear(F.silu(self.hidden(frame_features)))
        waves = rearrange(waves, "b f (c y x) -> (b f) c y x", y=PICTURE_WAVES, x=PICTURE_WAVES)
        down, across = (
            cosine_waves(range(PICTURE_WAVES), length, waves.device).to(waves.dtype) for length in (height, width)
        )
        return down.T @ waves @ across
