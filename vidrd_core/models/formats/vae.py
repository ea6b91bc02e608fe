"""VAEs of Stable Diffusion's latents: diffusers' and LDM's names, and the released VidRD's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from vidrd_core.models.checkpoint import FormatError
from vidrd_core.models.config import VAEConfig
from vidrd_core.models.formats.naming import DIFFUSERS, LDM, VIDRD, count, from_naming, renamed, to_naming

_IGNORED = re.compile(r"(loss|model_ema|discriminator)\b.*")
# Attention in the middle: LDM's names, those of old diffusers, ours.
_ATTENTION = (
    ("norm", "group_norm", "group_norm"),
    ("q", "query", "to_q"),
    ("k", "key", "to_k"),
    ("v", "value", "to_v"),
    ("proj_out", "proj_attn", "to_out.0"),
)
_SVD = re.compile(r".*\b(time_mixer|mix_factor|time_conv_out|time_mix_conv|temporal_res_block|time_stack)\b.*")


def looks_like_vae(keys: list[str]) -> bool:
    """Whether these are the keys of an image or temporal VAE of this family."""
    return any(key.startswith(("decoder.conv_in.", "encoder.conv_in.")) for key in keys)


def read_vae(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None
) -> tuple[VAEConfig, dict[str, Tensor]]:
    """Settings and tensors of a VAE, in any naming; `config` is diffusers' config.json where there is one.

    Raises FormatError for one of another family, or that is not whole.
    """
    config = config or {}
    tensors = {key: tensor for key, tensor in tensors.items() if not _IGNORED.fullmatch(key)}
    if svd := next((key for key in tensors if _SVD.fullmatch(key)), None):
        raise FormatError(f"this is Stable Video Diffusion's VAE (it has {svd}), whose decoder is not known here yet")
    names = names_here(tensors)
    named = {names[key]: _flat(names[key], tensor) for key, tensor in tensors.items()}

    def has(prefix: str) -> bool:
        return any(key.startswith(prefix) for key in named)

    try:
        widths = tuple(
            named[f"encoder.down_blocks.{level}.resnets.0.conv1.weight"].shape[0]
            for level in range(count(has, "encoder.down_blocks.{}."))
        )
        first, latents = named["encoder.conv_in.weight"], named["post_quant_conv.weight"]
    except KeyError as error:
        raise FormatError(f"the VAE is not whole, or of another family: it lacks {error}") from error
    depths = [int(m[1]) for key in named if (m := re.search(r"\.temp_convs\.\d+\.conv(\d+)\.", key))]
    scale, shift = config.get("scaling_factor") or 0.18215, config.get("shift_factor") or 0.0
    try:
        found = VAEConfig(
            in_channels=first.shape[1],
            latent_channels=latents.shape[0],
            block_out_channels=widths,
            layers_per_block=count(has, "encoder.down_blocks.0.resnets.{}."),
            norm_groups=config.get("norm_num_groups", 32),
            temp_conv_depth=max(depths, default=0),
            joint_norm=any(".temp_convs." in key and ".convs." in key for key in tensors),  # as released
            latents_mean=(float(shift),),
            latents_std=(1 / float(scale),),
        )
    except ValueError as error:
        raise FormatError(f"the VAE is of another family: {error}") from error
    return found, named


def write_vae(config: VAEConfig, tensors: Mapping[str, Tensor], naming: str) -> dict[str, Tensor]:
    """The way back: tensors by names and with shapes of another naming ("diffusers", "LDM" or "VidRD").

    Raises ValueError for Temp-Conv in LDM's naming, which has no name for it.
    """
    if naming == LDM and config.temp_conv_depth:
        raise ValueError(f"{LDM} has no name for Temp-Conv: choose the naming {VIDRD} or {DIFFUSERS}")
    names = _to_ldm(tensors) if naming == LDM else to_naming(tensors, naming)
    written = {}
    for key, tensor in tensors.items():
        if ".temp_convs." in key and tensor.ndim == 4:
            tensor = tensor.unsqueeze(-1)
        if naming == LDM and _is_projection(key):
            tensor = tensor[..., None, None]
        written[names[key]] = tensor
    return written


def names_here(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The name used here of each of a VAE's tensors."""
    keys = list(tensors)
    if any(key.startswith(("decoder.up.", "encoder.down.", "decoder.mid.block_1.")) for key in keys):
        modules = dict(_modules(*_shape(keys, "encoder.down.{}.", "encoder.down.0.block.{}.")))
        return renamed(keys, modules)
    plain = {key: _modern(key) for key in keys}
    released = from_naming(plain.values())
    return {key: released[name] for key, name in plain.items()}


def _to_ldm(keys: Mapping[str, Tensor]) -> dict[str, str]:
    shape = _shape(list(keys), "encoder.down_blocks.{}.", "encoder.down_blocks.0.resnets.{}.")
    modules = {ours: theirs for theirs, ours in _modules(*shape)}
    return renamed(keys, modules)


def _shape(keys: list[str], level: str, layer: str) -> tuple[int, int]:
    def has(prefix: str) -> bool:
        return any(key.startswith(prefix) for key in keys)

    return count(has, level), count(has, layer)


def _modern(key: str) -> str:
    """Diffusers' old names of attention as its newer ones."""
    for _, old, ours in _ATTENTION:
        key = re.sub(rf"(mid_block\.attentions\.0)\.{old}\.", rf"\1.{ours}.", key)
    return key


def _modules(levels: int, layers: int) -> Iterator[tuple[str, str]]:
    """LDM's name and ours of each module whose name differs."""
    sides = (("encoder", "down", "down_blocks", layers), ("decoder", "up", "up_blocks", layers + 1))
    for side, name, ours_name, blocks in sides:
        for level in range(levels):
            # LDM counts the decoder's levels from the finest on.
            ours = f"{side}.{ours_name}.{level if side == 'encoder' else levels - 1 - level}"
            theirs = f"{side}.{name}.{level}"
            for layer in range(blocks):
                yield f"{theirs}.block.{layer}.nin_shortcut", f"{ours}.resnets.{layer}.conv_shortcut"
                yield f"{theirs}.block.{layer}", f"{ours}.resnets.{layer}"
            change = "downsample" if side == "encoder" else "upsample"
            yield f"{theirs}.{change}", f"{ours}.{change}rs.0"
        for number in (1, 2):
            yield f"{side}.mid.block_{number}", f"{side}.mid_block.resnets.{number - 1}"
        for theirs, _, ours in _ATTENTION:
            yield f"{side}.mid.attn_1.{theirs}", f"{side}.mid_block.attentions.0.{ours}"
        yield f"{side}.norm_out", f"{side}.conv_norm_out"


def _is_projection(key: str) -> bool:
    return re.search(r"\.attentions\.0\.to_(q|k|v|out\.0)\.weight$", key) is not None


def _flat(name: str, tensor: Tensor) -> Tensor:
    """LDM's projections are convs of one pixel, ours linear; a Temp-Conv's kernel has no width."""
    if _is_projection(name) and tensor.ndim == 4:
        return tensor[..., 0, 0]
    return tensor.squeeze(-1) if tensor.ndim == 5 else tensor
