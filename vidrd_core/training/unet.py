"""Training the UNet: with the text encoder on single frames, then its temporal layers on clips (VidRD, 4.1)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vidrd_core.data.bank import ShapesData
from vidrd_core.data.shapes import describe, evaluation_scenes
from vidrd_core.models.config import DiffusionConfig
from vidrd_core.models.text import TextEncoder
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.sampling import Schedule, ddim, guided
from vidrd_core.training.config import StageConfig
from vidrd_core.training.presets import select
from vidrd_core.training.vae import to_frames
from vidrd_core.video import contact_sheet


class WordsHead(nn.Module):
    """Reads from a pooled caption which of its words were said: keeps words apart that stills do not tell apart."""

    def __init__(self, text: TextEncoder) -> None:
        super().__init__()
        self.words = len(text.config.words) + 2
        self.linear = nn.Linear(text.config.hidden_size, self.words)

    def forward(self, encoded: Tensor, tokens: Tensor) -> Tensor:
        """Loss of telling from encoded [B, L, D] which of the tokens [B, L] are there."""
        said = F.one_hot(tokens, self.words).amax(dim=1).float()
        return F.binary_cross_entropy_with_logits(self.linear(encoded.mean(dim=1)), said)


class Conditioned(nn.Module):
    """What is trained together: UNet, text encoder, and the head that keeps words apart, if it has a weight."""

    def __init__(self, unet: UNet3D, text_encoder: TextEncoder, words: bool = False) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder
        self.words = WordsHead(text_encoder) if words else None


class ImageTask:
    """The 2-D UNet and the text encoder, on single frames."""

    frames = 1

    def __init__(
        self,
        unet: UNet3D,
        text: TextEncoder,
        diffusion: DiffusionConfig,
        data: ShapesData,
        latents: NDArray[np.float16],
        vae: TemporalVAE,
        stage: StageConfig,
    ) -> None:
        self.model = Conditioned(unet, text, words=stage.words_weight > 0)
        self.data, self.latents, self.vae, self.stage = data, latents, vae, stage
        self.schedule = Schedule(diffusion)

    def trainable(self) -> dict[str, nn.Parameter]:
        return select(self.model, self.stage.train)

    def batch(self, rng: np.random.Generator, frames: int) -> tuple[Tensor, list[str]]:
        """Latents [B, C, frames, h, w] and captions, some of them empty."""
        count = self.stage.batch_size * (self.latents.shape[2] // frames if frames < self.latents.shape[2] else 1)
        chosen = rng.integers(len(self.latents), size=count)
        starts = rng.integers(self.latents.shape[2] - frames + 1, size=count)
        batch = np.stack([self.latents[i, :, s : s + frames] for i, s in zip(chosen, starts, strict=True)])
        captions = [self.data.caption(int(i), rng) for i in chosen]
        dropped = rng.random(count) < self.stage.caption_dropout
        captions = ["" if drop else text for drop, text in zip(dropped, captions, strict=True)]
        return torch.from_numpy(batch).float(), captions

    def loss(self, model: Conditioned, rng: np.random.Generator, generator: torch.Generator) -> dict[str, Tensor]:
        return self.denoising_loss(model, rng, generator, self.frames)

    def denoising_loss(
        self, model: Conditioned, rng: np.random.Generator, generator: torch.Generator, frames: int
    ) -> dict[str, Tensor]:
        """Mean squared error of the network's output at random timesteps (DDPM's simple loss)."""
        device = generator.device
        latents, captions = self.batch(rng, frames)
        latents = latents.to(device)
        tokens = model.text_encoder.tokenize(captions).to(device)
        encoded = model.text_encoder(tokens)
        share = torch.rand(len(latents), generator=generator, device=device) ** self.stage.timestep_power
        timestep = (share * self.schedule.config.train_steps).long()
        noise = torch.randn(latents.shape, generator=generator, device=device)
        noisy, target = self.schedule.noised(latents, noise, timestep)
        losses = {"mse": F.mse_loss(model.unet(noisy, timestep, encoded), target)}
        if model.words is not None:
            losses["words"] = self.stage.words_weight * model.words(encoded, tokens)
        return losses

    def sample(self, model: Conditioned, path: Path) -> dict[str, float]:
        """A sheet of clips for fixed prompts, and how far a swapped word moves the text and the prediction."""
        scenes = evaluation_scenes(12 if self.frames > 1 else 48, seed=0)
        prompts = [describe(scene) for scene in scenes]
        videos = self.generate(model, prompts)
        if self.frames == 1:
            videos = videos[:, 0].reshape(4, 12, *videos.shape[2:])
            contact_sheet(list(videos), path)
        else:
            contact_sheet(list(videos), path, labels=prompts)
        return self.probe(model)

    def generate(
        self, model: Conditioned, prompts: list[str], steps: int = 20, scale: float = 4.0
    ) -> NDArray[np.uint8]:
        """Clips uint8 [B, F, H, W, 3] for prompts."""
        cond, uncond = (model.text_encoder.encode(p) for p in (prompts, [""] * len(prompts)))
        generator = torch.Generator().manual_seed(0)
        shape = (len(prompts), self.latents.shape[1], self.frames, *self.latents.shape[3:])
        noise = torch.randn(shape, generator=generator).to(cond.device)
        sigmas = self.schedule.sigmas(steps)
        denoise = self.schedule.denoiser(guided(model.unet, cond, uncond, scale))
        latents = ddim(denoise, self.schedule.start(noise, sigmas[0]), sigmas)
        return to_frames(self.vae.decode(latents.cpu()))

    def probe(self, model: Conditioned) -> dict[str, float]:
        """How much the loss at timestep 850 grows if one word of the caption is swapped: a model that does not read
        a kind of word shows no gap."""
        rng = np.random.default_rng(0)
        words = {"right": "left", "up": "down", "growing": "shrinking"}
        if self.frames == 1:
            words = {"circle": "square", "red": "green", "star": "cross"}
        gaps = {}
        for word, other in words.items():
            bank = range(min(4000, len(self.latents)))
            picked = [i for i in bank if word in describe(self.data.scene(i)).split()[:6]][:48]
            if not picked:
                continue
            latents = torch.from_numpy(np.stack([self.latents[i, :, : self.frames] for i in picked])).float()
            noise = torch.from_numpy(rng.standard_normal(latents.shape)).float()
            timestep = torch.full((len(picked),), 850)
            noisy, target = self.schedule.noised(latents, noise, timestep)
            said = [describe(self.data.scene(i)) for i in picked]
            swapped = [" ".join(other if w == word else w for w in text.split()) for text in said]
            right, wrong = (
                F.mse_loss(model.unet(noisy, timestep, model.text_encoder.encode(p)), target).item()
                for p in (said, swapped)
            )
            gaps[f"{word}_to_{other}"] = round(wrong / right - 1, 4)
        return gaps


class ClipTask(ImageTask):
    """The temporal layers (and what else the preset names) on clips; some steps may still be of single frames."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.frames = self.latents.shape[2]

    def loss(self, model: Conditioned, rng: np.random.Generator, generator: torch.Generator) -> dict[str, Tensor]:
        still = rng.random() < self.stage.image_share
        return self.denoising_loss(model, rng, generator, 1 if still else self.frames)
