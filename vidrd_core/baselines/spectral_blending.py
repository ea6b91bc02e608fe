"""FreeLong: all frames pass through the model at once, and temporal attention blends a global and a local stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vidrd_core.baselines.base import LongVideo, LongVideoMethod, decode_latents
from vidrd_core.baselines.context_windows import window_noise
from vidrd_core.models.attention import Attention
from vidrd_core.models.blocks import TransformerBlock
from vidrd_core.models.layers import CrossAttention, over_frames
from vidrd_core.models.ops import add, sum_of
from vidrd_core.models.temporal import DoubleSelfAttention, TemporalTransformer
from vidrd_core.pipeline import VidRD
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sampling import SOLVERS, latents_of
from vidrd_core.settings import SampleSettings

STOP = 0.25  # frequency at which the low-pass filter has fallen to exp(-1/2), as a share of the highest
Streams = Callable[[Attention], Tensor]
"""What a layer makes [B, C, F, H, W] with an attention function."""


@dataclass(frozen=True)
class FreeLong(LongVideoMethod):
    """Denoises all frames in one pass, with low frequencies of attention to all frames and high ones of that to near.

    Args:
        blended: Share of the steps, from the first on, whose streams are blended; in later ones frames attend to near
            frames alone.
        freenoise: Whether later noise is the first clip's, shuffled locally, as the paper has it for a single prompt.
            Otherwise all noise is new.
        continue_positions: Whether the model is told positions 0 to F - 1, of which it was trained with the first N.
            Otherwise they are those modulo N.

    Source:
        Lu et al., "FreeLong: Training-Free Long Video Generation with SpectralBlend Temporal Attention", NeurIPS 2024
        (arXiv 2407.19918), section 4. There tau = 25 of 50 steps, alpha = N / 2 and D0 = 0.25, and the models have no
        absolute positions.
    """

    blended: float = 0.5
    freenoise: bool = True
    continue_positions: bool = False

    def generate(self, model: VidRD, text: str, clips: int, sample: SampleSettings) -> LongVideo:
        """See `LongVideoMethod.generate`."""
        _, channels, frames, height, width = model.latent_shape(sample)
        count = frames * clips
        shape = (1, channels, count, height, width)
        noise = window_noise(shape, frames, max(1, frames // 4) if self.freenoise else None, sample.seed)
        sigmas = model.schedule.sigmas(sample.steps, sample.solver).to(model.device)
        blended_steps = round(self.blended * sample.steps)
        denoise = model.denoiser(text, sample, [j % frames for j in range(count)])
        blend = SpectralBlend((height, width), max(1, frames // 2), 0 if self.continue_positions else frames)

        def of_step(x: Tensor, sigma: Tensor) -> Tensor:
            with blend.applied(model, blend=blended_steps > 0 and bool(sigma >= sigmas[blended_steps - 1])):
                return denoise(x, sigma)

        x = model.schedule.start(noise.to(model.device), sigmas[0], sample.solver)
        latents = latents_of(SOLVERS[sample.solver](of_step, x, sigmas), sigmas)
        video = decode_latents(model, latents.split(frames, dim=2))
        return LongVideo(video, ReuseSettings(0, 0.0, order="forward", noise="fresh"))


@dataclass(frozen=True)
class SpectralBlend:
    """SpectralBlend-TA, in the place of a model's temporal attention.

    Args:
        size: Height and width of the latents.
        reach: How many frames to either side a frame attends to in the local stream, alpha.
        positions: Of how many frames the model is told positions, N, over and over; 0: of all.
    """

    size: tuple[int, int]
    reach: int
    positions: int = 0

    @contextmanager
    def applied(self, model: VidRD, blend: bool) -> Iterator[None]:
        """A context in which temporal attention is so.

        Args:
            model: The model.
            blend: Whether low frequencies come from the global stream; otherwise all come from the local one.
        """
        changed = dict[torch.nn.Module, dict[str, object]]()
        for module in model.unet.modules():
            if isinstance(module, TemporalTransformer):
                changed[module] = {"forward": partial(self._transformer, module, blend)}
            elif isinstance(module, TransformerBlock) and hasattr(module, "temp_attn"):
                changed[module] = {
                    "attend_over_frames": partial(self._inside, module, blend),
                    "frame_embedding": partial(self._embedding, module),
                }
        try:
            for module, methods in changed.items():
                vars(module).update(methods)
            yield
        finally:
            for module, methods in changed.items():
                for name in methods:
                    vars(module).pop(name, None)

    def _streams(self, attention: CrossAttention, blend: bool, made: Streams) -> Tensor:
        near = made(partial(near_attention, reach=self.reach))
        return blended(made(attention.attention), near) if blend else near

    def _transformer(self, layer: TemporalTransformer, blend: bool, x: Tensor, frames: int, _: object) -> Tensor:
        """What `TemporalTransformer.forward` does, with two streams: x [B*F, C, H, W] of F frames -> like x."""
        batch, height = len(x) // frames, x.shape[-2]
        h = layer.proj_in(rearrange(layer.norm(over_frames(x, frames)), "b c f p -> (b p) f c"))
        block = cast("DoubleSelfAttention", layer.transformer_blocks[0])
        for norm, attention in ((block.norm1, block.attn1), (block.norm2, block.attn2)):
            normed = norm(h)
            q, k, v = attention.to_q(normed), attention.to_k(normed), attention.to_v(normed)
            made = partial(_of_places, q, k, v, attention.heads, batch, height)
            z = rearrange(self._streams(attention, blend, made), "b c f h w -> (b h w) f c")
            h = sum_of(attention.to_out[0], z, h)
        h = layer.proj_out(block.ff(block.norm3(h), h))
        h = rearrange(h, "(b h w) f c -> b f c h w", b=batch, h=height)
        return add(x.unflatten(0, (batch, frames)), h).flatten(0, 1)

    def _inside(self, block: TransformerBlock, blend: bool, x: Tensor, frames: int, _: object) -> Tensor:
        """What `TransformerBlock.attend_over_frames` does, with two streams: x [B*F, P, C] of F frames -> like x.

        All that follows the attention there is linear, so what comes out is blended.
        """
        height, width = self.size
        while height * width > x.shape[1]:
            height, width = -(-height // 2), -(-width // 2)
        attention = block.temp_attn
        usual = attention.attention

        def made(function: Attention) -> Tensor:
            attention.attention = function
            try:
                out = TransformerBlock.attend_over_frames(block, x, frames)
            finally:
                attention.attention = usual
            return rearrange(out, "(b f) (h w) c -> b c f h w", f=frames, h=height, w=width)

        return rearrange(self._streams(attention, blend, made), "b c f h w -> (b f) (h w) c")

    def _embedding(self, block: TransformerBlock, frames: int, like: Tensor) -> Tensor:
        known = TransformerBlock.frame_embedding(block, self.positions or frames, like)
        return known[torch.arange(frames, device=like.device) % len(known)]


def _of_places(q: Tensor, k: Tensor, v: Tensor, heads: int, batch: int, height: int, function: Attention) -> Tensor:
    return rearrange(function(q, k, v, heads), "(b h w) f c -> b c f h w", b=batch, h=height)


def near_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, reach: int) -> Tensor:
    """Attention in which a token sees those at most `reach` away: q, k, v [B, L, heads*d] -> like q."""
    number = torch.arange(q.shape[1], device=q.device)
    near = (number[:, None] - number).abs() <= reach
    q, k, v = (rearrange(t, "b l (h d) -> b h l d", h=heads) for t in (q, k, v))
    return rearrange(F.scaled_dot_product_attention(q, k, v, near), "b h l d -> b l (h d)")


def blended(low: Tensor, high: Tensor) -> Tensor:
    """Low frequencies over frames, height and width of one tensor and high ones of another, both [..., F, H, W]."""
    dims = (-3, -2, -1)
    share = low_pass(low.shape[-3:]).to(low.device)
    mixed = torch.fft.fftn(low.float(), dim=dims) * share + torch.fft.fftn(high.float(), dim=dims) * (1 - share)
    return torch.fft.ifftn(mixed, dim=dims).real.to(low.dtype)


@cache
def low_pass(shape: tuple[int, int, int]) -> Tensor:
    """The Gaussian low-pass filter of tensors [F, H, W], in the order of `torch.fft.fftn`; 1 at frequency 0."""
    axes = torch.meshgrid(*(2 * torch.fft.fftfreq(size) for size in shape), indexing="ij")
    return torch.exp(-torch.stack(axes).square().sum(0) / (2 * STOP**2))
