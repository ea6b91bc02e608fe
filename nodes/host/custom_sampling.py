"""The parts of Reuse and Diffuse as the host's NOISE and SAMPLER."""

from __future__ import annotations

from typing import Any

import torch

from vidrd_core.presets import ReuseChoice
from vidrd_core.state import ClipState

from .audio_video import TIME_FACTOR, parts_of
from .latent_layout import clip_shape
from .reuse_sampler import ReuseSampler
from .sample_clip import Latent, all_noise, new_frames


class ReuseNoise:
    """The host's NOISE: z_T of the clip that follows a state, or of a first one."""

    def __init__(self, seed: int, choice: ReuseChoice, before: ClipState | None) -> None:
        self.seed, self.choice, self.before = seed, choice, before

    def generate_noise(self, input_latent: Latent) -> Any:
        """Noise like the latent's samples: video, or video and sound. Raises ValueError, StateMismatchError."""
        parts = parts_of(input_latent)
        shape = clip_shape(tuple(parts[0].shape))
        if self.before is not None:
            self.before.check_model(self.before.model_signature, shape)
        compresses = self.before is not None and bool(self.before.made_with.get("compresses"))
        settings = self.choice.resolve(shape[2], compresses) if self.before is not None else self.choice.settings
        factor = TIME_FACTOR if self.before is None else int(self.before.made_with.get("time_factor", TIME_FACTOR))
        return all_noise(parts, self.seed, settings, self.before, factor)


def collect(sampler: Any, latent: Latent) -> tuple[Latent, ClipState]:
    """New frames and state of the clip that a ReuseSampler made last. Raises ValueError if it is not this one."""
    if not isinstance(sampler, ReuseSampler):
        raise ValueError("the sampler is not from Reuse & Diffuse Guidance: wire the one that made the clip")
    clip, state, made = parts_of(latent)[0], sampler.state, sampler.clip
    if state is None or made is None:
        raise ValueError(
            "what Reuse & Diffuse Guidance recorded is gone, as ComfyUI kept the clip but not the sampler: change "
            "the seed of Reuse & Diffuse Noise, so that the clip is made again"
        )
    if clip.shape != made.shape or not torch.allclose(clip.cpu(), made, atol=1e-4):
        raise ValueError(
            "the latent is not the last clip that was made with this sampler: wire the output of its "
            "SamplerCustomAdvanced, and give each of these a Reuse & Diffuse Guidance of its own"
        )
    return new_frames(latent["samples"], sampler), state
