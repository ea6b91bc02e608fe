"""Sampling clips, of one video or of several at once: what denoises, what leads it, and the states that come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from vidrd_core.clip import Clip, DivergenceError
from vidrd_core.following import correction, handed_on
from vidrd_core.model import Model
from vidrd_core.prompt_schedule import OVER_FRAMES, Fade, shares_of_frames
from vidrd_core.reuse import ReuseSettings, StagedGuidance
from vidrd_core.sampling import SOLVERS, Denoise, OnStep
from vidrd_core.settings import SampleSettings
from vidrd_core.state import ClipState


@torch.no_grad()
def sample_clips(
    model: Model,
    prompts: Sequence[str],
    samples: Sequence[SampleSettings],
    noise: Tensor,
    before: Sequence[ClipState],
    reuse: ReuseSettings,
    on_step: OnStep | None = None,
    nearest: bool = False,
    fade: Fade | None = None,
) -> list[Clip]:
    """The clips that start from noise [B, C, N, h, w], with a prompt and complete settings each, in one batch.

    The settings differ in their seeds alone. `before` are the states that they follow, of one schedule and with the
    same frames' numbers; none for first clips. Raises ValueError, UnknownWordError, DivergenceError.
    """
    sample, frames = samples[0], noise.shape[2]
    known = before[0].numbers if before else None
    if any(state.numbers != known for state in before) or any(
        (asdict(other) | {"seed": 0}) != (asdict(sample) | {"seed": 0}) for other in samples
    ):
        raise ValueError("clips that are made together have settings that are alike but for the seed")
    numbers = reuse.numbers(frames, known)
    sigmas = model.schedule.sigmas(sample.steps)
    closes = bool(before) and reuse.loop == "close"
    guidance = StagedGuidance(
        _denoiser(model, prompts, sample, numbers, fade, reuse),
        reuse,
        sample.steps,
        torch.cat([state.record for state in before], dim=1).to(model.device) if before else None,
        reuse.recorded_frames(frames),
        levels=before[0].levels if before and nearest else None,
        frames=frames,
        opening=torch.cat([state.opening for state in before], dim=1).to(model.device) if closes else None,
        correct=correction(before, reuse),
    )

    def step(i: int, x: Tensor) -> None:
        guidance.on_step(i, x)
        if on_step:
            on_step(i, x)

    start = model.schedule.start(noise.to(model.device), sigmas[0])
    latents = SOLVERS[sample.solver](guidance, start, sigmas.to(model.device), step).cpu()
    if not latents.isfinite().all():
        raise DivergenceError(
            f"the clip came out as no finite numbers, with cfg {sample.cfg:g}, {sample.solver} and "
            f"{sample.steps} steps: give a smaller cfg, or another solver or number of steps"
        )
    each = (
        noise.split(1),
        latents.split(1),
        *(t.split(1, dim=1) for t in (guidance.new_record(), guidance.new_opening())),
    )
    clips = []
    for i, (prompt, own, *tensors) in enumerate(zip(prompts, samples, *each, strict=True)):
        z_T, z_0, record, opening = (t if len(samples) == 1 else t.clone() for t in tensors)
        last = before[i] if before else None
        state = ClipState(
            noise=z_T,
            record=record,
            latents=z_0,
            past=last.tail(model.vae.config.halo) if last else z_0[:, :, :0],
            sigmas=sigmas,
            levels=guidance.new_levels(),
            injected=record[:0],  # these solvers add none
            index=last.index + 1 if last else 0,
            repeated=reuse.repeated_frames if last else 0,
            solver=own.solver,
            model_signature=model.signature,
            numbers=numbers,
            follows=last.fingerprint if last else "",
            **handed_on(last, z_T, opening),
            made_with={
                "prompt": prompt,
                **asdict(own),
                "reuse": asdict(reuse),
                **model.made_of(),
                **({"fade": list(fade)} if fade else {}),
            },
        )
        clips.append(Clip(prompt, state))
    return clips


def _denoiser(
    model: Model,
    prompts: Sequence[str],
    sample: SampleSettings,
    numbers: list[int],
    fade: Fade | None,
    reuse: ReuseSettings,
) -> Denoise:
    """That of clips, in which the prompt before may fade out."""
    if not (fade and fade[1] == OVER_FRAMES):
        return model.denoiser(prompts, sample, numbers, fade)
    old, new = (model.denoiser(each, sample, numbers) for each in ([fade[0]], prompts))
    share = torch.tensor(shares_of_frames(reuse, len(numbers)), device=model.device)[:, None, None]
    return lambda x, sigma: old(x, sigma).lerp(new(x, sigma), share)
