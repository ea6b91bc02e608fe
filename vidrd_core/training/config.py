"""What `vidrd train` reads: one YAML file, a list of stages that are run in order."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from vidrd_core.data.bank import ShapesData
from vidrd_core.loading import built_in_models
from vidrd_core.models.config import DiffusionConfig, TextConfig, UNet3DConfig, VAEConfig, from_dict
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.training.presets import PRESETS

PRECISIONS = ("no", "fp16", "bf16")
TASKS = ("vae", "captions", "image", "clip", "vae_temporal")
VAE_TASKS = {"vae", "vae_temporal"}


class RecipeError(ValueError):
    """A recipe asks for what cannot be done."""


@dataclass(frozen=True)
class StageConfig:
    """One stage of training; settings that a stage does not use are ignored by it."""

    name: str
    task: str  # one of TASKS
    steps: int
    batch_size: int  # clips; in steps on single frames of UNet stages, as many frames as those clips have
    learning_rate: float
    rates: dict[str, float] = field(default_factory=dict)  # part of a name -> factor on the rate; the last one fits
    train: str = "all"  # which parameters: a preset of training.presets
    warmup: int = 100
    final_rate: float = 0.0  # of the cosine's end, as a factor
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema: float = 0.999
    accumulation: int = 1
    seed: int = 0
    log_every: int = 50
    sample_every: int = 500
    checkpoint_every: int = 500
    caption_dropout: float = 0.1
    plain_share: float = 0.0  # of the captions that say all there is to say, plainly
    emphasis: dict[str, float] = field(default_factory=dict)  # word -> how many times as often its clips are drawn
    timestep_power: float = 1.0  # t = T * u**power: below 1, noisy steps are drawn more often
    image_share: float = 0.0  # of the steps of a clip stage that train on single frames
    number_share: float = 0.85  # of the steps on single frames that tell the frame's number in its clip
    prompt_share: float = 0.0  # of the clips that go on from first frames which are kept clean, or less noisy
    prompt_frames: int = 2  # how many these are (M)
    prompt_noise: float = 0.0  # their timestep, as a share of the clip's
    kl_weight: float = 1e-4
    words_weight: float = 0.0  # of the text encoder's own loss: what the caption says
    places_weight: float = 0.0  # of the frame embedding's own loss: where the caption's sprites are
    pictures_weight: float = 0.0  # of the frame pictures' own loss: the latents, as far as the caption tells them

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"stage {self.name}: task is {self.task!r}, expected one of {', '.join(TASKS)}")
        if self.train not in PRESETS:
            raise ValueError(f"stage {self.name}: train is {self.train!r}, expected one of {', '.join(PRESETS)}")
        every = ("log_every", "sample_every", "checkpoint_every")
        for name in ("steps", "batch_size", "accumulation", "prompt_frames", *every):
            if getattr(self, name) < 1:
                raise ValueError(f"stage {self.name}: {name} is {getattr(self, name)}, expected at least 1")
        for name in ("learning_rate", "clip_norm", "timestep_power"):
            if getattr(self, name) <= 0:
                raise ValueError(f"stage {self.name}: {name} is {getattr(self, name)}, expected more than 0")
        shares = ("plain_share", "image_share", "number_share", "prompt_share", "prompt_noise")
        for name in ("final_rate", "caption_dropout", *shares):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"stage {self.name}: {name} is {getattr(self, name)}, expected 0 to 1")
        weights = ("kl_weight", "words_weight", "places_weight", "pictures_weight")
        for name in ("warmup", "weight_decay", "seed", *weights):
            if getattr(self, name) < 0:
                raise ValueError(f"stage {self.name}: {name} is {getattr(self, name)}, expected 0 or more")
        if not 0 <= self.ema < 1:
            raise ValueError(f"stage {self.name}: ema is {self.ema}, expected 0 or more and less than 1")
        for name, keys in (("rates", "parts of names"), ("emphasis", "words")):
            given = getattr(self, name).items()
            if wrong := {key: factor for key, factor in given if not isinstance(factor, int | float) or factor <= 0}:
                raise ValueError(f"stage {self.name}: {name} are {wrong}, expected {keys} with numbers above 0")

    def shaping(self) -> dict[str, Any]:
        """The settings that shape the result, by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if not name.endswith("_every")}


@dataclass(frozen=True)
class TrainConfig:
    """A whole recipe."""

    out: Path
    stages: tuple[StageConfig, ...]
    data: ShapesData
    unet: UNet3DConfig
    vae: VAEConfig
    text: TextConfig
    diffusion: DiffusionConfig
    init: Path | None = None  # a model folder to start from, or a built-in model's name in a recipe
    mixed_precision: str = "no"

    def __post_init__(self) -> None:
        """Raises ValueError for parts that cannot be or do not fit each other, as far as the stages need them."""
        tasks = {stage.task for stage in self.stages}
        facts: list[tuple[str, int, str, int]] = []
        if tasks & VAE_TASKS:
            _try(TemporalVAE, self.vae)
            size, side = self.data.size, self.vae.downsampling
            facts.append(("data.size", size, f"a multiple of {side}, for the VAE", size // side * side))
        if tasks - VAE_TASKS:
            _try(UNet3D, self.unet)
            for name in ("frames", "size"):
                expected = getattr(self.diffusion, name)
                facts.append((f"data.{name}", getattr(self.data, name), f"diffusion.{name}, {expected}", expected))
        if tasks - VAE_TASKS and not self.init:
            width, channels = self.unet.cross_attention_dim, self.vae.latent_channels
            facts.append(("text.hidden_size", self.text.hidden_size, f"unet.cross_attention_dim, {width}", width))
            facts.append(("unet.in_channels", self.unet.in_channels, f"vae.latent_channels, {channels}", channels))
        for name, value, expected, fitting in facts:
            if value != fitting:
                raise ValueError(f"{name} is {value}, expected {expected}")

    def shaping(self, stage: StageConfig) -> dict[str, Any]:
        """The settings that shape the result of a stage, by name, as JSON has them."""
        sections = ("data", "vae") if stage.task in VAE_TASKS else ("data", "unet", "text", "diffusion")
        values = stage.shaping()
        for section in sections:
            entries = dataclasses.asdict(getattr(self, section)).items()
            values |= {f"{section}.{name}": value for name, value in entries}
        return dict(json.loads(json.dumps(values)))


def changes(now: dict[str, Any], before: dict[str, Any]) -> str:
    """What is otherwise than it was, of the settings that both know; "" if nothing."""
    return ", ".join(
        f"{name} {value!r} (then {before[name]!r})"
        for name, value in now.items()
        if name in before and before[name] != value
    )


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
        raise ValueError(f"unknown settings {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    for needed in ("out", "stages"):
        if not raw.get(needed):
            raise ValueError(f"{needed} is missing")
    parts: dict[str, Any] = {
        "data": ShapesData, "unet": UNet3DConfig, "vae": VAEConfig, "text": TextConfig,
        "diffusion": DiffusionConfig,
    }  # fmt: skip
    if not isinstance(raw["stages"], list):
        raise ValueError(f"stages are {raw['stages']!r}, expected a list")
    stages = tuple(from_dict(StageConfig, stage) for stage in raw["stages"])
    names = [stage.name for stage in stages]
    if unfit := [name for name in names if names.count(name) > 1 or name in ("model", "bank")]:
        raise ValueError(f"a stage is called {unfit[0]!r}: each needs a name of its own, not model or bank")
    precision = raw.get("mixed_precision") or "no"  # YAML takes a bare no for false
    if precision not in PRECISIONS:
        raise ValueError(f"mixed_precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")
    return TrainConfig(
        out=_folder(raw, "out"),
        stages=stages,
        init=_model(raw) if raw.get("init") else None,
        mixed_precision=precision,
        **{name: from_dict(kind, raw.get(name) or {}) for name, kind in parts.items()},
    )


def _folder(raw: dict[str, Any], name: str) -> Path:
    if not isinstance(raw[name], str):
        raise ValueError(f"{name} is {raw[name]!r}, expected the name of a folder")
    return Path(raw[name])


def _model(raw: dict[str, Any]) -> Path:
    folder = _folder(raw, "init")
    return built_in_models().get(str(folder), folder)
