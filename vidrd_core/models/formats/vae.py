"""VAEs of Stable Diffusion's latents under the names that others give their weights: read into ours, written back.

Our names are those of diffusers' AutoencoderKL and AutoencoderKLTemporalDecoder. Also read are
- diffusers' old names of the attention's layers: query, key, value, proj_attn;
- the released VidRD's, which are these, and Temp-Convs of one list of layers: `temp_convs.0.convs.{4 i}` for norms,
  `{4 i + 3}` for convs. Their norms span frames; a Temp-Conv under our names normalises each frame alone;
- LDM's, as in Stable Diffusion's own checkpoints, with what Stable Video Diffusion's add for time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Size, Tensor

from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.config import VAEConfig
from vidrd_core.models.vae import TemporalVAE

Naming = Literal["diffusers", "ldm"]

PREFIXES = ("first_stage_model.", "vae.")  # of a VAE in a whole checkpoint
UNUSED = ("loss.", "model_ema.")  # left in checkpoints by training
SCALING = 0.18215  # of Stable Diffusion 1 and 2, of VidRD and of SVD
LEVELS = {"diffusers": r"encoder\.down_blocks\.(\d+)\.resnets\.", "ldm": r"encoder\.down\.(\d+)\.block\."}

OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
LDM_NAMES = (
    (r"\.down_blocks\.(\d+)\.resnets\.", r".down.\1.block."),
    (r"\.up_blocks\.(\d+)\.resnets\.", r".up.\1.block."),
    (r"\.down_blocks\.(\d+)\.downsamplers\.0\.", r".down.\1.downsample."),
    (r"\.up_blocks\.(\d+)\.upsamplers\.0\.", r".up.\1.upsample."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.group_norm\.", ".mid.attn_1.norm."),
    (r"\.mid_block\.attentions\.0\.to_([qkv])\.", r".mid.attn_1.\1."),
    (r"\.mid_block\.attentions\.0\.to_out\.0\.", ".mid.attn_1.proj_out."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.conv_norm_out\.", ".norm_out."),
    (r"\.spatial_res_block\.", "."),
    (r"\.temporal_res_block\.norm1\.", ".time_stack.in_layers.0."),
    (r"\.temporal_res_block\.conv1\.", ".time_stack.in_layers.2."),
    (r"\.temporal_res_block\.norm2\.", ".time_stack.out_layers.0."),
    (r"\.temporal_res_block\.conv2\.", ".time_stack.out_layers.3."),
    (r"\.time_mixer\.mix_factor", ".mix_factor"),
    (r"\.time_conv_out\.", ".conv_out.time_mix_conv."),
)

# What else a file may be, by a name in it.
OTHERS = (
    (r"(model\.diffusion_model|unet|down_blocks\.\d+|input_blocks\.\d+)\.", "a UNet"),
    (r"(text_model|transformer|cond_stage_model|text_encoder)\.", "a text encoder"),
    (r"(taesd_)?(encoder|decoder)\.(layers\.)?\d+\.", "TAESD, an autoencoder of another build"),
    (r"decoder\.(middle|upsamples)\.|decoder\.\w+\.\d+\.res\w+\.\d+\.conv1\.conv\.", "a VAE that compresses time"),
)


def read_vae(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None
) -> tuple[VAEConfig, dict[str, Tensor]]:
    """A VAE's settings, as names and shapes tell them, and its tensors under our names; their values stay.

    Of a whole checkpoint the VAE's tensors alone are looked at. `config` is a diffusers config.json, for what weights
    do not tell: norm_num_groups (32 without it), scaling_factor, shift_factor, latents_mean and latents_std. Without
    them, latents of 4 channels are taken for Stable Diffusion's, which is wrong for SDXL's.

    Raises FormatError for tensors that are no such VAE or not a whole one, and for a config that does not fit.
    """
    tensors = _own(tensors)
    naming = _naming(tensors)
    found = _settings(tensors, naming, config or {})
    shapes = _shapes(found)
    names = {name: _foreign(name, naming, found) for name in shapes}
    looks = _other(tensors) or f"{_called(naming, found)}, but not whole"
    _check(f"this looks like {looks}", names, tensors, shapes)
    return found, {name: tensors[foreign].reshape(shapes[name]) for name, foreign in names.items()}


def write_vae(config: VAEConfig, state_dict: Mapping[str, Tensor], naming: Naming) -> dict[str, Tensor]:
    """A VAE's tensors under another naming, of which `read_vae` makes the same again, given what its config tells.

    "diffusers" is what its classes load, but for Temp-Conv, which they do not know: that keeps our names, or has the
    released VidRD's where its norms span frames. "ldm" is Stable Diffusion's and Stable Video Diffusion's own.

    Raises ValueError for what a naming has no names for, FormatError for tensors that are not of these settings.
    """
    if naming not in get_args(Naming):
        raise ValueError(f"naming is {naming!r}, expected one of {', '.join(get_args(Naming))}")
    if config.patch_size != 1:
        raise ValueError(f"patch_size is {config.patch_size}, expected 1: others know no patches")
    if naming == "ldm" and config.temp_conv_depth:
        raise ValueError('the naming "ldm" has no names for Temp-Conv: give "diffusers"')
    shapes = _shapes(config)
    _check("tensors and settings are not of one VAE", {name: name for name in shapes}, state_dict, shapes)
    return {_foreign(name, naming, config): _foreign_shape(name, naming, state_dict[name]) for name in shapes}


def _own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The VAE's tensors, without their prefix and what training left, the attention's under their new names."""
    for prefix in PREFIXES:
        if part := {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}:
            tensors = part
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(UNUSED)}
    for name in [name for name in own if ".attentions." in name]:
        *before, layer, kind = name.split(".")
        new = ".".join([*before, OLD_ATTENTION.get(layer, layer), kind])
        if new not in own:
            own[new] = own.pop(name)
    return own


def _naming(tensors: Mapping[str, Tensor]) -> Naming:
    for naming, pattern in LEVELS.items():
        if any(re.match(pattern, name) for name in tensors):
            return naming  # type: ignore[return-value]
    raise FormatError(
        f"this looks like {_other(tensors) or 'no VAE that is known'} ({_some(list(tensors))}), expected an "
        f"AutoencoderKL of Stable Diffusion, Stable Video Diffusion or VidRD, in diffusers' naming or LDM's"
    )


def _settings(tensors: Mapping[str, Tensor], naming: Naming, config: Mapping[str, Any]) -> VAEConfig:
    """What names, shapes and config tell. What is missing is guessed, and found missing when all is compared."""

    def size(name: str, dim: int, default: int) -> int:
        tensor = tensors.get(name)
        return default if tensor is None or tensor.ndim <= dim else tensor.shape[dim]

    resnets = [re.match(LEVELS[naming] + r"(\d+)\.(norm2|conv2)\.", name) for name in tensors]
    found = [(int(match[1]), int(match[2]), size(match.string, 0, 128)) for match in resnets if match]
    widths = {level: width for level, _, width in found}
    levels = 1 + max(widths, default=0)
    channels = size("decoder.conv_in.weight", 1, 4)
    alone = _numbers(r"decoder\..*\.temp_convs\.\d+\.conv(\d+)\.", tensors)
    joint = _numbers(r"decoder\..*\.temp_convs\.\d+\.convs\.(\d+)\.", tensors)
    svd = any(re.search(r"\.(temporal_res_block|time_stack)\.", name) for name in tensors)
    try:
        mean, std = _statistics(config, channels)
        return VAEConfig(
            in_channels=size("encoder.conv_in.weight", 1, 3),
            latent_channels=channels,
            block_out_channels=tuple(widths.get(level, 128) for level in range(levels)),
            layers_per_block=1 + max((layer for _, layer, _ in found), default=0),
            norm_groups=_number(config, "norm_num_groups", 32, int),
            decoder="svd" if svd else "temp_conv",
            temp_conv_depth=max([0, *alone, *(place // 4 + 1 for place in joint)]),
            joint_temp_norm=bool(joint),
            quant_conv=any(name.startswith("quant_conv.") for name in tensors),
            post_quant_conv=any(name.startswith("post_quant_conv.") for name in tensors),
            latents_mean=mean,
            latents_std=std,
        )
    except ValueError as error:
        raise FormatError(
            f"the VAE's tensors and its config do not fit: {error}; give its own config.json"
        ) from error


def _statistics(config: Mapping[str, Any], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the latents, as diffusers' configs have them. Raises ValueError."""
    if config.get("scaling_factor") is None and channels != 4:
        raise ValueError(f"latents of {channels} channels need a scaling_factor")
    scaling = _number(config, "scaling_factor", SCALING, float)
    if scaling <= 0:
        raise ValueError(f"scaling_factor is {scaling}, expected more than 0")
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None or std is None:
        return (_number(config, "shift_factor", 0.0, float),), (1 / scaling,)
    for name, values in (("latents_mean", mean), ("latents_std", std)):
        if not isinstance(values, (list, tuple)) or not all(isinstance(value, (int, float)) for value in values):
            raise ValueError(f"{name} is {values!r}, expected a list of numbers")
    return tuple(map(float, mean)), tuple(value / scaling for value in std)


def _number(config: Mapping[str, Any], name: str, default: Any, kind: type) -> Any:
    value = config.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, (int, kind)):
        raise ValueError(f"{name} is {value!r}, expected a number")
    return kind(value)


def _numbers(pattern: str, names: Mapping[str, Any]) -> list[int]:
    return [int(match[1]) for name in names if (match := re.match(pattern, name))]


def _shapes(config: VAEConfig) -> dict[str, Size]:
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in TemporalVAE(config).state_dict().items()}


def _foreign(name: str, naming: Naming, config: VAEConfig) -> str:
    """What another naming calls a tensor of ours."""
    if config.joint_temp_norm and (match := re.search(r"(.*\.temp_convs\.\d+)\.conv(\d+)\.(\d)(\..*)", name)):
        place = 4 * (int(match[2]) - 1) + (3 if int(match[3]) else 0)
        return f"{match[1]}.convs.{place}{match[4]}"
    if naming == "diffusers":
        return name
    last = len(config.block_out_channels) - 1  # LDM counts the decoder's levels from the largest picture down
    name = re.sub(r"\.up_blocks\.(\d+)\.", lambda match: f".up_blocks.{last - int(match[1])}.", name)
    for pattern, ldm in LDM_NAMES:
        name = re.sub(pattern, ldm, name)
    return name


def _foreign_shape(name: str, naming: Naming, tensor: Tensor) -> Tensor:
    """Convs over frames as Conv3d, and in LDM the attention's layers as 1 x 1 convs."""
    if tensor.ndim == 4 and re.search(r"\.(temp_convs|temporal_res_block|time_conv_out)\.", name):
        return tensor[..., None]
    if tensor.ndim == 2 and naming == "ldm":
        return tensor[..., None, None]
    return tensor


def _other(tensors: Mapping[str, Tensor]) -> str:
    """What tensors are if they are no such VAE, "" if nothing is known of them."""
    return next((what for mark, what in OTHERS if any(re.match(mark, name) for name in tensors)), "")


def _called(naming: Naming, config: VAEConfig) -> str:
    if config.decoder == "svd":
        return "Stable Video Diffusion's VAE" if naming == "ldm" else "diffusers' AutoencoderKLTemporalDecoder"
    if config.temp_conv_depth:
        return "VidRD's VAE"
    return "Stable Diffusion's VAE" if naming == "ldm" else "diffusers' AutoencoderKL"


def _check(what: str, names: dict[str, str], tensors: Mapping[str, Tensor], shapes: dict[str, Size]) -> None:
    """Raise FormatError unless the tensors are those of `names` (ours to theirs), and of our shapes but for 1s."""
    theirs = set(names.values())
    odd = [
        f"{foreign} {list(tensors[foreign].shape)} for {list(shapes[name])}"
        for name, foreign in names.items()
        if foreign in tensors and _without_ones(tensors[foreign].shape) != _without_ones(shapes[name])
    ]
    faults = {
        "missing": [name for name in names.values() if name not in tensors],
        "surplus": [name for name in tensors if name not in theirs],
        "of another shape": odd,
    }
    if any(faults.values()):
        told = "; ".join(f"{len(found)} {fault} ({_some(found)})" for fault, found in faults.items() if found)
        raise FormatError(f"{what}: {told}")


def _without_ones(shape: Size) -> list[int]:
    """A shape without the 1s at its end."""
    sizes = list(shape)
    while sizes and sizes[-1] == 1:
        sizes.pop()
    return sizes


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
