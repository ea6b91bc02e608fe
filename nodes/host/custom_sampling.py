"""Reuse and Diffuse in parts, as ComfyUI's NOISE and SAMPLER, for SamplerCustomAdvanced."""

from __future__ import annotations

from typing import Any

import torch

from vidrd_core.presets import ReuseChoice
from vidrd_core.state import ClipState

from .audio_video import split_latent
from .latent_layout import clip_shape, timing_of
from .reuse_sampler import ReuseSampler
from .sample_clip import Latent, initial_noise, new_frames


class ReuseNoise:
    """A NOISE that gives z_T of a clip by Frame-level Noise Reversion and Past-dependent Noise Sampling.

    Args:
        seed: The seed that all clips of a video share.
        choice: What the clip reuses.
        previous: The state of the clip that it extends; None for a first clip.
    """

    def __init__(self, seed: int, choice: ReuseChoice, previous: ClipState | None) -> None:
        self.seed, self.choice, self.previous = seed, choice, previous

    def generate_noise(self, input_latent: Latent) -> Any:
        """Draw the initial noise z_T for a LATENT.

        Args:
            input_latent: A LATENT: video, or video and audio, of which only the shapes are used.

        Returns:
            Noise of unit variance with the shape of the latent's samples: a tensor, or a NestedTensor of video and
            audio.

        Raises:
            StateMismatchError: The latent's shape is not the state's.
            ValueError: The settings do not suit the model, or the state lacks what they need.
        """
        parts, guides = split_latent(input_latent), 0
        shape = clip_shape(tuple(parts[0].shape))
        if self.previous is not None:
            # What is longer than the previous clip has guide frames, or is refused by the guided sampler.
            guides = max(0, shape[2] - self.previous.frames) if parts[0].ndim == 5 else 0
            shape = (*shape[:2], shape[2] - guides, *shape[3:])
            self.previous.check_model(self.previous.model_signature, shape)
        made_with = {} if self.previous is None else self.previous.made_with
        settings, timing = self.choice.settings, timing_of(made_with)
        if self.previous is not None:
            settings = self.choice.resolve(shape[2], bool(made_with.get("compresses")), timing.cycle)
        return initial_noise(parts, self.seed, settings, self.previous, timing, guides)


def collect_state(sampler: Any, latent: Latent) -> tuple[Latent, ClipState]:
    """The result of the clip that a `ReuseSampler` sampled last.

    Args:
        sampler: The SAMPLER of Reuse & Diffuse Guidance.
        latent: The LATENT that SamplerCustomAdvanced made with it.

    Returns:
        The LATENT of the clip's new frames, and its state.

    Raises:
        ValueError: The sampler is another one, has sampled nothing yet, or its last clip is not this latent.
    """
    if not isinstance(sampler, ReuseSampler):
        raise ValueError("the sampler is not from Reuse & Diffuse Guidance: wire the one that made the clip")
    clip, state, made = split_latent(latent)[0], sampler.state, sampler.clip
    if state is None and sampler.unfinished:
        level = float(sampler.unfinished[-1].sigmas[-1])
        raise ValueError(
            f"the clip's schedule ends at noise level {level:.4g}, expected 0: sample its last steps with the same "
            "guided sampler, from this latent and with Disable Noise, or wire the whole sigmas"
        )
    if state is None or made is None:
        raise ValueError(
            "this Reuse & Diffuse Guidance has recorded no clip: wire its guided sampler into the "
            "SamplerCustomAdvanced that makes the latent; if it is, ComfyUI kept the clip but not the sampler: "
            "change the seed of Reuse & Diffuse Noise, so that the clip is sampled again"
        )
    if sampler.guides:
        clip = clip[:, :, : clip.shape[2] - sampler.guides]
    if clip.shape != made.shape or not torch.allclose(clip.cpu(), made, atol=1e-4):
        raise ValueError(
            "the latent is not the last clip that was made with this sampler: wire the output of its "
            "SamplerCustomAdvanced, and give each of these a Reuse & Diffuse Guidance of its own"
        )
    return new_frames(latent["samples"], sampler), state
