"""Beyond the paper: other noise for new frames, and statistics kept from drifting."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vidrd_core.reuse import ReuseSettings, is_prompt, lowpass, past_dependent_noise

NOISE_CUT = 0.25  # of the highest frequency, over time and space: what "lowpass" keeps of the old noise (FreeInit's)
LEAST_STD = 1e-6


def following_noise(
    noise: Tensor,
    settings: ReuseSettings,
    generator: torch.Generator | None,
    frame_dim: int = 2,
    opening: Tensor | None = None,
) -> Tensor:
    """The z_T of a clip from that of the last one, by the settings' noise policy; of unit variance.

    `noise` [B, C, N, h, w], or with its N frames at `frame_dim`; so is what comes back. Prompt frames take the old
    noise over in every policy. `opening` is the first clip's noise of its first frames [B, C, P, h, w]: a clip that
    closes a loop ends with it. `generator` is one of the CPU. Raises ValueError unless M < N.
    """
    made = _policy(noise, settings, generator, frame_dim)
    if opening is not None and settings.loop == "close":
        frames = noise.shape[frame_dim]
        for frame, source, _ in settings.closing(frames, 1):
            made.select(frame_dim, frame).copy_(opening.select(frame_dim, source))
    return made


def _policy(noise: Tensor, settings: ReuseSettings, generator: torch.Generator | None, frame_dim: int) -> Tensor:
    if settings.noise == "pns":
        return past_dependent_noise(noise, settings, generator, frame_dim)
    frames = noise.shape[frame_dim]
    settings.check_frames(frames)
    prompt = is_prompt(settings, frames)
    source = torch.tensor(settings.source(frames))
    reused = noise.index_select(frame_dim, source.to(noise.device))
    eps = torch.randn(noise.shape, generator=generator, dtype=torch.float32).to(noise)
    level = 1 / math.hypot(1, settings.alpha)
    rho = settings.alpha * level
    if settings.noise == "fresh":
        mixed = eps
    elif settings.noise == "shuffle":
        others = source[~prompt]
        source[~prompt] = others[torch.randperm(len(others), generator=generator)]
        mixed = rho * noise.index_select(frame_dim, source.to(noise.device)) + level * eps
    else:
        mixed = _low_and_high(reused, eps, rho, (frame_dim, -2, -1))
    shape = [1] * noise.ndim
    shape[frame_dim] = frames
    return torch.where(prompt.to(noise.device).view(shape), reused, mixed)


def _low_and_high(old: Tensor, new: Tensor, rho: float, dims: tuple[int, ...]) -> Tensor:
    """Old noise at low frequencies, new noise at high ones. Their powers add up to 1 at each frequency.

    FreeInit (Wu et al., 2024, eq. 5 to 7) weighs them m and 1 - m, which loses power where they meet.
    """
    impulse = torch.zeros_like(old[:1, :1] if 1 not in dims and 0 not in dims else old[:, :1])
    impulse[(0,) * impulse.ndim] = 1.0
    kept = rho * torch.fft.fftn(lowpass(impulse, dims, NOISE_CUT), dim=dims).real
    added = (1 - kept.square()).clamp(min=0).sqrt()
    mixed = torch.fft.fftn(old, dim=dims) * kept + torch.fft.fftn(new, dim=dims) * added
    return torch.fft.ifftn(mixed, dim=dims).real.to(old.dtype)


def statistics(latents: Tensor, frame_dim: int = 2) -> Tensor:
    """Mean and standard deviation of each channel, [2, B, C], of latents [B, C, N, h, w]."""
    dims = (frame_dim, -2, -1)
    return torch.stack([latents.float().mean(dims), latents.float().std(dims)])


def draw_towards(wanted: Tensor, strength: float) -> Callable[[Tensor, float], None]:
    """What draws predictions [B, C, N, h, w] towards statistics [2, B, C], in place, the more the later the step.

    Early predictions are blurred and hold less contrast than a finished clip: they are left nearly as they are.
    """

    def correct(x0: Tensor, share: float) -> None:
        mean, std = wanted.to(x0)[:, :, :, None, None, None]
        own_mean, own_std = statistics(x0).to(x0)[:, :, :, None, None, None]
        matched = (x0 - own_mean) * (std / own_std.clamp(min=LEAST_STD)) + mean
        x0.lerp_(matched, strength * share)

    return correct
