"""Features from fixed random weights, without a trained network: of videos, and of the appearance of a subject.

`RandomProjectionFeatures` make a Frechet distance possible for procedural clips, which no network was trained on:
such a distance separates the clips of different renderers. `random_appearance_features` compare what frames show,
wherever it is in the frame. For real videos both mean little: use I3D and CLIP there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vidrd_core.metrics.seams import Array, Video, check_video

PATCH, FILTERS = 15, 256  # of `random_appearance_features`
APPEARANCE_SIZE = 32  # pixels of the shorter side of a frame for `random_appearance_features`
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


@torch.no_grad()
def random_appearance_features(video: Video) -> Array:
    """Features of the appearance of what each frame shows in front of its background, wherever it is.

    Frames are resized to 32 pixels and their median color is subtracted. The features are the largest response, over
    all positions, of each of 256 random 15 x 15 filters of mean 0, after a ReLU and minus the mean of all. So neither
    the color of a plain background nor the position of a subject counts; color, shape and size relative to the frame
    do, in this order.

    Args:
        video: uint8 [F, H, W, 3].

    Returns:
        float32 [F, 256] of mean 0; 0 for a frame of one color.

    Source:
        Saxe et al., "On Random Weights and Unsupervised Feature Learning", ICML 2011.
    """
    check_video(video, ())
    generator = torch.Generator().manual_seed(FILTERS)
    filters = torch.randn(FILTERS, 3, PATCH, PATCH, generator=generator)
    filters -= filters.mean((2, 3), keepdim=True)
    scale = APPEARANCE_SIZE / min(video.shape[1:3])
    size = [round(side * scale) for side in video.shape[1:3]]
    found = []
    for frame in video:
        pixels = rearrange(torch.from_numpy(frame).float() / 255, "h w c -> 1 c h w")
        pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
        pixels = pixels - pixels.flatten(2).median(2).values[..., None, None]
        found.append(F.relu(F.conv2d(F.pad(pixels, [PATCH - 1] * 4), filters)).amax((2, 3)))
    features = torch.cat(found)
    return (features - features.mean(1, keepdim=True)).numpy()
