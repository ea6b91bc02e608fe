"""Forward order, and what else may hold new frames to those that are replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vidrd_core.baselines.base import Made, decoded
from vidrd_core.pipeline import VidRD
from vidrd_core.reuse import ReuseSettings, next_clip_noise
from vidrd_core.sample import Clip
from vidrd_core.sampling import Denoise, clip_generator
from vidrd_core.settings import SampleSettings
from vidrd_core.state import ClipState


def resampled(
    times: int,
    reuse: ReuseSettings,
    model: VidRD,
    text: str,
    clips: int,
    sample: SampleSettings,
) -> Made:
    """Forward order with RePaint's resampling (Lugmayr et al., 2022, Algorithm 1) in the first half of the steps.

    Each of these steps is taken `times` times: what it reached is noised again to where it began.
    """
    return Made(decoded(model, _resampled(times, reuse, model, text, clips, sample)), reuse)


def _resampled(
    times: int, reuse: ReuseSettings, model: VidRD, text: str, clips: int, sample: SampleSettings
) -> Iterator[Tensor]:
    """The latents that each clip shows."""
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
        trajectory, kept = _old_way(model, record, noise, sigmas, count), []
        for step in range(sample.steps):
            rounds = times if step < sample.steps // 2 else 1
            for again in range(rounds):
                x[:, :, :count] = trajectory[step]
                x0 = denoise(x, sigmas[step])
                x0[:, :, :count] = record[step][:, :, -count:]
                reached = x0 + (x - x0) * sigmas[step + 1] / sigmas[step]
                if again < rounds - 1:
                    spread = (sigmas[step] ** 2 - sigmas[step + 1] ** 2).sqrt()
                    x = reached + spread * torch.randn(x.shape, generator=generator)
            x = reached
            kept.append(x0[:, :, -record.shape[3] :].clone())
        record = torch.stack(kept)
        yield x[:, :, repeated:]


def _old_way(model: VidRD, record: Tensor, noise: Tensor, sigmas: Tensor, count: int) -> list[Tensor]:
    """What prompt frames were at each step of DDIM, [1, C, M, h, w] each, from their noise and predictions."""
    x = model.schedule.start(noise[:, :, :count], sigmas[0])
    way = []
    for step in range(len(sigmas) - 1):
        way.append(x)
        x0 = record[step][:, :, -count:]
        x = x0 + (x - x0) * sigmas[step + 1] / sigmas[step]
    return way


def reconstructed(
    weight: float, reuse: ReuseSettings, model: VidRD, text: str, clips: int, sample: SampleSettings
) -> Made:
    """Forward order with reconstruction guidance (Ho et al., Video Diffusion Models, 2022, 3.1, eq. 7).

    Predictions of new frames descend the gradient of how far those of prompt frames, which walk their old way as
    ever, are from the frames that these became.
    """

    def wrapped(denoise: Denoise, state: ClipState) -> Denoise:
        known, count = state.latents[:, :, -reuse.prompt_frames :].to(model.device), reuse.prompt_frames

        def guided(x: Tensor, sigma: Tensor) -> Tensor:
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                x0 = denoise(x, sigma)
                error = (x0[:, :, :count] - known).square().sum()
                (slope,) = torch.autograd.grad(error, x)
            x0 = x0.detach()
            # Their w alpha / 2, by z = alpha x: weight / 2 in the x of these solvers.
            x0[:, :, count:] -= weight / 2 * slope[:, :, count:]
            return x0

        return guided

    return _wrapped(wrapped, reuse, model, text, clips, sample)


def shown_clean(reuse: ReuseSettings, model: VidRD, text: str, clips: int, sample: SampleSettings) -> Made:
    """Forward order where the network sees prompt frames without noise, as some models are trained to."""

    def wrapped(denoise: Denoise, state: ClipState) -> Denoise:
        known = state.latents[:, :, -reuse.prompt_frames :].to(model.device)

        def clean(x: Tensor, sigma: Tensor) -> Tensor:
            x = x.clone()  # which the denoiser scales to variance 1
            x[:, :, : reuse.prompt_frames] = known * (1 + sigma**2).sqrt()
            x0 = denoise(x, sigma)
            x0[:, :, : reuse.prompt_frames] = known
            return x0

        return clean

    return _wrapped(wrapped, reuse, model, text, clips, sample)


def _wrapped(
    wrap: Callable[[Denoise, ClipState], Denoise],
    reuse: ReuseSettings,
    model: VidRD,
    text: str,
    clips: int,
    sample: SampleSettings,
) -> Made:
    """Forward order where the denoiser of each following clip is `wrap`ped."""

    def clips_made() -> Iterator[Clip]:
        clip = model.generate(text, reuse, **vars(sample))
        yield clip
        plain = model.denoiser
        for _ in range(1, clips):
            state = clip.state
            model.denoiser = lambda *given, state=state: wrap(plain(*given), state)  # type: ignore[method-assign]
            try:
                clip = model.extend(state, text, reuse, **vars(sample))
            finally:
                model.denoiser = plain  # type: ignore[method-assign]
            yield clip

    return Made(model.frames(clips_made()), reuse)
