"""The parts of Reuse and Diffuse as the host's NOISE and SAMPLER."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vidrd_core.presets import Rule
from vidrd_core.state import ClipState

from .clips import Latent, new_frames, noise_for, samples_of
from .family import as_batch, clip_shape
from .sampling import ReuseSampler


class ReuseNoise:
    """The host's NOISE: z_T of the clip that follows a state, or of a first one."""

    def __init__(self, seed: int, rule: Rule, before: ClipState | None) -> None:
        self.seed, self.rule, self.before = seed, rule, before

    def generate_noise(self, input_latent: Latent) -> Tensor:
        """Noise like the latent's samples [B, C, F, h, w]. Raises ValueError, StateMismatchError."""
        samples = samples_of(input_latent)
        shape = clip_shape(tuple(samples.shape))
        if self.before is not None:
            self.before.check(self.before.model_signature, shape)
        compresses = self.before is not None and bool(self.before.made_with.get("compresses"))
        settings = self.rule.at(shape[2], compresses) if self.before is not None else self.rule.settings
        return as_batch(noise_for(shape, self.seed, settings, self.before), 2 if samples.ndim == 5 else 0)


def collect(sampler: Any, latent: Latent) -> tuple[Latent, ClipState]:
    """New frames and state of the clip that a ReuseSampler made last. Raises ValueError if it is not this one."""
    if not isinstance(sampler, ReuseSampler):
        raise ValueError("the sampler is not from Reuse & Diffuse Guidance: wire the one that made the clip")
    clip, state, made = samples_of(latent), sampler.state, sampler.clip
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
    return new_frames(clip, sampler), state
