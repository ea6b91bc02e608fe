"""Context windows and FreeNoise: all frames of a long video are denoised together in overlapping windows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vidrd_core.baselines.base import LongVideo, LongVideoMethod, decode_latents
from vidrd_core.pipeline import VidRD
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sampling import SOLVERS, clip_generator, latents_of
from vidrd_core.settings import SampleSettings


@dataclass(frozen=True)
class ContextWindows(LongVideoMethod):
    """Denoises all frames together in windows of N frames, and averages predictions where windows overlap.

    Args:
        stride: Frames from the start of a window to that of the next, 1 to N.
        freenoise: FreeNoise: later noise is the first window's, shuffled locally, and predictions weigh less towards
            the ends of a window. Otherwise all noise is new and all predictions weigh the same.
        global_positions: A frame has the same frame position in each window, its index modulo N. Otherwise every
            window has positions 0 to N - 1.

    Source:
        Qiu et al., "FreeNoise", ICLR 2024, 3.2 and 3.3.
    """

    stride: int
    freenoise: bool = False
    global_positions: bool = False

    def generate(self, model: VidRD, text: str, clips: int, sample: SampleSettings) -> LongVideo:
        """See `LongVideoMethod.generate`."""
        stride = self.stride
        _, channels, frames, height, width = model.latent_shape(sample)
        count = frames + stride * (clips - 1)
        shape = (1, channels, count, height, width)
        noise = window_noise(shape, frames, stride if self.freenoise else None, sample.seed)
        starts = [stride * index for index in range(clips)]
        each = torch.arange(frames)
        weight = torch.minimum(each + 1, frames - each).float() if self.freenoise else torch.ones(frames)
        weight = weight.view(1, 1, frames, 1, 1).to(model.device)
        denoisers = [
            model.denoiser(text, sample, [(start * self.global_positions + j) % frames for j in range(frames)])
            for start in starts
        ]

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            total, weights = torch.zeros_like(x), torch.zeros_like(x[:, :1])
            for start, part in zip(starts, denoisers, strict=True):
                total[:, :, start : start + frames] += weight * part(x[:, :, start : start + frames], sigma)
                weights[:, :, start : start + frames] += weight
            return total / weights

        sigmas = model.schedule.sigmas(sample.steps, sample.solver).to(model.device)
        x = model.schedule.start(noise.to(model.device), sigmas[0], sample.solver)
        latents = latents_of(SOLVERS[sample.solver](denoise, x, sigmas), sigmas)
        video = decode_latents(model, latents.split(frames, dim=2))
        return LongVideo(video, ReuseSettings(frames - stride, 0.0, order="forward"))


def window_noise(shape: tuple[int, ...], window: int, stride: int | None, seed: int) -> Tensor:
    """Noise of all frames of a long video.

    Args:
        shape: Of the noise, [1, C, F, h, w].
        window: N, frames of which the noise is new.
        stride: Later frames are those of the window before, shuffled among as many at a time, as in FreeNoise; None:
            all noise is new.
        seed: The seed.

    Returns:
        The noise, on the CPU.
    """
    generator = clip_generator(seed, 0)
    noise = torch.randn(shape, generator=generator)
    if stride is not None:
        for start in range(window, shape[2], stride):
            source = start - window + torch.randperm(stride, generator=generator)
            source = source[: shape[2] - start]
            noise[:, :, start : start + len(source)] = noise[:, :, source]
    return noise
