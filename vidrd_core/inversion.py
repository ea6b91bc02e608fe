"""The denoising trajectory that real footage might have had, so that a clip can go on from it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

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
