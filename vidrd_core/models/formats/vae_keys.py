"""Formats of VAE weights: the released VidRD's, diffusers' and LDM's.

This package's own names are those of diffusers' AutoencoderKL and AutoencoderKLTemporalDecoder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

from torch import Tensor

from vidrd_core.models.formats.naming import Naming, Tensors
from vidrd_core.models.formats.unet_keys import (
    has_released_temp_convs,
    released_temp_conv_from_ours,
    released_temp_conv_to_ours,
)

# Ours and LDM's, complete parts of a name; {} is a number. The last ones are those of Stable Video Diffusion.
_LDM_NAMES = (
    ("down_blocks.{}.resnets.{}", "down.{}.block.{}"),
    ("up_blocks.{}.resnets.{}", "up.{}.block.{}"),
    ("down_blocks.{}.downsamplers.0", "down.{}.downsample"),
    ("up_blocks.{}.upsamplers.0", "up.{}.upsample"),
    ("mid_block.resnets.0", "mid.block_1"),
    ("mid_block.resnets.1", "mid.block_2"),
    ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
    ("mid_block.attentions.0.to_q", "mid.attn_1.q"),
    ("mid_block.attentions.0.to_k", "mid.attn_1.k"),
    ("mid_block.attentions.0.to_v", "mid.attn_1.v"),
    ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
    ("conv_shortcut", "nin_shortcut"),
    ("conv_norm_out", "norm_out"),
    ("temporal_res_block.norm1", "time_stack.in_layers.0"),
    ("temporal_res_block.conv1", "time_stack.in_layers.2"),
    ("temporal_res_block.norm2", "time_stack.out_layers.0"),
    ("temporal_res_block.conv2", "time_stack.out_layers.3"),
    ("time_mixer.mix_factor", "mix_factor"),
    ("time_conv_out", "conv_out.time_mix_conv"),
)
_SPATIAL = "spatial_res_block."  # what diffusers has before a ResNet's layers in SVD's decoder, and LDM has not
_SVD_RESNET = re.compile(
    r"(decoder\.(?:mid_block|up_blocks\.\d+)\.resnets\.\d+\.)(?!temporal_res_block\.|time_mixer\.)(.+)"
)


def _compiled(names: Iterable[tuple[str, str]]) -> list[tuple[re.Pattern[str], str]]:
    """Patterns of complete parts of a name, with their replacements."""
    rules = []
    for before, after in names:
        pattern = re.escape(before).replace(r"\{\}", r"(\d+)")
        replacement = after.replace("{}", r"\1", 1).replace("{}", r"\2", 1)
        rules.append((re.compile(rf"(?<![^.]){pattern}(?![^.])"), replacement))
    return rules


_TO_LDM = _compiled(_LDM_NAMES)
_FROM_LDM = _compiled((theirs, ours) for ours, theirs in _LDM_NAMES)


def _is_diffusers(keys: Collection[str]) -> bool:
    return any(re.match(r"(encoder|decoder)\.(down_blocks|up_blocks|mid_block)\.", key) for key in keys)


def _is_released(keys: Collection[str]) -> bool:
    return _is_diffusers(keys) and has_released_temp_convs(keys)


def _is_ldm(keys: Collection[str]) -> bool:
    return any(re.match(r"(encoder|decoder)\.(down|up|mid)\.", key) for key in keys)


def _from_diffusers(tensors: Tensors) -> dict[str, Tensor]:
    return {key: tensor.squeeze(-1) if tensor.ndim == 5 else tensor for key, tensor in tensors.items()}


def _to_diffusers(tensors: Tensors) -> dict[str, Tensor]:
    """Convs over frames are Conv3d there."""
    return {key: tensor[..., None] if _is_temporal_conv(key, tensor) else tensor for key, tensor in tensors.items()}


def _is_temporal_conv(key: str, tensor: Tensor) -> bool:
    return tensor.ndim == 4 and re.search(r"\.(temp_convs|temporal_res_block|time_conv_out)\.", key) is not None


def _from_released(tensors: Tensors) -> dict[str, Tensor]:
    return _from_diffusers({released_temp_conv_to_ours(key): tensor for key, tensor in tensors.items()})


def _to_released(tensors: Tensors) -> dict[str, Tensor]:
    return {released_temp_conv_from_ours(key): tensor for key, tensor in _to_diffusers(tensors).items()}


def _from_ldm(tensors: Tensors) -> dict[str, Tensor]:
    renamed = {_replaced(key, _FROM_LDM): tensor for key, tensor in tensors.items()}
    flip = _level_flip(renamed)
    is_svd = any(".temporal_res_block." in key for key in renamed)
    ours = {}
    for key, tensor in renamed.items():
        key = flip(_SVD_RESNET.sub(rf"\1{_SPATIAL}\2", key) if is_svd else key)
        is_projection = ".attentions." in key and tensor.ndim == 4  # 1 x 1 convs there, linear here
        ours[key] = tensor[..., 0, 0] if is_projection else tensor
    return _from_diffusers(ours)


def _to_ldm(tensors: Tensors) -> dict[str, Tensor]:
    if any(".temp_convs." in key for key in tensors):
        raise ValueError(f"{LDM.name} has no names for Temp-Conv: convert to vidrd instead")
    flip = _level_flip(tensors)
    theirs = {}
    for key, tensor in _to_diffusers(tensors).items():
        name = _replaced(flip(key).replace(f".{_SPATIAL}", "."), _TO_LDM)
        theirs[name] = tensor[..., None, None] if tensor.ndim == 2 else tensor
    return theirs


def _level_flip(keys: Iterable[str]) -> Callable[[str], str]:
    """Between our order of the decoder's levels and LDM's, which counts from the largest resolution down."""
    last = max((int(m[1]) for key in keys if (m := re.search(r"\.up_blocks\.(\d+)\.", key))), default=0)
    return lambda key: re.sub(r"\.up_blocks\.(\d+)\.", lambda m: f".up_blocks.{last - int(m[1])}.", key)


def _replaced(key: str, rules: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, replacement in rules:
        key = pattern.sub(replacement, key)
    return key


VIDRD = Naming(
    part="vae",
    name="VidRD",
    used_by="the released VidRD checkpoint",
    detect=_is_released,
    to_ours=_from_released,
    from_ours=_to_released,
    settings={"joint_temp_norm": True},  # GroupNorms of its Temp-Convs span the frames
)
DIFFUSERS = Naming(
    part="vae",
    name="diffusers",
    used_by="AutoencoderKL and AutoencoderKLTemporalDecoder folders",
    detect=_is_diffusers,
    to_ours=_from_diffusers,
    from_ours=_to_diffusers,
    target="diffusers",
)
LDM = Naming(
    part="vae",
    name="LDM",
    used_by="Stable Diffusion, ModelScope and Stable Video Diffusion checkpoints",
    detect=_is_ldm,
    to_ours=_from_ldm,
    from_ours=_to_ldm,
    target="ldm",
)
NAMINGS = (VIDRD, DIFFUSERS, LDM)
