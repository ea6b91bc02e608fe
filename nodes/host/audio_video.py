"""Video and sound in one latent: the host packs them for sampling, and Reuse and Diffuse takes them apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vidrd_core.reuse import ReuseSettings
from vidrd_core.state import ClipState, StateMismatchError

Shape = tuple[int, ...]
TIME_FACTOR = 8  # frames for which a latent stands: LTX-2's
TOGETHER = "the latent holds video and audio together: separate them and wire the video's alone"


@dataclass(frozen=True)
class Streams:
    """The shapes of a latent's video and, if it has some, its sound [B, C, T, f]."""

    video: Shape
    sound: Shape | None = None

    def split(self, latents: Tensor) -> list[Tensor]:
        """Video as it is, and sound as clips are, [B, C, T, f, 1], of latents that may be packed, [B, 1, L]."""
        if self.sound is None:
            return [latents]
        cut = math.prod(self.video[1:])
        video, sound = latents[:, :, :cut], latents[:, :, cut:]
        return [video.reshape(-1, *self.video[1:]), sound.reshape(-1, *self.sound[1:], 1)]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """What `split` took apart."""
        if self.sound is None:
            return parts[0]
        return torch.cat([part.reshape(len(part), 1, -1) for part in parts], dim=-1)


def parts_of(latent: dict[str, Any]) -> list[Tensor]:
    """The video of a LATENT, and its sound [B, C, T, f] if there is any. Raises ValueError for other streams."""
    samples = latent["samples"]
    if not getattr(samples, "is_nested", False):
        return [samples]
    parts = list(samples.unbind())
    if [part.ndim for part in parts] != [5, 4]:
        shapes = ", ".join(str(list(part.shape)) for part in parts)
        raise ValueError(f"the latent holds streams of shapes {shapes}, expected video alone, or with sound")
    return parts


def together(parts: Sequence[Tensor]) -> Any:
    """Video, or video and sound as the host has them in one."""
    if len(parts) == 1:
        return parts[0]
    from comfy.nested_tensor import NestedTensor  # older hosts have none

    return NestedTensor(parts)


def streams_of(guider: Any, noise: Tensor) -> Streams:
    """How the latents lie that a guider is about to sample. Raises ValueError where the host does not tell."""
    if noise.ndim != 3:
        return Streams(tuple(noise.shape))
    shapes = getattr(guider.inner_model, "latent_shapes", None)
    for conditions in guider.conds.values():
        for condition in conditions:
            told = condition.get("model_conds", {}).get("latent_shapes")
            shapes = shapes or getattr(told, "cond", None)
    if not shapes or [len(shape) for shape in shapes] != [5, 4]:
        raise ValueError(TOGETHER)
    return Streams(*(tuple(shape) for shape in shapes))


def check_sound(sound: Shape, before: ClipState) -> None:
    """Raise StateMismatchError unless sound of shape [B, C, T, f] can follow that of a state."""
    old = tuple(before.sound_noise.shape[:4])
    if old != sound:
        raise StateMismatchError(
            f"the latent has sound of shape {list(sound)}, the state has {list(old) if any(old) else 'none'}: wire "
            f"the latent that the clip before was made of"
        )


@dataclass(frozen=True)
class Clock:
    """N latents of video beside T moments of sound: the first latent is one frame, each other one `time_factor`."""

    frames: int
    moments: int
    time_factor: int

    def moment(self, latents: int) -> int:
        """The moment at which so many latents end."""
        if not latents:
            return 0
        return round(self.moments * self._length(latents) / self._length(self.frames))

    def _length(self, latents: int) -> int:
        return 1 + (latents - 1) * self.time_factor

    def settings(self, settings: ReuseSettings) -> ReuseSettings:
        """How sound takes over what the last clip's did: head and prompt frames end when those of the video do.

        Sound does not loop, nor drift.
        """
        warmup = self.moment(settings.first_prompt_frame)
        replayed = self.moment(settings.repeated_frames) - warmup
        return replace(settings, prompt_frames=replayed, warmup_latents=warmup, loop="none", anchor=0.0)

    def recorded(self, latents: int) -> int:
        """How many of the last moments go with so many of the last latents."""
        return self.moments - self.moment(self.frames - latents)
