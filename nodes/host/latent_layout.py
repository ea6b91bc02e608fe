"""What kind of video model a MODEL is: where its frames lie, and whether its VAE compresses time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .audio_video import TIME_FACTOR
from .model import HostModel


@dataclass(frozen=True)
class Family:
    """A model's family in words, where the frames of its latents lie, and whether a latent stands for several.

    frame_dim   2 for latents [B, C, F, h, w], 0 for frames in a batch [F, C, h, w], as AnimateDiff has them
    compresses  the first latent stands for one frame, each other one for several (Wan, Hunyuan Video, LTXV, ...)
    time_factor for how many, as far as the model tells
    """

    name: str
    frame_dim: int
    compresses: bool
    time_factor: int

    def metadata(self) -> dict[str, Any]:
        """What states record of it."""
        return {"family": self.name, "compresses": self.compresses, "time_factor": self.time_factor}

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless latents of this shape are a clip of such a model."""
        if self.frame_dim == 2 and (len(shape) != 5 or shape[2] < 2):
            raise ValueError(
                f"the latent has shape {list(shape)}, expected [B, C, F, h, w] with two frames or more: make it with "
                f"VidRD Empty Clip, or encode several frames with VAE Encode"
            )
        if self.frame_dim == 0 and (len(shape) != 4 or shape[0] < 2):
            raise ValueError(
                f"the latent has shape {list(shape)}, but {self.name} takes frames in a batch, [F, C, h, w] with two "
                f"or more: make it with Empty Latent Image, its batch_size the frames of a clip"
            )


def family_of(model: Any) -> Family:
    """The family of a MODEL."""
    inner = model.model
    form = model.get_model_object("latent_format")  # the inner one may be another clone's patch
    has_time = getattr(form, "latent_dimensions", 2) == 3
    channels = form.latent_channels
    name = f"{type(inner).__name__} ({inner.model_type.name.lower()}, {channels} channels)"
    # Every format of the host that has time compresses it.
    factors = getattr(inner.diffusion_model, "vae_scale_factors", (TIME_FACTOR,))
    return Family(name, 2 if has_time else 0, has_time and not isinstance(inner, HostModel), int(factors[0]))


def as_clip(latents: Tensor) -> Tensor:
    """Latents as states have them, [B, C, F, h, w], of these or of frames in a batch."""
    return latents if latents.ndim == 5 else latents.movedim(0, 1)[None]


def as_batch(clip: Tensor, frame_dim: int) -> Tensor:
    """Latents [B, C, F, h, w] as a model has them; any dimensions before these stay."""
    return clip if frame_dim == 2 else clip.squeeze(-5).movedim(-3, -4)


def as_clips(record: Tensor) -> Tensor:
    """The same of several at once: [calls, B, C, R, h, w] of these or of [calls, R, C, h, w]."""
    return record if record.ndim == 6 else record.movedim(1, 2)[:, None]


def clip_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[B, C, F, h, w] of latents of any layout."""
    return tuple(as_clip(torch.empty(shape, device="meta")).shape)
