"""The denoising trajectory that real footage might have had, so that a clip can go on from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vidrd_core.reuse import is_whole
from vidrd_core.sampling import Denoise

ITERATIONS = 3  # fixed-point iterations a step: each takes a call of the model


@torch.no_grad()
def invert(
    denoise: Denoise,
    latents: Tensor,
    sigmas: Tensor,
    iterations: int = ITERATIONS,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """DDIM inversion (Song et al., 2021, 4.3): what `latents` were at each noise level, [T + 1, *latents.shape].

    `sigmas` [T + 1] fall to 0, as for sampling; so does what comes back. Each step solves for the x from which a DDIM
    step leads here, by `iterations` of fixed-point iteration (Pan et al., 2023): 1 is the usual approximation.
    `on_step` is told (steps done, x).
    """
    path = [latents]
    for step in range(len(sigmas) - 2, -1, -1):
        here, above = sigmas[step + 1], sigmas[step]
        x = guess = path[-1]
        for _ in range(iterations):
            guess = x + (guess - denoise(guess, above)) / above * (above - here)
        path.append(guess)
        if on_step:
            on_step(len(path) - 2, guess)
    return torch.stack(path[::-1])


def noised(latents: Tensor, start: Tensor, sigmas: Tensor) -> Tensor:
    """What `latents` are at each noise level if `start` is the noisiest: a straight line, [T + 1, *latents.shape]."""
    share = (sigmas / sigmas[0]).view(-1, *[1] * latents.ndim).to(latents)
    return latents + share * (start - latents)


def predictions(path: Tensor, sigmas: Tensor) -> Tensor:
    """The x0 at each step that lead DDIM along a path [T + 1, ...]: [T, ...]. The last one is where it ends."""
    shape = (-1, *[1] * (path.ndim - 1))
    now, later = sigmas[:-1].view(shape).to(path), sigmas[1:].view(shape).to(path)
    return path[:-1] - now * (path[:-1] - path[1:]) / (now - later)


def replayed(
    latents: Tensor,
    sigmas: Tensor,
    frames: int | None,
    denoise: Denoise | None,
    flow: bool,
    generator: torch.Generator | None,
    levels: Tensor | None,
    keep: int | None,
    on_step: Callable[[int, Tensor], None] | None,
) -> dict[str, Any]:
    """The parts of a `ClipState` that tell of footage as if a clip had been sampled; see `ClipState.from_latents`."""
    if latents.ndim != 5 or 0 in latents.shape or not latents.isfinite().all():
        raise ValueError(f"the latents are {list(latents.shape)}, expected finite numbers [B, C, F, h, w]")
    count = latents.shape[2] if frames is None else frames
    if not is_whole(count) or count < 2:
        raise ValueError(f"frames is {count!r}, expected a whole number, 2 or more")
    latents = latents[:, :, -count:].float()
    still = count - latents.shape[2]
    latents = torch.cat([latents[:, :, :1].expand(-1, -1, still, -1, -1), latents], dim=2)
    scale = float(sigmas[0]) if flow else float((1 + sigmas[0] ** 2).sqrt())
    if denoise is None:
        start = torch.randn(latents.shape, generator=generator).to(latents) * scale
        path = noised(latents, start, sigmas)
    else:
        path = invert(denoise, latents, sigmas, on_step=on_step)
        # Few steps find noise that is too weak, of which no clip would come: it is brought to unit variance.
        dims = (1, 2, 3, 4)
        start = (path[0] - path[0].mean(dims, keepdim=True)) / path[0].std(dims, keepdim=True) * scale
    kept = max(1, count // 2) if keep is None else min(keep, count)
    if not is_whole(kept) or kept < 1:
        raise ValueError(f"keep is {keep!r}, expected a whole number, 1 or more")
    called = sigmas[:-1] if levels is None else levels
    nearest = [int((sigmas[:-1] - level).abs().argmin()) for level in called]
    found = predictions(path, sigmas)[nearest].cpu()
    record, noise = found[:, :, :, count - kept :].clone(), start.cpu() / scale
    return {
        "noise": noise,
        "record": record,
        "latents": latents.cpu(),
        "past": latents[:, :, :still].cpu(),  # not shown, but as if: a decoder that looks back sees the still stand
        "sigmas": sigmas.cpu(),
        "levels": called.cpu().clone(),
        "injected": record[:0],
        "index": 0,
        "repeated": still,
        "numbers": list(range(count)),
        "opening_noise": noise[:, :, :kept].clone(),
        "opening": found[:, :, :, :kept].clone(),
    }
