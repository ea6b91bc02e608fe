"""Ways to a long video from a model of short clips: ours, the paper's, and what others do, over one model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from vidrd_core.baselines.base import Candidate, Made
from vidrd_core.baselines.context_windows import windowed
from vidrd_core.baselines.guided import reconstructed, resampled, shown_clean
from vidrd_core.pipeline import VidRD
from vidrd_core.reuse import ReuseSettings, StagedGuidance
from vidrd_core.sampling import SOLVERS, clip_generator
from vidrd_core.settings import SampleSettings
from vidrd_core.video.tensors import to_frames, to_video


def chained(reuse: ReuseSettings, model: VidRD, text: str, clips: int, sample: SampleSettings) -> Made:
    """Reuse and Diffuse, by these settings."""
    return Made(model.frames(model.stream(text, clips, reuse, **vars(sample))), reuse)


def independent(model: VidRD, text: str, clips: int, sample: SampleSettings) -> Made:
    """Clips that know nothing of each other, of seeds of their own."""
    videos = []
    for index in range(clips):
        seed = clip_generator(sample.seed, index).initial_seed()
        clip = model.generate(text, **vars(replace(sample, seed=seed)))
        videos.append(model.frames(clip))
    return Made(np.concatenate(videos), ReuseSettings(0, 0.0, order="forward", noise="fresh"))


def through_pixels(goes_on: bool, model: VidRD, text: str, clips: int, sample: SampleSettings) -> Made:
    """Each clip starts from the last picture of the one before, encoded again, which is held at every step.

    If `goes_on`, frames are told that they follow the picture's moment; else that the clip begins with it.
    """
    reuse = ReuseSettings(1, 0.0, order="forward", noise="fresh")
    first = model.generate(text, reuse, **vars(sample)).state
    videos = [model.frames(first)]
    frames, positions = first.frames, first.frame_positions
    sigmas = model.schedule.sigmas(sample.steps)
    for index in range(1, clips):
        picture = to_video(videos[-1][None, -1:], model.device)
        held = model.vae.encode(picture)
        if goes_on:
            positions = reuse.frame_positions(frames, positions)
        noise = torch.randn(first.noise.shape, generator=clip_generator(sample.seed, index))
        guidance = StagedGuidance(
            model.denoiser(text, sample, positions),
            reuse,
            sample.steps,
            held[None].expand(2 * sample.steps, *held.shape),
        )
        start = model.schedule.start(noise.to(model.device), sigmas[0])
        latents = SOLVERS[sample.solver](guidance, start, sigmas.to(model.device), guidance.on_step)
        videos.append(to_frames(model.vae.decode(latents)[0])[1:])
    return Made(np.concatenate(videos), reuse)


def candidates(frames: int, prompted: str = "") -> list[Candidate]:
    """Every method at the settings among which its best is looked for, for clips of N = `frames` frames.

    `prompted` is a model that was trained with prompt frames kept clean, if there is one.
    """
    quarter, half = max(1, frames // 4), max(1, frames // 2)

    def rule(method: str, setting: str, **values: object) -> Candidate:
        return Candidate(method, setting, partial(chained, ReuseSettings(**values)))  # type: ignore[arg-type]

    m = min(4, half)
    clean = partial(shown_clean, ReuseSettings(quarter, order="forward"))
    return [
        rule("paper (mirror)", f"M={m} alpha=4 beta=0.4", prompt_frames=m),
        rule("paper (mirror)", f"M={m} alpha=1 beta=0.4", prompt_frames=m, alpha=1.0),
        rule("paper (mirror)", f"M={quarter} alpha=1 beta=0.8", prompt_frames=quarter, alpha=1.0, beta=0.8),
        rule("mirror, soft release", f"M={m} alpha=4 beta=0.4", prompt_frames=m, release="soft"),
        rule("mirror, soft release", f"M={m} alpha=1 beta=0.4", prompt_frames=m, alpha=1.0, release="soft"),
        *(
            rule("forward", f"M={quarter} {noise} alpha={alpha:g}", prompt_frames=quarter, order="forward",
                 noise=noise, alpha=alpha)
            for noise, alpha in (("pns", 4.0), ("pns", 1.0), ("fresh", 4.0), ("shuffle", 4.0), ("lowpass", 4.0))
        ),
        *(
            rule("forward, anchored", f"M={quarter} shuffle alpha=4 drift={anchor:g}", prompt_frames=quarter,
                 order="forward", noise="shuffle", anchor=anchor)
            for anchor in (0.25, 0.5, 1.0)
        ),
        *(
            Candidate(method, f"stride={stride} {told}", partial(windowed, stride, free, told == "by moment"))
            for method, free in (("FreeNoise windows", True), ("context windows, averaged", False))
            for stride in (half, frames - quarter) for told in ("by moment", "each from 0")
        ),
        Candidate("forward, resampled (RePaint)", f"M={quarter} pns alpha=4, early steps twice",
                  partial(resampled, 2, ReuseSettings(quarter, order="forward"))),
        *(
            Candidate("forward, reconstruction guidance", f"M={quarter} pns alpha=4, weight {weight:g}",
                      partial(reconstructed, weight, ReuseSettings(quarter, order="forward")))
            for weight in (1.0, 2.0, 5.0)
        ),
        Candidate("forward, prompt frames shown clean", f"M={quarter} pns alpha=4, model as it is", clean),
        *([Candidate("forward, trained with clean prompt frames", f"M={quarter} pns alpha=4", clean, prompted)]
          if prompted else []),
        Candidate("last frame, through pixels", "told to go on", partial(through_pixels, True)),
        Candidate("last frame, through pixels", "told to begin", partial(through_pixels, False)),
        Candidate("independent clips", "", independent),
    ]  # fmt: skip
