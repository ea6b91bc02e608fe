"""A UNet in any format: its settings, by its tensors' names and shapes, and its tensors under our names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vidrd_core.io.safetensors import FormatError, first_few
from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.formats.config_files import check_config, check_shapes, class_of
from vidrd_core.models.formats.naming import Naming, Tensors, detect_naming, writable_naming
from vidrd_core.models.formats.unet_keys import DIFFUSERS, NAMINGS, VIDRD, count, is_temporal

SD1_TEXT, SD2_TEXT = 768, 1024  # widths of the text encoders of Stable Diffusion 1.x and 2.x
SD1_HEADS, HEAD_DIM = 8, 64  # SD 1.x has 8 heads at every level; all others have heads of 64 channels


@dataclass(frozen=True)
class FoundUNet:
    """A UNet of a file.

    Args:
        tensors: Its weights, under this package's names and with its shapes.
        config: The settings of the network that they fit.
        naming: The name of the format that the file has.
        family: What it is, for messages: "Stable Diffusion 1.x UNet".
    """

    tensors: dict[str, Tensor]
    config: UNet3DConfig
    naming: str
    family: str

    @property
    def about(self) -> str:
        """Its family and format, and whether it has no temporal layers of its own, for messages."""
        inflated = "" if any(map(is_temporal, self.tensors)) else ", inflated: each frame stands alone"
        return f"{self.family} ({self.naming} names){inflated}"


def identify_unet(tensors: Tensors, config: Mapping[str, Any] | None = None) -> FoundUNet:
    """Identify a UNet by its tensors, in any format.

    Args:
        tensors: All of its tensors, by their names in the file without the UNet's prefix.
        config: diffusers' config.json beside the file, for what tensors do not show: the number of attention heads
            and norm_num_groups (32 without it).

    Returns:
        Its tensors under this package's names, its settings, and what it is.

    Raises:
        FormatError: The tensors are not a complete UNet, or one of another network; the message names what was found.
    """
    naming = detect_naming(NAMINGS, tensors)
    _refuse_other_networks(tensors)
    named = dict(tensors) if naming is None else naming.to_ours(tensors)
    if "conv_in.weight" not in named or "conv_out.weight" not in named:
        if all(map(is_temporal, named)):
            raise FormatError(
                "these are temporal layers alone: load a Stable Diffusion checkpoint, and these with it "
                "(temporal=, or the node Inflate Checkpoint)"
            )
        raise FormatError(
            f"these are not all of a UNet's tensors: it has no conv_in or conv_out, but {first_few(named)}"
        )
    check_config(config or {}, "unet")
    found = _config_of(named, naming, config or {})
    return FoundUNet(named, found, (naming or DIFFUSERS).name, _family(found, named, naming))


def temporal_config(named: Tensors, naming: Naming | None) -> dict[str, Any]:
    """Derive the settings of UNet3DConfig that depend on a UNet's temporal layers.

    Args:
        named: The UNet's tensors, or its temporal ones, under our names; {} for a UNet without such layers.
        naming: The format that they come in; None for this package's own.

    Returns:
        Values by the names of the fields; a Temp-Conv depth of 0 and attention "none" without temporal layers.
    """
    depths = [int(m[1]) for key in named if (m := re.search(r"\.temp_convs\.\d+\.conv(\d+)\.", key))]
    attention = "none"
    for part, kind in (("temp_attn", "inside"), ("temp_attentions", "after")):
        if any(f".{part}." in key for key in named):
            attention = kind
    return {
        "temp_conv_depth": max(depths, default=0),
        "temp_attention": attention,
        "transformer_in": any(key.startswith("transformer_in.") for key in named),
        "embed_to": "input",
        "released_embedding": False,
        "joint_resnet_norm": False,
        # diffusers' UNet3DConditionModel runs its temporal layers on single frames, too.
        "temporal_for_images": attention == "after",
        **(naming.settings if naming else {}),
    }


def write_unet(config: UNet3DConfig, tensors: Tensors, naming: str) -> dict[str, Tensor]:
    """Convert a UNet's tensors to another format, which `identify_unet` converts back.

    Args:
        config: The UNet's settings.
        tensors: All of its tensors, under our names.
        naming: The name of a format in `unet_keys.NAMINGS`: "diffusers", "LDM" or "VidRD".

    Returns:
        The tensors, under the format's names and with its shapes.

    Raises:
        ValueError: There is no such format, or it has no name for a layer of this UNet.
    """
    written = writable_naming(NAMINGS, naming)
    assert written.from_ours is not None
    return written.from_ours(tensors)


def _config_of(named: Tensors, naming: Naming | None, config: Mapping[str, Any]) -> UNet3DConfig:
    def has(prefix: str) -> bool:
        return any(key.startswith(prefix) for key in named)

    levels = range(count(has, "down_blocks.{}."))
    try:
        widths = tuple(named[f"down_blocks.{level}.resnets.0.conv1.weight"].shape[0] for level in levels)
        attention = tuple(has(f"down_blocks.{level}.attentions.") for level in levels)
        context = named["mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"].shape[1]
        projection = named["mid_block.attentions.0.proj_in.weight"]
        channels, made = named["conv_in.weight"].shape[1], named["conv_out.weight"].shape[0]
    except IndexError as error:
        raise FormatError("the UNet has weights of other shapes than a UNet's") from error
    except KeyError as error:
        raise FormatError(f"the UNet is not whole, or of an unknown kind: it lacks {error}") from error
    values: dict[str, Any] = {
        "in_channels": channels,
        "out_channels": made,
        "block_out_channels": widths,
        "attention_levels": attention,
        "heads": _heads(widths, context, named, config),
        "layers_per_block": count(has, "down_blocks.0.resnets.{}."),
        "cross_attention_dim": context,
        "norm_groups": config.get("norm_num_groups", 32),
        "linear_projection": projection.ndim == 2,
        **temporal_config(named, naming),
    }
    shown = ("in_channels", "out_channels", "block_out_channels", "layers_per_block", "cross_attention_dim")
    check_shapes(config, {name: values[name] for name in shown})
    try:
        return UNet3DConfig(**values)
    except ValueError as error:
        raise FormatError(f"the UNet is of an unknown kind: {error}") from error


def _heads(widths: tuple[int, ...], context: int, named: Tensors, config: Mapping[str, Any]) -> tuple[int, ...]:
    """Attention heads at each level: tensors do not show them, a config.json or the family does."""
    is_3d = any(".temp_attentions." in key for key in named)
    given = config.get("num_attention_heads") or config.get("attention_head_dim")
    if given is None and is_3d and "transformer_in.proj_in.bias" in named:
        given = named["transformer_in.proj_in.bias"].numel() // 8  # it has 8 heads
    # UNet2DConditionModel has 8 heads, too, if its config says nothing.
    if given is None and not is_3d and (context == SD1_TEXT or class_of(config) == "UNet2DConditionModel"):
        given = SD1_HEADS
    if given is None:
        is_3d, given = True, HEAD_DIM
    if isinstance(given, (list, tuple)):
        return tuple(given)
    if type(given) is not int or given < 1:
        raise FormatError(f"config.json says {str(given)[:60]!r} of attention heads, expected whole numbers above 0")
    if not is_3d:  # in diffusers' 2-D UNets attention_head_dim is the number of heads
        return (given,) * len(widths)
    if unfit := [width for width in widths if width % given]:
        raise FormatError(
            f"the tensors do not show how many attention heads there are, and {unfit[0]} channels are no multiple of "
            f"{given}: put diffusers' config.json beside the file"
        )
    return tuple(width // given for width in widths)


def _family(config: UNet3DConfig, named: Tensors, naming: Naming | None) -> str:
    if naming is VIDRD:
        return "VidRD UNet3D, as released"
    if config.temp_attention == "after":
        return "ModelScope UNet3D"
    if any(map(is_temporal, named)):
        return "VidRD UNet3D"
    return f"Stable Diffusion {'1.x' if config.cross_attention_dim == SD1_TEXT else '2.x'} UNet"


def _refuse_other_networks(tensors: Tensors) -> None:
    """Raise FormatError for networks that have similar names, with the network's own name."""
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
