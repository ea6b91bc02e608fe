"""Sample one clip of any MODEL, first or following."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.model_management as management
import comfy.samplers
import comfy.utils
import torch
from torch import Tensor

from vidrd_core.presets import ReuseChoice
from vidrd_core.prompt_schedule import shares_of_frames
from vidrd_core.reuse import ReuseSettings, next_clip_noise
from vidrd_core.sampling import clip_generator
from vidrd_core.state import ClipState

from .audio_video import TOGETHER, Clock, check_sound, parts_of, together
from .latent_layout import as_batch, clip_shape, family_of
from .progress import place, step_callback, tell
from .reuse_sampler import ReuseSampler

Latent = dict[str, Any]
SHOWN_BEFORE = "vidrd_past"  # in a LATENT: those shown before it, for a decoder that looks back


def samples_of(latent: Latent) -> Tensor:
    """The samples of a LATENT. Raises ValueError for video and audio in one."""
    parts = parts_of(latent)
    if len(parts) > 1:
        raise ValueError(TOGETHER)
    return parts[0]


def noise_for(shape: tuple[int, ...], seed: int, settings: ReuseSettings, before: ClipState | None) -> Tensor:
    """z_T of the clip that follows a state, or of a first one, [B, C, N, h, w]."""
    if before is None:
        return torch.randn(shape, generator=clip_generator(seed, 0))
    before.check_first_clip(settings)
    first = before.first_clip_noise if settings.loop == "close" else None
    return next_clip_noise(before.noise, settings, clip_generator(seed, before.index + 1), first_clip_noise=first)


def all_noise(
    parts: Sequence[Tensor], seed: int, settings: ReuseSettings, before: ClipState | None, time_factor: int
) -> Any:
    """z_T for a LATENT's video, or its video and sound, as the host has them; see `noise_for`."""
    shape = clip_shape(tuple(parts[0].shape))
    noise = as_batch(noise_for(shape, seed, settings, before), 2 if parts[0].ndim == 5 else 0)
    if len(parts) == 1:
        return noise
    clock = Clock(shape[2], parts[1].shape[2], time_factor)
    # A seed of its own, or sound would begin with the video's noise.
    generator = clip_generator(clip_generator(seed, before.index + 1 if before else 0).initial_seed(), 1)
    if before is None:
        return together([noise, torch.randn(parts[1].shape, generator=generator)])
    check_sound(tuple(parts[1].shape), before)
    sound = next_clip_noise(before.sound_noise, clock.settings(settings), generator)
    return together([noise, sound[..., 0]])


def frames_of(latent: Latent) -> int:
    """N."""
    return clip_shape(tuple(parts_of(latent)[0].shape))[2]


def sample_clip(
    model: Any,
    positive: Any,
    negative: Any,
    latent: Latent,
    *,
    seed: int,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    choice: ReuseChoice,
    before: ClipState | None = None,
    positive_before: Any = None,
) -> tuple[Latent, Latent, ClipState]:
    """The new frames of a clip, all of its frames, and the state to go on from.

    `positive_before` is the conditioning that fades out over the first frames of a clip that follows another.

    Raises ValueError, StateMismatchError before anything is sampled, DivergenceError if nothing came out.
    """
    parts = parts_of(latent)
    image = parts[0]
    channels = model.get_model_object("latent_format").latent_channels
    if image.shape[1] != channels:
        raise ValueError(
            f"the latent has {image.shape[1]} channels, this model takes {channels}: wire this model's VAE into "
            f"VidRD Empty Clip, and that latent in here"
        )
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)
    sampler = ReuseSampler(comfy.samplers.sampler_object(sampler_name), before, choice)
    sampler.check(model, tuple(image.shape), sigmas)
    guider = comfy.samplers.CFGGuider(model)
    if positive_before is not None and before is not None:
        shares = shares_of_frames(sampler.settings, clip_shape(tuple(image.shape))[2])
        positive = cross_faded(positive_before, positive, shares, tuple(image.shape))
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    try:
        whole = guider.sample(
            all_noise(parts, seed, sampler.settings, before, family_of(model).time_factor),
            latent["samples"],
            sampler,
            sigmas,
            denoise_mask=latent.get("noise_mask"),
            callback=step_callback(model, len(sigmas) - 1),
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=seed,
        ).to(management.intermediate_device())
    except management.InterruptProcessingException:
        tell("stopped; Run makes this clip anew and goes on", place())
        raise
    state = sampler.state
    assert state is not None
    return new_frames(whole, sampler), {"samples": whole}, state


def cross_faded(old: Any, new: Any, shares: Sequence[float], shape: tuple[int, ...]) -> Any:
    """One conditioning of two, by masks over frames: of frame j, `shares[j]` of the new. `shape` is the latents'."""
    height, width = shape[-2:]
    share = torch.tensor(shares)[:, None, None].expand(-1, height, width)
    faded = []
    for conditioning, mask in ((old, 1 - share), (new, share)):
        for text, options in conditioning:
            if "mask" in options:
                raise ValueError(
                    "a masked conditioning cannot fade in or out: take the mask off, or leave positive_before unwired"
                )
            faded.append([text, {**options, "mask": mask, "mask_strength": 1.0, "set_area_to_bounds": False}])
    return faded


def new_frames(whole: Any, sampler: ReuseSampler) -> Latent:
    """What the sampler's last clip adds to the video, of all its latents."""
    assert sampler.state is not None
    state = sampler.state
    video, *sound = parts_of({"samples": whole})
    dim = 2 if video.ndim == 5 else 0
    new = [video.narrow(dim, state.repeated, state.frames - state.closed - state.repeated)]
    if sound:
        assert sampler.sound_settings is not None
        shown = sampler.sound_settings.repeated_frames if state.repeated else 0
        new.append(sound[0][:, :, shown:])
    return {"samples": together(new), SHOWN_BEFORE: sampler.past}
