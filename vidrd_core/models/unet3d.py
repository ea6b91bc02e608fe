"""UNet3D: Stable Diffusion's UNet with Temp-Conv after each ResNet and Temp-Attn in or after each transformer.

Modules are named as in diffusers, so that the weights of Stable Diffusion (2-D) and ModelScope (3-D) fit. From VidRD,
section 4.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from vidrd_core.models import ops as core_ops
from vidrd_core.models.attention import Attention, sdpa
from vidrd_core.models.blocks import Builder, Frames, UNetBlock
from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.feature_cache import EXACT, FeatureCache
from vidrd_core.models.layers import (
    Downsample2D,
    TimestepEmbedding,
    Upsample2D,
    channels_last,
    norm_over_frames,
    sinusoid,
)
from vidrd_core.models.ops import silu
from vidrd_core.models.temporal import TemporalTransformer, zero_
from vidrd_core.models.tiny_conditioning import (
    POSITION_WAVES,
    FrameEmbedding,
    FramePictures,
    FramePositions,
    TextPooling,
    position_features,
)


class UNet3D(nn.Module):
    """The denoising network: predicts noise, v or flow (`DiffusionConfig.prediction`) from noisy latents.

    Args:
        config: Its settings.
        ops: Namespace of its layers: Linear, Conv2d, GroupNorm, LayerNorm.
        attention: The attention function, as `attention.sdpa`.

    Source:
        VidRD (Gu et al., arXiv 2309.03549), section 4.1.
    """

    def __init__(self, config: UNet3DConfig, ops: Any = core_ops, attention: Attention = sdpa) -> None:
        super().__init__()
        self.config = config
        build = Builder(config, ops, attention)
        widths, time_dim = config.block_out_channels, build.time_dim
        depth, deepest = config.layers_per_block, len(widths) - 1

        self.conv_in = ops.Conv2d(config.in_channels, widths[0], 3, padding=1)
        if config.position_features:
            self.position_in = ops.Conv2d(2 * POSITION_WAVES, widths[0], 1, bias=False)
            zero_(self.position_in)
        self.time_embedding = TimestepEmbedding(widths[0], time_dim, ops)
        if config.text_pooling:
            self.add_embedding = TextPooling(config.cross_attention_dim, time_dim, ops)
        if config.frame_embedding:
            hidden = config.frame_embedding
            self.frame_embedding = FrameEmbedding(config.cross_attention_dim, hidden, time_dim, ops)
            if config.position_features:
                self.frame_positions = FramePositions(hidden, widths[0], ops)
            if config.frame_pictures:
                self.frame_pictures = FramePictures(hidden, config.frame_pictures, widths[0], ops)
        if config.transformer_in:
            inner_dim = 8 * widths[0] // config.heads[0]
            self.transformer_in = TemporalTransformer(widths[0], 8, inner_dim, config.norm_groups, attention, ops)

        self.down_blocks = nn.ModuleList()
        skips = [widths[0]]
        for level, width in enumerate(widths):
            dims = [(skips[-1], width), *[(width, width)] * (depth - 1)]
            block = UNetBlock(build, dims, level, depth * config.attention_levels[level])
            skips += [width] * depth
            if level < deepest:
                block.downsamplers = nn.ModuleList([Downsample2D(width, ops=ops)])
                skips.append(width)
            self.down_blocks.append(block)

        width = widths[-1]
        self.mid_block = UNetBlock(build, [(width, width)] * 2, deepest, transformers=1)

        self.up_blocks = nn.ModuleList()
        for level in range(deepest, -1, -1):
            dims = []
            for _ in range(depth + 1):
                dims.append((width + skips.pop(), widths[level]))
                width = widths[level]
            block = UNetBlock(build, dims, level, (depth + 1) * config.attention_levels[level])
            if level > 0:
                block.upsamplers = nn.ModuleList([Upsample2D(width, ops)])
            self.up_blocks.append(block)

        self.conv_norm_out = ops.GroupNorm(config.norm_groups, widths[0], eps=1e-5)
        self.conv_out = ops.Conv2d(widths[0], config.out_channels, 3, padding=1)

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        text: Tensor,
        frame_positions: Tensor | None = None,
        cache: FeatureCache | None = None,
    ) -> Tensor:
        """Predict for every frame of a batch of clips.

        Args:
            x: Noisy latents [B, C, F, H, W].
            timestep: Of the schedule, [K*B] or a scalar tensor, 0 .. 999.
            text: Encoded prompts [K*B, L, D], K for each clip: first one for every clip, then the next. What does not
                depend on the text is computed once.
            frame_positions: Positions of the frames in the clip for `frame_embedding`, [K*B, F] or [F]; 0 .. F-1 by
                default, and none for a single frame, which is an image.
            cache: What is kept from call to call.

        Returns:
            The predictions [K*B, C, F, H, W]; those of an earlier call for frames that the cache takes out of the
            computation.
        """
        all_frames, texts = x.shape[2], len(text) // len(x)
        call = EXACT if cache is None or torch.is_grad_enabled() else cache.begin(x)
        x = call.computed(x, dim=2)
        frames = x.shape[2]
        span = Frames(frames, all_frames > 1 or self.config.temporal_for_images, call)
        norm_frames = frames if self.config.joint_resnet_norm else 0
        if frame_positions is None and span.temporal:
            frame_positions = torch.arange(all_frames, device=x.device)
        frame_features = None
        if self.config.frame_embedding and frame_positions is not None:
            frame_features = self.frame_embedding.features(text, frame_positions)[:, -frames:]
        temb = self.embed(timestep, text, frame_features)
        temb = temb.expand(-1, frames, -1).flatten(0, 1).to(x.dtype)

        if self.config.text_pooling or frame_features is not None:
            x, texts = x.repeat(texts, 1, 1, 1, 1), 1
        x = channels_last(self.conv_in(rearrange(x, "b c f h w -> (b f) c h w")))
        if self.config.position_features:
            height, width = x.shape[-2:]
            places = position_features(height, width, x.device).to(x.dtype)
            x = x + self.position_in(places)
            if frame_features is not None:
                x = x + self.frame_positions(frame_features, places)
        if self.config.frame_pictures and frame_features is not None:
            x = x + self.frame_pictures(frame_features, *x.shape[-2:])
        if self.config.transformer_in and span.temporal:
            x = self.transformer_in(x, frames, call)

        def layer(block: UNetBlock, i: int, x: Tensor) -> Tensor:
            return block.attend(i, block.convolve(i, x, temb, span, norm_frames), text, span)

        first, *down = cast("Iterable[UNetBlock]", self.down_blocks)
        *up, last = cast("Iterable[UNetBlock]", self.up_blocks)
        skips = [_repeat(x, texts)]
        x = _repeat(first.convolve(0, x, temb[: len(x)], span, norm_frames), texts)
        skips.append(first.attend(0, x, text, span))
        for i in range(1, len(first.resnets)):
            skips.append(layer(first, i, skips[-1]))

        if call.reads_deep:
            x = call.deep(frames)
        else:
            deep = list(skips)
            for above, block in zip([first, *down], down, strict=False):
                deep.append(above.downsamplers[0](deep[-1]))
                for i in range(len(block.resnets)):
                    deep.append(layer(block, i, deep[-1]))
            x = layer(self.mid_block, 0, deep[-1])
            x = self.mid_block.convolve(1, x, temb, span, norm_frames)
            for block in up:
                for i in range(len(block.resnets)):
                    x = layer(block, i, torch.cat([x, deep.pop()], dim=1))
                x = block.upsamplers[0](x, size=deep[-1].shape[-2:])
            call.keep_deep(x, frames)
        for i in range(len(last.resnets)):
            x = layer(last, i, torch.cat([x, skips.pop()], dim=1))

        x = self.conv_out(silu(norm_over_frames(self.conv_norm_out, x, norm_frames, call)))
        return call.all_frames("prediction", rearrange(x, "(b f) c h w -> b c f h w", f=frames), dim=2)

    def embed(self, timestep: Tensor, text: Tensor, frame_features: Tensor | None) -> Tensor:
        """The embedding that every ResNet adds to its features.

        Args:
            timestep: [B] or a scalar tensor.
            text: Encoded prompts [B, L, D].
            frame_features: Of `FrameEmbedding.features`, [B, F, hidden]; None without a frame embedding.

        Returns:
            [B, F, 4 * width] with frame features, else [B, 1, 4 * width].
        """
        steps = sinusoid(timestep.expand(text.shape[0]), self.config.block_out_channels[0])
        temb = self.time_embedding(steps.to(text.dtype))[:, None]
        if self.config.text_pooling:
            temb = temb + self.add_embedding(text)[:, None]
        if frame_features is not None:
            temb = temb + self.frame_embedding.out(frame_features)
        return temb


def _repeat(x: Tensor, texts: int) -> Tensor:
    """Repeat a batch x [B, ...] for each of several texts -> [texts * B, ...]."""
    return x if texts == 1 else torch.cat([x] * texts)
