"""Training the VAE: first on single frames, then Temp-Conv of its decoder on clips (VidRD, section 4.2).

The paper names no losses for this; these are ours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrd_core.models.vae import TemporalVAE
from vidrd_core.training.buckets import Pick
from vidrd_core.training.data import Data, RecipeError
from vidrd_core.training.discriminator import Judged
from vidrd_core.training.stage_config import StageConfig
from vidrd_core.training.trainable import select
from vidrd_core.video import contact_sheet
from vidrd_core.video.tensors import to_frames

SHOWN, MEASURED = 6, 16  # clips


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of videos in -1 .. 1."""
    return float(10 * torch.log10(4 / F.mse_loss(a.clamp(-1, 1), b)))


def flicker(decoded: Tensor, video: Tensor) -> float:
    """How much the error of decoded video [B, 3, F, H, W] changes from frame to frame, in levels of 255: root mean
    square. An error that stays, a blur, does not flicker."""
    return float((decoded.clamp(-1, 1) - video).diff(dim=2).square().mean().sqrt() * 127.5)


class ImageVAETask:
    """Reconstruction and a little KL, on single frames."""

    frames = 1
    step = 0  # of training, which the trainer tells

    def __init__(self, vae: TemporalVAE, data: Data, stage: StageConfig) -> None:
        self.model = Judged(vae, stage)
        self.data, self.stage = data, stage
        self.pool = data.pool(stage.weights)
        self.held_out = data.held_out(stage.weights, still=stage.task == "vae")

    def trainable(self) -> dict[str, nn.Parameter]:
        """What the stage's preset names, and the critic."""
        return select(self.model.vae, self.stage.train) | self.model.of_critic()

    def batch(self, rng: np.random.Generator, alike: np.random.Generator, held_out: bool = False) -> Tensor:
        """Video in -1 .. 1, [batch_size, 3, frames, H, W]."""
        pool = self.held_out if held_out and self.held_out else self.pool
        return self.data.video(
            pool.draw(rng, self.stage.batch_size, self.frames, still=self.frames == 1), self.frames
        )

    def loss(
        self, model: Judged, batch: Tensor, rng: np.random.Generator, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Squared and absolute error, and the KL divergence from N(0, 1)."""
        video = batch.to(generator.device)
        mean, logvar = model.vae.moments(video)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        decoded = model.vae.decode_raw(mean + (0.5 * logvar).exp() * noise)
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        return {**model.losses(decoded, video, self.step), "kl": self.stage.kl_weight * kl}

    def sample(self, model: Judged, folder: Path, step: int) -> dict[str, float]:
        """A sheet of clips, each above what comes back of it; PSNR in dB and flicker in levels, of fixed clips."""
        group = next(g for g in self.pool.groups if g.frames >= self.frames and g.share)
        video = self.data.video([Pick(group, i, 0) for i in range(min(MEASURED, len(group.numbers)))], group.frames)
        video = video.to(next(model.parameters()).device)
        decoded = self.decoded(model.vae, video)
        shown = (to_frames(each[:SHOWN]) for each in (video, decoded))
        rows = [row for pair in zip(*shown, strict=True) for row in pair]
        contact_sheet(rows, folder / f"sample_{step:06d}.png")
        figures = {"psnr": round(psnr(decoded, video), 2)}
        return figures | ({"flicker": round(flicker(decoded, video), 3)} if video.shape[2] > 1 else {})

    def decoded(self, vae: TemporalVAE, video: Tensor) -> Tensor:
        """What comes back of video."""
        return vae.decode_raw(vae.moments(video)[0])


class TemporalVAETask(ImageVAETask):
    """The decoder on clips (Temp-Conv alone, or all of it): reconstruction, and the change from frame to frame.

    The encoder stays as it is, and so do the latents; they get a little noise, as generated ones are never perfect.
    """

    def __init__(self, vae: TemporalVAE, data: Data, stage: StageConfig) -> None:
        if stage.train not in ("temporal", "decoder"):
            raise RecipeError(
                f"stage {stage.name}: train is {stage.train!r}, expected temporal (Temp-Conv alone) or decoder (all "
                f"of it): the encoder stays, so that latents are what the UNet knows"
            )
        super().__init__(vae, data, stage)
        self.frames = data.config.frames
        if not self.pool.has(still=False):
            raise RecipeError(f"stage {stage.name} has no clips of {self.frames} frames, only images")

    def loss(
        self, model: Judged, batch: Tensor, rng: np.random.Generator, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Squared and absolute error, and the absolute one of the changes between frames."""
        video = batch.to(generator.device)
        with torch.no_grad():
            latents = model.vae.encode(video)
            level = 0.1 * torch.rand((len(latents), 1, 1, 1, 1), generator=generator, device=latents.device)
            latents = latents + level * torch.randn(latents.shape, generator=generator, device=latents.device)
        decoded = model.vae.decode(latents)
        change = F.l1_loss(decoded.diff(dim=2), video.diff(dim=2))
        return {**model.losses(decoded, video, self.step), "change": self.stage.change_weight * change}

    def decoded(self, vae: TemporalVAE, video: Tensor) -> Tensor:
        """What comes back of video, decoded as clips."""
        return vae.decode(vae.encode(video))
