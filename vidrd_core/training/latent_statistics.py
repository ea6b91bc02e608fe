"""Mean and standard deviation of a VAE's latents, by which they are normalised."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from vidrd_core.models.vae import TemporalVAE
from vidrd_core.training.vae import ImageVAETask

MEASURED, AT_ONCE = 4096, 128  # frames


@torch.no_grad()
def measure_latents(vae: TemporalVAE, task: ImageVAETask) -> None:
    """Set the VAE's latent statistics, for each channel, from random frames of the task's data."""
    rng, means, device = np.random.default_rng(0), [], next(vae.parameters()).device
    for _ in range(MEASURED // AT_ONCE):
        frames = task.data.video(task.sampler.draw(rng, AT_ONCE, 1, images=True), 1)
        means.append(vae.moments(frames.to(device))[0].transpose(0, 1).flatten(1).cpu())
    channels = torch.cat(means, dim=1)
    vae.config = dataclasses.replace(
        vae.config,
        latents_mean=tuple(round(v, 5) for v in channels.mean(dim=1).tolist()),
        latents_std=tuple(round(v, 5) for v in channels.std(dim=1).tolist()),
    )
