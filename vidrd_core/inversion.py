"""DDIM inversion: the denoising trajectory that real footage might have had, so that a clip can extend it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vidrd_core.reuse import is_whole
from vidrd_core.sampling import Denoise

ITERATIONS = 3  # fixed-point iterations a step, each with one model call


@torch.no_grad()
def invert(
    denoise: Denoise,
    latents: Tensor,
    sigmas: Tensor,
    iterations: int = ITERATIONS,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Compute the noisy latents at each noise level from clean ones, by DDIM inversion.

    Each step solves, by fixed-point iteration, for the x from which a DDIM step gives the current one.

    Args:
        denoise: `denoise(x, sigma) -> x0`.
        latents: Clean latents, of any shape.
        sigmas: The schedule, falling to 0, [T + 1].
        iterations: Fixed-point iterations; 1 is the usual approximation.
        on_step: `on_step(steps done, x)`.

    Returns:
        The trajectory [T + 1, ...], from the noisiest latents to the clean ones.

    Source:
        Song et al., 2021, section 4.3; fixed-point iteration: Pan et al., 2023.
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
    """The straight line [T + 1, ...] from `start` at the highest noise level to `latents` at the last, both [...]."""
    share = ((sigmas - sigmas[-1]) / (sigmas[0] - sigmas[-1])).view(-1, *[1] * latents.ndim).to(latents)
    return latents + share * (start - latents)


def predictions(path: Tensor, sigmas: Tensor) -> Tensor:
    """The x0 [T, ...] that take DDIM along a trajectory [T + 1, ...]; the last one is where it ends."""
    shape = (-1, *[1] * (path.ndim - 1))
    now, later = sigmas[:-1].view(shape).to(path), sigmas[1:].view(shape).to(path)
    return path[:-1] - now * (path[:-1] - path[1:]) / (now - later)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Footage as if it had been sampled as a clip.

    Args:
        noise: z_T [B, C, N, h, w], of unit variance.
        latents: The clip [B, C, N, h, w].
        predictions: x0 at each model call [calls, B, C, N, h, w].
        call_sigmas: The sigma of each call [calls].
        still: How many of the first frames repeat the first frame of the footage.
    """

    noise: Tensor
    latents: Tensor
    predictions: Tensor
    call_sigmas: Tensor
    still: int


def trajectory_of(
    latents: Tensor,
    sigmas: Tensor,
    frames: int | None,
    denoise: Denoise | None,
    flow: bool,
    generator: torch.Generator | None,
    call_sigmas: Tensor | None,
    on_step: Callable[[int, Tensor], None] | None,
) -> Trajectory:
    """The trajectory of footage; arguments and errors are those of `ClipState.from_latents`."""
    if latents.ndim != 5 or 0 in latents.shape or not latents.isfinite().all():
        raise ValueError(f"the latents are {list(latents.shape)}, expected finite numbers [B, C, F, h, w]")
    count = latents.shape[2] if frames is None else frames
    if not is_whole(count) or count < 2:
        raise ValueError(f"frames is {count!r}, expected a whole number, 2 or more")
    latents = latents[:, :, -count:].float()
    still = count - latents.shape[2]
    latents = torch.cat([latents[:, :, :1].expand(-1, -1, still, -1, -1), latents], dim=2)
    scale = float(sigmas[0]) if flow else float((1 + sigmas[0] ** 2).sqrt())
    ended = latents * float((1 + sigmas[-1] ** 2).sqrt())
    if denoise is None:
        start = torch.randn(latents.shape, generator=generator).to(latents) * scale
        path = noised(ended, start, sigmas)
    else:
        path = invert(denoise, ended, sigmas, on_step=on_step)
        # With few steps the noise that is found is too weak to sample from: it is scaled to unit variance.
        dims = (1, 2, 3, 4)
        start = (path[0] - path[0].mean(dims, keepdim=True)) / path[0].std(dims, keepdim=True) * scale
    called = sigmas[:-1] if call_sigmas is None else call_sigmas
    nearest = [int((sigmas[:-1] - sigma).abs().argmin()) for sigma in called]
    found = predictions(path, sigmas)[nearest].cpu()
    return Trajectory(start.cpu() / scale, latents.cpu(), found, called.cpu().clone(), still)
