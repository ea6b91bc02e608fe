"""Ways to a long video from a model of short clips: ours, the paper's, and what others do, over one model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vidrd_core.beyond import following_noise
from vidrd_core.clip import Clip, clip_generator
from vidrd_core.evaluation.seams import Video
from vidrd_core.pipeline import VidRD
from vidrd_core.pixels import to_frames, to_video
from vidrd_core.reuse import ReuseSettings, StagedGuidance
from vidrd_core.sampling import SOLVERS, Denoise
from vidrd_core.settings import SampleSettings
from vidrd_core.state import ClipState

Method = Callable[[VidRD, str, int, SampleSettings], "Made"]
"""`method(model, text, clips, sample) -> Made`; `sample` is a complete one."""


@dataclass(frozen=True, eq=False)
class Made:
    """A long video uint8 [F, H, W, 3]; `reuse` says how its clips lie: how many frames of each repeat older ones."""

    video: Video
    reuse: ReuseSettings


@dataclass(frozen=True)
class Candidate:
    """A method at one setting."""

    method: str
    setting: str
    make: Method
    model: str = ""  # one of its own, if not that of all


@contextmanager
def frames_denoised(model: VidRD) -> Iterator[list[int]]:
    """Counts, in a list of one number, the frames that pass through the UNet, cond and uncond both.

    Gradients that go back through it count as another pass.
    """
    count = [0]

    def counted(_: object, given: tuple[Tensor, ...], output: Tensor) -> None:
        passed = output.shape[0] * output.shape[2]
        count[0] += passed

        def again(_: Tensor) -> None:
            count[0] += passed

        if output.requires_grad:
            output.register_hook(again)

    hook = model.unet.register_forward_hook(counted)
    try:
        yield count
    finally:
        hook.remove()


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
    frames, numbers = first.frames, first.numbers
    sigmas = model.schedule.sigmas(sample.steps)
    for index in range(1, clips):
        picture = to_video(videos[-1][None, -1:], model.device)
        held = model.vae.encode(picture)
        if goes_on:
            numbers = reuse.numbers(frames, numbers)
        noise = torch.randn(first.noise.shape, generator=clip_generator(sample.seed, index))
        guidance = StagedGuidance(
            model.denoiser(text, sample, numbers),
            reuse,
            sample.steps,
            held[None].expand(2 * sample.steps, *held.shape),
        )
        start = model.schedule.start(noise.to(model.device), sigmas[0])
        latents = SOLVERS[sample.solver](guidance, start, sigmas.to(model.device), guidance.on_step)
        videos.append(to_frames(model.vae.decode(latents)[0])[1:])
    return Made(np.concatenate(videos), reuse)


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
    with torch.no_grad():
        video = to_frames(model.vae.decode(latents)[0])
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
    first = model.generate(text, reuse, **vars(sample)).state
    latents, videos = first.latents, [first.latents]
    noise, record, numbers = first.noise, first.record, first.numbers
    sigmas = model.schedule.sigmas(sample.steps)
    count, repeated = reuse.prompt_frames, reuse.repeated_frames
    for index in range(1, clips):
        generator = clip_generator(sample.seed, index)
        noise = following_noise(noise, reuse, generator)
        numbers = reuse.numbers(len(numbers), numbers)
        denoise = model.denoiser(text, sample, numbers)
        x = model.schedule.start(noise, sigmas[0])
        trajectory, kept = _old_way(model, first.noise.shape, record, noise, sigmas, count), []
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
        record, latents = torch.stack(kept), x
        videos.append(latents[:, :, repeated:])
    with torch.no_grad():
        video = to_frames(model.vae.decode(torch.cat(videos, dim=2))[0])
    return Made(video, reuse)


def _old_way(
    model: VidRD, shape: tuple[int, ...], record: Tensor, noise: Tensor, sigmas: Tensor, count: int
) -> list[Tensor]:
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

    def chain() -> Iterator[Clip]:
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

    return Made(model.frames(chain()), reuse)


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
            rule("forward, anchored", f"M={quarter} pns alpha=4 drift={drift:g}", prompt_frames=quarter,
                 order="forward", drift=drift)
            for drift in (0.25, 0.5, 1.0)
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
