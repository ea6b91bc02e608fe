"""The temporal VAE: Stable Diffusion's AutoencoderKL with Temp-Conv in its decoder (VidRD, section 4.2), or SVD's.

Temp-Conv is after every ResNet of the decoder's up blocks; all other layers work frame by frame. Where Temp-Conv
normalises each frame alone, a video of any length decodes in chunks in constant memory, with exactly the result of
decoding it at once. Where norms span frames, as in SVD's decoder and the released VidRD's, it decodes in windows,
with nearly the same result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vidrd_core.models import ops as core_ops
from vidrd_core.models.attention import Attention, sdpa
from vidrd_core.models.config import VAEConfig
from vidrd_core.models.layers import Downsample2D, ResnetBlock2D, Upsample2D, VAEAttention, channels_last
from vidrd_core.models.ops import silu
from vidrd_core.models.streaming_decode import DecoderStream, TiledStream, decode_windows
from vidrd_core.models.svd_decoder import SVDDecoder
from vidrd_core.models.temporal import TemporalConv
from vidrd_core.models.tiling import apply_tiled

MAX_PIXELS = 2**18  # of the frames that are decoded at a time: four of 256 x 256, or one of 512 x 512
MIN_TILE = 4  # latents along a side, of which one overlaps the next tile


class VAEBlock(nn.Module):
    """One level of the encoder or decoder: ResNets, each with its Temp-Conv, if any, then a change of resolution.

    Args:
        config: The VAE's settings.
        dims: Input and output channels of the ResNets.
        temporal: Whether it has Temp-Convs, in the decoder.
        ops: Namespace of the layers.
    """

    downsamplers: nn.ModuleList
    upsamplers: nn.ModuleList
    temp_convs: nn.ModuleList

    def __init__(self, config: VAEConfig, dims: list[tuple[int, int]], temporal: bool, ops: Any = core_ops) -> None:
        super().__init__()
        groups = config.norm_groups
        self.resnets = nn.ModuleList([ResnetBlock2D(i, o, None, groups, 1e-6, ops) for i, o in dims])
        if temporal and config.temp_conv_depth:
            self.temp_convs = nn.ModuleList(
                [TemporalConv(o, groups, config.temp_conv_depth, 0.0, config.joint_temp_norm, ops) for _, o in dims]
            )

    def resample(self, x: Tensor) -> Tensor:
        """The level's downsampler or upsampler, if any: x [N, C, h, w]."""
        for name in ("downsamplers", "upsamplers"):
            if hasattr(self, name):
                x = getattr(self, name)[0](x)
        return x


class MidBlock(nn.Module):
    """ResNet, attention within the frame, ResNet."""

    def __init__(self, config: VAEConfig, attention: Attention, ops: Any = core_ops) -> None:
        super().__init__()
        width, groups = config.block_out_channels[-1], config.norm_groups
        self.attentions = nn.ModuleList([VAEAttention(width, groups, attention, ops)])
        self.resnets = nn.ModuleList([ResnetBlock2D(width, width, None, groups, 1e-6, ops) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        """x [B*F, C, h, w] -> like x."""
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Encoder(nn.Module):
    """Frames to the moments (mean and log variance) of the latents' distribution, frame by frame."""

    def __init__(self, config: VAEConfig, attention: Attention = sdpa, ops: Any = core_ops) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        widths, depth = config.block_out_channels, config.layers_per_block
        self.conv_in = ops.Conv2d(config.in_channels * config.patch_size**2, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for level, width in enumerate(widths):
            dims = [(widths[max(level - 1, 0)], width), *[(width, width)] * (depth - 1)]
            block = VAEBlock(config, dims, temporal=False, ops=ops)
            if level < len(widths) - 1:
                block.downsamplers = nn.ModuleList([Downsample2D(width, padding=0, ops=ops)])
            self.down_blocks.append(block)
        self.mid_block = MidBlock(config, attention, ops)
        self.conv_norm_out = ops.GroupNorm(config.norm_groups, widths[-1], eps=1e-6)
        self.conv_out = ops.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Frames [B*F, 3, H, W] in -1 .. 1 -> moments [B*F, 2*C, h, w]."""
        x = channels_last(self.conv_in(F.pixel_unshuffle(x, self.patch_size)))
        for block in cast("Iterable[VAEBlock]", self.down_blocks):
            for resnet in block.resnets:
                x = resnet(x)
            x = block.resample(x)
        return self.conv_out(silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    """Latents to frames, as a chain of stages: functions of frames, and Temp-Convs."""

    def __init__(self, config: VAEConfig, attention: Attention = sdpa, ops: Any = core_ops) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        widths = config.block_out_channels[::-1]
        self.conv_in = ops.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = MidBlock(config, attention, ops)
        self.up_blocks = nn.ModuleList()
        for level, width in enumerate(widths):
            dims = [(widths[max(level - 1, 0)], width), *[(width, width)] * config.layers_per_block]
            block = VAEBlock(config, dims, temporal=True, ops=ops)
            if level < len(widths) - 1:
                block.upsamplers = nn.ModuleList([Upsample2D(width, ops)])
            self.up_blocks.append(block)
        self.conv_norm_out = ops.GroupNorm(config.norm_groups, widths[-1], eps=1e-6)
        self.conv_out = ops.Conv2d(widths[-1], config.in_channels * config.patch_size**2, 3, padding=1)

    def stages(self) -> Iterator[Callable[[Tensor], Tensor] | TemporalConv]:
        """The decoder in order: functions of frames [N, C, H, W], and Temp-Convs."""
        yield lambda x: self.mid_block(channels_last(self.conv_in(x)))
        for block in cast("Iterable[VAEBlock]", self.up_blocks):
            for i, resnet in enumerate(block.resnets):
                yield resnet
                if hasattr(block, "temp_convs"):
                    yield cast(TemporalConv, block.temp_convs[i])
            yield block.resample
        yield lambda x: F.pixel_shuffle(self.conv_out(silu(self.conv_norm_out(x))), self.patch_size)

    def forward(self, z: Tensor, frames: int) -> Tensor:
        """z [B*F, C, h, w] of F frames -> [B*F, 3, H, W]."""
        for stage in self.stages():
            if not isinstance(stage, TemporalConv):
                z = stage(z)
            elif frames > 1:  # a single frame is an image
                z = stage(z, frames)
        return z


class TemporalVAE(nn.Module):
    """A VAE that encodes frame by frame and decodes over time. Latents have mean 0 and variance 1, approximately.

    Args:
        config: Its settings.
        ops: Namespace of its layers: Linear, Conv2d, GroupNorm, LayerNorm.
        attention: The attention function.

    Source:
        VidRD (Gu et al., arXiv 2309.03549), section 4.2; Rombach et al., Latent Diffusion (arXiv 2112.10752).
    """

    def __init__(self, config: VAEConfig, ops: Any = core_ops, attention: Attention = sdpa) -> None:
        super().__init__()
        self.config = config
        c = config.latent_channels
        self.encoder = Encoder(config, attention, ops)
        self.decoder = (SVDDecoder if config.decoder == "svd" else Decoder)(config, attention, ops)
        self.quant_conv = ops.Conv2d(2 * c, 2 * c, 1) if config.quant_conv else nn.Identity()
        self.post_quant_conv = ops.Conv2d(c, c, 1) if config.post_quant_conv else nn.Identity()

    def moments(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """The distribution of a video's latents, before their normalisation.

        Args:
            video: [B, 3, F, H, W] in -1 .. 1.

        Returns:
            Mean and log variance, each [B, C, F, h, w].

        Raises:
            ValueError: Width or height is not a multiple of `config.downsampling`.
        """
        self._check_size(video)
        moments = self.quant_conv(self.encoder(rearrange(video, "b c f h w -> (b f) c h w")))
        mean, logvar = rearrange(moments, "(b f) c h w -> b c f h w", f=video.shape[2]).chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def encode(self, video: Tensor, chunk: int | None = None, tile: int | None = None) -> Tensor:
        """Encode a video to normalised latents, the mean of their distribution.

        Args:
            video: [B, 3, F, H, W] in -1 .. 1.
            chunk: Frames that are encoded at a time, all by default: the same result in less memory.
            tile: Frames with a longer side in pixels are encoded in tiles, as in `decode`.

        Returns:
            Latents [B, C, F, h, w].

        Raises:
            ValueError: The size of the frames, `chunk` or `tile` is invalid.
        """
        self._check_size(video)
        if tile is not None:
            side = self.config.downsampling
            return apply_tiled(lambda part: self.encode(part, chunk), video, self._cells(tile), side, 1)
        if chunk is not None:
            return torch.cat([self.encode(part) for part in video.split(_at_least_one("chunk", chunk), dim=2)], dim=2)
        mean, std = self._statistics(video)
        return (self.moments(video)[0] - mean) / std

    def decode(self, latents: Tensor, chunk: int | None = None, tile: int | None = None) -> Tensor:
        """Decode normalised latents to a video.

        Args:
            latents: [B, C, F, h, w].
            chunk: Frames that are decoded at a time, all by default. It takes less memory, and the result is the same
                if `config.streams_exactly`, else nearly the same (see `decode_stream`).
            tile: Frames with a longer side in pixels are decoded in tiles of at most that size, a multiple of
                `config.downsampling`. Tiles overlap by a quarter and are blended linearly. This is an approximation:
                norms and attention see one tile only. Smaller frames are decoded without tiles.

        Returns:
            Video [B, 3, F, H, W], about -1 .. 1.

        Raises:
            ValueError: `chunk` or `tile` is invalid.
        """
        if tile is not None:
            side = self.config.downsampling
            return apply_tiled(lambda part: self.decode(part, chunk), latents, self._cells(tile), 1, side)
        if chunk is not None and latents.shape[2] > 1:
            return torch.cat(list(self.decode_stream(latents.split(_at_least_one("chunk", chunk), dim=2))), dim=2)
        mean, std = self._statistics(latents)
        return self.decode_raw(latents * std + mean)

    def decode_raw(self, z: Tensor) -> Tensor:
        """Decode latents without normalisation, as `moments` returns them: z [B, C, F, h, w] -> [B, 3, F, H, W]."""
        frames = self.post_quant_conv(rearrange(z, "b c f h w -> (b f) c h w"))
        return rearrange(self.decoder(frames, z.shape[2]), "(b f) c h w -> b c f h w", f=z.shape[2])

    def decode_stream(
        self,
        chunks: Iterable[Tensor],
        past: Tensor | None = None,
        tile: int | None = None,
        frames_at_once: int | None = None,
    ) -> Iterator[Tensor]:
        """Decode a video that arrives in chunks of latents, in constant memory.

        If `config.streams_exactly`, the result is that of `decode` for all latents. If not, norms span frames: each
        chunk is decoded in a window with `config.halo` frames on either side, and the result is nearly the same. One
        chunk with all latents is exact.

        Args:
            chunks: Normalised latents [B, C, f, h, w] of consecutive chunks.
            past: Latents from just before the first chunk, as context; the last `config.halo` of them suffice.
            tile: Frames with a longer side in pixels are decoded in tiles, as in `decode`.
            frames_at_once: No more frames than these are decoded at a time, if `config.streams_exactly`.

        Yields:
            Frames [B, 3, f', H, W], about -1 .. 1, when they are final: `config.halo` later latents are known, or the
            chunks end. None for the latents in `past`.

        Raises:
            ValueError: `tile` is invalid.
        """
        cells = None if tile is None else self._cells(tile)
        if not self.config.streams_exactly:
            yield from decode_windows(lambda window: self.decode(window, tile=tile), chunks, self.config.halo, past)
            return
        skip = 0 if past is None else past.shape[2]
        for frames in self._stream(chunks if past is None else chain([past], chunks), cells, frames_at_once):
            kept = frames[:, :, skip:]
            skip = max(0, skip - frames.shape[2])
            del frames
            if kept.shape[2]:
                yield kept

    def _stream(self, chunks: Iterable[Tensor], cells: int | None, at_once: int | None) -> Iterator[Tensor]:
        decoder = cast(Decoder, self.decoder)

        def make() -> DecoderStream:
            return DecoderStream([self._enter, *decoder.stages()])

        stream = TiledStream(make, cells, self.config.downsampling) if cells else make()
        for chunk in chunks:
            if not chunk.shape[2]:
                continue
            size = at_once or chunk.shape[2]
            if isinstance(stream, TiledStream):
                outs = iter([stream.push(chunk, size)])
            else:
                outs = map(stream.push, chunk.split(size, dim=2))
            yield from (out for out in outs if out is not None)
        yield from stream.flush()

    def _enter(self, frames: Tensor) -> Tensor:
        """Normalised latents [B*F, C, h, w] -> the decoder's input."""
        mean, std = (statistic[:, :, 0] for statistic in self._statistics(frames))
        return self.post_quant_conv(frames * std + mean)

    def _check_size(self, video: Tensor) -> None:
        side = self.config.downsampling
        if video.shape[-1] % side or video.shape[-2] % side:
            raise ValueError(
                f"got frames of {video.shape[-1]} x {video.shape[-2]} pixels; "
                f"width and height must be multiples of {side}"
            )

    def frames_at_once(self, height: int, width: int, tile: int | None = None) -> int:
        """Choose how many frames to decode at a time: many small ones, few large ones.

        Args:
            height: Of a frame, in latents.
            width: Of a frame, in latents.
            tile: The size of a tile in pixels, if frames are decoded in tiles.

        Returns:
            The number of frames, at least 1: about `MAX_PIXELS` pixels.
        """
        side = tile or math.inf
        pixels = min(height * self.config.downsampling, side) * min(width * self.config.downsampling, side)
        return max(1, int(MAX_PIXELS // pixels))

    def check_tile(self, tile: int) -> None:
        """Raise ValueError unless `tile` is a valid size of a tile, in pixels."""
        side = self.config.downsampling
        if tile < MIN_TILE * side or tile % side:
            raise ValueError(f"tile is {tile}, expected a multiple of {side} pixels, {MIN_TILE * side} or more")

    def _cells(self, tile: int) -> int:
        """A tile's side in latents. Raises ValueError."""
        self.check_tile(tile)
        return tile // self.config.downsampling

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        c = self.config
        mean, std = (like.new_tensor(v).view(1, -1, 1, 1, 1) for v in (c.latents_mean, c.latents_std))
        return mean, std


def _at_least_one(name: str, number: int) -> int:
    if number < 1:
        raise ValueError(f"{name} is {number}, expected 1 or more")
    return number
