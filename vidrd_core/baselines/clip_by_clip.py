"""Clip by clip: Reuse and Diffuse itself, chaining through the last frame, and independent clips."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from vidrd_core.baselines.base import LongVideo, LongVideoMethod
from vidrd_core.pipeline import VidRD
from vidrd_core.reuse import ReuseSettings, StagedGuidance
from vidrd_core.sampling import SOLVERS, clip_generator, latents_of
from vidrd_core.settings import SampleSettings
from vidrd_core.video.tensors import decoded_frames, to_video


@dataclass(frozen=True)
class ReuseAndDiffuse(LongVideoMethod):
    """Reuse and Diffuse.

    Args:
        reuse: What a clip reuses from the one before.
    """

    reuse: ReuseSettings

    def generate(self, model: VidRD, text: str, clips: int, sample: SampleSettings) -> LongVideo:
        """See `LongVideoMethod.generate`."""
        return LongVideo(model.frames(model.stream(text, clips, self.reuse, **vars(sample))), self.reuse)


@dataclass(frozen=True)
class IndependentClips(LongVideoMethod):
    """Clips with nothing in common but the prompt, each with a seed of its own."""

    def generate(self, model: VidRD, text: str, clips: int, sample: SampleSettings) -> LongVideo:
        """See `LongVideoMethod.generate`."""
        videos = []
        for index in range(clips):
            seed = clip_generator(sample.seed, index).initial_seed()
            clip = model.generate(text, **vars(replace(sample, seed=seed)))
            videos.append(model.frames(clip))
        return LongVideo(np.concatenate(videos), ReuseSettings(0, 0.0, order="forward", noise="fresh"))


@dataclass(frozen=True)
class LastFrameChaining(LongVideoMethod):
    """Each clip starts from the last decoded frame of the one before, encoded again and held at every step.

    Args:
        continue_positions: Frame positions continue after that frame's; otherwise each clip starts at 0.
    """

    continue_positions: bool

    def generate(self, model: VidRD, text: str, clips: int, sample: SampleSettings) -> LongVideo:
        """See `LongVideoMethod.generate`."""
        reuse = ReuseSettings(1, 0.0, order="forward", noise="fresh")
        first = model.generate(text, reuse, **vars(sample)).state
        videos = [model.frames(first)]
        frames, positions = first.frames, first.frame_positions
        sigmas = model.schedule.sigmas(sample.steps, sample.solver).to(model.device)
        for index in range(1, clips):
            picture = to_video(videos[-1][None, -1:], model.device)
            held = model.vae.encode(picture)
            if self.continue_positions:
                positions = reuse.frame_positions(frames, positions)
            noise = torch.randn(first.noise.shape, generator=clip_generator(sample.seed, index))
            guidance = StagedGuidance(
                model.denoiser(text, sample, positions),
                reuse,
                sample.steps,
                held[None].expand(2 * sample.steps, *held.shape),
            )
            start = model.schedule.start(noise.to(model.device), sigmas[0], sample.solver)
            latents = latents_of(SOLVERS[sample.solver](guidance, start, sigmas, guidance.on_step), sigmas)
            videos.append(decoded_frames(model.vae.decode(latents)[0])[1:])
        return LongVideo(np.concatenate(videos), reuse)
