"""A recipe from its first stage to a folder of model parts: `vidrd train CONFIG`."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from vidrd_core.io import safetensors
from vidrd_core.io.atomic import atomic_file
from vidrd_core.io.configs import changes
from vidrd_core.loading import PARTS, files_of, find
from vidrd_core.models.inflate import save_temporal
from vidrd_core.models.load_parts import load_unet, load_vae, save_text_encoder, save_unet, save_vae
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.procedural import VOCABULARY
from vidrd_core.procedural.datasets import ShapesData
from vidrd_core.training import lora
from vidrd_core.training.auxiliary_heads import Conditioned
from vidrd_core.training.caption_encoding import Encoder
from vidrd_core.training.config import TrainConfig
from vidrd_core.training.data import Data, RecipeError
from vidrd_core.training.datasets import Drawn
from vidrd_core.training.discriminator import Judged
from vidrd_core.training.distributed import processes
from vidrd_core.training.latent_statistics import measure_latents
from vidrd_core.training.pretrained import load_init_text
from vidrd_core.training.stage_config import VAE_TASKS, StageConfig
from vidrd_core.training.trainer import Trainer
from vidrd_core.training.unet import CaptionTask, ClipTask, ImageTask
from vidrd_core.training.vae import ImageVAETask, TemporalVAETask
from vidrd_core.training.validation import Samples

HEADS = "training heads"
TEMPORAL_ALONE = "temporal.safetensors"
UNET_TASKS = {"captions": CaptionTask, "image": ImageTask, "clip": ClipTask}


class Recipe:
    """Runs stages one after the other.

    What a stage has made is in a folder of its own, `out/NAME`, from which the stages after it start; `out/model` has
    the newest of each part, or that of the model to start from, and the layers over time alone.
    """

    def __init__(self, config: TrainConfig, workers: int = 1) -> None:
        """`workers` processes draw, or decode, what is kept on disk of many clips."""
        self.config, self.workers = config, workers
        self.model = config.out / "model"
        self.processes = processes()

    @cached_property
    def data(self) -> Data:
        """Raises RecipeError for sources that cannot be read."""
        try:
            data = Data(self.config.data, self.config.out / "bank", self.workers)
            data.pool({})
            return data
        except RecipeError:
            raise
        except (OSError, ValueError) as error:
            raise RecipeError(f"data: {error}") from error

    def run(self, only: str | None = None) -> Path:
        """Run all stages, or one; a finished stage is not run again. Returns the model's folder."""
        names = [stage.name for stage in self.config.stages]
        if only is not None and only not in names:
            raise RecipeError(f"there is no stage {only!r}; the recipe has {', '.join(names)}")
        with self.alone():
            return self._run(only)

    def _run(self, only: str | None) -> Path:
        if not all(map(self.is_done, self.config.stages)):
            _ = self.data  # what is wrong with it is told now
        for stage in self.config.stages:
            if only in (None, stage.name) and not self.is_done(stage):
                torch.manual_seed(stage.seed)  # new layers start from it
                (self.vae if stage.task in VAE_TASKS else self.unet)(stage)
                self.finish(stage)
        if self.processes.is_main_process:
            self.complete()
        self.processes.wait_for_everyone()
        return self.model

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Raises RecipeError if another run writes to the folder."""
        if not self.processes.is_main_process:
            yield
            return
        self.config.out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.config.out / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RecipeError(
                f"another run trains in {self.config.out}: wait for it, or choose another out"
            ) from error
        with lock:
            yield

    def is_done(self, stage: StageConfig) -> bool:
        """Whether a stage is finished. Raises RecipeError if it was by other settings."""
        folder = self.config.out / stage.name
        done = folder / "done"
        if not done.exists():
            return False
        if changed := changes(self.config.shaping(stage), json.loads(done.read_text() or "{}")):
            raise RecipeError(
                f"stage {stage.name} is finished, and now has {changed}: undo that, or delete {folder} and those of "
                f"the stages after it, to train them anew"
            )
        return True

    def finish(self, stage: StageConfig) -> None:
        """Put what a stage has made into the model."""
        folder = self.config.out / stage.name
        if self.processes.is_main_process:
            self.model.mkdir(exist_ok=True)
            for path in folder.glob("*.safetensors"):
                if path.name in (*PARTS, TEMPORAL_ALONE):
                    _copy(path, self.model / path.name)
            (folder / "done").write_text(json.dumps(self.config.shaping(stage)))
        self.processes.wait_for_everyone()

    def complete(self) -> None:
        """Put the parts that no stage made into the model, from the model to start from."""
        if self.config.init is None:
            return
        for name, path in files_of(find(self.config.init)).items():
            target = self.model / f"{name}.safetensors"
            if target.exists():
                continue
            if path.name == target.name and path.parent == self.config.init:
                _copy(path, target)
            elif name == "vae":
                save_vae(load_vae(path), target)
            elif name == "text_encoder":
                save_text_encoder(load_init_text(path), target)

    def part(self, name: str, stage: StageConfig) -> Path | None:
        """Where the newest of a model part is of those made before a stage, or given to start from."""
        before = self.config.stages[: self.config.stages.index(stage)]
        made = (self.config.out / each.name / name for each in reversed(before))
        given = files_of(find(self.config.init)).get(name.removesuffix(".safetensors")) if self.config.init else None
        return next((path for path in (*made, given) if path is not None and path.exists()), None)

    def load_vae(self, stage: StageConfig) -> TemporalVAE:
        """The VAE made before a stage. Raises RecipeError if there is none."""
        path = self.part("vae.safetensors", stage)
        if path is None:
            raise RecipeError("there is no VAE yet: run a stage of the task vae first, or name a model in init")
        return load_vae(path).requires_grad_(False).to(self.processes.device)

    def vae(self, stage: StageConfig) -> None:
        """Run a stage that trains the VAE."""
        if stage.task == "vae":
            path = self.part("vae.safetensors", stage)
            vae = load_vae(path) if path else TemporalVAE(dataclasses.replace(self.config.vae, temp_conv_depth=0))
            task = ImageVAETask(vae, self.data, stage)
        else:
            image_vae = self.load_vae(stage)
            depth = self.config.vae.temp_conv_depth
            vae = TemporalVAE(dataclasses.replace(image_vae.config, temp_conv_depth=depth))
            vae.load_state_dict(image_vae.state_dict(), strict=False)
            task = TemporalVAETask(vae, self.data, stage)
        trained = self.trained(task, stage)
        assert isinstance(trained, Judged)
        if stage.task == "vae":
            measure_latents(trained.vae.to(self.processes.device), task)
            trained.vae.cpu()
        if self.processes.is_main_process:
            save_vae(trained.vae, self.config.out / stage.name / "vae.safetensors")

    def unet(self, stage: StageConfig) -> None:
        """Run a stage that trains the UNet or the text encoder."""
        model = self.conditioned(stage)
        vae = self.load_vae(stage)
        samples = self.samples()
        if samples.prompts:
            model.text_encoder.tokenize(samples.prompts)  # a word that it does not know is told now
        task = UNET_TASKS[stage.task](model, self.config.diffusion, self.data, vae, stage, samples)
        path = self.part("heads.safetensors", stage)  # of the stages before; the model does not need them
        heads = safetensors.read(path, HEADS)[0] if path else {}
        model.load_state_dict(heads, strict=False)
        pair = self.trained(task, stage)
        assert isinstance(pair, Conditioned)
        folder = self.config.out / stage.name
        if not self.processes.is_main_process:
            return
        if lora.is_in(pair.unet):
            lora.write(pair.unet, folder / lora.FILE)
            lora.merge(pair.unet)
        save_unet(pair.unet, self.config.diffusion, folder / "unet.safetensors")
        if pair.unet.config.temp_conv_depth or pair.unet.config.temp_attention != "none":
            save_temporal(pair.unet, folder / TEMPORAL_ALONE)
        save_text_encoder(pair.text_encoder, folder / "text_encoder.safetensors")
        safetensors.write(folder / "heads.safetensors", {**heads, **pair.heads()}, HEADS)

    def conditioned(self, stage: StageConfig) -> Conditioned:
        """The UNet and the text encoder that a stage starts from. Raises RecipeError if they are missing."""
        unet_path, text_path = (self.part(f"{name}.safetensors", stage) for name in ("unet", "text_encoder"))
        if stage.train != "all" and None in (unet_path, text_path):
            raise RecipeError(
                f"stage {stage.name} trains the layers of {stage.train!r} alone, and there is no UNet with a text "
                f"encoder yet: run a stage of the task image first, or name a model in init"
            )
        text: Encoder = (
            load_init_text(text_path)
            if text_path
            else TextEncoder(dataclasses.replace(self.config.text, words=VOCABULARY))
        )
        config = self.config.unet
        if stage.task in ("captions", "image"):
            config = dataclasses.replace(config, temp_conv_depth=0, temp_attention="none")
        unet = UNet3D(config)
        if unet_path:
            before, _ = load_unet(unet_path)
            state = {k: v for k, v in before.state_dict().items() if k in unet.state_dict()}
            missing, _ = unet.load_state_dict(state, strict=False)
            if self.processes.is_main_process:
                print(f"{stage.name}: {len(state)} tensors taken over, {len(missing)} new", flush=True)
        if stage.train == "lora":
            lora.put_in(unet, stage.lora_rank)
        return Conditioned(unet, text.to(self.processes.device), stage)

    def trained(self, task: ImageTask | ImageVAETask, stage: StageConfig) -> torch.nn.Module:
        """What a task's training ends in."""
        folder = self.config.out / stage.name
        made_with = self.config.shaping(stage)
        return Trainer(task, stage, folder, self.config.mixed_precision, self.config.trackers, made_with).run()

    def samples(self) -> Samples:
        drawn = (clips.data for clips in self.data.clips.values() if isinstance(clips, Drawn))
        shapes = next((data for data in drawn if isinstance(data, ShapesData)), None)
        return Samples(self.config.samples, self.config.data.all_sizes()[0], self.config.data.frames, shapes)


def _copy(path: Path, target: Path) -> None:
    with atomic_file(target) as partial:
        shutil.copyfile(path, partial)
