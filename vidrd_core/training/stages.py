"""A recipe from its first stage to a folder of model parts: `vidrd train CONFIG`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vidrd_core.data.bank import open_bank, pixel_bank, save_bank
from vidrd_core.data.shapes import VOCABULARY
from vidrd_core.loading import PARTS
from vidrd_core.models import checkpoint
from vidrd_core.models.parts import (
    load_text_encoder,
    load_unet,
    load_vae,
    save_text_encoder,
    save_unet,
    save_vae,
)
from vidrd_core.models.text import TextEncoder
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.pixels import to_video
from vidrd_core.training.config import VAE_TASKS, RecipeError, StageConfig, TrainConfig, changes
from vidrd_core.training.heads import Conditioned
from vidrd_core.training.trainer import Trainer
from vidrd_core.training.unet import CaptionTask, ClipTask, ImageTask
from vidrd_core.training.vae import ImageVAETask, TemporalVAETask

HEADS = "training heads"
UNET_TASKS = {"captions": CaptionTask, "image": ImageTask, "clip": ClipTask}


class Recipe:
    """Runs stages one after the other.

    What a stage has made is in a folder of its own, `out/NAME`, from which the stages after it start; `out/model` has
    the newest of each part, or that of the model to start from.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.model = config.out / "model"

    def run(self, only: str | None = None) -> Path:
        """Run all stages, or one; a finished stage is not run again. Returns the model's folder."""
        names = [stage.name for stage in self.config.stages]
        if only is not None and only not in names:
            raise RecipeError(f"there is no stage {only!r}; the recipe has {', '.join(names)}")
        self.model.mkdir(parents=True, exist_ok=True)
        for stage in self.config.stages:
            folder, shaping = self.config.out / stage.name, self.config.shaping(stage)
            done = folder / "done"
            if only not in (None, stage.name):
                continue
            if done.exists():
                if changed := changes(shaping, json.loads(done.read_text() or "{}")):
                    raise RecipeError(
                        f"stage {stage.name} is finished, and now has {changed}: undo that, or delete {folder} and "
                        f"those of the stages after it, to train them anew"
                    )
                continue
            torch.manual_seed(stage.seed)  # new layers start from it
            (self.vae if stage.task in VAE_TASKS else self.unet)(stage)
            for path in folder.glob("*.safetensors"):
                if path.name in PARTS:
                    partial = self.model / f"{path.name}.partial"
                    shutil.copyfile(path, partial)
                    partial.replace(self.model / path.name)
            done.write_text(json.dumps(shaping))
        for name in PARTS:
            if self.config.init and not (self.model / name).exists() and (self.config.init / name).exists():
                shutil.copyfile(self.config.init / name, self.model / name)
        return self.model

    def part(self, name: str, stage: StageConfig) -> Path | None:
        """Where the newest of a model part is of those made before a stage, or given to start from."""
        before = self.config.stages[: self.config.stages.index(stage)]
        folders = [self.config.out / earlier.name for earlier in reversed(before)]
        for folder in (*folders, self.config.init):
            if folder is not None and (folder / name).exists():
                return folder / name
        return None

    def pixels(self) -> NDArray[np.uint8]:
        """The bank's clips, uint8 [clips, F, H, W, 3]."""
        return pixel_bank(self.config.data, self.config.out / "bank" / "pixels.npy")

    def latents(self, vae: TemporalVAE) -> NDArray[np.float16]:
        """The bank's clips as this VAE's normalised latents, float16 [clips, C, F, h, w]."""
        data = self.config.data
        side = data.size // vae.config.downsampling
        shape = (data.clips, vae.config.latent_channels, data.frames, side, side)
        path = self.config.out / "bank" / "latents.npy"
        made_of = {**data.made_of(), "encoder": encoder_digest(vae)}
        if not path.exists():
            pixels = self.pixels()

            @torch.no_grad()
            def encode(start: int) -> NDArray[np.float16]:
                return vae.encode(to_video(pixels[start : start + 16])).half().numpy()

            save_bank(path, shape, np.dtype(np.float16), map(encode, range(0, data.clips, 16)), made_of)
        return open_bank(path, shape, made_of)

    def load_vae(self, stage: StageConfig) -> TemporalVAE:
        """The VAE made before a stage. Raises RecipeError if there is none."""
        path = self.part("vae.safetensors", stage)
        if path is None:
            raise RecipeError("there is no VAE yet: run a stage of the task vae first, or name a model in init")
        return load_vae(path)

    def vae(self, stage: StageConfig) -> None:
        """Run a stage that trains the VAE."""
        clips = self.pixels()
        if stage.task == "vae":
            image_config = dataclasses.replace(self.config.vae, temp_conv_depth=0)
            path = self.part("vae.safetensors", stage)
            vae = load_vae(path) if path else TemporalVAE(image_config)
            task = ImageVAETask(vae, clips, stage)
        else:
            image_vae = self.load_vae(stage)
            depth = self.config.vae.temp_conv_depth
            vae = TemporalVAE(dataclasses.replace(image_vae.config, temp_conv_depth=depth))
            vae.load_state_dict(image_vae.state_dict(), strict=False)
            task = TemporalVAETask(vae, clips, stage)
        trained = Trainer(task, stage, self.config.out / stage.name, self.config.mixed_precision).run()
        assert isinstance(trained, TemporalVAE)
        if stage.task == "vae":
            measure_latents(trained, clips[:512])
        save_vae(trained, self.config.out / stage.name / "vae.safetensors")

    def unet(self, stage: StageConfig) -> None:
        """Run a stage that trains the UNet or the text encoder."""
        unet_path, text_path = (self.part(f"{name}.safetensors", stage) for name in ("unet", "text_encoder"))
        if stage.train != "all" and None in (unet_path, text_path):
            raise RecipeError(
                f"stage {stage.name} trains the layers of {stage.train!r} alone, and there is no UNet with a text "
                f"encoder yet: run a stage of the task image first, or name a model in init"
            )
        text = (
            load_text_encoder(text_path)
            if text_path
            else TextEncoder(dataclasses.replace(self.config.text, words=VOCABULARY))
        )
        diffusion = self.config.diffusion
        unet_config = self.config.unet
        if stage.task in ("captions", "image"):
            unet_config = dataclasses.replace(unet_config, temp_conv_depth=0, temp_attention="none")
        unet = UNet3D(unet_config)
        if unet_path:
            trained, _ = load_unet(unet_path)
            state = {k: v for k, v in trained.state_dict().items() if k in unet.state_dict()}
            missing, _ = unet.load_state_dict(state, strict=False)
            print(f"{stage.name}: {len(state)} tensors taken over, {len(missing)} new", flush=True)
        vae = self.load_vae(stage)
        task = UNET_TASKS[stage.task](unet, text, diffusion, self.config.data, self.latents(vae), vae, stage)
        path = self.part("heads.safetensors", stage)  # of the stages before; the model does not need them
        heads = checkpoint.read(path, HEADS)[0] if path else {}
        task.model.load_state_dict(heads, strict=False)
        pair = Trainer(task, stage, self.config.out / stage.name, self.config.mixed_precision).run()
        assert isinstance(pair, Conditioned)
        folder = self.config.out / stage.name
        save_unet(pair.unet, diffusion, folder / "unet.safetensors")
        save_text_encoder(pair.text_encoder, folder / "text_encoder.safetensors")
        checkpoint.write(folder / "heads.safetensors", {**heads, **pair.heads()}, HEADS)


def encoder_digest(vae: TemporalVAE) -> str:
    """Twelve hex digits that tell the latents of this VAE from those of another."""
    digest = hashlib.sha256(repr((vae.config.latents_mean, vae.config.latents_std)).encode())
    for part in (vae.encoder, vae.quant_conv):
        for name, tensor in part.state_dict().items():
            digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


@torch.no_grad()
def measure_latents(vae: TemporalVAE, clips: NDArray[np.uint8]) -> None:
    """Set the VAE's latent statistics, per channel, from clips uint8 [K, F, H, W, 3]."""
    means = torch.cat([vae.moments(to_video(clips[i : i + 16]))[0] for i in range(0, len(clips), 16)])
    channels = means.transpose(0, 1).flatten(1)
    vae.config = dataclasses.replace(
        vae.config,
        latents_mean=tuple(round(v, 5) for v in channels.mean(dim=1).tolist()),
        latents_std=tuple(round(v, 5) for v in channels.std(dim=1).tolist()),
    )
