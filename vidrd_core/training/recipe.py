"""Runs a recipe from its first stage to a folder of model parts: `vidrd train CONFIG`."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from vidrd_core.io import safetensors
from vidrd_core.io.atomic import atomic_file, write_json
from vidrd_core.io.configs import changes
from vidrd_core.loading import PARTS, files_of, find
from vidrd_core.models.inflate import save_temporal
from vidrd_core.models.load_parts import load_unet, load_vae, save_text_encoder, save_unet, save_vae
from vidrd_core.models.temporal import TemporalConv, randomise
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.procedural import VOCABULARY, world
from vidrd_core.procedural.datasets import ShapesData, WorldData
from vidrd_core.training import lora
from vidrd_core.training.auxiliary_heads import UNetWithTextEncoder
from vidrd_core.training.caption_encoding import Encoder
from vidrd_core.training.config import TrainConfig
from vidrd_core.training.data import RecipeError, TrainingData
from vidrd_core.training.datasets import ProceduralClips
from vidrd_core.training.discriminator import VAEWithDiscriminator
from vidrd_core.training.distributed import join_processes
from vidrd_core.training.latent_statistics import measure_latents
from vidrd_core.training.pretrained import load_init_text
from vidrd_core.training.progress import PlainProgress, Progress
from vidrd_core.training.stage_config import (
    CaptionStageConfig,
    ClipStageConfig,
    ImageStageConfig,
    ImageVAEStageConfig,
    StageConfig,
    TemporalVAEStageConfig,
    UNetStageConfig,
    VAEStageConfig,
)
from vidrd_core.training.task import Task
from vidrd_core.training.trainer import Trainer
from vidrd_core.training.unet import CaptionTask, ClipTask, ImageTask
from vidrd_core.training.vae import ImageVAETask, TemporalVAETask
from vidrd_core.training.validation import Validation

HEADS = "training heads"
TEMPORAL_ALONE = "temporal.safetensors"


class Recipe:
    """Runs the stages of a recipe one after the other.

    Each stage writes to a folder of its own, `out/NAME`, from which the stages after it start; `out/model` has the
    newest version of each model part, or that of the model to start from, and the temporal layers by themselves.

    Args:
        config: The recipe.
        workers: Processes that render or decode the clips that are cached on disk.
        progress: Gets reports; by default they are printed as lines.

    Raises:
        RecipeError: Several processes were started and do not find each other.
    """

    def __init__(self, config: TrainConfig, workers: int = 1, progress: Progress | None = None) -> None:
        self.config, self.workers, self.progress = config, workers, progress or PlainProgress()
        self.model = config.out / "model"
        self.processes = join_processes()

    @cached_property
    def data(self) -> TrainingData:
        """The data. Raises RecipeError for sources that cannot be read."""
        try:
            cache = self.config.out / "bank"
            data = TrainingData(self.config.data, cache, self.workers, self.progress.message)
            data.sampler({})
            return data
        except RecipeError:
            raise
        except (OSError, ValueError) as error:
            raise RecipeError(f"data: {error}") from error

    def run(self, only: str | None = None) -> Path:
        """Run all stages, or one; a finished stage is not run again.

        Args:
            only: The name of the one stage to run.

        Returns:
            The model's folder.

        Raises:
            RecipeError: The recipe cannot be run, or a finished stage had other settings.
            FloatingPointError: A loss is not finite.
            OSError: A file cannot be read or written.
        """
        names = [stage.name for stage in self.config.stages]
        if only is not None and only not in names:
            raise RecipeError(f"there is no stage {only!r}; the recipe has {', '.join(names)}")
        with self.locked():
            return self._run(only)

    def _run(self, only: str | None) -> Path:
        if not all(map(self.is_done, self.config.stages)):
            _ = self.data  # raises now for data that cannot be read
        for stage in self.config.stages:
            if only in (None, stage.name) and not self.is_done(stage):
                torch.manual_seed(stage.seed)  # for new layers
                if isinstance(stage, VAEStageConfig):
                    self.train_vae(stage)
                else:
                    assert isinstance(stage, UNetStageConfig)
                    self.train_unet(stage)
                self.finish(stage)
        if self.processes.is_main_process:
            self.add_missing_parts()
        self.processes.wait_for_everyone()
        return self.model

    @contextmanager
    def locked(self) -> Iterator[None]:
        """A context in which no other run writes to the folder. Raises RecipeError if one does already."""
        if not self.processes.is_main_process:
            yield
            return
        self.config.out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.config.out / ".lock")
        try:
            held = lock.acquire(timeout=0)
        except Timeout as error:
            raise RecipeError(
                f"another run trains in {self.config.out}: wait for it, or choose another out"
            ) from error
        with held:
            yield

    def is_done(self, stage: StageConfig) -> bool:
        """Whether a stage is finished. Raises RecipeError if it was with other settings."""
        folder = self.config.out / stage.name
        done = folder / "done"
        if not done.exists():
            return False
        if changed := changes(self.config.shaping(stage), json.loads(done.read_text() or "{}")):
            raise RecipeError(
                f"stage {stage.name} is finished, and now has {changed}: undo that, or delete {folder} and those of "
                f"the stages after it, to train them again"
            )
        return True

    def finish(self, stage: StageConfig) -> None:
        """Copy the parts that a stage trained into the model's folder, and mark the stage as finished."""
        folder = self.config.out / stage.name
        if self.processes.is_main_process:
            self.model.mkdir(exist_ok=True)
            for path in folder.glob("*.safetensors"):
                if path.name in (*PARTS, TEMPORAL_ALONE):
                    _copy(path, self.model / path.name)
            write_json(folder / "done", self.config.shaping(stage), indent=None)
        self.processes.wait_for_everyone()

    def add_missing_parts(self) -> None:
        """Copy the parts that no stage trained from the model to start from into the model's folder."""
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

    def newest_part(self, name: str, stage: StageConfig) -> Path | None:
        """The file of a part that a stage starts from: of the last stage before it that has one, or of `init`."""
        before = self.config.stages[: self.config.stages.index(stage)]
        trained = (self.config.out / each.name / name for each in reversed(before))
        given = files_of(find(self.config.init)).get(name.removesuffix(".safetensors")) if self.config.init else None
        return next((path for path in (*trained, given) if path is not None and path.exists()), None)

    def load_vae(self, stage: StageConfig) -> TemporalVAE:
        """The VAE that a stage starts from, frozen. Raises RecipeError if there is none."""
        path = self.newest_part("vae.safetensors", stage)
        if path is None:
            raise RecipeError("there is no VAE yet: run a stage of the task vae first, or name a model in init")
        return load_vae(path).requires_grad_(False).to(self.processes.device)

    def train_vae(self, stage: VAEStageConfig) -> None:
        """Run a stage that trains the VAE."""
        task: ImageVAETask | TemporalVAETask
        if isinstance(stage, ImageVAEStageConfig):
            path = self.newest_part("vae.safetensors", stage)
            vae = load_vae(path) if path else TemporalVAE(dataclasses.replace(self.config.vae, temp_conv_depth=0))
            task = ImageVAETask(vae, self.data, stage)
        else:
            assert isinstance(stage, TemporalVAEStageConfig)
            image_vae = self.load_vae(stage)
            depth = self.config.vae.temp_conv_depth
            vae = TemporalVAE(dataclasses.replace(image_vae.config, temp_conv_depth=depth))
            vae.load_state_dict(image_vae.state_dict(), strict=False)
            task = TemporalVAETask(vae, self.data, stage)
        trained = self.train(task, stage)
        assert isinstance(trained, VAEWithDiscriminator)
        if isinstance(task, ImageVAETask):
            measure_latents(trained.vae.to(self.processes.device), task)
            trained.vae.cpu()
        if self.processes.is_main_process:
            save_vae(trained.vae, self.config.out / stage.name / "vae.safetensors")

    def train_unet(self, stage: UNetStageConfig) -> None:
        """Run a stage that trains the UNet, the text encoder or both."""
        task = self.unet_task(stage)
        path = self.newest_part("heads.safetensors", stage)
        heads = safetensors.read(path, HEADS)[0] if path else {}
        task.model.load_state_dict(heads, strict=False)
        model = self.train(task, stage)
        assert isinstance(model, UNetWithTextEncoder)
        folder = self.config.out / stage.name
        if not self.processes.is_main_process:
            return
        if lora.has_lora(model.unet):
            lora.save(model.unet, folder / lora.FILE)
            lora.merge(model.unet)
        save_unet(model.unet, self.config.diffusion, folder / "unet.safetensors")
        if model.unet.config.temp_conv_depth or model.unet.config.temp_attention != "none":
            save_temporal(model.unet, folder / TEMPORAL_ALONE)
        save_text_encoder(model.text_encoder, folder / "text_encoder.safetensors")
        safetensors.write(folder / "heads.safetensors", {**heads, **model.heads()}, HEADS)

    def unet_task(self, stage: UNetStageConfig) -> CaptionTask | ImageTask | ClipTask:
        """The task of a UNet stage, with the model that it starts from. Raises RecipeError, UnknownWordError."""
        model = self.load_unet_and_text(stage)
        vae = self.load_vae(stage)
        validation = self.validation()
        for prompt in validation.prompts:
            model.text_encoder.rows(prompt)  # raises now for a word that it does not know
        common = (model, self.config.diffusion, self.data, vae)
        if isinstance(stage, ClipStageConfig):
            return ClipTask(*common, stage, validation)
        if isinstance(stage, ImageStageConfig):
            return ImageTask(*common, stage, validation)
        assert isinstance(stage, CaptionStageConfig)
        return CaptionTask(*common, stage, validation)

    def load_unet_and_text(self, stage: UNetStageConfig) -> UNetWithTextEncoder:
        """The UNet and the text encoder that a stage starts from. Raises RecipeError if they are missing."""
        unet_path, text_path = (self.newest_part(f"{name}.safetensors", stage) for name in ("unet", "text_encoder"))
        if stage.train != "all" and None in (unet_path, text_path):
            raise RecipeError(
                f"stage {stage.name} trains the layers of {stage.train!r} alone, and there is no UNet with a text "
                f"encoder yet: run a stage of the task image first, or name a model in init"
            )
        text_config = dataclasses.replace(self.config.text, words=self.config.text.words or self.words())
        text: Encoder = load_init_text(text_path) if text_path else TextEncoder(text_config)
        config = self.config.unet
        if not isinstance(stage, ClipStageConfig):
            config = dataclasses.replace(config, temp_conv_depth=0, temp_attention="none")
        unet = UNet3D(config)
        new = dict(unet.named_modules())
        if unet_path:
            before, _ = load_unet(unet_path)
            state = {k: v for k, v in before.state_dict().items() if k in unet.state_dict()}
            new = {name: module for name, module in new.items() if f"{name}.conv1.0.weight" not in state}
            missing, _ = unet.load_state_dict(state, strict=False)
            if self.processes.is_main_process:
                self.progress.message(f"{stage.name}: {len(state)} tensors loaded, {len(missing)} new")
        for layer in new.values():
            if isinstance(layer, TemporalConv) and isinstance(stage, ClipStageConfig) and stage.temporal_gain:
                randomise(layer, stage.temporal_gain)
        if stage.train == "lora":
            lora.inject(unet, stage.lora_rank)
        return UNetWithTextEncoder(unet, text.to(self.processes.device), stage)

    def train(self, task: Task[Any], stage: StageConfig) -> torch.nn.Module:
        """Train a task to the last step of its stage; the model with its EMA weights."""
        folder, settings = self.config.out / stage.name, self.config.shaping(stage)
        precision, trackers = self.config.mixed_precision, self.config.trackers
        return Trainer(task, stage, folder, precision, trackers, settings, self.progress).run()

    def validation(self) -> Validation:
        """What draws samples during training."""
        rendered = (clips.data for clips in self.data.clips.values() if isinstance(clips, ProceduralClips))
        captioned = next((data for data in rendered if isinstance(data, ShapesData | WorldData)), None)
        return Validation(self.config.samples, self.config.data.all_sizes()[0], self.config.data.frames, captioned)

    def words(self) -> tuple[str, ...]:
        """The words of procedural captions: the vocabulary of a text encoder whose recipe gives none."""
        rendered = [clips.data for clips in self.data.clips.values() if isinstance(clips, ProceduralClips)]
        of_world = [isinstance(data, WorldData) for data in rendered]
        words = {*(world.VOCABULARY if any(of_world) else ()), *(() if of_world and all(of_world) else VOCABULARY)}
        return tuple(sorted(words))


def _copy(path: Path, target: Path) -> None:
    with atomic_file(target) as partial:
        shutil.copyfile(path, partial)
