"""RePaint: forward order whose early steps are resampled, so that new frames harmonize with the replayed ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vidrd_core.baselines.base import LongVideo, LongVideoMethod, decode_latents
from vidrd_core.pipeline import VidRD
from vidrd_core.reuse import ReuseSettings, next_clip_noise
from vidrd_core.sampling import clip_generator, latents_of
from vidrd_core.settings import SampleSettings


@dataclass(frozen=True)
class RePaint(LongVideoMethod):
    """Forward order with RePaint's resampling in the first half of the steps; DDIM only.

    Each of these steps is taken several times: its result is noised again to the level where the step began.

    Args:
        times: How often each early step is taken, 1 or more; 1 is plain forward order.
        reuse: What a clip reuses from the one before.

    Source:
        Lugmayr et al., "RePaint", CVPR 2022, algorithm 1.
    """

    times: int
    reuse: ReuseSettings

    def generate(self, model: VidRD, text: str, clips: int, sample: SampleSettings) -> LongVideo:
        """See `LongVideoMethod.generate`."""
        return LongVideo(decode_latents(model, self._latents(model, text, clips, sample)), self.reuse)

    def _latents(self, model: VidRD, text: str, clips: int, sample: SampleSettings) -> Iterator[Tensor]:
        """The latents that each clip adds."""
        reuse = self.reuse
        first = model.generate(text, reuse, **vars(sample)).state
        yield first.latents
        noise, record, positions = first.noise, first.record, first.frame_positions
        sigmas = model.schedule.sigmas(sample.steps)
        count, repeated = reuse.prompt_frames, reuse.repeated_frames
        for index in range(1, clips):
            generator = clip_generator(sample.seed, index)
            noise = next_clip_noise(noise, reuse, generator)
            positions = reuse.frame_positions(len(positions), positions)
            denoise = model.denoiser(text, sample, positions)
            x = model.schedule.start(noise, sigmas[0])
            trajectory, kept = _recorded_trajectory(model, record, noise, sigmas, count), []
            for step in range(sample.steps):
                rounds = self.times if step < sample.steps // 2 else 1
                for round_ in range(rounds):
                    x[:, :, :count] = trajectory[step]
                    x0 = denoise(x, sigmas[step])
                    x0[:, :, :count] = record[step][:, :, -count:]
                    result = x0 + (x - x0) * sigmas[step + 1] / sigmas[step]
                    if round_ < rounds - 1:
                        spread = (sigmas[step] ** 2 - sigmas[step + 1] ** 2).sqrt()
                        x = result + spread * torch.randn(x.shape, generator=generator)
                x = result
                kept.append(x0[:, :, -record.shape[3] :].clone())
            record = torch.stack(kept)
            yield latents_of(x, sigmas)[:, :, repeated:]


def _recorded_trajectory(model: VidRD, record: Tensor, noise: Tensor, sigmas: Tensor, count: int) -> list[Tensor]:
    """The prompt frames [1, C, M, h, w] at each step of DDIM, from their noise and recorded predictions."""
    x = model.schedule.start(noise[:, :, :count], sigmas[0])
    trajectory = []
    for step in range(len(sigmas) - 1):
        trajectory.append(x)
        x0 = record[step][:, :, -count:]
        x = x0 + (x - x0) * sigmas[step + 1] / sigmas[step]
    return trajectory
