"""VidRD's temporal VAE as ComfyUI's VAE, and the temporal context and compression of any VAE."""

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

from vidrd_core.io import safetensors
from vidrd_core.io.waiting import WaitingTensor
from vidrd_core.models.config import VAEConfig
from vidrd_core.models.load_parts import described_vae
from vidrd_core.models.load_parts import load_vae as load_temporal_vae
from vidrd_core.models.vae import TemporalVAE

from .audio_video import LatentTiming
from .model import SCALE, load_again
from .ops import HostOps, attention

CHUNK = 8  # frames that are decoded together
CONTEXT_LATENTS = 8  # previous latents decoded again as context for third-party causal VAEs; their influence fades
ACTIVATIONS = 17  # feature maps of full size in memory at once, as ComfyUI estimates for Stable Diffusion's VAE


class HostVAE(nn.Module):
    """TemporalVAE with the calls that ComfyUI expects of a VAE's network; latents have the scale of a LATENT.

    Args:
        vae: The VAE.
    """

    def __init__(self, vae: TemporalVAE) -> None:
        super().__init__()
        self.vae = vae

    def decode(self, z: Tensor, **_: Any) -> Tensor:
        """Decode latents in chunks.

        Args:
            z: Latents [B, C, F, h, w].

        Returns:
            Pixels [B, 3, F, H, W], about -1 to 1.

        Raises:
            ValueError: The latents have another number of dimensions.
        """
        if z.ndim != 5:
            raise ValueError(
                f"the latents are {list(z.shape)}, expected [B, C, F, h, w]: make them with VidRD Empty Clip"
            )
        return self.vae.decode(z * SCALE, chunk=latents_at_once(self.vae, z.shape))

    def encode(self, video: Tensor, **_: Any) -> Tensor:
        """Encode each frame alone.

        Args:
            video: Pixels [B, 3, F, H, W], -1 to 1.

        Returns:
            Latents [B, C, F, h, w].
        """
        return self.vae.encode(video, chunk=CHUNK) / SCALE


@dataclass(frozen=True)
class DecoderContext:
    """The temporal context of a VAE's decoder.

    Args:
        past: Previous latents that a frame depends on.
        future: Later latents that a frame depends on.
        timing: How many frames latents decode to. With a cycle, a decoder's context begins with one.
    """

    past: int
    future: int
    timing: LatentTiming

    def frames(self, latents: int, known: int) -> int:
        """How many frames `latents` decode to after the first `known` of them."""
        return self.timing.frames(latents) - self.timing.frames(known)

    def provisional(self, latents: int) -> int:
        """How many frames the last latents decode to that later ones change, of the last `latents` of a video."""
        return self.frames(latents, max(0, latents - self.future))

    def is_new_start(self, samples: Tensor, past: Tensor | WaitingTensor | None) -> bool:
        """Find whether new latents begin a video, so that the first one decodes to a single frame.

        Args:
            samples: The latents [B, C, F, h, w].
            past: The latents that their own video shows before them [B, C, P, h, w], as far as they are known.

        Returns:
            Whether they do, of a VAE that compresses time.
        """
        if self.timing.cycle:  # clips that go on begin within a cycle
            return samples.shape[2] % self.timing.cycle == self.future
        return self.timing.factor > 1 and past is not None and not past.shape[2]


def decoder_context(vae: comfy.sd.VAE) -> DecoderContext:
    """The temporal context of a VAE: exact for a VidRD VAE, and `CONTEXT_LATENTS` for third-party video VAEs."""
    inner = getattr(vae, "first_stage_model", None)
    if isinstance(inner, HostVAE):
        return DecoderContext(inner.vae.config.halo, inner.vae.config.halo, LatentTiming(1))
    if is_image_vae(vae):
        return DecoderContext(0, 0, LatentTiming(1))
    if type(inner).__name__ == "MiniMaxH3VideoVAE":  # decodes 5 latents with 2 of the next 5, and blends these two
        return DecoderContext(5, 2, LatentTiming(4, 5))
    return DecoderContext(CONTEXT_LATENTS, 0, LatentTiming(vae.temporal_compression_decode() or 1))


def check_latents(vae: Any, samples: Tensor) -> None:
    """Raise ValueError unless a VAE decodes latents [B, C, F, h, w] or [F, C, h, w] to pictures, if it is known."""
    if getattr(getattr(vae, "first_stage_model", vae), "output_sample_rate", None) is not None:
        raise ValueError("vae is one that decodes sound: wire the VAE of the pictures, and this one into audio_vae")
    if not isinstance(vae, comfy.sd.VAE):  # another pack's, which may state something else
        return
    shape, channels = list(samples.shape), vae.latent_channels
    if samples.shape[1] != channels or (samples.ndim == 4 and not is_image_vae(vae)):
        dims = "[F, C, h, w]" if is_image_vae(vae) else "[B, C, F, h, w]"
        raise ValueError(
            f"the latent has shape {shape}, this VAE decodes {dims} with {channels} channels: wire the model's own "
            "VAE, and of separated video and audio the video latent"
        )


def is_image_vae(vae: comfy.sd.VAE) -> bool:
    """Whether a VAE takes frames in the batch dimension [F, C, h, w] and has no temporal layers."""
    return getattr(vae, "latent_dim", 2) < 3


def latents_at_once(vae: TemporalVAE, shape: Sequence[int]) -> int:
    """How many latents of shape [..., F, h, w] are decoded together."""
    height, width = shape[-2:]
    return min(CHUNK, vae.frames_at_once(height, width)) if vae.config.streams_exactly else CHUNK


def memory_estimate(
    config: VAEConfig, shape: Sequence[int], scale: int, chunk: int, dtype: torch.dtype, cached: float = 0
) -> float:
    """Estimate the peak memory of encoding or decoding.

    Args:
        config: The VAE's shape.
        shape: The shape of the input [..., F, h, w].
        scale: Pixels along each side of one of its elements: 1 for pixels, the downsampling for latents.
        chunk: Frames that are computed together.
        dtype: The dtype of the weights.
        cached: Features a pixel that are kept of earlier chunks.

    Returns:
        Bytes.
    """
    frames, height, width = shape[-3:]
    pixels = height * width * scale**2 / config.patch_size**2
    features = ACTIVATIONS * config.block_out_channels[0] * min(frames, chunk) + cached
    return pixels * (features * management.dtype_size(dtype) + frames * 3 * config.patch_size**2 * 4)


def cached_features(config: VAEConfig, frames: int) -> float:
    """Features a pixel that a streaming decoder's Temp-Convs keep of earlier frames: three frames for each conv."""
    if not config.streams_exactly:
        return 0
    widths = sum(width / 4**level for level, width in enumerate(config.block_out_channels))
    return (config.layers_per_block + 1) * min(frames, 3 * config.temp_conv_depth) * widths


def load_vae(path: Path) -> comfy.sd.VAE:
    """Load a VAE from a file that `vidrd_core` reads.

    Args:
        path: A temporal or an image VAE, alone or in a checkpoint.

    Returns:
        A VAE of ComfyUI around a `HostVAE`.

    Raises:
        FileNotFoundError: There is no such file.
        FormatError: The file holds no VAE of a known format.
    """
    ops = HostOps(comfy.ops.disable_weight_init, None, None)
    inner = load_temporal_vae(path, ops, attention)
    config = inner.config
    # ComfyUI chooses a VAE by its keys. This is one of its smallest, which has every attribute that its version
    # expects; its network is replaced.
    vae = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
    vae.first_stage_model = HostVAE(inner).eval().to(vae.vae_dtype)
    vae.disable_offload = False
    vae.latent_channels, vae.latent_dim, vae.output_channels = config.latent_channels, 3, config.in_channels
    scale = config.downsampling
    vae.upscale_ratio = vae.downscale_ratio = (lambda frames: frames, scale, scale)
    vae.upscale_index_formula = vae.downscale_index_formula = (1, scale, scale)
    context = 0 if config.streams_exactly else 2 * config.halo

    def decoding(shape: Sequence[int], dtype: torch.dtype) -> float:
        chunk = latents_at_once(inner, shape) + context
        return memory_estimate(config, shape, scale, chunk, dtype, cached_features(config, shape[-3]))

    vae.memory_used_decode = decoding
    vae.memory_used_encode = lambda shape, dtype: memory_estimate(config, shape, 1, CHUNK, dtype)
    # What VAESave and CheckpointSave write, so that this pack's loader reads it.
    saved = {f"vae.{safetensors.DESCRIPTION}": safetensors.description(described_vae(inner)[1])}
    vae.get_sd = lambda: {**vae.first_stage_model.state_dict(), **saved}
    vae.size = None
    vae.patcher = comfy.model_patcher.ModelPatcher(
        vae.first_stage_model, load_device=vae.device, offload_device=management.vae_offload_device()
    )
    vae.patcher.cached_patcher_init = (load_again, (_load_patcher, path))
    return vae


def _load_patcher(path: Path) -> comfy.model_patcher.ModelPatcher:
    return load_vae(path).patcher


def empty_clip(width: int, height: int, frames: int, vae: Any = None) -> dict[str, Tensor]:
    """A LATENT of zeros for a clip.

    Args:
        width: Pixels across, a multiple of the VAE's downsampling.
        height: Pixels down, likewise.
        frames: Video frames; where the VAE compresses time, 1 more than a multiple of its time factor.
        vae: The VAE that will decode the clip; None is one like Stable Diffusion's.

    Returns:
        A LATENT with samples [1, C, N, h, w].

    Raises:
        ValueError: The VAE cannot decode to this size or number of frames.
    """
    side, channels = (8, 4) if vae is None else (vae.spacial_compression_decode(), vae.latent_channels)
    for name, value in (("width", width), ("height", height)):
        if value % side:
            raise ValueError(f"{name} is {value}, expected a multiple of {side} pixels")
    factor = 1 if vae is None else time_factor_for(vae, frames)
    return {"samples": torch.zeros(1, channels, 1 + (frames - 1) // factor, height // side, width // side)}


def time_factor_for(vae: Any, frames: int) -> int:
    """Frames that each latent after the first decodes to. Raises ValueError if no clip has `frames` frames."""
    timing = decoder_context(vae).timing
    if timing.cycle:
        raise ValueError(
            "this VAE's latents stand for 1, 4, 4, 4 and 4 frames in turn: wire the model's own empty latent, as "
            "Empty MiniMax H3 AV Latent"
        )
    factor = timing.factor
    if (frames - 1) % factor:
        fewer = 1 + (frames - 1) // factor * factor
        fitting = f"{fewer} or {fewer + factor}" if fewer > 1 else f"{fewer + factor}"
        raise ValueError(
            f"frames is {frames}, but this VAE decodes the first latent to 1 frame and each other one to {factor}: "
            f"give {fitting}"
        )
    return factor
