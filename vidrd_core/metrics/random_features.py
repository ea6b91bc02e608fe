"""Features of videos from random projections, without trained weights.

They make a Frechet distance possible for procedural clips, which no network was trained on: such a distance tells
the clips of one renderer from others. For real videos it means little: use I3D there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

CELLS = 8  # per side: the resolution that a frame is averaged to
WIDTH = 32  # features of the frames, and as many of the changes between them


class RandomProjectionFeatures(nn.Module):
    """Random projections of the frames, averaged to 8 x 8 cells, and of how much each cell changes between frames.

    Source:
        Johnson and Lindenstrauss, 1984, for why random projections keep distances.
    """

    def forward(self, videos: Tensor) -> Tensor:
        """Features of videos.

        Args:
            videos: [B, 3, F, H, W], 0 to 1.

        Returns:
            [B, 64].

        Raises:
            ValueError: Videos have a single frame.
        """
        frames = videos.shape[2]
        if frames < 2:
            raise ValueError("videos have 1 frame, expected 2 or more: half of the features are of changes")
        cells = F.adaptive_avg_pool2d(rearrange(videos, "b c f h w -> (b f) c h w"), CELLS)
        changes = F.adaptive_avg_pool2d(rearrange(videos.diff(dim=2).abs(), "b c f h w -> (b f) c h w"), CELLS)
        return torch.cat(
            [_project(rearrange(part, "(b f) c h w -> b (f c h w)", b=len(videos))) for part in (cells, changes)], 1
        )


def _project(values: Tensor) -> Tensor:
    """Values [B, n] on 32 fixed random directions."""
    generator = torch.Generator().manual_seed(values.shape[1])
    directions = torch.randn(values.shape[1], WIDTH, generator=generator) / WIDTH**0.5
    return values @ directions.to(values)
