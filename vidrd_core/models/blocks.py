"""The blocks of UNet3D: ResNet, Temp-Conv, transformer with Temp-Attn (VidRD, section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from vidrd_core.models import ops as core_ops
from vidrd_core.models.attention import Attention, sdpa
from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.feature_cache import EXACT, Call
from vidrd_core.models.layers import CrossAttention, FeedForward, ResnetBlock2D, interleaved_sinusoid, sinusoid
from vidrd_core.models.ops import add, in_chunks, sum_of
from vidrd_core.models.temporal import TemporalConv, TemporalTransformer, zero_


@dataclass(frozen=True)
class Frames:
    """The frames of a clip that a block works on.

    Args:
        count: Their number F; tensors have them in the batch, [B*F, ...].
        temporal: Whether temporal layers run on them.
        call: What is kept from call to call.
    """

    count: int
    temporal: bool
    call: Call = EXACT


@dataclass(frozen=True)
class Builder:
    """Makes the layers of one UNet from its settings.

    Args:
        config: The UNet's settings.
        ops: Namespace of the layers.
        attention: The attention function.
    """

    config: UNet3DConfig
    ops: Any = core_ops
    attention: Attention = sdpa

    @property
    def time_dim(self) -> int:
        """Width of the timestep embedding."""
        return 4 * self.config.block_out_channels[0]

    def resnet(self, in_dim: int, out_dim: int) -> ResnetBlock2D:
        """A ResNet of these channels."""
        return ResnetBlock2D(in_dim, out_dim, self.time_dim, self.config.norm_groups, 1e-5, self.ops)

    def temp_conv(self, dim: int) -> TemporalConv:
        """A Temp-Conv of this width."""
        c = self.config
        return TemporalConv(dim, c.norm_groups, c.temp_conv_depth, c.dropout, ops=self.ops)

    def transformer(self, dim: int, heads: int) -> Transformer2D:
        """A spatial transformer, with Temp-Attn inside if the settings say so."""
        return Transformer2D(self, dim, heads)

    def temp_transformer(self, dim: int, heads: int) -> TemporalTransformer:
        """A temporal transformer, as in ModelScope."""
        return TemporalTransformer(dim, heads, dim, self.config.norm_groups, self.attention, self.ops)


class TransformerBlock(nn.Module):
    """Self-attention within a frame, cross-attention to the text, Temp-Attn (as in VidRD), feed-forward."""

    def __init__(self, build: Builder, dim: int, heads: int) -> None:
        super().__init__()
        c, ops, attention = build.config, build.ops, build.attention
        self.norm1 = ops.LayerNorm(dim)
        self.attn1 = CrossAttention(dim, heads, attention=attention, ops=ops)
        self.norm2 = ops.LayerNorm(dim)
        self.attn2 = CrossAttention(dim, heads, c.cross_attention_dim, attention, ops)
        if c.temp_attention == "inside":
            self.embed_to = c.embed_to
            self.released_embedding = c.released_embedding
            self.temp_norm = ops.LayerNorm(dim)
            self.temp_attn = CrossAttention(dim, heads, attention=attention, ops=ops)
            zero_(self.temp_attn.to_out[0])
        self.norm3 = ops.LayerNorm(dim)
        self.ff = FeedForward(dim, ops)

    def forward(self, x: Tensor, text: Tensor, span: Frames) -> Tensor:
        """x [B*F, P, C] of P places a frame, text [B, L, D] -> like x."""
        x = in_chunks(x, lambda frames: self.attn1(self.norm1(frames), frames), growth=4)
        # All frames of a clip read one caption, so its keys and values are computed once a clip, not once a frame.
        joint = rearrange(x, "(b f) p c -> b (f p) c", f=span.count)
        keys_and_values = self.attn2.keys_and_values
        read = span.call.of_text(self, lambda: keys_and_values(text))
        x = self.attn2.attend(self.norm2(joint), joint, *read).view_as(x)
        if hasattr(self, "temp_attn"):
            if span.temporal:
                x = self.attend_over_frames(x, span.count, span.call)
            elif self.released_embedding:  # its images were trained so
                x = add(x, self.frame_embedding(span.count, x))
        tokens = in_chunks(x.flatten(0, 1), lambda part: self.ff(self.norm3(part), part), growth=8)
        return tokens.view_as(x)

    def attend_over_frames(self, x: Tensor, frames: int, call: Call = EXACT) -> Tensor:
        """Temp-Attn as in VidRD: one self-attention over the frames, at each place independently.

        The sinusoidal frame embedding is added to the attention's "input", so that a zero-initialised layer is the
        identity, or to the residual "stream", as in the released weights (`UNet3DConfig.embed_to`).

        Args:
            x: [B*F, P, C].
            frames: F, those that are computed.
            call: What is kept from call to call.

        Returns:
            Like x.

        Source:
            VidRD, section 4.1.
        """
        x = rearrange(x, "(b f) p c -> b p f c", f=frames)
        embedding = self.frame_embedding(call.count(frames), x)[-frames:]
        if self.embed_to == "stream":
            x = x + embedding
            h = self.temp_norm(x)
        else:
            h = self.temp_norm(x) + embedding
        h, context = h.flatten(0, 1), call.all_frames(self, h, dim=2).flatten(0, 1)
        out = self.temp_attn(h, x.flatten(0, 1), context)
        return rearrange(out, "(b p) f c -> (b f) p c", b=x.shape[0])

    def frame_embedding(self, frames: int, like: Tensor) -> Tensor:
        """The sinusoidal embedding of frames 0 .. F-1, [F, C], for features [..., C] like these."""
        embed = interleaved_sinusoid if self.released_embedding else sinusoid
        return embed(torch.arange(frames, device=like.device), like.shape[-1]).to(like.dtype)


class Transformer2D(nn.Module):
    """A spatial transformer: GroupNorm, projection, one transformer block, projection, residual."""

    def __init__(self, build: Builder, dim: int, heads: int) -> None:
        super().__init__()
        ops = build.ops
        self.linear = build.config.linear_projection
        self.norm = ops.GroupNorm(build.config.norm_groups, dim, eps=1e-6)
        self.proj_in = ops.Linear(dim, dim) if self.linear else ops.Conv2d(dim, dim, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(build, dim, heads)])
        self.proj_out = ops.Linear(dim, dim) if self.linear else ops.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor, text: Tensor, span: Frames) -> Tensor:
        """x [B*F, C, H, W], text [B, L, D] -> like x."""
        h, height = self.norm(x), x.shape[-2]
        h = h if self.linear else self.proj_in(h)
        h = rearrange(h, "b c h w -> b (h w) c")
        h = self.proj_in(h) if self.linear else h
        h = self.transformer_blocks[0](h, text, span)
        if self.linear:
            h = sum_of(self.proj_out, h, rearrange(x, "b c h w -> b (h w) c"))
            return rearrange(h, "b (h w) c -> b c h w", h=height)
        return sum_of(self.proj_out, rearrange(h, "b (h w) c -> b c h w", h=height), x)


class UNetBlock(nn.Module):
    """One level of the UNet on the way down, in the middle or on the way up.

    Args:
        build: Makes its layers.
        dims: Input and output channels of its ResNets.
        level: Its index in the settings, from the highest resolution on.
        transformers: How many of its ResNets have a transformer after them.
    """

    downsamplers: nn.ModuleList
    upsamplers: nn.ModuleList

    def __init__(self, build: Builder, dims: list[tuple[int, int]], level: int, transformers: int) -> None:
        super().__init__()
        c = build.config
        self.resnets = nn.ModuleList([build.resnet(*pair) for pair in dims])
        if c.temp_conv_depth:
            self.temp_convs = nn.ModuleList([build.temp_conv(out) for _, out in dims])
        widths = [out for _, out in dims[:transformers]]
        if widths:
            self.attentions = nn.ModuleList([build.transformer(out, c.heads[level]) for out in widths])
        if widths and c.temp_attention == "after":
            self.temp_attentions = nn.ModuleList([build.temp_transformer(out, c.heads[level]) for out in widths])

    def convolve(self, i: int, x: Tensor, temb: Tensor, span: Frames, norm_frames: int) -> Tensor:
        """ResNet i and its Temp-Conv: x [B*F, C, H, W], temb [B*F, D] -> [B*F, C', H, W].

        `norm_frames` frames share the statistics of the ResNet's GroupNorms.
        """
        x = self.resnets[i](x, temb, norm_frames, span.call)
        if span.temporal and hasattr(self, "temp_convs"):
            x = self.temp_convs[i](x, span.count, span.call)
        return x

    def attend(self, i: int, x: Tensor, text: Tensor, span: Frames) -> Tensor:
        """Transformer i with Temp-Attn, if the level has any: x [B*F, C, H, W], text [B, L, D] -> like x."""
        if hasattr(self, "attentions"):
            x = self.attentions[i](x, text, span)
        if hasattr(self, "temp_attentions") and span.temporal:
            x = self.temp_attentions[i](x, span.count, span.call)
        return x
