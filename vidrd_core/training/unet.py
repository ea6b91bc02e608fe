"""Training the UNet: with the text encoder on single frames, then its temporal layers on clips (VidRD, 4.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vidrd_core.models.vae import TemporalVAE
from vidrd_core.sampling import DiffusionConfig, Schedule
from vidrd_core.training.auxiliary_heads import Conditioned
from vidrd_core.training.batches import Batch, Batches
from vidrd_core.training.caption_encoding import Texts
from vidrd_core.training.data import Data, RecipeError
from vidrd_core.training.stage_config import StageConfig
from vidrd_core.training.trainable import select
from vidrd_core.training.validation import Samples


class ImageTask:
    """The 2-D UNet and the text encoder, on single frames, most of them told which frame of their clip they are."""

    frames = 1
    step = 0  # of training

    def __init__(
        self,
        model: Conditioned,
        diffusion: DiffusionConfig,
        data: Data,
        vae: TemporalVAE,
        stage: StageConfig,
        samples: Samples,
    ) -> None:
        self.model, self.vae, self.stage, self.samples = model, vae, stage, samples
        self.schedule = Schedule(diffusion)
        if stage.min_snr and diffusion.prediction == "flow":
            raise RecipeError(f"stage {stage.name}: min_snr is for models that predict eps or v, this one has flow")
        self.batches = Batches(data, vae, stage)
        held_out = data.held_out(stage.weights, still=stage.task != "clip")
        self.held_out = Batches(data, vae, stage, held_out) if held_out else None
        self.tells = bool(model.unet.config.frame_embedding)  # single frames their numbers: others hear nothing
        if not self.batches.pool.has(still=True):
            raise RecipeError(f"stage {stage.name} has nothing to train on: no source has clips and a weight")
        self.texts = Texts(model.text_encoder, data, stage)

    def trainable(self) -> dict[str, nn.Parameter]:
        """What the stage's preset names."""
        return select(self.model, self.stage.train)

    def batch(self, rng: np.random.Generator, alike: np.random.Generator, held_out: bool = False) -> Batch:
        """Single frames."""
        batches = self.held_out if held_out and self.held_out else self.batches
        # An image has no number; a frame of a clip has one, and with it its caption's motion has a meaning.
        told = self.tells and batches.pool.has(still=False) and alike.random() < self.stage.number_share
        return batches.draw(rng, 1, told)

    def loss(
        self, model: Conditioned, batch: Batch, rng: np.random.Generator, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Mean squared error of the output at random timesteps (DDPM's simple loss), and the heads' losses."""
        device = generator.device
        latents, numbers = self.latents(batch, device), batch.numbers.to(device)
        tokens, encoded = self.texts(model.text_encoder, batch.captions, device)
        timestep = drawn_timesteps(len(latents), self.schedule, self.stage, generator)
        noise = drawn_noise(latents, self.stage, generator)
        led = int((rng.random(len(latents)) < self.stage.prompt_share).sum()) if latents.shape[2] > 1 else 0
        if led:  # the first `led` clips go on from first frames, and begin anywhere, as extending clips do
            latents, numbers = begun_anywhere(latents, numbers, led, rng)
        noisy, target = self.schedule.noised(latents, noise, timestep)
        counted = torch.ones_like(noisy[:, :1])
        if led:
            prompt = slice(self.stage.prompt_frames)
            level = (timestep[:led] * self.stage.prompt_noise).long()
            known = latents[:led, :, prompt]
            if self.stage.prompt_noise:
                known, _ = self.schedule.noised(known, noise[:led, :, prompt], level)
            noisy[:led, :, prompt], counted[:led, :, prompt] = known, 0.0
        if self.stage.min_snr:
            counted = counted * loss_weights(timestep, self.schedule, self.stage.min_snr).view(-1, 1, 1, 1, 1)
        output = model.unet(noisy, timestep, encoded, numbers if batch.told else None)
        error = (output.float() - target).square()
        mse = (error * counted).mean() / (counted > 0).float().mean()
        return {"mse": mse, **self.heads_losses(model, batch, tokens, encoded)}

    @torch.no_grad()
    def latents(self, batch: Batch, device: torch.device) -> Tensor:
        """A batch's latents, made now if they are not kept."""
        if batch.latents is not None:
            return batch.latents.to(device)
        assert batch.video is not None
        return self.vae.to(device).encode(batch.video.to(device)).float()

    def heads_losses(
        self, model: Conditioned, batch: Batch, tokens: Tensor | None, encoded: Tensor
    ) -> dict[str, Tensor]:
        """What the heads say of the captions' tokens and encoding, each with its weight."""
        losses = {}
        if model.words is not None and tokens is not None:
            losses["words"] = self.stage.words_weight * model.words(encoded, tokens)
        drawn = batch.drawings
        if drawn is None or (model.places is None and model.pictures is None):
            return losses
        numbers = torch.arange(drawn.clips.shape[2], device=encoded.device)
        features = model.unet.frame_embedding.features(encoded[drawn.which.to(encoded.device)], numbers)
        if model.places is not None:
            losses["places"] = self.stage.places_weight * model.places(features, drawn.truth.to(encoded.device))
        if model.pictures is not None:
            pictures = model.pictures(model.unet, features, drawn.clips.to(encoded.device))
            losses["pictures"] = self.stage.pictures_weight * pictures
        return losses

    def sample(self, model: Conditioned, folder: Path, step: int) -> dict[str, float]:
        """A sheet of clips for fixed prompts, and figures."""
        return self.samples.stills(model, self.vae, self.schedule.config, folder, step)


class ClipTask(ImageTask):
    """The temporal layers (and what else the preset names) on clips; some batches may still be of single frames."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.frames = self.batches.whole
        if self.stage.prompt_share and self.stage.prompt_frames >= self.frames:
            raise RecipeError(
                f"stage {self.stage.name}: prompt_frames is {self.stage.prompt_frames}, expected less than the "
                f"{self.frames} frames of a clip"
            )
        if self.stage.image_share < 1 and not self.batches.pool.has(still=False):
            raise RecipeError(f"stage {self.stage.name} has no clips of {self.frames} frames, only images")

    def batch(self, rng: np.random.Generator, alike: np.random.Generator, held_out: bool = False) -> Batch:
        """Whole clips; a share of the batches single frames."""
        if not held_out and alike.random() < self.stage.image_share:
            return super().batch(rng, alike)
        batches = self.held_out if held_out and self.held_out else self.batches
        return batches.draw(rng, self.frames, told=True)

    def sample(self, model: Conditioned, folder: Path, step: int) -> dict[str, float]:
        """A sheet of clips, a long video, and figures."""
        return self.samples.clips(model, self.vae, self.schedule.config, folder, step)


class CaptionTask(ImageTask):
    """The heads' losses alone, with no denoising: what captions and numbers say of frames is learned in minutes."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        if not self.model.heads():
            raise RecipeError(
                f"stage {self.stage.name} has nothing to train: give words_weight, or places_weight or "
                "pictures_weight with a UNet that has frame_embedding or frame_pictures"
            )

    def loss(
        self, model: Conditioned, batch: Batch, rng: np.random.Generator, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The heads' losses."""
        return self.heads_losses(model, batch, *self.texts(model.text_encoder, batch.captions, generator.device))


def begun_anywhere(latents: Tensor, numbers: Tensor, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """The first `count` clips of latents [B, C, F, h, w] and numbers [B, F] shifted in time, going round."""
    frames = latents.shape[2]
    shifts = torch.from_numpy(rng.integers(frames, size=count))[:, None]
    order = ((shifts + torch.arange(frames)) % frames).to(latents.device)
    latents, numbers = latents.clone(), numbers.clone()
    numbers[:count] = numbers[:count].gather(1, order)
    latents[:count] = torch.stack([clip[:, each] for clip, each in zip(latents[:count], order, strict=True)])
    return latents, numbers


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
