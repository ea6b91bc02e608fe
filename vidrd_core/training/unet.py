"""Training the UNet: with the text encoder on single frames, then its temporal layers on clips (VidRD, 4.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor, nn

from vidrd_core.data.bank import ShapesData
from vidrd_core.data.shapes import describe, evaluation_scenes
from vidrd_core.models.config import DiffusionConfig
from vidrd_core.models.text import TextEncoder
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.pixels import to_frames
from vidrd_core.sampling import Schedule, ddim, guided
from vidrd_core.training.config import RecipeError, StageConfig
from vidrd_core.training.heads import Conditioned
from vidrd_core.training.presets import select
from vidrd_core.video import contact_sheet

PROBES = {"red": "green", "circle": "square", "star": "cross", "right": "left", "up": "down", "growing": "shrinking"}


@dataclass(frozen=True)
class Batch:
    """Clips or single frames of them."""

    latents: Tensor  # [B, C, F, h, w]
    captions: list[str]  # some of them empty
    numbers: Tensor  # of the frames in their clips, [B, F]
    clips: Tensor  # the whole clips' latents, [B, C, N, h, w]
    truth: Tensor  # where the sprites are in them, [B, N, 10]


class ImageTask:
    """The 2-D UNet and the text encoder, on single frames, most of them told which frame of their clip they are."""

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
        self.model = Conditioned(unet, text, stage)
        self.data, self.latents, self.vae, self.stage = data, latents, vae, stage
        self.schedule = Schedule(diffusion)
        self.shares = self._shares() if stage.emphasis else None

    def _shares(self) -> NDArray[np.float64]:
        """How often each clip is drawn: by the words of its plain caption that are emphasised."""
        said = [set(describe(self.data.scene(i)).split()) for i in range(len(self.latents))]
        if unknown := sorted(set(self.stage.emphasis) - set().union(*said)):
            raise RecipeError(f"stage {self.stage.name}: no clip's plain caption says {', '.join(unknown)}")
        factors = [
            math.prod(factor for word, factor in self.stage.emphasis.items() if word in words) for words in said
        ]
        return np.array(factors) / sum(factors)

    def trainable(self) -> dict[str, nn.Parameter]:
        """What the stage's preset names."""
        return select(self.model, self.stage.train)

    def batch(self, rng: np.random.Generator, frames: int) -> Batch:
        """`batch_size` stretches of `frames` frames, or as many single frames as that many clips have."""
        whole = self.latents.shape[2]
        count = self.stage.batch_size * (whole if frames == 1 else 1)
        chosen = rng.choice(len(self.latents), size=count, p=self.shares)
        starts = rng.integers(whole - frames + 1, size=count)
        clips = torch.from_numpy(np.stack([self.latents[i] for i in chosen])).float()
        truth = torch.from_numpy(np.stack([self.data.truth(int(i)) for i in chosen]))
        numbers = torch.from_numpy(starts)[:, None] + torch.arange(frames)
        plain = rng.random(count) < self.stage.plain_share
        captions = [
            describe(self.data.scene(int(i))) if all_said else self.data.caption(int(i), rng)
            for i, all_said in zip(chosen, plain, strict=True)
        ]
        dropped = rng.random(count) < self.stage.caption_dropout
        return Batch(
            torch.stack([clip[:, which] for clip, which in zip(clips, numbers, strict=True)]),
            ["" if drop else text for drop, text in zip(dropped, captions, strict=True)],
            numbers,
            clips,
            truth,
        )

    def loss(self, model: Conditioned, rng: np.random.Generator, generator: torch.Generator) -> dict[str, Tensor]:
        """The denoising loss and those of the heads."""
        return self.denoising_loss(model, rng, generator, self.frames)

    def denoising_loss(
        self, model: Conditioned, rng: np.random.Generator, generator: torch.Generator, frames: int
    ) -> dict[str, Tensor]:
        """Mean squared error of the network's output at random timesteps (DDPM's simple loss)."""
        device = generator.device
        batch = self.batch(rng, frames)
        latents, numbers = batch.latents.to(device), batch.numbers.to(device)
        # An image has no number; a frame of a clip has one, and with it its caption's motion has a meaning.
        told = None if frames == 1 and rng.random() >= self.stage.number_share else numbers
        tokens = model.text_encoder.tokenize(batch.captions).to(device)
        encoded = model.text_encoder(tokens)
        share = torch.rand(len(latents), generator=generator, device=device) ** self.stage.timestep_power
        timestep = (share * self.schedule.config.train_steps).long()
        noise = torch.randn(latents.shape, generator=generator, device=device)
        led = 0 if frames == 1 else int((rng.random(len(latents)) < self.stage.prompt_share).sum())
        if led:  # the first `led` clips go on from first frames, and begin anywhere, as extending clips do
            shifts = torch.from_numpy(rng.integers(frames, size=led)).to(device)
            order = (shifts[:, None] + torch.arange(frames, device=device)) % frames
            numbers[:led] = numbers[:led].gather(1, order)
            latents[:led] = torch.stack([clip[:, each] for clip, each in zip(latents[:led], order, strict=True)])
        noisy, target = self.schedule.noised(latents, noise, timestep)
        counted = torch.ones_like(noisy[:, :1])
        if led:
            prompt = slice(self.stage.prompt_frames)
            level = (timestep[:led] * self.stage.prompt_noise).long()
            known = latents[:led, :, prompt]
            if self.stage.prompt_noise:
                known, _ = self.schedule.noised(known, noise[:led, :, prompt], level)
            noisy[:led, :, prompt], counted[:led, :, prompt] = known, 0.0
        error = (model.unet(noisy, timestep, encoded, told) - target).square()
        mse = (error * counted).mean() / counted.mean()
        return {"mse": mse, **self.heads_losses(model, batch, tokens, encoded)}

    def heads_losses(self, model: Conditioned, batch: Batch, tokens: Tensor, encoded: Tensor) -> dict[str, Tensor]:
        """What the heads say of the captions' tokens and encoding, each with its weight."""
        losses = {}
        if model.words is not None:
            losses["words"] = self.stage.words_weight * model.words(encoded, tokens)
        if model.places is None and model.pictures is None:
            return losses
        numbers = torch.arange(batch.clips.shape[2], device=encoded.device)
        features = model.unet.frame_embedding.features(encoded, numbers)
        if model.places is not None:
            losses["places"] = self.stage.places_weight * model.places(features, batch.truth.to(encoded.device))
        if model.pictures is not None:
            pictures = model.pictures(model.unet, features, batch.clips.to(encoded.device))
            losses["pictures"] = self.stage.pictures_weight * pictures
        return losses

    def sample(self, model: Conditioned, path: Path) -> dict[str, float]:
        """A sheet of clips for fixed prompts (from stills: each frame by itself), and the figures of `probe`."""
        prompts = [describe(scene) for scene in evaluation_scenes(14, seed=0)]
        contact_sheet(list(self.generate(model, prompts)), path, labels=prompts)
        return self.probe(model)

    def generate(self, model: Conditioned, prompts: list[str], steps: int = 20) -> NDArray[np.uint8]:
        """Clips uint8 [B, F, H, W, 3] for prompts."""
        channels, whole, height, width = self.latents.shape[1:]
        alone = whole // self.frames  # clips of one frame are put together afterwards
        said = [prompt for prompt in prompts for _ in range(alone)]
        cond, uncond = (model.text_encoder.encode(p) for p in (said, [""] * len(said)))
        numbers = torch.arange(whole).view(alone, self.frames).repeat(len(prompts), 1).to(cond.device)

        def network(x: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
            return model.unet(x, timestep, text, numbers.repeat(len(x) // len(numbers), 1))

        generator = torch.Generator().manual_seed(0)
        noise = torch.randn((len(said), channels, self.frames, height, width), generator=generator).to(cond.device)
        sigmas = self.schedule.sigmas(steps)
        denoise = self.schedule.denoiser(guided(network, cond, uncond, self.schedule.config.cfg))
        latents = ddim(denoise, self.schedule.start(noise, sigmas[0]), sigmas).cpu()
        clips = rearrange(latents, "(p a) c f h w -> p c (a f) h w", a=alone)
        return to_frames(self.vae.decode(clips))

    def probe(self, model: Conditioned) -> dict[str, float]:
        """By what share the loss grows when one word of the captions is swapped, where the SNR is 1 / 150 or least.

        A model that does not read a kind of word shows no gap for it.
        """
        rng, device = np.random.default_rng(0), next(model.parameters()).device
        level = min(int((self.schedule.alphas_cumprod > 1 / 150).sum()), self.schedule.config.train_steps - 1)
        gaps = {}
        for word, other in PROBES.items():
            bank = range(min(4000, len(self.latents)))
            picked = [i for i in bank if word in describe(self.data.scene(i)).split()[:6]][:64]
            if not picked:
                continue
            starts = rng.integers(self.latents.shape[2] - self.frames + 1, size=len(picked))
            clips = [self.latents[i, :, s : s + self.frames] for i, s in zip(picked, starts, strict=True)]
            numbers = (torch.from_numpy(starts)[:, None] + torch.arange(self.frames)).to(device)
            latents = torch.from_numpy(np.stack(clips)).float().to(device)
            noise = torch.from_numpy(rng.standard_normal(latents.shape)).float().to(device)
            timestep = torch.full((len(picked),), level, device=device)
            noisy, target = self.schedule.noised(latents, noise, timestep)
            said = [describe(self.data.scene(i)) for i in picked]
            swapped = [" ".join(other if w == word else w for w in text.split()) for text in said]
            right, wrong = (
                F.mse_loss(model.unet(noisy, timestep, model.text_encoder.encode(p), numbers), target).item()
                for p in (said, swapped)
            )
            gaps[f"{word}_to_{other}"] = round(wrong / right - 1, 4)
        return gaps


class ClipTask(ImageTask):
    """The temporal layers (and what else the preset names) on clips; some steps may still be of single frames."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.frames = self.latents.shape[2]
        if self.stage.prompt_share and self.stage.prompt_frames >= self.frames:
            raise RecipeError(
                f"stage {self.stage.name}: prompt_frames is {self.stage.prompt_frames}, expected less than the "
                f"{self.frames} frames of a clip"
            )

    def loss(self, model: Conditioned, rng: np.random.Generator, generator: torch.Generator) -> dict[str, Tensor]:
        """As for single frames, which a share of the steps are of, or on whole clips."""
        still = rng.random() < self.stage.image_share
        return self.denoising_loss(model, rng, generator, 1 if still else self.frames)


class CaptionTask(ImageTask):
    """The heads' losses alone, with no denoising: what captions and numbers say of frames is learned in minutes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.model.heads():
            raise RecipeError(
                f"stage {self.stage.name} has nothing to train: give words_weight, or places_weight or "
                "pictures_weight with a UNet that has frame_embedding or frame_pictures"
            )

    def loss(self, model: Conditioned, rng: np.random.Generator, generator: torch.Generator) -> dict[str, Tensor]:
        """The heads' losses."""
        batch = self.batch(rng, 1)
        tokens = model.text_encoder.tokenize(batch.captions).to(generator.device)
        return self.heads_losses(model, batch, tokens, model.text_encoder(tokens))
