"""What `vidrd train` reads: one YAML file, a list of stages that are run in order."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vidrd_core.data.bank import ShapesData
from vidrd_core.models.config import DiffusionConfig, TextConfig, UNet3DConfig, VAEConfig, from_dict
from vidrd_core.training.presets import PRESETS

PRECISIONS = ("no", "fp16", "bf16")
TASKS = ("vae", "captions", "image", "clip", "vae_temporal")


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
    kl_weight: float = 1e-4
    words_weight: float = 0.0  # of the text encoder's own loss: what the caption says
    places_weight: float = 0.0  # of the frame embedding's own loss: where the caption's sprites are
    pictures_weight: float = 0.0  # of the frame pictures' own loss: the latents, as far as the caption tells them

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"stage {self.name}: task is {self.task!r}, expected one of {', '.join(TASKS)}")
        if self.train not in PRESETS:
            raise ValueError(f"stage {self.name}: train is {self.train!r}, expected one of {', '.join(PRESETS)}")
        for name in ("steps", "batch_size", "accumulation", "log_every", "sample_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"stage {self.name}: {name} is {getattr(self, name)}, expected at least 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"stage {self.name}: ema is {self.ema}, expected 0 or more and less than 1")
        for name, keys in (("rates", "parts of names"), ("emphasis", "words")):
            given = getattr(self, name).items()
            if wrong := {key: factor for key, factor in given if not isinstance(factor, int | float) or factor <= 0}:
                raise ValueError(f"stage {self.name}: {name} are {wrong}, expected {keys} with numbers above 0")


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
    init: Path | None = None  # a model folder to start from
    mixed_precision: str = "no"


def load_config(path: Path) -> TrainConfig:
    """Read a recipe. Raises ValueError naming an unknown or missing setting."""
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{path} holds no settings, expected out, data, stages, ...")
    known = {f.name for f in dataclasses.fields(TrainConfig)}
    if unknown := sorted(set(raw) - known):
        raise ValueError(f"{path}: unknown settings {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    for needed in ("out", "stages"):
        if not raw.get(needed):
            raise ValueError(f"{path}: {needed} is missing")
    parts: dict[str, Any] = {
        "data": ShapesData, "unet": UNet3DConfig, "vae": VAEConfig, "text": TextConfig,
        "diffusion": DiffusionConfig,
    }  # fmt: skip
    if not isinstance(raw["stages"], list):
        raise ValueError(f"{path}: stages are {raw['stages']!r}, expected a list")
    stages = tuple(from_dict(StageConfig, stage) for stage in raw["stages"])
    names = [stage.name for stage in stages]
    if unfit := [name for name in names if names.count(name) > 1 or name in ("model", "bank")]:
        raise ValueError(f"{path}: a stage is called {unfit[0]!r}: each needs a name of its own, not model or bank")
    precision = raw.get("mixed_precision") or "no"  # YAML takes a bare no for false
    if precision not in PRECISIONS:
        raise ValueError(f"{path}: mixed_precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")
    return TrainConfig(
        out=_folder(path, raw, "out"),
        stages=stages,
        init=_folder(path, raw, "init") if raw.get("init") else None,
        mixed_precision=precision,
        **{name: from_dict(kind, raw.get(name) or {}) for name, kind in parts.items()},
    )


def _folder(path: Path, raw: dict[str, Any], name: str) -> Path:
    if not isinstance(raw[name], str):
        raise ValueError(f"{path}: {name} is {raw[name]!r}, expected the name of a folder")
    return Path(raw[name])
