"""Noise that samplers add at each step: recorded and replayed for prompt frames, or drawn again by the same seed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import comfy.k_diffusion.sampling as k_diffusion
import torch
from torch import Tensor

from vidrd_core.reuse import StagedGuidance

from .audio_video import AudioVideoShapes

NoiseSampler = Callable[[Tensor, Tensor], Tensor]
"""`noise_sampler(sigma, sigma_next)`: noise of unit variance for the step between two noise levels."""


def accepts_noise_sampler(sampler: Any) -> bool:
    """Whether a SAMPLER's function takes a `noise_sampler` argument, as those that add noise do."""
    function = getattr(sampler, "sampler_function", None)
    return function is not None and "noise_sampler" in inspect.signature(function).parameters


def stock_noise_sampler(sampler: Any, x: Tensor, sigmas: Tensor, seed: int | None) -> NoiseSampler:
    """Make the noise sampler that a SAMPLER of ComfyUI uses by default.

    Args:
        sampler: The SAMPLER.
        x: Latents, of the shape, dtype and device that the noise is to have.
        sigmas: The schedule, falling to 0, [T + 1].
        seed: The seed; None is random.

    Returns:
        The noise sampler, which draws noise of unit variance with the shape of `x`.

    Source:
        The `sample_*` functions in ComfyUI's comfy/k_diffusion/sampling.py: Brownian-tree noise for `dpmpp_*sde`, on
        the CPU unless the name ends in `_gpu`; independent noise for all others.
    """
    name = sampler.sampler_function.__name__
    if name.startswith("sample_dpmpp") and "_sde" in name:
        on_cpu = not name.endswith("_gpu")
        return k_diffusion.BrownianTreeNoiseSampler(x, sigmas[sigmas > 0].min(), sigmas.max(), seed=seed, cpu=on_cpu)
    return k_diffusion.default_noise_sampler(x, seed=seed)


class ReplayedNoise:
    """A noise sampler in which prompt frames get the old clip's noise while they replay.

    Args:
        stock: ComfyUI's own noise sampler.
        shapes: How video and audio are packed in one latent.
        guidances: The guidance of the video, and of the audio if there is any. Each records its noise, and holds the
            old clip's.
    """

    def __init__(self, stock: NoiseSampler, shapes: AudioVideoShapes, guidances: Sequence[StagedGuidance]) -> None:
        self.stock, self.shapes, self.guidances = stock, shapes, guidances

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        """The noise for the step from `sigma` to `sigma_next`, packed as the sampler's latents are."""
        stock = self.stock(sigma, sigma_next)
        noise = zip(self.guidances, self.shapes.split(stock), strict=True)
        return self.shapes.join([guidance.replay_step_noise(each) for guidance, each in noise], stock)


def seed_generators(seed: int, shapes: AudioVideoShapes) -> None:
    """Bring torch's own generators, from which some samplers draw, to where RandomNoise leaves them.

    Args:
        seed: Of the clip.
        shapes: Of its latents.

    Source:
        ComfyUI's `comfy.sample.prepare_noise` seeds them all, and draws the noise of each part from the CPU's.
    """
    torch.manual_seed(seed)
    for shape in (shapes.video, shapes.audio):
        if shape is not None:
            torch.randn(shape)


def generator_states(device: torch.device) -> tuple[Tensor, ...]:
    """The state of torch's own generators: the CPU's, and that of a CUDA device."""
    return (torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else []))


def restore_generators(states: tuple[Tensor, ...], device: torch.device) -> None:
    """The inverse of `generator_states`."""
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state, device)
