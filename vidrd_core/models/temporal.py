"""Temporal layers, which turn an image model into a video model: Temp-Conv and Temp-Attn (VidRD, section 4.1).

Their last layers are zero-initialised, so that a freshly inflated model computes what the image model does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from einops import rearrange
from torch import Tensor, nn

from vidrd_core.models import ops as core_ops
from vidrd_core.models.attention import Attention, sdpa
from vidrd_core.models.feature_cache import EXACT, Call
from vidrd_core.models.layers import CrossAttention, FeedForward, of_frames, over_frames
from vidrd_core.models.ops import add, in_chunks, sum_of


class TemporalConv(nn.Module):
    """Temp-Conv: a residual stack of [GroupNorm, SiLU, (Dropout), conv over frames].

    The last conv is zero-initialised. The convs are 2-D, of kernel (3, 1) over [B, C, F, pixels]: several times as
    fast on a CPU as the Conv3d (3, 1, 1) that they equal and whose weights load.

    Args:
        dim: Channels.
        groups: Groups of the GroupNorms.
        depth: Number of convs: 4 in the UNets, 3 in VidRD's VAE.
        dropout: Before each conv but the first.
        joint_norm: Whether a GroupNorm takes its statistics over all frames (the UNets). Without it each frame is
            normalised alone, so that a long video can be decoded in a stream (the VAE).
        ops: Namespace of the layers.

    Source:
        VidRD, sections 4.1 and 4.2.
    """

    def __init__(
        self,
        dim: int,
        groups: int,
        depth: int = 4,
        dropout: float = 0.1,
        joint_norm: bool = True,
        ops: Any = core_ops,
    ) -> None:
        super().__init__()
        self.depth = depth
        self.joint_norm = joint_norm
        for i in range(1, depth + 1):
            layers = [ops.GroupNorm(groups, dim, eps=1e-5), nn.SiLU()]
            layers += [core_ops.Dropout(dropout)] if i > 1 else []
            conv = ops.Conv2d(dim, dim, (3, 1), padding=(1, 0))
            self.add_module(f"conv{i}", nn.Sequential(*layers, conv))
        zero_(self.layer(depth)[-1])
        self.register_load_state_dict_pre_hook(squeeze_conv3d)

    def layer(self, i: int) -> nn.Sequential:
        """Norm, activation, dropout and conv number i, from 1 on."""
        return getattr(self, f"conv{i}")

    def forward(self, x: Tensor, frames: int, call: Call = EXACT) -> Tensor:
        """x [B*F, C, H, W] of F frames that are computed -> like x."""
        h = start = over_frames(x, frames)
        for i in range(1, self.depth + 1):
            *before, conv = self.layer(i)
            h = self.activate(before, call.all_frames((self, i), h, dim=2))
            if call.reads_first:  # a conv sees one frame to either side
                h = conv(call.computed(h, dim=2, before=1))[:, :, 1:]
                h = h if i < self.depth else add(h, start)
            else:
                h = conv(h) if i < self.depth else sum_of(conv, h, start)
        return of_frames(h, x.shape[-2])

    def activate(self, layers: Iterable[nn.Module], h: Tensor) -> Tensor:
        """The layers before a conv: h [B, C, F, P] -> like h."""
        norm, *rest = layers
        if self.joint_norm:
            h = norm(h)
        else:
            frames = h.shape[2]
            h = rearrange(norm(rearrange(h, "b c f p -> (b f) c p")), "(b f) c p -> b c f p", f=frames)
        for layer in rest:
            h = layer(h)
        return h


def squeeze_conv3d(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """A pre-hook of `load_state_dict` that turns weights of Conv3d (k, 1, 1) into weights of Conv2d (k, 1)."""
    for key, weight in state.items():
        if key.startswith(prefix) and weight.ndim == 5:
            state[key] = weight.squeeze(-1)


class TemporalTransformer(nn.Module):
    """Temp-Attn as in ModelScope: a transformer over frames after the spatial one, with two self-attentions.

    Args:
        dim: Channels of its input.
        heads: Attention heads.
        inner_dim: Width inside.
        groups: Groups of the GroupNorm.
        attention: The attention function.
        ops: Namespace of the layers.

    Source:
        Wang et al., ModelScope Text-to-Video Technical Report (arXiv 2308.06571).
    """

    def __init__(
        self, dim: int, heads: int, inner_dim: int, groups: int, attention: Attention = sdpa, ops: Any = core_ops
    ) -> None:
        super().__init__()
        self.norm = ops.GroupNorm(groups, dim, eps=1e-6)
        self.proj_in = ops.Linear(dim, inner_dim)
        self.transformer_blocks = nn.ModuleList([DoubleSelfAttention(inner_dim, heads, attention, ops)])
        self.proj_out = ops.Linear(inner_dim, dim)
        zero_(self.proj_out)

    def forward(self, x: Tensor, frames: int, call: Call = EXACT) -> Tensor:
        """x [B*F, C, H, W] of F frames that are computed -> like x."""
        b, height = x.shape[0] // frames, x.shape[-2]
        h = call.computed(self.norm(call.all_frames(self, over_frames(x, frames), dim=2)), dim=2)
        h = rearrange(h, "b c f p -> (b p) f c")
        # What is kept is that of all places together.
        h = self.attend(h, call) if call.first else in_chunks(h, self.attend, growth=8)
        h = rearrange(h, "(b h w) f c -> b f c h w", b=b, h=height)  # a view, so that the sum is laid out as x
        return add(x.unflatten(0, (b, frames)), h).flatten(0, 1)

    def attend(self, h: Tensor, call: Call = EXACT) -> Tensor:
        """The transformer block at P places independently: h [P, F, C] -> like h."""
        return self.proj_out(self.transformer_blocks[0](self.proj_in(h), call))


class DoubleSelfAttention(nn.Module):
    """A transformer block with a second self-attention in place of cross-attention."""

    def __init__(self, dim: int, heads: int, attention: Attention = sdpa, ops: Any = core_ops) -> None:
        super().__init__()
        self.norm1 = ops.LayerNorm(dim)
        self.attn1 = CrossAttention(dim, heads, attention=attention, ops=ops)
        self.norm2 = ops.LayerNorm(dim)
        self.attn2 = CrossAttention(dim, heads, attention=attention, ops=ops)
        self.norm3 = ops.LayerNorm(dim)
        self.ff = FeedForward(dim, ops)

    def forward(self, x: Tensor, call: Call = EXACT) -> Tensor:
        """x [P, F, C] of F frames that are computed -> like x."""
        for norm, attention in ((self.norm1, self.attn1), (self.norm2, self.attn2)):
            h = norm(x)
            x = attention(h, x, call.all_frames(attention, h, dim=1))
        return self.ff(self.norm3(x), x)


def randomise(conv: TemporalConv, gain: float) -> None:
    """Give a Temp-Conv random last weights, for a model that learns motion from nothing.

    From zero a direction is learned late: a filter that tells later frames from earlier ones, and what turns it on by
    a word, are of no use without each other.

    Args:
        conv: The Temp-Conv.
        gain: Standard deviation of what comes out, as a share of what goes in.
    """
    weight = cast("Tensor", conv.layer(conv.depth)[-1].weight)
    nn.init.normal_(weight, std=gain * weight[0].numel() ** -0.5)


def zero_(module: nn.Module) -> None:
    """Set every parameter of a module to zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
