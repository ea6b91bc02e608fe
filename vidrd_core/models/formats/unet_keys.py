"""Formats of UNet weights: LDM's (Stable Diffusion and ModelScope), the released VidRD's and diffusers'.

This package's own names are diffusers' names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.formats.naming import Naming, Tensors

MODELSCOPE_TEMP_CONV = "temopral_conv"  # as ModelScope spells it

_LDM_RESNET = {  # LDM's names of a ResNet's layers -> ours
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_LDM_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "input_blocks.0.1": "transformer_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_RELEASED_TEMP_CONV = re.compile(r"(.*\btemp_convs\.\d+)\.convs\.(\d+)\.(\w+)")
_OUR_TEMP_CONV = re.compile(r"(.*\btemp_convs\.\d+)\.conv(\d+)\.(\d+)\.(\w+)")
_TEMPORAL = re.compile(r"(.*\.)?(temp_convs|temp_attentions|temp_attn|temp_norm|transformer_in)\..+")


def is_temporal(key: str) -> bool:
    """Whether a tensor, by its name here, belongs to a temporal layer."""
    return _TEMPORAL.fullmatch(key) is not None


def ldm_keys_to_ours(keys: Iterable[str]) -> dict[str, str]:
    """LDM's name of each tensor of a UNet -> ours; unknown names stay as they are.

    Raises FormatError for a part of a UNet: its numbers depend on all of it.
    """
    keys = list(keys)
    return _renamed(keys, dict(_modules(_Layout.of_ldm(keys))))


def ldm_keys_from_ours(keys: Iterable[str]) -> dict[str, str]:
    """Our name of each tensor of a UNet -> LDM's.

    Raises ValueError for what LDM has no names for: Temp-Attn inside transformers, as VidRD has it.
    """
    keys = list(keys)
    if foreign := [key for key in keys if ".temp_attn." in key or ".temp_norm." in key]:
        raise ValueError(f"LDM has no name for {foreign[0]}: convert to vidrd instead")
    return _renamed(keys, {ours: theirs for theirs, ours in _modules(_Layout.of_ours(keys))})


def released_temp_conv_to_ours(key: str) -> str:
    """The released VidRD's name of a tensor -> ours.

    Its Temp-Convs are one list of norm, SiLU, dropout and conv four times; the first has no dropout here.
    """
    if not (found := _RELEASED_TEMP_CONV.fullmatch(key)):
        return key
    number, place = divmod(int(found[2]), 4)
    return f"{found[1]}.conv{number + 1}.{0 if place == 0 else 3 if number else 2}.{found[3]}"


def released_temp_conv_from_ours(key: str) -> str:
    """The inverse of `released_temp_conv_to_ours`."""
    if not (found := _OUR_TEMP_CONV.fullmatch(key)):
        return key
    return f"{found[1]}.convs.{4 * (int(found[2]) - 1) + (0 if found[3] == '0' else 3)}.{found[4]}"


def has_released_temp_convs(keys: Iterable[str]) -> bool:
    """Whether Temp-Convs are named as in the released VidRD, of its UNet or its VAE."""
    return any(_RELEASED_TEMP_CONV.fullmatch(key) for key in keys)


def _is_ldm(keys: Collection[str]) -> bool:
    return any(key.startswith(("input_blocks.", "output_blocks.", "middle_block.")) for key in keys)


def _is_diffusers(keys: Collection[str]) -> bool:
    return any(key.startswith(("down_blocks.", "up_blocks.", "mid_block.")) for key in keys)


def _is_released(keys: Collection[str]) -> bool:
    return _is_diffusers(keys) and has_released_temp_convs(keys)


def _our_shape(key: str, tensor: Tensor) -> Tensor:
    """A tensor, by its name here, with its shape here.

    ModelScope's temporal projections are convs over one frame, ours are linear; a Temp-Conv's kernel is (3, 1).
    """
    if tensor.ndim == 3 and is_temporal(key):
        return tensor.squeeze(-1)
    return tensor.squeeze(-1) if tensor.ndim == 5 else tensor


def _conv3d_shape(key: str, tensor: Tensor) -> Tensor:
    is_conv = re.search(r"\.temp_convs\..+\.weight$", key) and tensor.ndim == 4
    return tensor.unsqueeze(-1) if is_conv else tensor


def _ldm_shape(key: str, tensor: Tensor) -> Tensor:
    is_projection = is_temporal(key) and re.search(r"\.proj_(in|out)\.weight$", key)
    return tensor.unsqueeze(-1) if is_projection else _conv3d_shape(key, tensor)


def _from_ldm(tensors: Tensors) -> dict[str, Tensor]:
    ours = ldm_keys_to_ours(tensors)
    return {ours[key]: _our_shape(ours[key], tensor) for key, tensor in tensors.items()}


def _to_ldm(tensors: Tensors) -> dict[str, Tensor]:
    theirs = ldm_keys_from_ours(tensors)
    return {theirs[key]: _ldm_shape(key, tensor) for key, tensor in tensors.items()}


def _from_released(tensors: Tensors) -> dict[str, Tensor]:
    return _from_diffusers({released_temp_conv_to_ours(key): tensor for key, tensor in tensors.items()})


def _to_released(tensors: Tensors) -> dict[str, Tensor]:
    if any(".temp_attentions." in key for key in tensors):
        raise ValueError(
            f"{VIDRD.name} has no name for Temp-Attn after transformers: choose {DIFFUSERS.name} or {LDM.name}"
        )
    return {released_temp_conv_from_ours(key): _conv3d_shape(key, tensor) for key, tensor in tensors.items()}


def _from_diffusers(tensors: Tensors) -> dict[str, Tensor]:
    return {key: _our_shape(key, tensor) for key, tensor in tensors.items()}


def _to_diffusers(tensors: Tensors) -> dict[str, Tensor]:
    return {key: _conv3d_shape(key, tensor) for key, tensor in tensors.items()}


LDM = Naming(
    part="unet",
    name="LDM",
    used_by="Stable Diffusion 1.x and 2.x, ModelScope and ZeroScope checkpoints",
    detect=_is_ldm,
    to_ours=_from_ldm,
    from_ours=_to_ldm,
    target="ldm",
)
VIDRD = Naming(
    part="unet",
    name="VidRD",
    used_by="the released VidRD checkpoint",
    detect=_is_released,
    to_ours=_from_released,
    from_ours=_to_released,
    # The released model adds its own frame embedding to the residual stream and normalises ResNets over the clip.
    settings={"embed_to": "stream", "released_embedding": True, "joint_resnet_norm": True},
)
DIFFUSERS = Naming(
    part="unet",
    name="diffusers",
    used_by="UNet2DConditionModel and UNet3DConditionModel folders",
    detect=_is_diffusers,
    to_ours=_from_diffusers,
    from_ours=_to_diffusers,
    target="diffusers",
)
NAMINGS = (LDM, VIDRD, DIFFUSERS)


@dataclass(frozen=True)
class _Layout:
    """The layout of a UNet, on which the numbers of LDM's modules depend.

    Args:
        layers: ResNets in each level on the way down.
        attention: Whether a level has transformers, from the top down.
        in_3d: Whether there are temporal layers, as in ModelScope.
        downsampler: LDM's name of the strided conv: "0.op", in ModelScope "op".
    """

    layers: int
    attention: tuple[bool, ...]
    in_3d: bool
    downsampler: str

    @classmethod
    def of_ldm(cls, keys: list[str]) -> _Layout:
        halving = sorted({int(m[1]) for key in keys if (m := re.match(r"input_blocks\.(\d+)\.(?:0\.)?op\.", key))})
        numbers = [int(m[1]) for key in keys if (m := re.match(r"input_blocks\.(\d+)\.", key))]
        if not numbers:
            raise FormatError("these are not all of a UNet's tensors: there are no input_blocks")
        span = halving[0] if halving else max(numbers) + 1
        has = _prefix_test(keys)
        levels = range(len(halving) + 1)
        attention = tuple(has(f"input_blocks.{1 + level * span}.1.") for level in levels)
        op = "0.op" if any(".0.op." in key for key in keys) else "op"
        return cls(span - 1, attention, any(f".{MODELSCOPE_TEMP_CONV}." in key for key in keys), op)

    @classmethod
    def of_ours(cls, keys: list[str]) -> _Layout:
        has = _prefix_test(keys)
        levels, layers = (count(has, pattern) for pattern in ("down_blocks.{}.", "down_blocks.0.resnets.{}."))
        attention = tuple(has(f"down_blocks.{level}.attentions.") for level in range(levels))
        in_3d = any(".temp_attentions." in key for key in keys)
        return cls(layers, attention, in_3d, "op" if in_3d else "0.op")


def count(has: Callable[[str], bool], pattern: str) -> int:
    """How many numbers from 0 on the pattern has a match for."""
    number = 0
    while has(pattern.format(number)):
        number += 1
    return number


def _prefix_test(keys: list[str]) -> Callable[[str], bool]:
    return lambda prefix: any(key.startswith(prefix) for key in keys)


def _modules(layout: _Layout) -> Iterator[tuple[str, str]]:
    """LDM's name of each module, and ours."""
    yield from _LDM_ENDS.items()
    last, number = len(layout.attention) - 1, 1
    for level, attention in enumerate(layout.attention):
        for layer in range(layout.layers):
            yield from _layer(f"input_blocks.{number}", f"down_blocks.{level}", layer, attention, layout.in_3d)
            number += 1
        if level < last:
            yield f"input_blocks.{number}.{layout.downsampler}", f"down_blocks.{level}.downsamplers.0.conv"
            number += 1
    yield from _layer("middle_block", "mid_block", 0, True, layout.in_3d)
    yield from _resnet(f"middle_block.{3 if layout.in_3d else 2}", "mid_block", 1)
    number = 0
    for level, attention in enumerate(reversed(layout.attention)):
        for layer in range(layout.layers + 1):
            yield from _layer(f"output_blocks.{number}", f"up_blocks.{level}", layer, attention, layout.in_3d)
            if layer == layout.layers and level < last:
                place = 1 + attention * (1 + layout.in_3d)
                yield f"output_blocks.{number}.{place}.conv", f"up_blocks.{level}.upsamplers.0.conv"
            number += 1


def _layer(theirs: str, ours: str, layer: int, attention: bool, in_3d: bool) -> Iterator[tuple[str, str]]:
    yield from _resnet(f"{theirs}.0", ours, layer)
    if attention:
        yield f"{theirs}.1", f"{ours}.attentions.{layer}"
        if in_3d:
            yield f"{theirs}.2", f"{ours}.temp_attentions.{layer}"


def _resnet(theirs: str, ours: str, layer: int) -> Iterator[tuple[str, str]]:
    for name, our_name in _LDM_RESNET.items():
        yield f"{theirs}.{name}", f"{ours}.resnets.{layer}.{our_name}"
    yield f"{theirs}.{MODELSCOPE_TEMP_CONV}", f"{ours}.temp_convs.{layer}"


def _renamed(keys: Iterable[str], modules: Mapping[str, str]) -> dict[str, str]:
    """Each key with the longest module name that begins it replaced."""

    def one(key: str) -> str:
        parts = key.split(".")
        for length in range(len(parts) - 1, 0, -1):
            if (module := modules.get(".".join(parts[:length]))) is not None:
                return ".".join([module, *parts[length:]])
        return key

    return {key: one(key) for key in keys}
