"""SVD's decoder for Stable Diffusion's latents: every ResNet works within frames, then over them.

From Stable Video Diffusion (Blattmann et al., arXiv 2311.15127); modules are named as in diffusers. The temporal
norms take their statistics over all frames, so a long video is decoded in windows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrd_core.models import ops as core_ops
from vidrd_core.models.attention import Attention, sdpa
from vidrd_core.models.config import VAEConfig
from vidrd_core.models.layers import (
    ResnetBlock2D,
    Upsample2D,
    VAEAttention,
    channels_last,
    of_frames,
    over_frames,
)
from vidrd_core.models.ops import silu
from vidrd_core.models.temporal import squeeze_conv3d


class TemporalResnet(nn.Module):
    """The residual branch over frames: GroupNorm, SiLU, conv over frames, twice.

    The convs are 2-D, of kernel (3, 1) over [B, C, F, pixels], and equal the Conv3d (3, 1, 1), whose weights load.

    Args:
        dim: Channels.
        groups: Groups of the GroupNorms.
        ops: Namespace of the layers.
    """

    def __init__(self, dim: int, groups: int, ops: Any = core_ops) -> None:
        super().__init__()
        self.norm1 = ops.GroupNorm(groups, dim, eps=1e-5)
        self.conv1 = ops.Conv2d(dim, dim, (3, 1), padding=(1, 0))
        self.norm2 = ops.GroupNorm(groups, dim, eps=1e-5)
        self.conv2 = ops.Conv2d(dim, dim, (3, 1), padding=(1, 0))
        self.register_load_state_dict_pre_hook(squeeze_conv3d)

    def forward(self, h: Tensor) -> Tensor:
        """h [B, C, F, P] -> the residual, like h."""
        h = self.conv1(silu(self.norm1(h)))
        return self.conv2(silu(self.norm2(h)))


class TimeMixer(nn.Module):
    """A learned weight of the temporal ResNet, through a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """x and residual [B*F, C, H, W] -> like x."""
        return x + self.mix_factor.sigmoid().to(x.dtype) * residual


class SpatioTemporalResnet(nn.Module):
    """A ResNet within frames, then one over frames, mixed in."""

    def __init__(self, in_dim: int, out_dim: int, groups: int, ops: Any = core_ops) -> None:
        super().__init__()
        self.spatial_res_block = ResnetBlock2D(in_dim, out_dim, None, groups, 1e-6, ops)
        self.temporal_res_block = TemporalResnet(out_dim, groups, ops)
        self.time_mixer = TimeMixer()

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """x [B*F, C, H, W] -> [B*F, C', H, W]."""
        x = self.spatial_res_block(x)
        residual = self.temporal_res_block(over_frames(x, frames))
        return self.time_mixer(x, of_frames(residual, x.shape[-2]))


class SVDBlock(nn.Module):
    """One level of the decoder: spatio-temporal ResNets, attention in the mid block, then an upsampler, if any."""

    attentions: nn.ModuleList
    upsamplers: nn.ModuleList

    def __init__(self, dims: list[tuple[int, int]], groups: int, ops: Any = core_ops) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([SpatioTemporalResnet(i, o, groups, ops) for i, o in dims])

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """x [B*F, C, h, w] -> [B*F, C', h, w], or [B*F, C', 2*h, 2*w] with an upsampler."""
        for i, resnet in enumerate(self.resnets):
            x = resnet(x, frames)
            if i == 0 and hasattr(self, "attentions"):
                x = self.attentions[0](x)
        return self.upsamplers[0](x) if hasattr(self, "upsamplers") else x


class SVDDecoder(nn.Module):
    """Latents to frames, temporal layers included for a single frame, too.

    Args:
        config: The VAE's settings.
        attention: The attention function.
        ops: Namespace of the layers.
    """

    def __init__(self, config: VAEConfig, attention: Attention = sdpa, ops: Any = core_ops) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        widths, groups = config.block_out_channels[::-1], config.norm_groups
        channels = config.in_channels * config.patch_size**2
        self.conv_in = ops.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = SVDBlock([(widths[0], widths[0])] * 2, groups, ops)
        self.mid_block.attentions = nn.ModuleList([VAEAttention(widths[0], groups, attention, ops)])
        self.up_blocks = nn.ModuleList()
        for level, width in enumerate(widths):
            dims = [(widths[max(level - 1, 0)], width), *[(width, width)] * config.layers_per_block]
            block = SVDBlock(dims, groups, ops)
            if level < len(widths) - 1:
                block.upsamplers = nn.ModuleList([Upsample2D(width, ops)])
            self.up_blocks.append(block)
        self.conv_norm_out = ops.GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = ops.Conv2d(widths[-1], channels, 3, padding=1)
        self.time_conv_out = ops.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.register_load_state_dict_pre_hook(squeeze_conv3d)

    def forward(self, z: Tensor, frames: int) -> Tensor:
        """z [B*F, C, h, w] of F frames -> [B*F, 3, H, W]."""
        x = self.mid_block(channels_last(self.conv_in(z)), frames)
        for block in cast("Iterable[SVDBlock]", self.up_blocks):
            x = block(x, frames)
        x = self.conv_out(silu(self.conv_norm_out(x)))
        x = of_frames(self.time_conv_out(over_frames(x, frames)), x.shape[-2])
        return F.pixel_shuffle(x, self.patch_size)
