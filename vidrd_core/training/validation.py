"""What a model in training makes of fixed prompts: sheets, a long video, and how it reads single words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from vidrd_core.models.vae import TemporalVAE
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural import describe, evaluation_scenes
from vidrd_core.procedural.datasets import ShapesData
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sampling import DiffusionConfig, Schedule, ddim, guided
from vidrd_core.training.auxiliary_heads import Conditioned
from vidrd_core.video import contact_sheet, open_video
from vidrd_core.video.tensors import to_frames, to_video

PROBES = {"red": "green", "circle": "square", "star": "cross", "right": "left", "up": "down", "growing": "shrinking"}
PROBED = 64  # clips of a word
FPS = 8.0


@dataclass(frozen=True)
class SampleConfig:
    """What a recipe's UNet stages show every `sample_every` steps. Raises ValueError for what cannot be."""

    prompts: tuple[str, ...] = ()  # of shapes, if there are none and the data have shapes
    steps: int = 20
    cfg: float | None = None  # the model's
    clips: int = 3  # of the long video of the first prompt; 1 makes none
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in {"steps": 1, "clips": 1, "seed": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"samples: {name} is {getattr(self, name)}, expected {least} or more")


@dataclass(frozen=True)
class Samples:
    """Draws them. `size` is width and height in pixels, `shapes` what words are probed with, if there are any."""

    config: SampleConfig
    size: tuple[int, int]
    frames: int
    shapes: ShapesData | None = None

    @property
    def prompts(self) -> list[str]:
        if self.config.prompts or not self.shapes:
            return list(self.config.prompts)
        return [describe(scene) for scene in evaluation_scenes(14, seed=0)]

    def stills(
        self, model: Conditioned, vae: TemporalVAE, diffusion: DiffusionConfig, folder: Path, step: int
    ) -> dict[str, float]:
        """A sheet of what single frames come to, each made by itself and told its number."""
        if self.prompts:
            frames = self.frames_alone(model, vae, diffusion)
            contact_sheet(list(frames), folder / f"sample_{step:06d}.png", labels=self.prompts)
        return self.probe(model, vae, diffusion, 1)

    def clips(
        self, model: Conditioned, vae: TemporalVAE, diffusion: DiffusionConfig, folder: Path, step: int
    ) -> dict[str, float]:
        """A sheet of clips, and a long video of the first prompt by the paper's settings."""
        if self.prompts:
            made = VidRD(model.unet, vae, model.text_encoder, diffusion)
            given: dict[str, Any] = {"steps": self.config.steps, "cfg": self.config.cfg, "seed": self.config.seed,
                     "frames": self.frames, "width": self.size[0], "height": self.size[1]}  # fmt: skip
            sheet = [made.frames(made.generate(prompt, **given)) for prompt in self.prompts]
            contact_sheet(sheet, folder / f"sample_{step:06d}.png", labels=self.prompts)
            if self.config.clips > 1:
                reuse = ReuseSettings(prompt_frames=min(4, self.frames - 1))
                chain = made.stream(self.prompts[0], self.config.clips, reuse, **given)
                frames = np.concatenate(list(made.decode(chain)))
                with open_video(folder / f"long_{step:06d}.mp4", FPS) as video:
                    video.write(frames)
                contact_sheet([frames], folder / f"long_{step:06d}.png", self.prompts[:1], seam_every=self.frames)
        return self.probe(model, vae, diffusion, self.frames)

    def frames_alone(self, model: Conditioned, vae: TemporalVAE, diffusion: DiffusionConfig) -> NDArray[np.uint8]:
        """Clips uint8 [B, F, H, W, 3] of frames that know nothing of each other."""
        schedule, device = Schedule(diffusion), next(model.parameters()).device
        said = [prompt for prompt in self.prompts for _ in range(self.frames)]
        cond, uncond = (model.text_encoder.encode(p) for p in (said, [""] * len(said)))
        numbers = torch.arange(self.frames, device=device).repeat(len(self.prompts))[:, None]

        def network(x: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
            return model.unet(x, timestep, text, numbers.repeat(len(x) // len(numbers), 1))

        side, generator = vae.config.downsampling, torch.Generator().manual_seed(self.config.seed)
        shape = (len(said), vae.config.latent_channels, 1, self.size[1] // side, self.size[0] // side)
        noise = torch.randn(shape, generator=generator).to(device)
        sigmas = schedule.sigmas(self.config.steps)
        scale = diffusion.cfg if self.config.cfg is None else self.config.cfg
        denoise = schedule.denoiser(guided(network, cond, uncond, scale))
        latents = ddim(denoise, schedule.start(noise, sigmas[0]), sigmas)
        frames = to_frames(vae.to(device).decode(latents))
        return frames.reshape(len(self.prompts), self.frames, *frames.shape[2:])

    def probe(
        self, model: Conditioned, vae: TemporalVAE, diffusion: DiffusionConfig, frames: int
    ) -> dict[str, float]:
        """By what share the loss grows when one word of the captions is swapped, where the SNR is 1 / 150 or least.

        A model that does not read a kind of word shows no gap for it.
        """
        if not self.shapes:
            return {}
        schedule, rng, device = Schedule(diffusion), np.random.default_rng(0), next(model.parameters()).device
        level = min(int((schedule.alphas_cumprod > 1 / 150).sum()), diffusion.train_steps - 1)
        said = [self.shapes.plain(i) for i in range(min(4000, self.shapes.clips))]
        gaps = {}
        for word, other in PROBES.items():
            picked = [i for i, text in enumerate(said) if word in text.split()[:6]][:PROBED]
            if not picked:
                continue
            starts = rng.integers(self.shapes.frames - frames + 1, size=len(picked))
            clips = [self.shapes.frames_of(i)[s : s + frames] for i, s in zip(picked, starts, strict=True)]
            numbers = (torch.from_numpy(starts)[:, None] + torch.arange(frames)).to(device)
            latents = vae.to(device).encode(to_video(np.stack(clips), device))
            noise = torch.from_numpy(rng.standard_normal(latents.shape)).float().to(device)
            timestep = torch.full((len(picked),), level, device=device)
            noisy, target = schedule.noised(latents, noise, timestep)
            right = [said[i] for i in picked]
            swapped = [" ".join(other if w == word else w for w in text.split()) for text in right]
            errors = [
                F.mse_loss(model.unet(noisy, timestep, model.text_encoder.encode(p), numbers), target).item()
                for p in (right, swapped)
            ]
            gaps[f"{word}_to_{other}"] = round(errors[1] / errors[0] - 1, 4)
        return gaps
