"""The noise that ancestral and SDE samplers add between steps: recorded, and replayed for prompt frames."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import comfy.k_diffusion.sampling as k_diffusion
import torch
from torch import Tensor

from vidrd_core.reuse import StagedGuidance

from .audio_video import Streams

NoiseSampler = Callable[[Tensor, Tensor], Tensor]


def takes_noise(sampler: Any) -> bool:
    """Whether a SAMPLER lets its noise be given."""
    function = getattr(sampler, "sampler_function", None)
    return function is not None and "noise_sampler" in inspect.signature(function).parameters


def stock_noise(sampler: Any, like: Tensor, sigmas: Tensor, seed: int | None) -> NoiseSampler:
    """The noise that a sampler of the host makes for itself."""
    name = sampler.sampler_function.__name__
    if name.startswith("sample_dpmpp") and "_sde" in name:
        on_cpu = not name.endswith("_gpu")
        return k_diffusion.BrownianTreeNoiseSampler(
            like, sigmas[sigmas > 0].min(), sigmas.max(), seed=seed, cpu=on_cpu
        )
    return k_diffusion.default_noise_sampler(like, seed=seed)


class ReplayedNoise:
    """A noise sampler under which prompt frames get the old clip's noise for as long as they are led."""

    def __init__(self, stock: NoiseSampler, streams: Streams, parts: list[ReplayedPart]) -> None:
        self.stock, self.streams, self.parts = stock, streams, parts

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        noise = self.streams.split(self.stock(sigma, sigma_next))
        return self.streams.join([part.follow(each) for part, each in zip(self.parts, noise, strict=True)])


class ReplayedPart:
    """That of one stream: the clip, or its sound."""

    def __init__(self, guidance: StagedGuidance, old: Tensor | None) -> None:
        self.guidance, self.old = guidance, old
        self.kept: list[Tensor] = []

    def follow(self, noise: Tensor) -> Tensor:
        draw, guidance = len(self.kept), self.guidance
        dim = guidance.frame_dim
        if self.old is not None and draw < len(self.old):
            noise = noise.clone()
            for lead, source in zip(guidance.leads, guidance.sources, strict=False):  # those that close a loop: none
                if guidance.step < lead.steps:
                    noise.select(dim, lead.frame).copy_(self.old[draw].select(dim, source))
        last = noise.narrow(dim, noise.shape[dim] - guidance.keep, guidance.keep)
        self.kept.append(last.detach().cpu().clone())
        return noise

    def new(self, record: Tensor) -> Tensor:
        """The noise that was added to the last frames, [draws, B, C, R, h, w]."""
        return torch.stack(self.kept) if self.kept else record[:0]
