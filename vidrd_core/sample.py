"""One clip, or one clip each of several videos in a batch: from its noise to its latents and its state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidrd_core.anchoring import anchoring
from vidrd_core.model import Model
from vidrd_core.models.feature_cache import FeatureCache
from vidrd_core.prompt_schedule import OVER_FRAMES, Fade, shares_of_frames
from vidrd_core.reuse import ReuseSettings, StagedGuidance
from vidrd_core.sampling import (
    SOLVERS,
    Denoise,
    DivergenceError,
    OnStep,
    call_sigmas,
    clip_generator,
    latents_of,
    step_noise_generator,
)
from vidrd_core.settings import SampleSettings
from vidrd_core.state import ClipState
from vidrd_core.state_files import preview_of
from vidrd_core.video.tensors import to_video


@dataclass(frozen=True, eq=False)
class Clip:
    """One clip of a video.

    Args:
        prompt: What it shows.
        state: What the next clip continues from.
    """

    prompt: str
    state: ClipState

    @property
    def index(self) -> int:
        """The clip's number, from 0."""
        return self.state.index

    @property
    def latents(self) -> Tensor:
        """The latents that this clip adds to the video, [1, C, F, h, w]."""
        return self.state.shown


def states_of(clips: Clip | ClipState | Iterable[Clip | ClipState]) -> Iterator[ClipState]:
    """The states of one clip or several, one at a time."""
    for clip in [clips] if isinstance(clips, Clip | ClipState) else clips:
        yield clip.state if isinstance(clip, Clip) else clip


@torch.no_grad()
def sample_clips(
    model: Model,
    prompts: Sequence[str],
    samples: Sequence[SampleSettings],
    noise: Tensor,
    previous: Sequence[ClipState],
    reuse: ReuseSettings,
    on_step: OnStep | None = None,
    exact: bool = True,
    fade: Fade | None = None,
) -> list[Clip]:
    """Sample a batch of clips.

    Args:
        model: The model.
        prompts: B prompts.
        samples: B complete settings that differ in their seeds alone.
        noise: z_T [B, C, N, h, w].
        previous: The B states that the clips extend, of one schedule and with equal frame positions; none for first
            clips.
        reuse: What the clips reuse.
        on_step: `on_step(i, x)`, called at the end of each step.
        exact: Whether the old calls are replayed one by one, or else by the nearest sigma.
        fade: The previous prompt, and the share of the new one.

    Returns:
        B clips.

    Raises:
        ValueError: The settings differ in more than their seeds, or a prompt is not valid.
        UnknownWordError: The text encoder does not know a word.
        DivergenceError: The latents came out with NaN or infinity.
    """
    sample, frames = samples[0], noise.shape[2]
    known = previous[0].frame_positions if previous else None
    if any(state.frame_positions != known for state in previous) or any(
        (asdict(other) | {"seed": 0}) != (asdict(sample) | {"seed": 0}) for other in samples
    ):
        raise ValueError("clips of one batch need settings that are equal except for the seed")
    positions = reuse.frame_positions(frames, known)
    sigmas = model.schedule.sigmas(sample.steps, sample.solver).to(model.device)
    closes = bool(previous) and reuse.loop == "close"
    solver, index = SOLVERS[sample.solver], previous[0].index + 1 if previous else 0

    def batch(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(tensors), dim=1).to(model.device)

    replays_noise = bool(previous) and exact and solver.adds_noise
    denoise, caches = _denoiser(model, prompts, sample, positions, fade, reuse)

    def replay(frames: int) -> None:
        for cache in caches:
            cache.replay(frames)

    guidance = StagedGuidance(
        model.schedule.as_diffusers(denoise, sigmas, sample.solver),
        reuse,
        sample.steps,
        batch([state.record for state in previous]) if previous else None,
        reuse.recorded_frames(frames),
        call_sigmas=None if exact else previous[0].call_sigmas,
        frames=frames,
        first_clip_record=batch([state.first_clip_record for state in previous]) if closes else None,
        step_noise=batch([state.step_noise for state in previous]) if replays_noise else None,
        correct=anchoring(previous, reuse),
        before_call=replay if sample.prompt_interval > 1 else None,
    )
    generators = [step_noise_generator(own.seed, index) for own in samples]

    def noise_sampler(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        drawn = torch.cat([torch.randn((1, *noise.shape[1:]), generator=each) for each in generators])
        return guidance.replay_step_noise(drawn.to(model.device))

    def step(i: int, x: Tensor) -> None:
        guidance.on_step(i, x)
        if on_step:
            on_step(i, x)

    start = model.schedule.start(noise.to(model.device), sigmas[0], sample.solver)
    latents = latents_of(solver(guidance, start, sigmas, step, noise_sampler), sigmas).cpu()
    if not latents.isfinite().all():
        raise DivergenceError(
            f"the clip came out as no finite numbers, with cfg {sample.cfg:g}, {sample.solver} and "
            f"{sample.steps} steps: give a smaller cfg, or another solver or number of steps"
        )
    records = guidance.new_record(), guidance.new_first_clip_record(), guidance.new_step_noise()
    each = (noise.split(1), latents.split(1), *(t.split(1, dim=1) for t in records))
    clips = []
    for i, (prompt, own, *tensors) in enumerate(zip(prompts, samples, *each, strict=True)):
        # Cut out of a batch: what is kept of one clip must not keep the others in memory.
        z_T, z_0, record, first, added = (t if len(samples) == 1 else t.clone() for t in tensors)
        state = ClipState.of_clip(
            previous[i] if previous else None,
            reuse,
            noise=z_T,
            latents=z_0,
            record=record,
            first_clip_record=first,
            step_noise=added,
            sigmas=sigmas.cpu(),
            call_sigmas=guidance.new_call_sigmas(),
            solver=own.solver,
            model_signature=model.signature,
            frame_positions=positions,
            past_frames=model.vae.config.halo,
            made_with=_made_with(model, prompt, own, reuse, fade),
        )
        clips.append(Clip(prompt, state))
    return clips


def _made_with(
    model: Model, prompt: str, sample: SampleSettings, reuse: ReuseSettings, fade: Fade | None = None
) -> dict[str, Any]:
    """What a state records of how its clip was sampled."""
    return {
        "prompt": prompt,
        **sample.metadata(),
        "reuse": reuse.metadata(),
        **model.metadata(),
        **({"fade": list(fade)} if fade else {}),
    }


def _denoiser(
    model: Model,
    prompts: Sequence[str],
    sample: SampleSettings,
    frame_positions: list[int],
    fade: Fade | None,
    reuse: ReuseSettings,
) -> tuple[Denoise, list[FeatureCache]]:
    """The denoiser of clips in which the previous prompt may fade out over frames, and the caches of its networks."""
    caches = [FeatureCache(sample.prompt_interval, sample.deep_interval)]
    if not (fade and fade[1] == OVER_FRAMES):
        return model.denoiser(prompts, sample, frame_positions, fade, *caches), caches
    caches.append(replace(caches[0]))
    old, new = (
        model.denoiser(each, sample, frame_positions, cache=cache)
        for each, cache in zip(([fade[0]] * len(prompts), prompts), caches, strict=True)
    )
    share = torch.tensor(shares_of_frames(reuse, len(frame_positions)), device=model.device)[:, None, None]
    return lambda x, sigma: old(x, sigma).lerp(new(x, sigma), share), caches


@torch.no_grad()
def state_of_video(
    model: Model,
    video: NDArray[np.uint8],
    prompt: str,
    reuse: ReuseSettings,
    method: str,
    sample: SampleSettings,
    on_step: OnStep | None = None,
) -> ClipState:
    """The state of real footage; see `VidRD.state_from_video`."""
    if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or 0 in video.shape:
        raise ValueError(f"the video is {video.dtype} {list(video.shape)}, expected uint8 [F, H, W, 3]")
    if method not in ("inversion", "noise"):
        raise ValueError(f"method is {method!r}, expected 'inversion' or 'noise'")
    height, width = video.shape[1:3]
    sample = model.complete(replace(sample, width=width, height=height))
    frames = model.latent_shape(sample)[2]
    reuse.check_frames(frames)
    model.check_prompts([prompt])
    model.move_to_device("vae")
    pixels = to_video(video[None, -frames:], model.device)
    latents = model.vae.encode(pixels.to(next(model.vae.parameters()).dtype))
    sigmas, denoise = model.schedule.sigmas(sample.steps, sample.solver), None
    if method == "inversion":
        denoise = model.denoiser(prompt, replace(sample, cfg=1.0), list(range(frames)))
    state = ClipState.from_latents(
        latents,
        sigmas.to(latents.device),
        model.signature,
        frames=frames,
        denoise=denoise,
        flow=model.diffusion.prediction == "flow",
        generator=clip_generator(sample.seed, 0),
        solver=sample.solver,
        call_sigmas=call_sigmas(sample.solver, sigmas),
        keep=reuse.recorded_frames(frames),
        made_with=_made_with(model, prompt, sample, reuse),
        on_step=on_step,
    )
    return replace(state, preview=preview_of(video[-frames:]))
