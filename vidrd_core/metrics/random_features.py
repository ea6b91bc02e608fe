"""Features of videos without weights, so that a Frechet distance can be had for procedural clips, which no network
was trained on. It tells one program's clips from another's; of real videos it says little: name an I3D for those.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

CELLS = 8  # a side: what a frame is averaged to
WIDTH = 32  # features of the pictures, and as many of what changes between them


class Looks(nn.Module):
    """Videos [B, 3, F, H, W] from 0 to 1 to features [B, 64], of frames in 8 x 8 cells and of how much each cell
    changes from frame to frame, projected on fixed random directions (Johnson and Lindenstrauss, 1984)."""

    def forward(self, videos: Tensor) -> Tensor:
        """Raises ValueError for a single frame."""
        frames = videos.shape[2]
        if frames < 2:
            raise ValueError("videos have 1 frame, expected 2 or more: it is how they change that counts")
        cells = F.adaptive_avg_pool2d(rearrange(videos, "b c f h w -> (b f) c h w"), CELLS)
        changes = F.adaptive_avg_pool2d(rearrange(videos.diff(dim=2).abs(), "b c f h w -> (b f) c h w"), CELLS)
        return torch.cat(
            [_projected(rearrange(part, "(b f) c h w -> b (f c h w)", b=len(videos))) for part in (cells, changes)], 1
        )


def _projected(values: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(values.shape[1])
    directions = torch.randn(values.shape[1], WIDTH, generator=generator) / WIDTH**0.5
    return values @ directions.to(values)
