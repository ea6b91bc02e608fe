"""The 2-D layers of Stable Diffusion's UNet and VAE, named as in diffusers.

Each is built from an `ops` namespace (Linear, Conv2d, GroupNorm, LayerNorm): this package's `ops` by default, or a
host's own classes, so that its offloading and casting work.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vidrd_core.models import kernels, training_kernels
from vidrd_core.models import ops as core_ops
from vidrd_core.models.attention import Attention, sdpa
from vidrd_core.models.feature_cache import EXACT, Call
from vidrd_core.models.ops import add, cast_to_input, multiply, silu, sum_of


def sinusoid(position: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Sinusoidal embedding: all cosines, then all sines.

    Args:
        position: Positions or timesteps [...].
        dim: Width of the embedding, even.
        max_period: The longest period, in positions.

    Returns:
        [..., dim], float32, in -1 .. 1.

    Source:
        Vaswani et al., Attention Is All You Need (2017), section 3.5, in the order of Stable Diffusion's timesteps.
    """
    half = dim // 2
    exponent = torch.arange(half, dtype=torch.float32, device=position.device) / half
    angles = position.float()[..., None] * torch.exp(-math.log(max_period) * exponent)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def interleaved_sinusoid(position: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding in the order sine, cosine, sine, ..., the pair k of rate 10000^(-2k / dim).

    Args:
        position: Positions [...].
        dim: Width of the embedding, even.

    Returns:
        [..., dim], float32, in -1 .. 1.

    Source:
        Vaswani et al., Attention Is All You Need (2017), section 3.5, in its own order.
    """
    cosines, sines = sinusoid(position, dim).chunk(2, dim=-1)
    return torch.stack([sines, cosines], dim=-1).flatten(-2)


class TimestepEmbedding(nn.Module):
    """The MLP of the timestep embedding: Linear, SiLU, Linear."""

    def __init__(self, in_dim: int, dim: int, ops: Any = core_ops) -> None:
        super().__init__()
        self.linear_1 = ops.Linear(in_dim, dim)
        self.linear_2 = ops.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in_dim] -> [..., dim]."""
        return self.linear_2(F.silu(self.linear_1(x)))


class ResnetBlock2D(nn.Module):
    """A ResNet block: GroupNorm, SiLU, conv, twice, with the timestep embedding added between, and a shortcut.

    Args:
        in_dim: Input channels.
        out_dim: Output channels.
        time_dim: Width of the timestep embedding; None in a VAE, which has none.
        groups: Groups of the GroupNorms.
        eps: Epsilon of the GroupNorms.
        ops: Namespace of the layers.
    """

    def __init__(
        self, in_dim: int, out_dim: int, time_dim: int | None, groups: int, eps: float, ops: Any = core_ops
    ) -> None:
        super().__init__()
        self.norm1 = ops.GroupNorm(groups, in_dim, eps=eps)
        self.conv1 = ops.Conv2d(in_dim, out_dim, 3, padding=1)
        if time_dim is not None:
            self.time_emb_proj = ops.Linear(time_dim, out_dim)
        self.norm2 = ops.GroupNorm(groups, out_dim, eps=eps)
        self.conv2 = ops.Conv2d(out_dim, out_dim, 3, padding=1)
        self.conv_shortcut = ops.Conv2d(in_dim, out_dim, 1) if in_dim != out_dim else nn.Identity()

    def forward(self, x: Tensor, temb: Tensor | None = None, norm_frames: int = 0, call: Call = EXACT) -> Tensor:
        """x [B*F, C, H, W], temb [B*F, D] -> [B*F, C', H, W].

        `norm_frames` frames share the statistics of a GroupNorm: F for all of a clip, or 0 for each frame alone.
        """
        h = self.conv1(silu(norm_over_frames(self.norm1, x, norm_frames, call)))
        if temb is not None:
            h = add(h, self.time_emb_proj(F.silu(temb))[:, :, None, None])
        h = silu(norm_over_frames(self.norm2, h, norm_frames, call))
        return sum_of(self.conv2, h, self.conv_shortcut(x))


def norm_over_frames(norm: nn.Module, x: Tensor, frames: int, call: Call = EXACT) -> Tensor:
    """Apply a GroupNorm to x [B*F, C, H, W] over F `frames` together, or to each alone for 0 -> like x."""
    if frames == 0:
        return norm(x)
    h = norm(call.all_frames(norm, over_frames(x, frames), dim=2))
    return of_frames(call.computed(h, dim=2), x.shape[-2])


def over_frames(x: Tensor, frames: int) -> Tensor:
    """x [B*F, C, H, W] -> [B, C, F, H*W], a view if x is channels-last, and then channels-last, too.

    A view that is made otherwise has a stride that torch does not take for channels-last where B is 1.
    """
    return x.flatten(2).unflatten(0, (-1, frames)).transpose(1, 2)


def of_frames(x: Tensor, height: int) -> Tensor:
    """The reverse: x [B, C, F, H*W] -> [B*F, C, H, W]."""
    return x.transpose(1, 2).flatten(0, 1).unflatten(-1, (height, -1))


def channels_last(x: Tensor) -> Tensor:
    """x [N, C, H, W] in channels-last memory on CPUs: convs are fastest so, and tokens [N, H*W, C] need no copy."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


class Downsample2D(nn.Module):
    """Halve height and width by a strided conv; with `padding=0`, as in the VAE, it pads right and bottom only."""

    def __init__(self, dim: int, padding: int = 1, ops: Any = core_ops) -> None:
        super().__init__()
        self.padding = padding
        self.conv = ops.Conv2d(dim, dim, 3, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, C, H, W] -> [N, C, H/2, W/2]."""
        return self.conv(x if self.padding else F.pad(x, (0, 1, 0, 1)))


class Upsample2D(nn.Module):
    """Nearest-neighbour upsampling to `size` (H, W), by default twofold, then a conv."""

    def __init__(self, dim: int, ops: Any = core_ops) -> None:
        super().__init__()
        self.conv = ops.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """x [N, C, H, W] -> `[N, C, *size]`."""
        size = size or (2 * x.shape[-2], 2 * x.shape[-1])
        return self.conv(F.interpolate(x, size=size, mode="nearest"))


class CrossAttention(nn.Module):
    """Multi-head attention, to a context or to the input itself.

    Args:
        dim: Channels of the input and the result.
        heads: Attention heads.
        context_dim: Channels of the context; `dim` by default.
        attention: The attention function.
        ops: Namespace of the layers.
    """

    def __init__(
        self, dim: int, heads: int, context_dim: int | None = None, attention: Attention = sdpa, ops: Any = core_ops
    ) -> None:
        super().__init__()
        self.heads = heads
        self.attention = attention
        self.to_q = ops.Linear(dim, dim, bias=False)
        self.to_k = ops.Linear(context_dim or dim, dim, bias=False)
        self.to_v = ops.Linear(context_dim or dim, dim, bias=False)
        self.to_out = nn.ModuleList([ops.Linear(dim, dim)])

    def forward(self, x: Tensor, plus: Tensor, context: Tensor | None = None) -> Tensor:
        """x [B, L, dim], plus like x, context [B, S, context_dim] -> like x: the attention's result, and `plus`."""
        return self.attend(x, plus, *self.keys_and_values(x if context is None else context))

    def keys_and_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and the values of a context [B, S, context_dim], each [B, S, dim]."""
        return self.to_k(context), self.to_v(context)

    def attend(self, x: Tensor, plus: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention of x [B, L, dim] to keys and values [B, S, dim], and `plus` -> like x."""
        return sum_of(self.to_out[0], self.attention(self.to_q(x), keys, values, self.heads), plus)


class GEGLU(nn.Module):
    """A linear layer whose second half gates the first by GELU (Shazeer, arXiv 2002.05202)."""

    def __init__(self, dim: int, inner: int, ops: Any = core_ops) -> None:
        super().__init__()
        self.proj = ops.Linear(dim, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., dim] -> [..., inner]."""
        if isinstance(self.proj, core_ops.Linear) and kernels.apply_to(x):
            return kernels.gated_linear(x, *cast_to_input(self.proj, x))
        x = self.proj(x)
        if torch.is_grad_enabled():
            return training_kernels.gated(x)
        value, gate = x.chunk(2, dim=-1)
        return multiply(F.gelu(gate), value)


class FeedForward(nn.Module):
    """The MLP of a transformer block: GEGLU to four times the width and back."""

    def __init__(self, dim: int, ops: Any = core_ops) -> None:
        super().__init__()
        # The identity is in the place of diffusers' dropout, so that the names fit.
        self.net = nn.ModuleList([GEGLU(dim, 4 * dim, ops), nn.Identity(), ops.Linear(4 * dim, dim)])

    def forward(self, x: Tensor, plus: Tensor) -> Tensor:
        """x [..., dim], plus like x -> like x: the MLP's result, and `plus`."""
        return sum_of(self.net[2], self.net[0](x), plus)


class VAEAttention(nn.Module):
    """Single-head self-attention over the places of a frame, in the VAE's mid block, with a residual."""

    def __init__(self, dim: int, groups: int, attention: Attention = sdpa, ops: Any = core_ops) -> None:
        super().__init__()
        self.attention = attention
        self.group_norm = ops.GroupNorm(groups, dim, eps=1e-6)
        self.to_q, self.to_k, self.to_v = (ops.Linear(dim, dim) for _ in range(3))
        self.to_out = nn.ModuleList([ops.Linear(dim, dim)])

    def forward(self, x: Tensor) -> Tensor:
        """x [N, C, H, W] -> like x."""
        tokens = rearrange(self.group_norm(x), "b c h w -> b (h w) c")
        out = self.attention(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens), 1)
        out = sum_of(self.to_out[0], out, rearrange(x, "b c h w -> b (h w) c"))
        return rearrange(out, "b (h w) c -> b c h w", h=x.shape[-2])
