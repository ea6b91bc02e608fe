"""What a denoiser learns from: noise on latents, the output it should give, and how much each noise level counts."""

from __future__ import annotations

import torch
from torch import Tensor

from vidrd_core.sampling import Schedule
from vidrd_core.training.stage_config import StageConfig


def drawn_noise(like: Tensor, stage: StageConfig, generator: torch.Generator) -> Tensor:
    """Noise like latents [B, C, F, h, w]; of `noise_offset` part is alike in all of a clip's frames and places."""
    noise = torch.randn(like.shape, generator=generator, device=like.device)
    if stage.noise_offset:
        shape = (*like.shape[:2], 1, 1, 1)
        noise = noise + stage.noise_offset * torch.randn(shape, generator=generator, device=like.device)
    return noise


def drawn_timesteps(count: int, schedule: Schedule, stage: StageConfig, generator: torch.Generator) -> Tensor:
    """Whole timesteps [B]; with `timestep_power` below 1 noisy ones come more often."""
    share = torch.rand(count, generator=generator, device=generator.device) ** stage.timestep_power
    return (share * schedule.config.train_steps).long().clamp(max=schedule.config.train_steps - 1)


def loss_weights(timestep: Tensor, schedule: Schedule, gamma: float) -> Tensor:
    """How much each clip's error counts, [B]: Min-SNR-gamma (Hang et al., 2023), in terms of what is predicted.

    Of the error of x0, min(SNR, gamma); an error of eps is one of x0 times SNR, one of v times SNR + 1.
    """
    alphas = schedule.alphas_cumprod.to(timestep.device)[timestep]
    snr = (alphas / (1 - alphas)).clamp(min=1e-8)
    return snr.clamp(max=gamma) / (snr if schedule.config.prediction == "eps" else snr + 1)
