"""The settings of a UNet3D, a temporal VAE and a text encoder, and how they are read from JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Config = TypeVar("Config")


@dataclass(frozen=True)
class UNet3DConfig:
    """A Stable Diffusion UNet with temporal layers; the defaults are VidRD on SD 2.1 (paper, section 4.1)."""

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention_levels: tuple[bool, ...] = (True, True, True, False)
    heads: tuple[int, ...] = (5, 10, 20, 20)
    layers_per_block: int = 2
    cross_attention_dim: int = 1024
    norm_groups: int = 32
    linear_projection: bool = True

    # what makes it a video model
    temp_conv_depth: int = 4
    dropout: float = 0.1
    temp_attention: Literal["inside", "after", "none"] = "inside"  # VidRD / ModelScope / a 2-D UNet
    embed_to: Literal["input", "stream"] = "input"
    transformer_in: bool = False
    joint_resnet_norm: bool = False  # GroupNorm of the ResNets over the clip, as in the released VidRD
    temporal_for_images: bool = False  # run the temporal layers on a clip of one frame, too

    # what small models need
    position_features: bool = False  # tell the first layer where in the frame it is (layers.position_features)
    text_pooling: bool = False  # add the pooled caption to the timestep embedding
    frame_embedding: int = 0  # hidden width of temporal.FrameEmbedding; 0 = none
    frame_pictures: int = 0  # channels of temporal.FramePictures, which needs frame_embedding; 0 = none

    def __post_init__(self) -> None:
        _check_widths(self.block_out_channels, self.norm_groups, self.layers_per_block)
        levels = len(self.block_out_channels)
        for name in ("attention_levels", "heads"):
            if len(getattr(self, name)) != levels:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, block_out_channels has {levels}")
        for width, heads in zip(self.block_out_channels, self.heads, strict=True):
            _check_heads(width, heads)
        if self.frame_pictures and not self.frame_embedding:
            raise ValueError(f"frame_pictures is {self.frame_pictures}, but frame_embedding is 0: it needs one")


CONTEXT = 4  # frames on either side beside which a window is decoded, where norms span frames


@dataclass(frozen=True)
class VAEConfig:
    """Stable Diffusion's AutoencoderKL, with SVD's decoder or VidRD's.

    VidRD's has Temp-Conv after each ResNet of the up blocks.
    """

    in_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_groups: int = 32
    patch_size: int = 1  # pixels folded into channels before the first conv
    decoder: Literal["temp_conv", "svd"] = "temp_conv"  # svd: ResNets in space and time, and no Temp-Conv
    temp_conv_depth: int = 3  # 0 = an image VAE
    joint_temp_norm: bool = False  # GroupNorm of Temp-Conv over all frames, as in the released VidRD
    quant_conv: bool = True  # a 1 x 1 conv after the encoder
    post_quant_conv: bool = True  # and one before the decoder, which SVD's lacks
    latents_mean: tuple[float, ...] = (0.0,)
    latents_std: tuple[float, ...] = (1 / 0.18215,)

    def __post_init__(self) -> None:
        _check_widths(self.block_out_channels, self.norm_groups, self.layers_per_block)
        for name in ("latents_mean", "latents_std"):
            if len(getattr(self, name)) not in (1, self.latent_channels):
                raise ValueError(f"{name} has {len(getattr(self, name))} entries: give 1 or {self.latent_channels}")
        if self.decoder == "svd" and self.temp_conv_depth:
            raise ValueError(f"temp_conv_depth is {self.temp_conv_depth}, expected 0: SVD's decoder has no Temp-Conv")

    @property
    def downsampling(self) -> int:
        """Pixels per latent along each side."""
        return self.patch_size * 2 ** (len(self.block_out_channels) - 1)

    @property
    def streams_exactly(self) -> bool:
        """Whether a decoded frame depends on its halo alone. It does not where a norm spans frames."""
        return self.decoder == "temp_conv" and not (self.joint_temp_norm and self.temp_conv_depth)

    @property
    def halo(self) -> int:
        """Frames on either side that a decoded frame depends on; if not exactly, those that it is decoded beside."""
        if not self.streams_exactly:
            return CONTEXT
        return self.temp_conv_depth * len(self.block_out_channels) * (self.layers_per_block + 1)


@dataclass(frozen=True)
class DiffusionConfig:
    """How a UNet was trained to denoise."""

    prediction: Literal["eps", "v", "flow"] = "eps"
    schedule: Literal["scaled_linear", "linear"] = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    train_steps: int = 1000
    zero_terminal_snr: bool = False  # the last timestep is pure noise (Lin et al., 2024); for v
    frames: int = 8  # N, frames a clip
    size: int = 256  # pixels, width and height
    cfg: float = 10.0  # the guidance scale it does best with

    def __post_init__(self) -> None:
        for name, known in (("prediction", ("eps", "v", "flow")), ("schedule", ("scaled_linear", "linear"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")
        for name in ("train_steps", "frames", "size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(f"beta goes from {self.beta_start} to {self.beta_end}, expected 0 < start <= end < 1")
        if self.zero_terminal_snr and self.prediction == "eps":
            raise ValueError(
                "zero_terminal_snr is for models that predict v: from pure noise, eps says nothing of x0"
            )


@dataclass(frozen=True)
class TextConfig:
    """A CLIP text encoder over a vocabulary of whole words."""

    words: tuple[str, ...] = ()
    hidden_size: int = 128
    layers: int = 2
    heads: int = 4
    max_length: int = 32

    def __post_init__(self) -> None:
        for name, least in (("layers", 1), ("max_length", 3)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {least} or more")
        _check_heads(self.hidden_size, self.heads)


def _check_widths(widths: tuple[int, ...], groups: int, layers: int) -> None:
    if not widths or min(*widths, groups, layers) < 1:
        raise ValueError(
            f"block_out_channels, norm_groups and layers_per_block are {list(widths)}, {groups} and {layers}, "
            f"expected numbers of 1 or more"
        )
    if unfit := [width for width in widths if width % groups]:
        raise ValueError(f"block_out_channels has {unfit[0]}, expected a multiple of norm_groups, {groups}")


def _check_heads(width: int, heads: int) -> None:
    if heads < 1 or width < 1 or width % heads:
        raise ValueError(f"heads is {heads}, expected what divides the width, {width}")


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as JSON-ready values."""
    return dataclasses.asdict(config)


def from_dict(kind: type[Config], values: dict[str, Any], what: str = "") -> Config:
    """A configuration from JSON or YAML values; lists become tuples. Errors call it `what`, or by its class.

    Raises ValueError naming any setting that this version does not know, that is missing or of another type.
    """
    what = what or kind.__name__
    if not isinstance(values, dict):
        raise ValueError(f"{what} is {values!r}, expected names with values")
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(map(str, set(values) - known)):
        raise ValueError(f"{what} has no setting {meant(unknown, known)}; it has {', '.join(sorted(known))}")
    required = [f.name for f in dataclasses.fields(kind) if _has_no_default(f)]  # type: ignore[arg-type]
    if missing := [name for name in required if name not in values]:
        raise ValueError(f"{what} lacks {', '.join(missing)}")
    hints = get_type_hints(kind)
    return kind(**{key: _of_type(hints[key], key, value) for key, value in values.items()})


def meant(unknown: list[str], known: Collection[str]) -> str:
    """Unknown names, with the known one that the first may stand for."""
    near = get_close_matches(unknown[0], known, 1)
    return ", ".join(unknown) + (f" (did you mean {near[0]}?)" if near else "")


def _has_no_default(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _of_type(hint: Any, name: str, value: Any) -> Any:
    """A value as its setting's type has it. Raises ValueError if it cannot be."""
    if isinstance(value, list) and get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if get_origin(inner) is tuple and not all(isinstance(entry, list) for entry in value):
            raise ValueError(f"{name} is {value!r}, expected {_called(hint)}")
        return tuple(_of_type(inner, name, entry) for entry in value)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(str, get_args(hint)))}")
        return value
    if hint is float and isinstance(value, str):  # what YAML makes of 1e-4
        with suppress(ValueError):
            return float(value)
    kinds = tuple(get_origin(each) or each for each in (get_args(hint) if isinstance(hint, UnionType) else (hint,)))
    kinds = (*kinds, int) if float in kinds else kinds
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{name} is {value!r}, expected {_called(hint)}")
    return value


def _called(hint: Any) -> str:
    """What errors call a type."""
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        return f"a list of {_called(inner).replace('a list', 'lists')}"
    return getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)
