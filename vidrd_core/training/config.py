"""What `vidrd train` reads: one YAML file, a list of stages that are run in order."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml

from vidrd_core.io.configs import from_dict, meant
from vidrd_core.loading import built_in_models
from vidrd_core.models.config import TextConfig, UNet3DConfig, VAEConfig
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.sampling import DiffusionConfig
from vidrd_core.training.data import DataConfig, RecipeError, clips_of
from vidrd_core.training.datasets import SourceConfig
from vidrd_core.training.pretrained import InitConfigs, as_video, configs_of
from vidrd_core.training.stage_config import VAE_TASKS, StageConfig
from vidrd_core.training.validation import SampleConfig

PRECISIONS = ("no", "fp16", "bf16")
TRACKERS = ("tensorboard", "wandb")

__all__ = ["RecipeError", "StageConfig", "TrainConfig", "load_config"]


@dataclass(frozen=True)
class TrainConfig:
    """A whole recipe."""

    out: Path
    stages: tuple[StageConfig, ...]
    data: DataConfig
    unet: UNet3DConfig
    vae: VAEConfig
    text: TextConfig
    diffusion: DiffusionConfig
    samples: SampleConfig = field(default_factory=SampleConfig)
    init: Path | None = None  # a model to start from: a file or folder of any kind, or a built-in one's name
    mixed_precision: str = "no"
    trackers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for parts that cannot be or do not fit each other, as far as the stages need them."""
        tasks = {stage.task for stage in self.stages}
        facts: list[tuple[str, int, str, int]] = []
        side = self.vae.downsampling
        for width, height in self.data.all_sizes():
            facts += [
                ("data.size", s, f"a multiple of {side}, for the VAE", s // side * side) for s in (width, height)
            ]
        if tasks & VAE_TASKS:
            _try(TemporalVAE, self.vae)
        if tasks - VAE_TASKS:
            _try(UNet3D, self.unet)
            expected = self.diffusion.frames
            facts.append(("data.frames", self.data.frames, f"diffusion.frames, {expected}", expected))
        if tasks - VAE_TASKS and not self.init:
            size, width, channels = self.diffusion.size, self.unet.cross_attention_dim, self.vae.latent_channels
            anew = "; or name a model to start from in init"
            if not self.data.sizes:
                facts.append(("data.size", self.data.size, f"diffusion.size, {size}{anew}", size))
            facts += [
                ("text.hidden_size", self.text.hidden_size, f"unet.cross_attention_dim, {width}{anew}", width),
                ("unet.in_channels", self.unet.in_channels, f"vae.latent_channels, {channels}{anew}", channels),
            ]
        for name, value, wanted, fitting in facts:
            if value != fitting:
                raise ValueError(f"{name} is {value}, expected {wanted}")

    def shaping(self, stage: StageConfig) -> dict[str, Any]:
        """The settings that shape the result of a stage, by name, as JSON has them."""
        sections = ("data", "vae") if stage.task in VAE_TASKS else ("data", "unet", "text", "diffusion")
        values = stage.shaping()
        for section in sections:
            entries = dataclasses.asdict(getattr(self, section)).items()
            values |= {f"{section}.{name}": value for name, value in entries if name != "cache"}
        return dict(json.loads(json.dumps({**values, "init": str(self.init) if self.init else None}, default=str)))


def _try(kind: Any, config: Any) -> None:
    """Raise ValueError if there can be no such model; none is made."""
    try:
        with torch.device("meta"):
            kind(config)
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ValueError(f"there can be no such {kind.__name__}: {error}") from error


def load_config(path: Path) -> TrainConfig:
    """Read a recipe. Raises OSError, or ValueError naming a setting that is unknown, missing or unfit."""
    try:
        return _config(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _config(raw: Any) -> TrainConfig:
    if not isinstance(raw, dict):
        raise ValueError("it holds no settings, expected out, data, stages, ...")
    known = {f.name for f in dataclasses.fields(TrainConfig)}
    if unknown := sorted(map(str, set(raw) - known)):
        raise ValueError(f"unknown settings {meant(unknown, known)}; known are {', '.join(sorted(known))}")
    for needed in ("out", "stages"):
        if not raw.get(needed):
            raise ValueError(f"{needed} is missing")
    if not isinstance(raw["stages"], list):
        raise ValueError(f"stages are {raw['stages']!r}, expected a list")
    stages = tuple(from_dict(StageConfig, stage, _stage(stage)) for stage in raw["stages"])
    names = [stage.name for stage in stages]
    if unfit := [name for name in names if names.count(name) > 1 or name in ("model", "bank")]:
        raise ValueError(f"a stage is called {unfit[0]!r}: each needs a name of its own, not model or bank")
    precision = raw.get("mixed_precision") or "no"  # YAML takes a bare no for false
    if precision not in PRECISIONS:
        raise ValueError(f"mixed_precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")
    trackers = raw.get("trackers") or ()
    trackers = (trackers,) if isinstance(trackers, str) else tuple(trackers)
    if unknown := [name for name in trackers if name not in TRACKERS]:
        raise ValueError(f"trackers has {unknown[0]!r}, expected {' or '.join(TRACKERS)}")
    if missing := [name for name in trackers if not find_spec(name)]:
        raise ValueError(f"trackers has {missing[0]}, which is not installed: pip install {missing[0]}")
    init, data = _model(raw) if raw.get("init") else None, _data(raw.get("data") or {})
    like = as_video(configs_of(init), {stage.task for stage in stages}, data) if init else InitConfigs()
    return TrainConfig(
        out=_folder(raw, "out"),
        stages=stages,
        data=data,
        unet=_like(UNet3DConfig, like.unet, raw, "unet"),
        vae=_like(VAEConfig, like.vae, raw, "vae"),
        text=_like(TextConfig, like.text, raw, "text"),
        diffusion=_like(DiffusionConfig, like.diffusion, raw, "diffusion"),
        samples=from_dict(SampleConfig, raw.get("samples") or {}, "samples"),
        init=init,
        mixed_precision=precision,
        trackers=trackers,
    )


def _stage(raw: Any) -> str:
    """What errors call a stage that is not read yet."""
    return f"stage {raw['name']}" if isinstance(raw, dict) and raw.get("name") else "a stage"


def _data(raw: Any) -> DataConfig:
    """The data's settings, its sources as settings of their own."""
    if not isinstance(raw, dict):
        raise ValueError(f"data is {raw!r}, expected names with values")
    config = from_dict(DataConfig, {name: value for name, value in raw.items() if name != "sources"}, "data")
    sources = raw.get("sources") or []
    if not isinstance(sources, list):
        raise ValueError(f"data.sources are {sources!r}, expected a list")
    config = dataclasses.replace(
        config, sources=tuple(from_dict(SourceConfig, source, "a source") for source in sources)
    )
    if not config.sources and not config.mix:
        raise ValueError("data has no sources: give some, or a mix")
    for source in config.all_sources():
        if source.shards is None:
            clips_of(source, config)  # a mistake in it is told now
    return config


def _like(kind: Any, like: Any, recipe: dict[str, Any], section: str) -> Any:
    """A section of a recipe, in place of a model's own settings where there is one."""
    raw = recipe.get(section) or {}
    if like is not None and isinstance(raw, dict):
        return from_dict(kind, {**vars(like), **raw}, section) if raw else like
    return from_dict(kind, raw, section)


def _folder(raw: dict[str, Any], name: str) -> Path:
    if not isinstance(raw[name], str):
        raise ValueError(f"{name} is {raw[name]!r}, expected the name of a folder")
    return Path(raw[name])


def _model(raw: dict[str, Any]) -> Path:
    folder = _folder(raw, "init")
    return built_in_models().get(str(folder), folder)
