"""A UNet's configuration, found from its tensors' names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.formats.unet_keys import DIFFUSERS, LDM, VIDRD, count, from_naming, naming_of, to_naming

SD1_TEXT, SD2_TEXT = 768, 1024  # widths of the text encoders that Stable Diffusion 1.x and 2.x read
SD1_HEADS, HEAD_DIM = 8, 64  # SD 1.x has 8 heads at every level; all others have heads of 64
_TEMPORAL = re.compile(r"(.*\.)?(temp_convs|temp_attentions|temp_attn|temp_norm|transformer_in)\..+")


@dataclass(frozen=True)
class FoundUNet:
    """A UNet under the names used here."""

    tensors: dict[str, Tensor]
    config: UNet3DConfig
    naming: str  # how its tensors were named
    family: str  # what it is, in words

    @property
    def about(self) -> str:
        """What it is, how its tensors were named, and what becomes of it, in words."""
        inflated = "" if any(map(is_temporal, self.tensors)) else ", inflated: each frame stands alone"
        return f"{self.family} ({self.naming} names){inflated}"


def is_temporal(key: str) -> bool:
    """Whether a tensor, by its name here, belongs to a layer over time."""
    return _TEMPORAL.fullmatch(key) is not None


def looks_like_unet(keys: list[str]) -> bool:
    """Whether these are the keys of a UNet, or of the layers over time of one."""
    return naming_of(keys) is not None


def read_unet(tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None) -> FoundUNet:
    """A UNet from its tensors in any naming; `config` is diffusers' config.json where there is one.

    Raises FormatError for a network of another kind, naming what was found.
    """
    config = config or {}
    naming = naming_of(tensors)
    _refuse_others(tensors)
    names = from_naming(tensors)
    named = {names[key]: tensor for key, tensor in tensors.items()}
    if "conv_in.weight" not in named or "conv_out.weight" not in named:
        if all(map(is_temporal, named)):
            raise FormatError(
                "these are temporal layers alone: load a Stable Diffusion checkpoint, and these with it "
                "(temporal=, or the node Inflate Checkpoint)"
            )
        raise FormatError(f"these are not all of a UNet's tensors: it has no conv_in or conv_out, but {_some(named)}")
    named = {key: as_here(key, tensor) for key, tensor in named.items()}
    found = _config_of(named, naming, config)
    return FoundUNet(named, found, naming or DIFFUSERS, _family(found, named, naming))


def temporal_config(named: Mapping[str, Tensor], naming: str | None) -> dict[str, Any]:
    """The settings of UNet3DConfig that layers over time decide, from their names here."""
    depths = [int(m[1]) for key in named if (m := re.search(r"\.temp_convs\.\d+\.conv(\d+)\.", key))]
    attention = "none"
    for part, kind in (("temp_attn", "inside"), ("temp_attentions", "after")):
        if any(f".{part}." in key for key in named):
            attention = kind
    released = naming == VIDRD
    return {
        "temp_conv_depth": max(depths, default=0),
        "temp_attention": attention,
        "transformer_in": any(key.startswith("transformer_in.") for key in named),
        # As the released VidRD has it: the embedding goes to the stream, ResNets are normalised over the clip.
        "embed_to": "stream" if released else "input",
        "joint_resnet_norm": released,
        # diffusers' UNet3D runs its layers over time on single frames, too.
        "temporal_for_images": attention == "after",
    }


def write_unet(config: UNet3DConfig, tensors: Mapping[str, Tensor], naming: str) -> dict[str, Tensor]:
    """The way back: tensors by names and with shapes of another naming ("diffusers", "LDM" or "VidRD").

    Raises ValueError where that naming has no place for what the UNet has.
    """
    if naming == VIDRD and config.temp_attention == "after":
        raise ValueError(f"{VIDRD} has no name for Temp-Attn after transformers: choose {DIFFUSERS} or {LDM}")
    names = to_naming(tensors, naming)
    written = {}
    for key, tensor in tensors.items():
        conv = re.search(r"\.temp_convs\..+\.weight$", key) and tensor.ndim == 4
        projection = naming == LDM and is_temporal(key) and re.search(r"\.proj_(in|out)\.weight$", key)
        written[names[key]] = tensor.unsqueeze(-1) if conv or projection else tensor
    return written


def as_here(key: str, tensor: Tensor) -> Tensor:
    """A tensor, by its name here, with its shape here.

    ModelScope's projections over time are convs of one frame, ours linear; a Temp-Conv's kernel has no width.
    """
    if tensor.ndim == 3 and is_temporal(key):
        return tensor.squeeze(-1)
    return tensor.squeeze(-1) if tensor.ndim == 5 else tensor


def _config_of(named: Mapping[str, Tensor], naming: str | None, config: Mapping[str, Any]) -> UNet3DConfig:
    def has(prefix: str) -> bool:
        return any(key.startswith(prefix) for key in named)

    levels = range(count(has, "down_blocks.{}."))
    try:
        widths = tuple(named[f"down_blocks.{level}.resnets.0.conv1.weight"].shape[0] for level in levels)
        attention = tuple(has(f"down_blocks.{level}.attentions.") for level in levels)
        context = named["mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"].shape[1]
        projection = named["mid_block.attentions.0.proj_in.weight"]
    except KeyError as error:
        raise FormatError(f"the UNet is not whole, or of a kind that is not known: it lacks {error}") from error
    values: dict[str, Any] = {
        "in_channels": named["conv_in.weight"].shape[1],
        "out_channels": named["conv_out.weight"].shape[0],
        "block_out_channels": widths,
        "attention_levels": attention,
        "heads": _heads(widths, context, named, config),
        "layers_per_block": count(has, "down_blocks.0.resnets.{}."),
        "cross_attention_dim": context,
        "norm_groups": config.get("norm_num_groups", 32),
        "linear_projection": projection.ndim == 2,
        **temporal_config(named, naming),
    }
    try:
        return UNet3DConfig(**values)
    except ValueError as error:
        raise FormatError(f"the UNet is of a kind that is not known: {error}") from error


def _heads(
    widths: tuple[int, ...], context: int, named: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[int, ...]:
    """Heads at each level. The tensors do not say: a config.json does, else the family does."""
    is_3d = any(".temp_attentions." in key for key in named)
    said = config.get("num_attention_heads") or config.get("attention_head_dim")
    if said is None and is_3d and "transformer_in.proj_in.weight" in named:
        said = named["transformer_in.proj_in.weight"].shape[0] // 8  # it has 8 heads
    if said is None and not is_3d and context == SD1_TEXT:
        said = SD1_HEADS
    if said is None:
        is_3d, said = True, HEAD_DIM
    if isinstance(said, (list, tuple)):
        return tuple(said)
    if not is_3d:  # what diffusers' 2-D UNets call the heads' width is their number
        return (said,) * len(widths)
    if unfit := [width for width in widths if width % said]:
        raise FormatError(
            f"the tensors do not say how many attention heads there are, and {unfit[0]} channels are no multiple of "
            f"{said}: put diffusers' config.json beside the file"
        )
    return tuple(width // said for width in widths)


def _family(config: UNet3DConfig, named: Mapping[str, Tensor], naming: str | None) -> str:
    if naming == VIDRD:
        return "VidRD UNet3D, as released"
    if config.temp_attention == "after":
        return "ModelScope UNet3D"
    if any(map(is_temporal, named)):
        return "VidRD UNet3D"
    return f"Stable Diffusion {'1.x' if config.cross_attention_dim == SD1_TEXT else '2.x'} UNet"


def _refuse_others(tensors: Mapping[str, Tensor]) -> None:
    """Raise FormatError for networks that are alike and yet others, by name."""
    signs = {
        "Stable Diffusion XL": r"label_emb\.|add_embedding\.linear|.*\.transformer_blocks\.1\.",
        "AnimateDiff motion module": r".*\bmotion_modules\.",
        "Stable Video Diffusion": r".*\b(time_mixer|mix_factor)\b",
        "ControlNet": r"(controlnet_|input_hint_block\.|zero_convs\.)",
    }
    for name, sign in signs.items():
        if (key := next((key for key in tensors if re.match(sign, key)), None)) is not None:
            raise FormatError(
                f"this is a UNet of {name} (it has {key}), which is another network: a Stable Diffusion 1.x or 2.x, "
                f"ModelScope, ZeroScope or VidRD UNet can be loaded"
            )


def _some(keys: Mapping[str, Any]) -> str:
    first = list(keys)[:3]
    return ", ".join(first) + (", ..." if len(keys) > 3 else "")
