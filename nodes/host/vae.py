"""Our temporal VAE as the host's VAE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management as management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import torch
from torch import Tensor, nn

from vidrd_core.models.config import VAEConfig
from vidrd_core.models.load_parts import load_vae as load_temporal_vae
from vidrd_core.models.vae import TemporalVAE

from .model import SCALE
from .ops import Ops, attention

CHUNK = 8  # frames that are decoded together
BEHIND = 8  # latents beside which those of other VAEs are decoded: causal ones look back, further ever more weakly
ACTIVATIONS = 17  # feature maps of full size that are there at once, as the host has it for Stable Diffusion's VAE


class HostVAE(nn.Module):
    """TemporalVAE under the host's calling convention: latents as LATENT has them."""

    def __init__(self, vae: TemporalVAE) -> None:
        super().__init__()
        self.vae = vae

    def decode(self, z: Tensor, **_: Any) -> Tensor:
        """Latents [B, C, F, h, w] -> [B, 3, F, H, W], about -1 .. 1. In chunks, as `TemporalVAE.decode` has them."""
        if z.ndim != 5:
            raise ValueError(
                f"the latents are {list(z.shape)}, expected [B, C, F, h, w]: make them with VidRD Empty Clip"
            )
        return self.vae.decode(z * SCALE, chunk=together(self.vae, z.shape))

    def encode(self, video: Tensor, **_: Any) -> Tensor:
        """[B, 3, F, H, W] in -1 .. 1 -> latents [B, C, F, h, w]. The encoder sees each frame alone."""
        return self.vae.encode(video, chunk=CHUNK) / SCALE


@dataclass(frozen=True)
class Look:
    """How many latents a decoder looks at around one, and how many frames each but the first stands for."""

    behind: int
    ahead: int
    ratio: int = 1


def look_of(vae: comfy.sd.VAE) -> Look:
    """How far a VAE's decoder looks: ours as its config says, others over time as far as is worth while."""
    inner = getattr(vae, "first_stage_model", None)
    if isinstance(inner, HostVAE):
        return Look(inner.vae.config.halo, inner.vae.config.halo)
    if decodes_pictures(vae):
        return Look(0, 0)
    return Look(BEHIND, 0, vae.temporal_compression_decode() or 1)


def decodes_pictures(vae: comfy.sd.VAE) -> bool:
    """Whether a VAE takes frames in a batch, [F, C, h, w], and knows nothing of time."""
    return getattr(vae, "latent_dim", 2) < 3


def together(vae: TemporalVAE, shape: Sequence[int]) -> int:
    """How many latents of [.., F, h, w] are decoded at a time."""
    height, width = shape[-2:]
    return min(CHUNK, vae.frames_at_once(height, width)) if vae.config.streams_exactly else CHUNK


def memory(
    config: VAEConfig, shape: Sequence[int], side: int, together: int, dtype: torch.dtype, kept: float = 0
) -> float:
    """Bytes that [.., F, h, w] take at most, `side` pixels each, with so many frames together and `kept` numbers a
    pixel of others."""
    frames, height, width = shape[-3:]
    pixels = height * width * side**2 / config.patch_size**2
    features = ACTIVATIONS * config.block_out_channels[0] * min(frames, together) + kept
    return pixels * (features * management.dtype_size(dtype) + frames * 3 * config.patch_size**2 * 4)


def kept(config: VAEConfig, frames: int) -> float:
    """Numbers per pixel that a decoder's Temp-Convs keep of the frames before: three for each of their convs."""
    if not config.streams_exactly:
        return 0
    widths = sum(width / 4**level for level, width in enumerate(config.block_out_channels))
    return (config.layers_per_block + 1) * min(frames, 3 * config.temp_conv_depth) * widths


def load_vae(path: Path) -> comfy.sd.VAE:
    """A VAE from a temporal VAE file. Raises FileNotFoundError, FormatError."""
    ops = Ops(comfy.ops.disable_weight_init, None, None)
    inner = load_temporal_vae(path, ops, attention)
    config = inner.config
    # The host tells VAEs by their keys. This one it knows is but a shell with all that its version expects in it.
    vae = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
    vae.first_stage_model = HostVAE(inner).eval().to(vae.vae_dtype)
    vae.disable_offload = False
    vae.latent_channels, vae.latent_dim, vae.output_channels = config.latent_channels, 3, config.in_channels
    side = config.downsampling
    vae.upscale_ratio = vae.downscale_ratio = (lambda frames: frames, side, side)
    vae.upscale_index_formula = vae.downscale_index_formula = (1, side, side)
    beside = 0 if config.streams_exactly else 2 * config.halo

    def decoding(shape: Sequence[int], dtype: torch.dtype) -> float:
        return memory(config, shape, side, together(inner, shape) + beside, dtype, kept(config, shape[-3]))

    vae.memory_used_decode = decoding
    vae.memory_used_encode = lambda shape, dtype: memory(config, shape, 1, CHUNK, dtype)
    vae.size = None
    vae.patcher = comfy.model_patcher.ModelPatcher(
        vae.first_stage_model, load_device=vae.device, offload_device=management.vae_offload_device()
    )
    vae.patcher.cached_patcher_init = (_load_patcher, (path,))  # how newer hosts copy it to another GPU
    return vae


def _load_patcher(path: Path) -> comfy.model_patcher.ModelPatcher:
    return load_vae(path).patcher


def empty_clip(width: int, height: int, frames: int, vae: Any = None) -> dict[str, Tensor]:
    """A LATENT of zeros, [1, C, F, h, w], of a clip of so many video frames.

    Raises ValueError for a size or a number of frames that the VAE cannot decode.
    """
    side, channels = (8, 4) if vae is None else (vae.spacial_compression_decode(), vae.latent_channels)
    for name, value in (("width", width), ("height", height)):
        if value % side:
            raise ValueError(f"{name} is {value}, expected a multiple of {side} pixels")
    ratio = 1 if vae is None else ratio_for(vae, frames)
    return {"samples": torch.zeros(1, channels, 1 + (frames - 1) // ratio, height // side, width // side)}


def ratio_for(vae: Any, frames: int) -> int:
    """How many frames a latent after the first stands for. Raises ValueError if a clip cannot have so many frames."""
    ratio = look_of(vae).ratio
    if (frames - 1) % ratio:
        fewer = 1 + (frames - 1) // ratio * ratio
        raise ValueError(
            f"frames is {frames}, but this VAE makes 1 frame of the first latent and {ratio} of each other one: give "
            f"{fewer} or {fewer + ratio}"
        )
    return ratio
