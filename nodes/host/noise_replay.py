"""The noise that the host's ancestral and SDE samplers add: recorded, and replayed for prompt frames."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import comfy.k_diffusion.sampling as k_diffusion
from torch import Tensor

from vidrd_core.reuse import StagedGuidance

from .audio_video import Streams

NoiseSampler = Callable[[Tensor, Tensor], Tensor]


def takes_noise(sampler: Any) -> bool:
    """Whether a SAMPLER accepts a noise sampler."""
    function = getattr(sampler, "sampler_function", None)
    return function is not None and "noise_sampler" in inspect.signature(function).parameters


def stock_noise(sampler: Any, like: Tensor, sigmas: Tensor, seed: int | None) -> NoiseSampler:
    """The noise sampler that a SAMPLER of the host makes for itself."""
    name = sampler.sampler_function.__name__
    if name.startswith("sample_dpmpp") and "_sde" in name:
        on_cpu = not name.endswith("_gpu")
        return k_diffusion.BrownianTreeNoiseSampler(
            like, sigmas[sigmas > 0].min(), sigmas.max(), seed=seed, cpu=on_cpu
        )
    return k_diffusion.default_noise_sampler(like, seed=seed)


class ReplayedNoise:
    """A noise sampler in which prompt frames get the old clip's noise while they replay.

    Args:
        stock: The host's own noise sampler.
        streams: How video and sound are packed in one latent.
        guidances: The guidance of each stream, which records its noise and holds the old clip's.
    """

    def __init__(self, stock: NoiseSampler, streams: Streams, guidances: Sequence[StagedGuidance]) -> None:
        self.stock, self.streams, self.guidances = stock, streams, guidances

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        noise = zip(self.guidances, self.streams.split(self.stock(sigma, sigma_next)), strict=True)
        return self.streams.join([guidance.replay_step_noise(each) for guidance, each in noise])
