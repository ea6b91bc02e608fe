"""The levels of UNet3D: ResNet, Temp-Conv, transformer with Temp-Attn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from vidrd_core.models import ops as core_ops
from vidrd_core.models.attention import Attention, sdpa
from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.inplace_ops import in_pieces, plus
from vidrd_core.models.layers import CrossAttention, FeedForward, ResnetBlock2D, sinusoid
from vidrd_core.models.temporal import TemporalConv, TemporalTransformer, zero_


@dataclass(frozen=True)
class Span:
    """How many frames a clip has, and whether the temporal layers run on it."""

    frames: int
    temporal: bool


@dataclass(frozen=True)
class Builder:
    """Makes the parts of one UNet, so that each block need not carry all settings."""

    config: UNet3DConfig
    ops: Any = core_ops
    attention: Attention = sdpa

    @property
    def time_dim(self) -> int:
        return 4 * self.config.block_out_channels[0]

    def resnet(self, in_dim: int, out_dim: int) -> ResnetBlock2D:
        return ResnetBlock2D(in_dim, out_dim, self.time_dim, self.config.norm_groups, 1e-5, self.ops)

    def temp_conv(self, dim: int) -> TemporalConv:
        c = self.config
        return TemporalConv(dim, c.norm_groups, c.temp_conv_depth, c.dropout, ops=self.ops)

    def transformer(self, dim: int, heads: int) -> Transformer2D:
        return Transformer2D(self, dim, heads)

    def temp_transformer(self, dim: int, heads: int) -> TemporalTransformer:
        return TemporalTransformer(dim, heads, dim, self.config.norm_groups, self.attention, self.ops)


class TransformerBlock(nn.Module):
    """Self-attention within a frame, cross-attention to the text, Temp-Attn (VidRD), feed-forward."""

    def __init__(self, build: Builder, dim: int, heads: int) -> None:
        super().__init__()
        c, ops, attention = build.config, build.ops, build.attention
        self.norm1 = ops.LayerNorm(dim)
        self.attn1 = CrossAttention(dim, heads, attention=attention, ops=ops)
        self.norm2 = ops.LayerNorm(dim)
        self.attn2 = CrossAttention(dim, heads, c.cross_attention_dim, attention, ops)
        if c.temp_attention == "inside":
            self.embed_to = c.embed_to
            self.temp_norm = ops.LayerNorm(dim)
            self.temp_attn = CrossAttention(dim, heads, attention=attention, ops=ops)
            zero_(self.temp_attn.to_out[0])
        self.norm3 = ops.LayerNorm(dim)
        self.ff = FeedForward(dim, ops)

    def forward(self, x: Tensor, text: Tensor, span: Span) -> Tensor:
        """x [B*F, P, C], text [B, L, D]."""
        x = in_pieces(x, lambda frames: plus(self.attn1(self.norm1(frames)), frames), growth=4)
        # All frames of a clip read one caption: its keys and values are computed once a clip, not once a frame.
        queries = rearrange(self.norm2(x), "(b f) p c -> b (f p) c", f=span.frames)
        x = plus(x, rearrange(self.attn2(queries, text), "b (f p) c -> (b f) p c", f=span.frames))
        if span.temporal and hasattr(self, "temp_attn"):
            x = self.attend_over_frames(x, span.frames)
        tokens = in_pieces(x.flatten(0, 1), lambda part: plus(self.ff(self.norm3(part)), part), growth=8)
        return tokens.view_as(x)

    def attend_over_frames(self, x: Tensor, frames: int) -> Tensor:
        """Temp-Attn as in VidRD: one self-attention over the frames, at each place [B*F, P, C] by itself.

        The sinusoidal frame embedding goes to the attention's "input" (a fresh layer is the identity), or to the
        residual "stream" (the released weights).
        """
        x = rearrange(x, "(b f) p c -> b p f c", f=frames)
        embedding = sinusoid(torch.arange(frames, device=x.device), x.shape[-1]).to(x.dtype)
        if self.embed_to == "stream":
            x = x + embedding
            h = self.temp_norm(x)
        else:
            h = self.temp_norm(x) + embedding
        x = plus(self.temp_attn(h.flatten(0, 1)).unflatten(0, x.shape[:2]), x)
        return rearrange(x, "b p f c -> (b f) p c")


class Transformer2D(nn.Module):
    """GroupNorm, projection, one transformer block, projection, residual."""

    def __init__(self, build: Builder, dim: int, heads: int) -> None:
        super().__init__()
        ops = build.ops
        self.linear = build.config.linear_projection
        self.norm = ops.GroupNorm(build.config.norm_groups, dim, eps=1e-6)
        self.proj_in = ops.Linear(dim, dim) if self.linear else ops.Conv2d(dim, dim, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(build, dim, heads)])
        self.proj_out = ops.Linear(dim, dim) if self.linear else ops.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor, text: Tensor, span: Span) -> Tensor:
        """x [B*F, C, H, W], text [B, L, D] -> like x."""
        h, height = self.norm(x), x.shape[-2]
        h = h if self.linear else self.proj_in(h)
        h = rearrange(h, "b c h w -> b (h w) c")
        h = self.proj_in(h) if self.linear else h
        h = self.transformer_blocks[0](h, text, span)
        h = self.proj_out(h) if self.linear else h
        h = rearrange(h, "b (h w) c -> b c h w", h=height)
        return plus(h if self.linear else self.proj_out(h), x)


class UNetBlock(nn.Module):
    """One level on the way down, through the middle or up; `dims` are the (in, out) channels of its ResNets."""

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

    def convolve(self, i: int, x: Tensor, temb: Tensor, span: Span, norm_frames: int) -> Tensor:
        """ResNet i and its Temp-Conv: x [B*F, C, H, W], temb [B*F, D]."""
        x = self.resnets[i](x, temb, norm_frames)
        if span.temporal and hasattr(self, "temp_convs"):
            x = self.temp_convs[i](x, span.frames)
        return x

    def attend(self, i: int, x: Tensor, text: Tensor, span: Span) -> Tensor:
        """Transformer i, if this level has them: x [B*F, C, H, W], text [B, L, D] -> like x."""
        if hasattr(self, "attentions"):
            x = self.attentions[i](x, text, span)
        if hasattr(self, "temp_attentions") and span.temporal:
            x = self.temp_attentions[i](x, span.frames)
        return x
