"""Sample one clip of any MODEL, first or following."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.model_management as management
import comfy.samplers
import comfy.utils
import torch
from torch import Tensor

from vidrd_core.beyond import following_noise
from vidrd_core.clip import clip_generator
from vidrd_core.presets import Rule
from vidrd_core.reuse import ReuseSettings
from vidrd_core.state import ClipState, check_following
from vidrd_core.travel import shares_of_frames

from .family import as_batch, clip_shape, family_of
from .progress import place, step_callback, tell
from .sampling import ReuseSampler

Latent = dict[str, Any]
SHOWN_BEFORE = "vidrd_past"  # in a LATENT: those shown before it, for a decoder that looks back


def samples_of(latent: Latent) -> Tensor:
    """The samples of a LATENT. Raises ValueError for video and audio in one."""
    samples = latent["samples"]
    if getattr(samples, "is_nested", False):
        raise ValueError("the latent holds video and audio together: separate them and wire the video's alone")
    return samples


def noise_for(shape: tuple[int, ...], seed: int, settings: ReuseSettings, before: ClipState | None) -> Tensor:
    """z_T of the clip that follows a state, or of a first one, [B, C, N, h, w]."""
    if before is None:
        return torch.randn(shape, generator=clip_generator(seed, 0))
    check_following(before, settings)
    opening = before.opening_noise if settings.loop == "close" else None
    return following_noise(before.noise, settings, clip_generator(seed, before.index + 1), opening=opening)


def frames_of(latent: Latent) -> int:
    """N."""
    return clip_shape(tuple(samples_of(latent).shape))[2]


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
    rule: Rule,
    before: ClipState | None = None,
    positive_before: Any = None,
) -> tuple[Latent, Latent, ClipState]:
    """The new frames of a clip, all of its frames, and the state to go on from.

    `positive_before` is the conditioning that fades out over the first frames of a clip that follows another.

    Raises ValueError, StateMismatchError before anything is sampled, DivergenceError if nothing came out.
    """
    image = samples_of(latent)
    channels = model.get_model_object("latent_format").latent_channels
    if image.shape[1] != channels:
        raise ValueError(
            f"the latent has {image.shape[1]} channels, this model takes {channels}: wire this model's VAE into "
            f"VidRD Empty Clip, and that latent in here"
        )
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)
    sampler = ReuseSampler(comfy.samplers.sampler_object(sampler_name), before, rule)
    sampler.check(model, tuple(image.shape), sigmas)
    dim = family_of(model).frame_dim
    guider = comfy.samplers.CFGGuider(model)
    if positive_before is not None and before is not None:
        shares = shares_of_frames(sampler.settings, clip_shape(tuple(image.shape))[2])
        positive = cross_faded(positive_before, positive, shares, tuple(image.shape))
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    try:
        whole = guider.sample(
            as_batch(noise_for(clip_shape(tuple(image.shape)), seed, sampler.settings, before), dim),
            image,
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


def new_frames(whole: Tensor, sampler: ReuseSampler) -> Latent:
    """What the sampler's last clip adds to the video, of all its latents."""
    assert sampler.state is not None
    state = sampler.state
    dim = 2 if whole.ndim == 5 else 0
    new = whole.narrow(dim, state.repeated, state.frames - state.closed - state.repeated)
    return {"samples": new, SHOWN_BEFORE: sampler.past}
