"""Fits the fast preview of a model's latents: `python -m vidrd_core.training.preview MODEL TARGET.json`."""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrd_core.io.atomic import write_text
from vidrd_core.loading import load
from vidrd_core.models.latent_preview import Layers, preview_frames
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.procedural import random_scene, render
from vidrd_core.video.tensors import to_video

WIDTH, STEPS, BATCH, RATE = 32, 4000, 32, 3e-3


def frames_of(vae: TemporalVAE, clips: int, seed: int) -> tuple[Tensor, Tensor]:
    """Latents [F, C, h, w] and frames [F, 3, H, W] in -1 to 1 of `clips` procedural clips."""
    rng, latents, frames = np.random.default_rng(seed), [], []
    for _ in range(clips):
        video = to_video(render(random_scene(rng, 0.15), 8, 64))[None]
        with torch.no_grad():
            latents.append(vae.encode(video)[0].movedim(1, 0))
        frames.append(video[0].movedim(1, 0))
    return torch.cat(latents), torch.cat(frames)


def fit(latents: Tensor, frames: Tensor) -> Layers:
    """Fit three convolutions from latents [F, C, h, w] to the pixels of frames [F, 3, H, W] that each covers."""
    torch.manual_seed(0)
    pixels = 3 * (frames.shape[-1] // latents.shape[-1]) ** 2
    convolutions = [nn.Conv2d(latents.shape[1], WIDTH, 3), nn.Conv2d(WIDTH, WIDTH, 1), nn.Conv2d(WIDTH, pixels, 1)]
    optimizer = torch.optim.Adam(nn.ModuleList(convolutions).parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        chosen = torch.randint(len(latents), (BATCH,))
        loss = F.mse_loss(preview_frames(latents[chosen], _layers(convolutions)), frames[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return [(weight.detach(), bias.detach()) for weight, bias in _layers(convolutions)]


def _layers(convolutions: list[nn.Conv2d]) -> Layers:
    return [(each.weight, each.get_parameter("bias")) for each in convolutions]


def linear(latents: Tensor, frames: Tensor) -> Tensor:
    """The linear map from latents to colours with the least squared error: factors [C, 3], then the bias as a row."""
    side = frames.shape[-1] // latents.shape[-1]
    colours = F.avg_pool2d(frames, side).movedim(1, -1).reshape(-1, 3)
    known = latents.movedim(1, -1).reshape(-1, latents.shape[1])
    return torch.linalg.lstsq(torch.cat([known, torch.ones(len(known), 1)], dim=1), colours).solution


def main(model: str, target: str) -> None:
    """Fit the preview of a model and write it as JSON."""
    latents, frames = frames_of(load(model).vae, 120, seed=0)
    *factors, bias = _rounded(linear(latents, frames))
    layers = [{"weight": _rounded(weight), "bias": _rounded(offset)} for weight, offset in fit(latents, frames)]
    result = {"latent_rgb_factors": factors, "latent_rgb_factors_bias": bias, "convolutions": layers}
    write_text(target, json.dumps(result) + "\n")


def _rounded(tensor: Tensor) -> list[object]:
    return np.asarray(tensor, np.float64).round(4).tolist()


if __name__ == "__main__":
    main(*sys.argv[1:])
