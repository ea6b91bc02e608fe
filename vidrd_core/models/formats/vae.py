"""A VAE in any format: its settings, by its tensors' names and shapes, and its tensors under our names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vidrd_core.io.safetensors import FormatError, differences, first_few
from vidrd_core.models.config import VAEConfig
from vidrd_core.models.formats.config_files import check_config, check_shapes
from vidrd_core.models.formats.naming import Naming, Tensors, detect_naming, without_prefix, writable_naming
from vidrd_core.models.formats.vae_keys import DIFFUSERS, NAMINGS, VIDRD
from vidrd_core.models.vae import TemporalVAE

UNUSED = ("loss.", "model_ema.")  # what training leaves in checkpoints
SCALING = 0.18215  # of Stable Diffusion 1 and 2, of VidRD and of SVD
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # diffusers before 0.18

# Networks that are mistaken for such a VAE, by a name in them.
OTHER_NETWORKS = (
    (r"(model\.diffusion_model|unet|down_blocks\.\d+|input_blocks\.\d+)\.", "a UNet"),
    (r"(text_model|transformer|cond_stage_model|text_encoder)\.", "a text encoder"),
    (r"(taesd_)?(encoder|decoder)\.(layers\.)?\d+\.", "TAESD, an autoencoder of another build"),
    (r"decoder\.(middle|upsamples)\.|decoder\.\w+\.\d+\.res\w+\.\d+\.conv1\.conv\.", "a VAE that compresses time"),
)


def identify_vae(tensors: Tensors, config: Mapping[str, Any] | None = None) -> tuple[VAEConfig, dict[str, Tensor]]:
    """Identify a VAE by its tensors, in any format.

    Args:
        tensors: All of its tensors by their names in the file; of a complete checkpoint only the VAE's are read.
        config: diffusers' config.json beside the file, for what tensors do not show: norm_num_groups (32 without it),
            scaling_factor, shift_factor, latents_mean and latents_std. Without them, latents of 4 channels are taken
            for Stable Diffusion's, which is wrong for SDXL's.

    Returns:
        The VAE's settings, and its tensors under our names; their values and dtypes stay.

    Raises:
        FormatError: The tensors are not a complete VAE, or one of another network, or the config does not fit.
    """
    tensors = _own(tensors)
    naming = detect_naming(NAMINGS, tensors)
    if naming is None:
        known = " or ".join(each.name for each in NAMINGS)
        raise FormatError(
            f"this looks like {_other_network(tensors) or 'no known VAE'} ({first_few(tensors)}), expected an "
            f"AutoencoderKL of Stable Diffusion, Stable Video Diffusion or VidRD, with the names of {known}"
        )
    check_config(config or {}, "vae")
    ours = naming.to_ours(tensors)
    found = _settings(ours, naming, config or {})
    shown = ("in_channels", "block_out_channels", "layers_per_block", "latent_channels")
    check_shapes(config or {}, {name: getattr(found, name) for name in shown})
    state = _meta_state(found)
    assert naming.from_ours is not None
    if faults := differences(naming.from_ours(state), tensors):
        looks = _other_network(tensors) or f"{describe_vae(found, naming)}, but not whole"
        raise FormatError(f"this looks like {looks}: {'; '.join(faults)}")
    return found, {name: ours[name].reshape(tensor.shape) for name, tensor in state.items()}


def write_vae(config: VAEConfig, tensors: Tensors, naming: str) -> dict[str, Tensor]:
    """Convert a VAE's tensors to another format, which `identify_vae` converts back.

    Args:
        config: The VAE's settings.
        tensors: All of its tensors, under our names.
        naming: The name of a format in `vae_keys.NAMINGS`. For "diffusers", Temp-Conv, which its classes do not know,
            keeps our names, or gets the released VidRD's where its norms span frames.

    Returns:
        The tensors, under the format's names and with its shapes.

    Raises:
        ValueError: There is no such format, or it has no name for a layer of this VAE.
        FormatError: The tensors are not those of these settings.
    """
    written = writable_naming(NAMINGS, naming)
    if config.patch_size != 1:
        raise ValueError(
            f"patch_size is {config.patch_size}, expected 1: other programs have no patches, convert to vidrd instead"
        )
    if written is DIFFUSERS and config.joint_temp_norm:
        written = VIDRD
    if faults := differences(state := _meta_state(config), tensors):
        raise FormatError(f"tensors and settings are not of one VAE: {'; '.join(faults)}")
    assert written.from_ours is not None
    return written.from_ours({name: tensors[name] for name in state})


def describe_vae(config: VAEConfig, naming: Naming) -> str:
    """A VAE's family and format, for messages."""
    family = "Stable Diffusion's VAE"
    if config.decoder == "svd":
        family = "Stable Video Diffusion's VAE"
    elif config.temp_conv_depth:
        family = "VidRD's VAE"
    return f"{family} ({naming.name} names)"


def _own(tensors: Tensors) -> dict[str, Tensor]:
    """The VAE's tensors, without their prefix and what training left, with the current names of attention layers."""
    own = {name: t for name, t in without_prefix(tensors, "vae").items() if not name.startswith(UNUSED)}
    for name in [name for name in own if ".attentions." in name]:
        *before, layer, kind = name.split(".")
        new = ".".join([*before, OLD_ATTENTION.get(layer, layer), kind])
        if new not in own:
            own[new] = own.pop(name)
    return own


def _settings(ours: Tensors, naming: Naming, config: Mapping[str, Any]) -> VAEConfig:
    """The settings that names, shapes and config show; what is missing is guessed, and reported by the comparison."""

    def size(name: str, dim: int, default: int) -> int:
        tensor = ours.get(name)
        return default if tensor is None or tensor.ndim <= dim else tensor.shape[dim]

    resnets = [re.match(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.(norm2|conv2)\.", name) for name in ours]
    found = [(int(match[1]), int(match[2]), size(match.string, 0, 128)) for match in resnets if match]
    widths = {level: width for level, _, width in found}
    levels = 1 + max(widths, default=0)
    channels = size("decoder.conv_in.weight", 1, 4)
    depths = [int(m[1]) for name in ours if (m := re.match(r"decoder\..*\.temp_convs\.\d+\.conv(\d+)\.", name))]
    svd = any(".temporal_res_block." in name for name in ours)
    try:
        mean, std = _statistics(config, channels)
        return VAEConfig(
            in_channels=size("encoder.conv_in.weight", 1, 3),
            latent_channels=channels,
            block_out_channels=tuple(widths.get(level, 128) for level in range(levels)),
            layers_per_block=1 + max((layer for _, layer, _ in found), default=0),
            norm_groups=_number(config, "norm_num_groups", 32, int),
            decoder="svd" if svd else "temp_conv",
            temp_conv_depth=max([0, *depths]),
            quant_conv=any(name.startswith("quant_conv.") for name in ours),
            post_quant_conv=any(name.startswith("post_quant_conv.") for name in ours),
            latents_mean=mean,
            latents_std=std,
            **naming.settings,
        )
    except ValueError as error:
        raise FormatError(
            f"the VAE's tensors and its config do not fit: {error}; give its own config.json"
        ) from error


def _statistics(config: Mapping[str, Any], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the latents, from the entries of a diffusers config. Raises ValueError."""
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


def _meta_state(config: VAEConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        return TemporalVAE(config).state_dict()


def _other_network(tensors: Tensors) -> str:
    """What else the tensors are, "" if nothing is known of them."""
    return next((what for mark, what in OTHER_NETWORKS if any(re.match(mark, name) for name in tensors)), "")
