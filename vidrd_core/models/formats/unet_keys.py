"""Names of UNet tensors: those used here are diffusers'.

LDM's (Stable Diffusion's own, and ModelScope's) and those of the released VidRD are mapped, both ways.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from vidrd_core.io.safetensors import FormatError

DIFFUSERS, LDM, VIDRD = "diffusers", "LDM", "VidRD"
TEMP_CONV = "temopral_conv"  # as ModelScope spells it

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "input_blocks.0.1": "transformer_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_RELEASED = re.compile(r"(.*\btemp_convs\.\d+)\.convs\.(\d+)\.(\w+)")
_OURS = re.compile(r"(.*\btemp_convs\.\d+)\.conv(\d+)\.(\d+)\.(\w+)")


def naming_of(keys: Iterable[str]) -> str | None:
    """How a UNet's tensors are named; None if these are no UNet's."""
    keys = list(keys)
    if any(key.startswith(("input_blocks.", "output_blocks.", "middle_block.")) for key in keys):
        return LDM
    if any(_RELEASED.fullmatch(key) for key in keys):
        return VIDRD
    blocks = ("down_blocks.", "up_blocks.", "mid_block.")
    return DIFFUSERS if any(key.startswith(blocks) for key in keys) else None


def from_naming(keys: Iterable[str]) -> dict[str, str]:
    """The name used here of each key, whatever naming they are in. One that is unknown stays as it is.

    Raises FormatError for a part of an LDM UNet.
    """
    keys = list(keys)
    naming = naming_of(keys)
    if naming == LDM:
        return renamed(keys, dict(_modules(_Shape.of_ldm(keys))))
    return {key: _from_released(key) if naming == VIDRD else key for key in keys}


def to_naming(keys: Iterable[str], naming: str) -> dict[str, str]:
    """The name that each key used here has in another naming: "diffusers", "LDM" or "VidRD".

    Raises ValueError for what LDM has no names for: Temp-Attn inside of transformers, as VidRD has it.
    """
    keys = list(keys)
    if naming == VIDRD:
        return {key: _to_released(key) for key in keys}
    if naming == DIFFUSERS:
        return {key: key for key in keys}
    if foreign := [key for key in keys if ".temp_attn." in key or ".temp_norm." in key]:
        raise ValueError(f"LDM has no name for {foreign[0]}: choose the naming {VIDRD} or {DIFFUSERS}")
    return renamed(keys, {ours: theirs for theirs, ours in _modules(_Shape.of_ours(keys))})


def _from_released(key: str) -> str:
    """The released Temp-Convs are one list of norm, SiLU, dropout and conv; the first has no dropout here."""
    if not (found := _RELEASED.fullmatch(key)):
        return key
    number, place = divmod(int(found[2]), 4)
    return f"{found[1]}.conv{number + 1}.{0 if place == 0 else 3 if number else 2}.{found[3]}"


def _to_released(key: str) -> str:
    if not (found := _OURS.fullmatch(key)):
        return key
    return f"{found[1]}.convs.{4 * (int(found[2]) - 1) + (0 if found[3] == '0' else 3)}.{found[4]}"


@dataclass(frozen=True)
class _Shape:
    """What LDM's numbers depend on."""

    layers: int  # ResNets a level on the way down
    attention: tuple[bool, ...]  # by level
    in_3d: bool  # as ModelScope
    op: str  # how the module that halves is called

    @classmethod
    def of_ldm(cls, keys: list[str]) -> _Shape:
        halving = sorted({int(m[1]) for key in keys if (m := re.match(r"input_blocks\.(\d+)\.(?:0\.)?op\.", key))})
        numbers = [int(m[1]) for key in keys if (m := re.match(r"input_blocks\.(\d+)\.", key))]
        if not numbers:
            raise FormatError("these are not all of a UNet's tensors: there are no input_blocks")
        span = halving[0] if halving else max(numbers) + 1
        has = _holds(keys)
        levels = range(len(halving) + 1)
        attention = tuple(has(f"input_blocks.{1 + level * span}.1.") for level in levels)
        op = "0.op" if any(".0.op." in key for key in keys) else "op"
        return cls(span - 1, attention, any(f".{TEMP_CONV}." in key for key in keys), op)

    @classmethod
    def of_ours(cls, keys: list[str]) -> _Shape:
        has = _holds(keys)
        levels, layers = (count(has, pattern) for pattern in ("down_blocks.{}.", "down_blocks.0.resnets.{}."))
        attention = tuple(has(f"down_blocks.{level}.attentions.") for level in range(levels))
        in_3d = any(".temp_attentions." in key for key in keys)
        return cls(layers, attention, in_3d, "op" if in_3d else "0.op")


def count(has: Callable[[str], bool], pattern: str) -> int:
    """How many numbers from 0 on there is something for."""
    number = 0
    while has(pattern.format(number)):
        number += 1
    return number


def _holds(keys: list[str]) -> Callable[[str], bool]:
    return lambda prefix: any(key.startswith(prefix) for key in keys)


def _modules(shape: _Shape) -> Iterator[tuple[str, str]]:
    """LDM's name and ours of each module."""
    yield from _ENDS.items()
    last, number = len(shape.attention) - 1, 1
    for level, attention in enumerate(shape.attention):
        for layer in range(shape.layers):
            yield from _layer(f"input_blocks.{number}", f"down_blocks.{level}", layer, attention, shape.in_3d)
            number += 1
        if level < last:
            yield f"input_blocks.{number}.{shape.op}", f"down_blocks.{level}.downsamplers.0.conv"
            number += 1
    yield from _layer("middle_block", "mid_block", 0, True, shape.in_3d)
    yield from _resnet(f"middle_block.{3 if shape.in_3d else 2}", "mid_block", 1)
    number = 0
    for level, attention in enumerate(reversed(shape.attention)):
        for layer in range(shape.layers + 1):
            yield from _layer(f"output_blocks.{number}", f"up_blocks.{level}", layer, attention, shape.in_3d)
            if layer == shape.layers and level < last:
                place = 1 + attention * (1 + shape.in_3d)
                yield f"output_blocks.{number}.{place}.conv", f"up_blocks.{level}.upsamplers.0.conv"
            number += 1


def _layer(theirs: str, ours: str, layer: int, attention: bool, in_3d: bool) -> Iterator[tuple[str, str]]:
    yield from _resnet(f"{theirs}.0", ours, layer)
    if attention:
        yield f"{theirs}.1", f"{ours}.attentions.{layer}"
        if in_3d:
            yield f"{theirs}.2", f"{ours}.temp_attentions.{layer}"


def _resnet(theirs: str, ours: str, layer: int) -> Iterator[tuple[str, str]]:
    for name, our_name in _RESNET.items():
        yield f"{theirs}.{name}", f"{ours}.resnets.{layer}.{our_name}"
    yield f"{theirs}.{TEMP_CONV}", f"{ours}.temp_convs.{layer}"


def renamed(keys: Iterable[str], modules: Mapping[str, str]) -> dict[str, str]:
    """Each key with the longest module name that begins it replaced."""

    def one(key: str) -> str:
        parts = key.split(".")
        for length in range(len(parts) - 1, 0, -1):
            if (module := modules.get(".".join(parts[:length]))) is not None:
                return ".".join([module, *parts[length:]])
        return key

    return {key: one(key) for key in keys}
