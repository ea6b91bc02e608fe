"""Training the VAE: first on single frames, then Temp-Conv of its decoder on clips (VidRD, section 4.2).

The paper names no losses for this; these are ours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vidrd_core.models.vae import TemporalVAE
from vidrd_core.pixels import to_frames, to_video
from vidrd_core.training.config import StageConfig
from vidrd_core.training.presets import select
from vidrd_core.video import contact_sheet


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of videos in -1 .. 1."""
    return float(10 * torch.log10(4 / F.mse_loss(a.clamp(-1, 1), b)))


class ImageVAETask:
    """Reconstruction and a little KL, on single frames."""

    frames = 1

    def __init__(self, vae: TemporalVAE, clips: NDArray[np.uint8], stage: StageConfig) -> None:
        self.model = vae
        self.clips, self.stage = clips, stage

    def trainable(self) -> dict[str, nn.Parameter]:
        """What the stage's preset names."""
        return select(self.model, self.stage.train)

    def batch(self, rng: np.random.Generator) -> Tensor:
        """Video in -1 .. 1, [batch_size, 3, frames, H, W]."""
        clips = rng.integers(len(self.clips), size=self.stage.batch_size)
        starts = rng.integers(self.clips.shape[1] - self.frames + 1, size=self.stage.batch_size)
        return to_video(np.stack([self.clips[c, s : s + self.frames] for c, s in zip(clips, starts, strict=True)]))

    def loss(self, model: TemporalVAE, rng: np.random.Generator, generator: torch.Generator) -> dict[str, Tensor]:
        """Squared and absolute error, and the KL divergence from N(0, 1)."""
        video = self.batch(rng).to(generator.device)
        mean, logvar = model.moments(video)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        decoded = model.decode_raw(mean + (0.5 * logvar).exp() * noise)
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        return {
            "mse": F.mse_loss(decoded, video),
            "l1": 0.1 * F.l1_loss(decoded, video),
            "kl": self.stage.kl_weight * kl,
        }

    def sample(self, model: TemporalVAE, path: Path) -> dict[str, float]:
        """A sheet of clips, each above what comes back of it, and the PSNR in dB."""
        video = to_video(self.clips[:16], next(model.parameters()).device)
        mean, _ = model.moments(video)
        decoded = model.decode_raw(mean)
        rows = [row for pair in zip(self.clips[:6], to_frames(decoded[:6]), strict=True) for row in pair]
        contact_sheet(rows, path)
        return {"psnr": round(psnr(decoded, video), 2)}


class TemporalVAETask(ImageVAETask):
    """The decoder on clips (Temp-Conv alone, or all of it): reconstruction, and the change from frame to frame.

    The encoder stays as it is, and so do the latents; they get a little noise, as generated ones are never perfect.
    """

    def __init__(self, vae: TemporalVAE, clips: NDArray[np.uint8], stage: StageConfig) -> None:
        super().__init__(vae, clips, stage)
        self.frames = clips.shape[1]

    def loss(self, model: TemporalVAE, rng: np.random.Generator, generator: torch.Generator) -> dict[str, Tensor]:
        """Squared and absolute error, and the absolute one of the changes between frames."""
        video = self.batch(rng).to(generator.device)
        with torch.no_grad():
            latents = model.encode(video)
            level = 0.1 * torch.rand((len(latents), 1, 1, 1, 1), generator=generator, device=latents.device)
            latents += level * torch.randn(latents.shape, generator=generator, device=latents.device)
        decoded = model.decode(latents)
        change = F.l1_loss(decoded.diff(dim=2), video.diff(dim=2))
        return {
            "mse": F.mse_loss(decoded, video),
            "l1": 0.1 * F.l1_loss(decoded, video),
            "change": 0.1 * change,
        }
