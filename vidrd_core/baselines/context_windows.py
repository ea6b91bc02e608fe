"""All frames denoised at once, window by window: what others do for long videos."""

from __future__ import annotations

import torch
from torch import Tensor

from vidrd_core.baselines.base import Made, decoded
from vidrd_core.pipeline import VidRD
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sampling import SOLVERS, clip_generator
from vidrd_core.settings import SampleSettings


def windowed(
    stride: int, freenoise: bool, by_moment: bool, model: VidRD, text: str, clips: int, sample: SampleSettings
) -> Made:
    """All frames denoised at once, window by window; where windows overlap their predictions are averaged.

    Windows of N frames lie `stride` apart. `freenoise` (Qiu et al., ICLR 2024, 3.2, 3.3): later noise is the first
    window's, shuffled, and predictions weigh less towards a window's ends; else the noise is new throughout and all
    weigh alike. If `by_moment`, frames are told their moment modulo N, the same in each window; else 0 to N - 1.
    """
    _, channels, frames, height, width = model.latent_shape(sample)
    count = frames + stride * (clips - 1)
    noise = _long_noise((1, channels, count, height, width), frames, stride, freenoise, sample.seed)
    starts = [stride * index for index in range(clips)]
    each = torch.arange(frames)
    weight = torch.minimum(each + 1, frames - each).float() if freenoise else torch.ones(frames)
    weight = weight.view(1, 1, frames, 1, 1).to(model.device)
    denoisers = [
        model.denoiser(text, sample, [(start * by_moment + j) % frames for j in range(frames)]) for start in starts
    ]

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        total, weights = torch.zeros_like(x), torch.zeros_like(x[:, :1])
        for start, part in zip(starts, denoisers, strict=True):
            total[:, :, start : start + frames] += weight * part(x[:, :, start : start + frames], sigma)
            weights[:, :, start : start + frames] += weight
        return total / weights

    sigmas = model.schedule.sigmas(sample.steps)
    start = model.schedule.start(noise.to(model.device), sigmas[0])
    latents = SOLVERS[sample.solver](denoise, start, sigmas.to(model.device))
    video = decoded(model, latents.split(frames, dim=2))
    return Made(video, ReuseSettings(frames - stride, 0.0, order="forward"))


def _long_noise(shape: tuple[int, ...], window: int, stride: int, freenoise: bool, seed: int) -> Tensor:
    generator = clip_generator(seed, 0)
    noise = torch.randn(shape, generator=generator)
    if freenoise:
        for start in range(window, shape[2], stride):
            source = start - window + torch.randperm(stride, generator=generator)
            source = source[: shape[2] - start]
            noise[:, :, start : start + len(source)] = noise[:, :, source]
    return noise
