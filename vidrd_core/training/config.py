"""Training recipes, as `vidrd train` reads them: one YAML file with a list of stages that run in order."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vidrd_core.io.configs import from_dict, meant, read_yaml
from vidrd_core.loading import built_in_models
from vidrd_core.models.claimed_sizes import check_buildable
from vidrd_core.models.config import TextConfig, UNet3DConfig, VAEConfig
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.sampling import DiffusionConfig
from vidrd_core.training.data import DataConfig, clips_of
from vidrd_core.training.datasets import SourceConfig
from vidrd_core.training.pretrained import PretrainedConfigs, read_configs, with_temporal_layers
from vidrd_core.training.stage_config import VAE_TASKS, StageConfig, read_stage
from vidrd_core.training.validation import ValidationConfig

PRECISIONS = ("no", "fp16", "bf16")
TRACKERS = ("tensorboard", "wandb")


@dataclass(frozen=True)
class TrainConfig:
    """A training recipe.

    Args:
        out: The folder that everything is written to.
        stages: The stages, in order.
        data: What is trained on.
        unet: The UNet to train, or the settings of `init`'s.
        vae: The VAE likewise.
        text: The text encoder likewise.
        diffusion: Noise schedule, prediction type, and the shape of clips.
        samples: What is generated during training.
        init: A model to start from: a file or folder of any kind that is loaded, or a built-in one's.
        mixed_precision: "no", "fp16" or "bf16".
        trackers: "tensorboard" and "wandb", or none of them.

    Raises:
        ValueError: A part is invalid or does not fit another, as far as the stages need it.
    """

    out: Path
    stages: tuple[StageConfig, ...]
    data: DataConfig
    unet: UNet3DConfig
    vae: VAEConfig
    text: TextConfig
    diffusion: DiffusionConfig
    samples: ValidationConfig = field(default_factory=ValidationConfig)
    init: Path | None = None
    mixed_precision: str = "no"
    trackers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        tasks = {stage.task for stage in self.stages}
        requirements: list[tuple[str, int, str, int]] = []  # setting, value, expected, fitting value
        side = self.vae.downsampling
        for width, height in self.data.all_sizes():
            requirements += [
                ("data.size", s, f"a multiple of {side}, for the VAE", s // side * side) for s in (width, height)
            ]
        if tasks & VAE_TASKS:
            check_buildable(TemporalVAE, self.vae)
        if tasks - VAE_TASKS:
            check_buildable(UNet3D, self.unet)
            expected = self.diffusion.frames
            requirements.append(("data.frames", self.data.frames, f"diffusion.frames, {expected}", expected))
        if tasks - VAE_TASKS and not self.init:
            size, width, channels = self.diffusion.size, self.unet.cross_attention_dim, self.vae.latent_channels
            advice = "; or name a model to start from in init"
            if not self.data.sizes:
                requirements.append(("data.size", self.data.size, f"diffusion.size, {size}{advice}", size))
            requirements += [
                ("text.hidden_size", self.text.hidden_size, f"unet.cross_attention_dim, {width}{advice}", width),
                ("unet.in_channels", self.unet.in_channels, f"vae.latent_channels, {channels}{advice}", channels),
            ]
        for name, value, wanted, fitting in requirements:
            if value != fitting:
                raise ValueError(f"{name} is {value}, expected {wanted}")

    def shaping(self, stage: StageConfig) -> dict[str, Any]:
        """The settings that change the result of a stage, by name, as JSON-ready values."""
        sections = ("data", "vae") if stage.task in VAE_TASKS else ("data", "unet", "text", "diffusion")
        values = stage.shaping()
        for section in sections:
            entries = dataclasses.asdict(getattr(self, section)).items()
            values |= {f"{section}.{name}": value for name, value in entries if name != "cache"}
        for source in values["data.sources"]:
            if source["world"] is None:  # runs from before there were such sources go on
                del source["world"]
        return dict(json.loads(json.dumps({**values, "init": str(self.init) if self.init else None}, default=str)))


def load_config(path: Path) -> TrainConfig:
    """Read a recipe.

    Args:
        path: A YAML file.

    Returns:
        The recipe, with defaults for the settings that it leaves out.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not YAML, gives a key twice, or a setting is unknown, missing, of the wrong type, belongs to
            another task or does not fit the others; the message names the file and the setting.
    """
    raw = read_yaml(path)
    try:
        return _config(raw)
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
    stages = tuple(map(read_stage, raw["stages"]))
    names = [stage.name for stage in stages]
    if unfit := [name for name in names if names.count(name) > 1 or name in ("model", "bank")]:
        raise ValueError(f"a stage is called {unfit[0]!r}: each needs a name of its own, not model or bank")
    precision = raw.get("mixed_precision") or "no"  # YAML reads a bare no as false
    if precision not in PRECISIONS:
        raise ValueError(f"mixed_precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")
    init, data = _model(raw) if raw.get("init") else None, _data(raw.get("data") or {})
    pretrained = PretrainedConfigs()
    if init:
        pretrained = with_temporal_layers(read_configs(init), {stage.task for stage in stages}, data)
    return TrainConfig(
        out=_folder(raw, "out"),
        stages=stages,
        data=data,
        unet=_section(UNet3DConfig, pretrained.unet, raw, "unet"),
        vae=_section(VAEConfig, pretrained.vae, raw, "vae"),
        text=_section(TextConfig, pretrained.text, raw, "text"),
        diffusion=_section(DiffusionConfig, pretrained.diffusion, raw, "diffusion"),
        samples=from_dict(ValidationConfig, raw.get("samples") or {}, "samples"),
        init=init,
        mixed_precision=precision,
        trackers=_trackers(raw.get("trackers") or ()),
    )


def _trackers(raw: Any) -> tuple[str, ...]:
    """The names of trackers: one, or a list of them."""
    if not isinstance(raw, str | list | tuple):
        raise ValueError(f"trackers is {raw!r}, expected a list of {' or '.join(TRACKERS)}")
    trackers = (raw,) if isinstance(raw, str) else tuple(raw)
    if unknown := [name for name in trackers if name not in TRACKERS]:
        raise ValueError(f"trackers has {unknown[0]!r}, expected {' or '.join(TRACKERS)}")
    if missing := [name for name in trackers if not find_spec(name)]:
        raise ValueError(f"trackers has {missing[0]}, which is not installed: pip install {missing[0]}")
    return trackers


def _data(raw: Any) -> DataConfig:
    """The section `data`, with its sources."""
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
            clips_of(source, config)  # raises for invalid settings of procedural clips
    return config


def _section(kind: Any, pretrained: Any, recipe: dict[str, Any], name: str) -> Any:
    """A section of a recipe; what it leaves out is as in the pretrained model, where there is one."""
    raw = recipe.get(name) or {}
    if pretrained is not None and isinstance(raw, dict):
        return from_dict(kind, {**vars(pretrained), **raw}, name) if raw else pretrained
    return from_dict(kind, raw, name)


def _folder(raw: dict[str, Any], name: str) -> Path:
    if not isinstance(raw[name], str):
        raise ValueError(f"{name} is {raw[name]!r}, expected the name of a folder")
    return Path(raw[name])


def _model(raw: dict[str, Any]) -> Path:
    folder = _folder(raw, "init")
    return built_in_models().get(str(folder), folder)
