"""Training the VAE: first on single frames, then its decoder on clips (VidRD, section 4.2).

The paper names no losses for this; these are ours.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrd_core.models.vae import TemporalVAE
from vidrd_core.training.buckets import ClipSlice
from vidrd_core.training.data import RecipeError, TrainingData
from vidrd_core.training.discriminator import VAEWithDiscriminator
from vidrd_core.training.stage_config import ImageVAEStageConfig, TemporalVAEStageConfig, VAEStageConfig
from vidrd_core.training.trainable import select
from vidrd_core.video import contact_sheet
from vidrd_core.video.tensors import to_frames

SHOWN, MEASURED = 6, 16  # clips


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of videos in -1 to 1, of any one shape."""
    return float(10 * torch.log10(4 / F.mse_loss(a.clamp(-1, 1), b)))


def flicker(decoded: Tensor, video: Tensor) -> float:
    """How much the error of decoded video changes from frame to frame.

    An error that stays the same, such as blur, does not flicker.

    Args:
        decoded: [B, 3, F, H, W] in -1 to 1.
        video: What it should be.

    Returns:
        The root mean square, in levels of 0 to 255.
    """
    return float((decoded.clamp(-1, 1) - video).diff(dim=2).square().mean().sqrt() * 127.5)


class _VAETask(ABC):
    """What both VAE tasks have in common."""

    frames = 1
    step = 0  # set by the trainer
    single_frames = True
    stage: VAEStageConfig

    def __init__(self, vae: TemporalVAE, data: TrainingData, stage: VAEStageConfig) -> None:
        self.model = VAEWithDiscriminator(vae, stage)
        self.data, self.stage = data, stage
        self.sampler = data.sampler(stage.weights)
        self.held_out = data.held_out(stage.weights, images=self.single_frames)

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters of the stage's preset, and the discriminator's."""
        return select(self.model.vae, self.stage.train) | self.model.discriminator_parameters()

    def batch(self, rng: np.random.Generator, shared_rng: np.random.Generator, held_out: bool = False) -> Tensor:
        """Video in -1 to 1, [batch_size, 3, frames, H, W]."""
        sampler = self.held_out if held_out and self.held_out else self.sampler
        slices = sampler.draw(rng, self.stage.batch_size, self.frames, images=self.frames == 1)
        return self.data.video(slices, self.frames)

    def sample(self, model: VAEWithDiscriminator, folder: Path, step: int) -> dict[str, float]:
        """Write a sheet of clips, each above its reconstruction; PSNR in dB and flicker in levels, of fixed clips."""
        bucket = next(b for b in self.sampler.buckets if b.frames >= self.frames and b.share)
        slices = [ClipSlice(bucket, i, 0) for i in range(min(MEASURED, len(bucket.indices)))]
        video = self.data.video(slices, bucket.frames).to(next(model.parameters()).device)
        decoded = self.reconstruct(model.vae, video)
        shown = (to_frames(each[:SHOWN]) for each in (video, decoded))
        rows = [row for pair in zip(*shown, strict=True) for row in pair]
        contact_sheet(rows, folder / f"sample_{step:06d}.png")
        figures = {"psnr": round(psnr(decoded, video), 2)}
        return figures | ({"flicker": round(flicker(decoded, video), 3)} if video.shape[2] > 1 else {})

    @abstractmethod
    def reconstruct(self, vae: TemporalVAE, video: Tensor) -> Tensor:
        """Encoded and decoded video, [B, 3, F, H, W]."""


class ImageVAETask(_VAETask):
    """Task `vae`: reconstruction and a little KL divergence, on single frames.

    Args:
        vae: The VAE to train.
        data: The data.
        stage: Batch size and losses.
    """

    stage: ImageVAEStageConfig

    def __init__(self, vae: TemporalVAE, data: TrainingData, stage: ImageVAEStageConfig) -> None:
        super().__init__(vae, data, stage)

    def loss(
        self, model: VAEWithDiscriminator, batch: Tensor, rng: np.random.Generator, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Squared and absolute error, the KL divergence from N(0, 1), and what else has a weight."""
        video = batch.to(generator.device)
        mean, logvar = model.vae.moments(video)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        decoded = model.vae.decode_raw(mean + (0.5 * logvar).exp() * noise)
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        losses = {**model.losses(decoded, video, self.step), "kl": self.stage.kl_weight * kl}
        if self.stage.shift_weight:
            losses["shift"] = self.stage.shift_weight * shift_error(model.vae, video, mean, rng)
        return losses

    def reconstruct(self, vae: TemporalVAE, video: Tensor) -> Tensor:
        """Encoded and decoded video, frame by frame."""
        return vae.decode_raw(vae.moments(video)[0])


def shift_error(vae: TemporalVAE, video: Tensor, latents: Tensor, rng: np.random.Generator) -> Tensor:
    """How far latents that are moved by part of a place are from decoding to frames that are moved as far.

    Where the error is small, things that move have latents that move, which a UNet can learn to follow.

    Args:
        vae: The VAE.
        video: Frames [B, 3, 1, H, W] in -1 to 1.
        latents: Their latents, not scaled [B, C, 1, h, w].
        rng: Decides how far they are moved, by up to a place of the latents each way.

    Returns:
        The mean squared error, a scalar, but for what came in from outside the frames.

    Source:
        The equivariance loss of EQ-VAE (Kouzelis et al., arXiv 2502.09509), for shifts.
    """
    side = vae.config.downsampling
    down, right = (int(each) for each in rng.integers(-side, side + 1, 2))
    identity = torch.eye(2, 3, device=latents.device).expand(len(latents), 2, 3).clone()
    identity[:, 0, 2], identity[:, 1, 2] = -2 * right / video.shape[-1], -2 * down / video.shape[-2]
    frame = latents[:, :, 0].float()
    grid = F.affine_grid(identity, list(frame.shape), align_corners=False)
    moved = F.grid_sample(frame, grid, "bicubic", "border", align_corners=False)[:, :, None]
    decoded, wanted = vae.decode_raw(moved), video.roll((down, right), (-2, -1))
    inside = (..., slice(side, -side), slice(side, -side))
    return F.mse_loss(decoded[inside], wanted[inside])


class TemporalVAETask(_VAETask):
    """Task `vae_temporal`: the decoder on clips (Temp-Conv alone, or all of it).

    The encoder is frozen, so latents keep their meaning; the decoder gets them with a little noise, as generated
    latents are never perfect.

    Args:
        vae: The VAE to train.
        data: The data.
        stage: Batch size and losses.

    Raises:
        RecipeError: The preset would train the encoder, or there are no clips.
    """

    single_frames = False
    stage: TemporalVAEStageConfig

    def __init__(self, vae: TemporalVAE, data: TrainingData, stage: TemporalVAEStageConfig) -> None:
        if stage.train not in ("temporal", "decoder"):
            raise RecipeError(
                f"stage {stage.name}: train is {stage.train!r}, expected temporal (Temp-Conv alone) or decoder (all "
                f"of it): the encoder is frozen, so that latents are what the UNet knows"
            )
        super().__init__(vae, data, stage)
        self.frames = data.config.frames
        if not self.sampler.has(images=False):
            raise RecipeError(f"stage {stage.name} has no clips of {self.frames} frames, only images")

    def loss(
        self, model: VAEWithDiscriminator, batch: Tensor, rng: np.random.Generator, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Squared and absolute error, that of the changes between frames, and what else has a weight."""
        video = batch.to(generator.device)
        with torch.no_grad():
            latents = model.vae.encode(video)
            level = 0.1 * torch.rand((len(latents), 1, 1, 1, 1), generator=generator, device=latents.device)
            latents = latents + level * torch.randn(latents.shape, generator=generator, device=latents.device)
        decoded = model.vae.decode(latents)
        change = F.l1_loss(decoded.diff(dim=2), video.diff(dim=2))
        return {**model.losses(decoded, video, self.step), "change": self.stage.change_weight * change}

    def reconstruct(self, vae: TemporalVAE, video: Tensor) -> Tensor:
        """Encoded and decoded video, as clips."""
        return vae.decode(vae.encode(video))
