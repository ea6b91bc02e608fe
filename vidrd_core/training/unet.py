"""Training the UNet: with the text encoder on single frames, then its temporal layers on clips (VidRD, 4.1)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vidrd_core.models.vae import TemporalVAE
from vidrd_core.sampling import DiffusionConfig, Schedule
from vidrd_core.training.auxiliary_heads import UNetWithTextEncoder
from vidrd_core.training.batches import Batch, Batches
from vidrd_core.training.caption_encoding import CaptionEncoder
from vidrd_core.training.data import RecipeError, TrainingData
from vidrd_core.training.stage_config import CaptionStageConfig, ClipStageConfig, ImageStageConfig, UNetStageConfig
from vidrd_core.training.trainable import select
from vidrd_core.training.validation import Validation


class _UNetTask:
    """What the UNet's tasks have in common: batches of single frames, and the auxiliary losses."""

    step = 0  # set by the trainer
    single_frames = True
    stage: UNetStageConfig

    def __init__(
        self,
        model: UNetWithTextEncoder,
        diffusion: DiffusionConfig,
        data: TrainingData,
        vae: TemporalVAE,
        stage: UNetStageConfig,
        validation: Validation,
    ) -> None:
        self.model, self.vae, self.stage, self.validation = model, vae, stage, validation
        self.schedule = Schedule(diffusion)
        self.batches = Batches(data, vae, stage)
        held_out = data.held_out(stage.weights, images=self.single_frames)
        self.held_out = Batches(data, vae, stage, held_out) if held_out else None
        # Without a frame embedding the network has no use for the positions of single frames.
        self.uses_positions = bool(model.unet.config.frame_embedding)
        if not self.batches.sampler.has(images=True):
            raise RecipeError(f"stage {stage.name} has nothing to train on: no source has clips and a weight")
        self.captions = CaptionEncoder(model.text_encoder, data, stage)

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters of the stage's preset."""
        return select(self.model, self.stage.train)

    def batch(self, rng: np.random.Generator, shared_rng: np.random.Generator, held_out: bool = False) -> Batch:
        """A batch of single frames."""
        batches = self.held_out if held_out and self.held_out else self.batches
        # An image has no position; a frame of a clip has one, without which its caption's motion means nothing.
        gives_positions = (
            self.uses_positions
            and batches.sampler.has(images=False)
            and shared_rng.random() < self.stage.number_share
        )
        return batches.draw(rng, 1, gives_positions)

    def auxiliary_losses(
        self, model: UNetWithTextEncoder, batch: Batch, tokens: Tensor | None, encoded: Tensor
    ) -> dict[str, Tensor]:
        """Compute the losses of the auxiliary heads.

        Args:
            model: The model with its heads.
            batch: Frames or clips, with the heads' targets.
            tokens: The captions' tokens [B, L]; None where the text encoder is frozen.
            encoded: The encoded captions [B, L, D].

        Returns:
            Scalars, multiplied by their weights, by the heads' names (`words`, `places`, `pictures`): of the heads
            that the model has and the batch has targets for.
        """
        losses, stage = {}, self.stage
        if model.words is not None and tokens is not None:
            losses["words"] = stage.words_weight * model.words(encoded, tokens)
        targets = batch.head_targets
        if targets is None or (model.places is None and model.pictures is None):
            return losses
        positions = torch.arange(targets.clips.shape[2], device=encoded.device)
        features = model.unet.frame_embedding.features(encoded[targets.which.to(encoded.device)], positions)
        if model.places is not None:
            losses["places"] = stage.places_weight * model.places(features, targets.truth.to(encoded.device))
        if model.pictures is not None:
            pictures = model.pictures(model.unet, features, targets.clips.to(encoded.device))
            losses["pictures"] = stage.pictures_weight * pictures
        return losses

    def sample(self, model: UNetWithTextEncoder, folder: Path, step: int) -> dict[str, float]:
        """Write a sheet of single frames for the validation prompts; figures for the log."""
        return self.validation.single_frames(model, self.vae, self.schedule.config, folder, step)


class CaptionTask(_UNetTask):
    """Task `captions`: the auxiliary losses without denoising, which teach captions and frame positions in minutes.

    Args:
        model: UNet, text encoder and heads.
        diffusion: The noise schedule and what the UNet predicts.
        data: The data.
        vae: The VAE whose latents the UNet is trained on.
        stage: Batch size and losses.
        validation: Draws samples.

    Raises:
        RecipeError: There are no clips, or no head has a weight.
    """

    def __init__(
        self,
        model: UNetWithTextEncoder,
        diffusion: DiffusionConfig,
        data: TrainingData,
        vae: TemporalVAE,
        stage: CaptionStageConfig,
        validation: Validation,
    ) -> None:
        super().__init__(model, diffusion, data, vae, stage, validation)
        if not self.model.heads():
            raise RecipeError(
                f"stage {stage.name} has nothing to train: give words_weight, or places_weight or "
                "pictures_weight with a UNet that has frame_embedding or frame_pictures"
            )

    def loss(
        self, model: UNetWithTextEncoder, batch: Batch, rng: np.random.Generator, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The losses of the auxiliary heads."""
        encoded = self.captions(model.text_encoder, batch.captions, generator.device)
        return self.auxiliary_losses(model, batch, *encoded)


class ImageTask(_UNetTask):
    """Task `image`: denoising of single frames, most of them with their position in their clip.

    Args:
        model: UNet, text encoder and heads.
        diffusion: The noise schedule and what the UNet predicts.
        data: The data.
        vae: The VAE whose latents the UNet is trained on.
        stage: Batch size and losses.
        validation: Draws samples.

    Raises:
        RecipeError: There are no clips, or `min_snr` is used with a flow model.
    """

    stage: ImageStageConfig

    def __init__(
        self,
        model: UNetWithTextEncoder,
        diffusion: DiffusionConfig,
        data: TrainingData,
        vae: TemporalVAE,
        stage: ImageStageConfig,
        validation: Validation,
    ) -> None:
        if stage.min_snr and diffusion.prediction == "flow":
            raise RecipeError(f"stage {stage.name}: min_snr is for models that predict eps or v, this one has flow")
        super().__init__(model, diffusion, data, vae, stage, validation)

    def loss(
        self, model: UNetWithTextEncoder, batch: Batch, rng: np.random.Generator, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Mean squared error of the prediction at random timesteps, and the losses of the auxiliary heads.

        Source: DDPM's simple loss (Ho et al., arXiv 2006.11239, equation 14).
        """
        device = generator.device
        latents, positions = self.latents(batch, device), batch.frame_positions.to(device)
        tokens, encoded = self.captions(model.text_encoder, batch.captions, device)
        timestep = random_timesteps(len(latents), self.schedule, self.stage, generator)
        noise = random_noise(latents, self.stage, generator)
        noisy, target, weights, positions = self.noised(latents, noise, timestep, positions, rng)
        if self.stage.min_snr:
            weights = weights * min_snr_weights(timestep, self.schedule, self.stage.min_snr).view(-1, 1, 1, 1, 1)
        output = model.unet(noisy, timestep, encoded, positions if batch.gives_positions else None)
        error = (output.float() - target).square()
        mse = (error * weights).mean() / (weights > 0).float().mean()
        return {"mse": mse, **self.auxiliary_losses(model, batch, tokens, encoded)}

    def noised(
        self, latents: Tensor, noise: Tensor, timestep: Tensor, positions: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the UNet gets and what it should predict.

        Args:
            latents: Clean latents [B, C, F, h, w].
            noise: Noise of the same shape.
            timestep: [B].
            positions: Frame positions [B, F].
            rng: For random choices.

        Returns:
            Noisy latents and targets [B, C, F, h, w], the error's weights [B, 1, F, h, w], frame positions [B, F].
        """
        noisy, target = self.schedule.noised(latents, noise, timestep)
        return noisy, target, torch.ones_like(noisy[:, :1]), positions

    @torch.no_grad()
    def latents(self, batch: Batch, device: torch.device) -> Tensor:
        """A batch's latents [B, C, F, h, w], encoded now if they are not cached."""
        if batch.latents is not None:
            return batch.latents.to(device)
        assert batch.video is not None
        return self.vae.to(device).encode(batch.video.to(device)).float()


class ClipTask(ImageTask):
    """Task `clip`: denoising of clips, which trains the temporal layers and what else the preset has.

    Args:
        model: UNet, text encoder and heads.
        diffusion: The noise schedule and what the UNet predicts.
        data: The data.
        vae: The VAE whose latents the UNet is trained on.
        stage: Batch size, losses and shares.
        validation: Draws samples.

    Raises:
        RecipeError: There are no clips, `min_snr` is used with a flow model, or `prompt_frames` is not less than a
            clip's frames.
    """

    single_frames = False
    stage: ClipStageConfig

    def __init__(
        self,
        model: UNetWithTextEncoder,
        diffusion: DiffusionConfig,
        data: TrainingData,
        vae: TemporalVAE,
        stage: ClipStageConfig,
        validation: Validation,
    ) -> None:
        super().__init__(model, diffusion, data, vae, stage, validation)
        self.frames = self.batches.clip_frames
        if stage.prompt_share and stage.prompt_frames >= self.frames:
            raise RecipeError(
                f"stage {stage.name}: prompt_frames is {stage.prompt_frames}, expected less than the "
                f"{self.frames} frames of a clip"
            )
        if stage.image_share < 1 and not self.batches.sampler.has(images=False):
            raise RecipeError(f"stage {stage.name} has no clips of {self.frames} frames, only images")

    def batch(self, rng: np.random.Generator, shared_rng: np.random.Generator, held_out: bool = False) -> Batch:
        """A batch of clips, or for a share of the batches of single frames."""
        if not held_out and shared_rng.random() < self.stage.image_share:
            return super().batch(rng, shared_rng)
        batches = self.held_out if held_out and self.held_out else self.batches
        return batches.draw(rng, self.frames, gives_positions=True)

    def noised(
        self, latents: Tensor, noise: Tensor, timestep: Tensor, positions: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As in `ImageTask`; a share of the clips has its first frames given, whose error has weight 0.

        These clips are shifted in time, so that they begin anywhere, as clips that extend others do.
        """
        stage, frames = self.stage, latents.shape[2]
        count = int((rng.random(len(latents)) < stage.prompt_share).sum()) if frames > 1 else 0
        if not count:
            return super().noised(latents, noise, timestep, positions, rng)
        latents, positions = rolled_in_time(latents, positions, count, rng)
        noisy, target, weights, positions = super().noised(latents, noise, timestep, positions, rng)
        prompt = slice(stage.prompt_frames)
        given = latents[:count, :, prompt]
        if stage.prompt_noise:
            level = (timestep[:count] * stage.prompt_noise).long()
            given, _ = self.schedule.noised(given, noise[:count, :, prompt], level)
        noisy[:count, :, prompt], weights[:count, :, prompt] = given, 0.0
        return noisy, target, weights, positions

    def sample(self, model: UNetWithTextEncoder, folder: Path, step: int) -> dict[str, float]:
        """Write a sheet of clips and a long video for the validation prompts; figures for the log."""
        return self.validation.clips(model, self.vae, self.schedule.config, folder, step)


def rolled_in_time(latents: Tensor, positions: Tensor, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Shift the first clips of a batch cyclically in time, each by a random number of frames.

    Args:
        latents: [B, C, F, h, w].
        positions: Frame positions [B, F].
        count: How many clips are shifted.
        rng: Decides by how much.

    Returns:
        Latents and positions of the same shapes.
    """
    frames = latents.shape[2]
    shifts = torch.from_numpy(rng.integers(frames, size=count))[:, None]
    order = ((shifts + torch.arange(frames)) % frames).to(latents.device)
    latents, positions = latents.clone(), positions.clone()
    positions[:count] = positions[:count].gather(1, order)
    latents[:count] = torch.stack([clip[:, each] for clip, each in zip(latents[:count], order, strict=True)])
    return latents, positions


def random_noise(like: Tensor, stage: ImageStageConfig, generator: torch.Generator) -> Tensor:
    """Standard normal noise of the shape of latents [B, C, F, h, w], plus `noise_offset` times a constant a clip."""
    noise = torch.randn(like.shape, generator=generator, device=like.device)
    if stage.noise_offset:
        shape = (*like.shape[:2], 1, 1, 1)
        noise = noise + stage.noise_offset * torch.randn(shape, generator=generator, device=like.device)
    return noise


def random_timesteps(count: int, schedule: Schedule, stage: ImageStageConfig, generator: torch.Generator) -> Tensor:
    """Random timesteps [count], integers; with `timestep_power` below 1 noisy ones are more frequent."""
    share = torch.rand(count, generator=generator, device=generator.device) ** stage.timestep_power
    return (share * schedule.config.train_steps).long().clamp(max=schedule.config.train_steps - 1)


def min_snr_weights(timestep: Tensor, schedule: Schedule, gamma: float) -> Tensor:
    """Compute the weight of each clip's error by Min-SNR-gamma.

    The error of x0 has the weight min(SNR, gamma); an error of eps is one of x0 times SNR, one of v times SNR + 1.

    Args:
        timestep: Timesteps, int64 [B].
        schedule: The noise schedule; its model predicts eps or v.
        gamma: The largest weight of an error of x0.

    Returns:
        [B], on the timesteps' device.

    Source: Min-SNR-gamma (Hang et al., arXiv 2303.09556).
    """
    alphas = schedule.alphas_cumprod.to(timestep.device)[timestep]
    snr = (alphas / (1 - alphas)).clamp(min=1e-8)
    return snr.clamp(max=gamma) / (snr if schedule.config.prediction == "eps" else snr + 1)
