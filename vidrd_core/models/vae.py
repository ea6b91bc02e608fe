"""The temporal VAE: Stable Diffusion's AutoencoderKL with Temp-Conv in its decoder (VidRD, section 4.2), or SVD's.

Temp-Conv stands after every ResNet of the decoder's up blocks. Everything else works frame by frame, and Temp-Conv
normalises each frame alone, so a video of any length decodes in chunks, in constant memory, exactly. Where norms
span frames, as in SVD's decoder and the released VidRD's, it decodes in windows: nearly, not exactly, as a whole.
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
from vidrd_core.models.inplace_ops import silu
from vidrd_core.models.layers import Downsample2D, ResnetBlock2D, Upsample2D, VAEAttention, channels_last
from vidrd_core.models.streaming_decode import DecoderStream, TiledStream
from vidrd_core.models.svd_decoder import SVDDecoder
from vidrd_core.models.temporal import TemporalConv
from vidrd_core.models.tiling import in_tiles
from vidrd_core.models.windowed_decode import decode_windows

DECODED = 2**18  # pixels of the frames that are decoded at a time: four of 256 x 256, or one of 512 x 512
LEAST_TILE = 4  # latents along a side, of which one lies over the next tile


class VAEBlock(nn.Module):
    """ResNets of one resolution, each followed by Temp-Conv where there is one, then a change of resolution."""

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
    """Frames [N, 3, H, W] in -1 .. 1 to the moments [N, 2C, H/d, W/d] of the latents' distribution."""

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
        """Pixels [B*F, 3, H, W] -> moments [B*F, 2 C, h, w]."""
        x = channels_last(self.conv_in(F.pixel_unshuffle(x, self.patch_size)))
        for block in cast("Iterable[VAEBlock]", self.down_blocks):
            for resnet in block.resnets:
                x = resnet(x)
            x = block.resample(x)
        return self.conv_out(silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    """Latents to frames: a chain of stages, some of a frame, some (Temp-Conv) of a video."""

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
        """z [B*F, C, h, w] -> [B*F, 3, H, W]."""
        for stage in self.stages():
            if not isinstance(stage, TemporalConv):
                z = stage(z)
            elif frames > 1:  # a single frame is an image
                z = stage(z, frames)
        return z


class TemporalVAE(nn.Module):
    """Encodes frame by frame, decodes over time. Latents are normalised: about mean 0 and variance 1."""

    def __init__(self, config: VAEConfig, ops: Any = core_ops, attention: Attention = sdpa) -> None:
        super().__init__()
        self.config = config
        c = config.latent_channels
        self.encoder = Encoder(config, attention, ops)
        self.decoder = (SVDDecoder if config.decoder == "svd" else Decoder)(config, attention, ops)
        self.quant_conv = ops.Conv2d(2 * c, 2 * c, 1) if config.quant_conv else nn.Identity()
        self.post_quant_conv = ops.Conv2d(c, c, 1) if config.post_quant_conv else nn.Identity()

    def moments(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """video [B, 3, F, H, W] in -1 .. 1 -> mean and log variance [B, C, F, h, w], not normalised."""
        self._check_size(video)
        moments = self.quant_conv(self.encoder(rearrange(video, "b c f h w -> (b f) c h w")))
        mean, logvar = rearrange(moments, "(b f) c h w -> b c f h w", f=video.shape[2]).chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def encode(self, video: Tensor, chunk: int | None = None, tile: int | None = None) -> Tensor:
        """video [B, 3, F, H, W] in -1 .. 1 -> normalised latents [B, C, F, h, w] (the mean).

        With `chunk`, that many frames pass at a time: the same result in less memory. With `tile`, frames that are
        wider or higher than so many pixels pass in tiles, as in `decode`.
        """
        self._check_size(video)
        if tile is not None:
            side = self.config.downsampling
            return in_tiles(lambda part: self.encode(part, chunk), video, self._cells(tile), side, 1)
        if chunk is not None:
            return torch.cat([self.encode(part) for part in video.split(_whole("chunk", chunk), dim=2)], dim=2)
        mean, std = self._statistics(video)
        return (self.moments(video)[0] - mean) / std

    def decode(self, latents: Tensor, chunk: int | None = None, tile: int | None = None) -> Tensor:
        """Normalised latents [B, C, F, h, w] -> video [B, 3, F, H, W], about -1 .. 1.

        With `chunk`, that many frames pass at a time, in less memory: the same result if `config.streams_exactly`,
        nearly the same if not (see `decode_stream`).

        With `tile`, frames that are wider or higher than so many pixels pass in tiles of at most that size. A quarter
        of a tile lies over the next one, and the results are blended linearly there. This is not exact: norms and
        attention see a tile alone. Smaller frames stay whole.

        Raises ValueError for a chunk or a tile that cannot be.
        """
        if tile is not None:
            side = self.config.downsampling
            return in_tiles(lambda part: self.decode(part, chunk), latents, self._cells(tile), 1, side)
        if chunk is not None and latents.shape[2] > 1:
            return torch.cat(list(self.decode_stream(latents.split(_whole("chunk", chunk), dim=2))), dim=2)
        mean, std = self._statistics(latents)
        return self.decode_raw(latents * std + mean)

    def decode_raw(self, z: Tensor) -> Tensor:
        """Latents as `moments` gives them, not normalised, -> video [B, 3, F, H, W]."""
        frames = self.post_quant_conv(rearrange(z, "b c f h w -> (b f) c h w"))
        return rearrange(self.decoder(frames, z.shape[2]), "(b f) c h w -> b c f h w", f=z.shape[2])

    def decode_stream(
        self,
        chunks: Iterable[Tensor],
        past: Tensor | None = None,
        tile: int | None = None,
        together: int | None = None,
    ) -> Iterator[Tensor]:
        """Decode a video that arrives as chunks of latents [B, C, f, h, w]; frames come out when they are final.

        A frame is final when `config.halo` later ones are known, or the chunks end. `past` are latents from just
        before the first chunk: their frames are not given out, they only stand beside the first ones.

        If `config.streams_exactly` the result is what `decode` makes of all at once, and of `past` the last
        `config.halo` suffice; no more than `together` frames pass at a time. If not, norms span frames: each chunk is
        decoded in a window with `config.halo` frames on either side, whose statistics are the window's. One chunk
        that holds all frames is exact, more are not.

        With `tile`, frames that are wider or higher than so many pixels pass in tiles, as in `decode`.
        """
        cells = None if tile is None else self._cells(tile)
        if not self.config.streams_exactly:
            yield from decode_windows(lambda window: self.decode(window, tile=tile), chunks, self.config.halo, past)
            return
        skip = 0 if past is None else past.shape[2]
        for frames in self._stream(chunks if past is None else chain([past], chunks), cells, together):
            kept = frames[:, :, skip:]
            skip = max(0, skip - frames.shape[2])
            del frames
            if kept.shape[2]:
                yield kept

    def _stream(self, chunks: Iterable[Tensor], cells: int | None, together: int | None) -> Iterator[Tensor]:
        decoder = cast(Decoder, self.decoder)

        def make() -> DecoderStream:
            return DecoderStream([self._enter, *decoder.stages()])

        stream = TiledStream(make, cells, self.config.downsampling) if cells else make()
        for chunk in chunks:
            if not chunk.shape[2]:
                continue
            size = together or chunk.shape[2]
            if isinstance(stream, TiledStream):
                outs = iter([stream.push(chunk, size)])
            else:
                outs = map(stream.push, chunk.split(size, dim=2))
            yield from (out for out in outs if out is not None)
        yield from stream.flush()

    def _enter(self, frames: Tensor) -> Tensor:
        """Normalised latents [B*F, C, h, w] -> what the decoder takes."""
        mean, std = (statistic[:, :, 0] for statistic in self._statistics(frames))
        return self.post_quant_conv(frames * std + mean)

    def _check_size(self, video: Tensor) -> None:
        side = self.config.downsampling
        if video.shape[-1] % side or video.shape[-2] % side:
            raise ValueError(
                f"got frames of {video.shape[-1]} x {video.shape[-2]} pixels; "
                f"width and height must be multiples of {side}"
            )

    def together(self, height: int, width: int, tile: int | None = None) -> int:
        """How many frames of so many latents are best decoded at a time: many small ones, few large ones."""
        side = tile or math.inf
        pixels = min(height * self.config.downsampling, side) * min(width * self.config.downsampling, side)
        return max(1, int(DECODED // pixels))

    def check_tile(self, tile: int) -> None:
        """Raise ValueError unless frames can pass in tiles of so many pixels a side."""
        side = self.config.downsampling
        if tile < LEAST_TILE * side or tile % side:
            raise ValueError(f"tile is {tile}, expected a multiple of {side} pixels, {LEAST_TILE * side} or more")

    def _cells(self, tile: int) -> int:
        """A tile's latents along a side."""
        self.check_tile(tile)
        return tile // self.config.downsampling

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        c = self.config
        mean, std = (like.new_tensor(v).view(1, -1, 1, 1, 1) for v in (c.latents_mean, c.latents_std))
        return mean, std


def _whole(name: str, number: int) -> int:
    if number < 1:
        raise ValueError(f"{name} is {number}, expected 1 or more")
    return number
