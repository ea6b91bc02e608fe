"""How a MODEL lays out its latents: in which dimension the frames are, and whether its VAE compresses time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .audio_video import TIME_FACTOR, LatentTiming
from .model import HostModel


@dataclass(frozen=True)
class LatentLayout:
    """The layout of a model's latents.

    Args:
        model_name: The model's class, prediction type and number of channels, for display and to compare states by.
        frame_dim: 2 for latents [B, C, N, h, w]; 0 for frames in the batch dimension [N, C, h, w], as AnimateDiff
            has them.
        compresses_time: Whether the first latent decodes to one frame and each other one to several (Wan, Hunyuan
            Video, LTXV, ...).
        timing: Which stretches of time its latents stand for, as far as the model states it.
        channels: Of the video's latents.
        with_audio: Whether the model takes video and audio together, and nothing else.
    """

    model_name: str
    frame_dim: int
    compresses_time: bool
    timing: LatentTiming
    channels: int
    with_audio: bool = False

    def metadata(self) -> dict[str, Any]:
        """What a state records of it, in `made_with`; `timing_of` reads it."""
        found = {"family": self.model_name, "compresses": self.compresses_time, "time_factor": self.timing.factor}
        more = {"time_cycle": self.timing.cycle, "audio_dim": self.timing.audio_dim} if self.timing.cycle else {}
        return {**found, **more}

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless latents of this shape are a clip of this layout with two frames or more."""
        if self.frame_dim == 2 and (len(shape) != 5 or shape[2] < 2):
            raise ValueError(
                f"the latent has shape {list(shape)}, expected [B, C, F, h, w] with two frames or more: make it with "
                f"VidRD Empty Clip, or encode several frames with VAE Encode"
            )
        if self.frame_dim == 0 and (len(shape) != 4 or shape[0] < 2):
            raise ValueError(
                f"the latent has shape {list(shape)}, but {self.model_name} takes frames in a batch, [F, C, h, w] "
                f"with two or more: make it with Empty Latent Image, its batch_size the frames of a clip"
            )


def layout_of(model: Any) -> LatentLayout:
    """The layout of a MODEL's latents. Raises ValueError for a model that does not start from noise."""
    inner = model.model
    if inner.model_type.name.startswith("IMG_TO_IMG"):  # FlowRVS
        raise ValueError(
            f"{type(inner).__name__} turns a given video into another one, without noise that clips could reuse: "
            f"sample it with KSampler, or load a model that generates video"
        )
    latent_format = model.get_model_object("latent_format")  # the inner one may be another clone's patch
    has_time = getattr(latent_format, "latent_dimensions", 2) == 3
    channels = latent_format.latent_channels
    name = f"{type(inner).__name__} ({inner.model_type.name.lower()}, {channels} channels)"
    # Every latent format of ComfyUI that has time compresses it.
    compresses = has_time and not isinstance(inner, HostModel)
    factors = getattr(inner.diffusion_model, "vae_scale_factors", (TIME_FACTOR,))
    timing, with_audio = LatentTiming(int(factors[0])), False
    if "MiniMaxH3" in [kind.__name__ for kind in type(inner).__mro__]:
        # Its format states the channels of the wider of two latents; its VAE decodes 5 latents to 17 frames.
        timing, with_audio = LatentTiming(4, 5, 3), True
        channels = inner.diffusion_model.latents_dim
    return LatentLayout(name, 2 if has_time else 0, compresses, timing, channels, with_audio)


def timing_of(made_with: dict[str, Any]) -> LatentTiming:
    """The timing of the model that made a state, by the state's `made_with`."""
    names = {"factor": "time_factor", "cycle": "time_cycle", "audio_dim": "audio_dim"}
    return LatentTiming(**{name: int(made_with[of]) for name, of in names.items() if of in made_with})


def to_clip_layout(latents: Tensor) -> Tensor:
    """Latents as states hold them, [B, C, N, h, w], from these or from frames in a batch [N, C, h, w]."""
    return latents if latents.ndim == 5 else latents.movedim(0, 1)[None]


def to_model_layout(clip: Tensor, frame_dim: int) -> Tensor:
    """Latents [..., B, C, N, h, w] in a model's layout; the dimensions before B stay."""
    return clip if frame_dim == 2 else clip.squeeze(-5).movedim(-3, -4)


def record_to_clip_layout(record: Tensor) -> Tensor:
    """As `to_clip_layout`, one for each call: [calls, B, C, R, h, w] from these or from [calls, R, C, h, w]."""
    return record if record.ndim == 6 else record.movedim(1, 2)[:, None]


def clip_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape [B, C, N, h, w] of latents of either layout."""
    return tuple(to_clip_layout(torch.empty(shape, device="meta")).shape)
