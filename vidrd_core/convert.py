"""Write a UNet or a VAE for other programs, or as a file of our own: the way back from `load`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

from safetensors.torch import save_file
from torch import Tensor

from vidrd_core.loading import SUFFIX, files_of, find
from vidrd_core.models.config import DiffusionConfig, UNet3DConfig, VAEConfig
from vidrd_core.models.formats.unet import SD1_TEXT, write_unet
from vidrd_core.models.formats.vae import write_vae
from vidrd_core.models.inflate import write_temporal
from vidrd_core.models.parts import build_unet, load_vae, read_unet, save_unet, save_vae
from vidrd_core.reasons import why

Target = Literal["diffusers", "ldm", "vidrd", "temporal"]
Part = Literal["unet", "vae"]
WEIGHTS, CONFIG = "diffusion_pytorch_model.safetensors", "config.json"


def convert(
    name_or_path: str | Path, target: str | Path, to: Target, part: Part = "unet", overwrite: bool = False
) -> None:
    """Read a model's UNet or VAE, ours or of others, and write it as `to` says; all numbers stay what they are.

    "diffusers": a folder that its classes open (UNet2DConditionModel, UNet3DConditionModel, AutoencoderKL,
    AutoencoderKLTemporalDecoder). "ldm": a safetensors file by Stable Diffusion's and ModelScope's own names.
    "vidrd": a file of ours. "temporal": a file with a UNet3D's layers over time alone.

    Raises FileNotFoundError, FormatError, ValueError for what the other program has no place for, FileExistsError if
    the target is there and `overwrite` is not set.
    """
    target = Path(target)
    if to not in get_args(Target) or part not in get_args(Part):
        raise ValueError(f"cannot convert a {part} to {to!r}: expected unet or vae, to {', '.join(get_args(Target))}")
    if to != "diffusers" and target.suffix != SUFFIX:
        raise ValueError(f"{target} is to be a file: give a name that ends in {SUFFIX}")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} is there already: overwrite it, or give another name")
    source = files_of(find(name_or_path))[part]
    write = _unet_writer(source, to) if part == "unet" else _vae_writer(source, to)
    new = target.with_name(f"{target.name}.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write(new)
        if target.is_dir():
            shutil.rmtree(target)
        new.replace(target)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {target}: {why(error.errno, str(error))}") from error
    finally:
        shutil.rmtree(new) if new.is_dir() else new.unlink(missing_ok=True)


def _unet_writer(source: Path, to: Target) -> Callable[[Path], None]:
    tensors, config, diffusion = read_unet(source)
    if to == "temporal":
        return lambda path: write_temporal(tensors, config, path)
    # In its own shapes and with every tensor in its place, whatever the file has.
    unet = build_unet(tensors, config, source)
    if to == "vidrd":
        return lambda path: save_unet(unet, diffusion, path)
    if to == "ldm":
        written = write_unet(config, unet.state_dict(), "LDM")
        return lambda path: _save(written, path)
    said, scheduler = diffusers_unet(config, diffusion), diffusers_scheduler(diffusion)
    written = write_unet(config, unet.state_dict(), "diffusers")
    return lambda path: _save_folder(written, path, {CONFIG: said, "scheduler/scheduler_config.json": scheduler})


def _vae_writer(source: Path, to: Target) -> Callable[[Path], None]:
    if to == "temporal":
        raise ValueError("layers over time are taken out of UNets: a VAE's stay with it")
    vae = load_vae(source)
    if to == "vidrd":
        return lambda path: save_vae(vae, path)
    if to == "ldm":
        written = write_vae(vae.config, vae.state_dict(), "ldm")
        return lambda path: _save(written, path)
    said = diffusers_vae(vae.config)
    written = write_vae(vae.config, vae.state_dict(), "diffusers")
    return lambda path: _save_folder(written, path, {CONFIG: said})


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata={"format": "pt"})


def _save_folder(tensors: dict[str, Tensor], folder: Path, described: dict[str, dict[str, Any]]) -> None:
    folder.mkdir()
    for name, said in described.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    _save(tensors, folder / WEIGHTS)


def diffusers_unet(config: UNet3DConfig, diffusion: DiffusionConfig) -> dict[str, Any]:
    """The config.json of diffusers' UNet that computes the same. Raises ValueError if there is none."""
    own = [name for name in ("position_features", "text_pooling", "frame_embedding", "frame_pictures")
           if getattr(config, name)]  # fmt: skip
    is_flat = config.temp_attention == "none" and not config.temp_conv_depth
    is_3d = config.temp_attention == "after" and config.transformer_in and config.temp_conv_depth == 4
    if own or not (is_flat or is_3d) or config.joint_resnet_norm:
        what = own[0] if own else "Temp-Conv and Temp-Attn as VidRD has them"
        raise ValueError(f"diffusers has no network with {what}: convert to vidrd instead, or to temporal")
    kind = "2D" if is_flat else "3D"
    levels = config.attention_levels
    said: dict[str, Any] = {
        "_class_name": f"UNet{kind}ConditionModel",
        "sample_size": diffusion.size // 8,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": list(config.block_out_channels),
        "down_block_types": [f"CrossAttnDownBlock{kind}" if level else f"DownBlock{kind}" for level in levels],
        "up_block_types": [f"CrossAttnUpBlock{kind}" if level else f"UpBlock{kind}" for level in levels[::-1]],
        "layers_per_block": config.layers_per_block,
        "cross_attention_dim": config.cross_attention_dim,
        "norm_num_groups": config.norm_groups,
    }
    if is_flat:  # it calls the number of heads their width
        one = config.cross_attention_dim == SD1_TEXT and len(set(config.heads)) == 1
        heads = config.heads[0] if one else list(config.heads)
        return {**said, "attention_head_dim": heads, "use_linear_projection": config.linear_projection}
    wide = {width // heads for width, heads in zip(config.block_out_channels, config.heads, strict=True)}
    if len(wide) > 1 or not config.linear_projection:
        raise ValueError(f"diffusers' UNet3D has linear projections and heads of one width, not of {sorted(wide)}: "
                         f"convert to vidrd instead")  # fmt: skip
    return {**said, "attention_head_dim": wide.pop()}


def diffusers_scheduler(diffusion: DiffusionConfig) -> dict[str, Any]:
    """The scheduler_config.json of DDIM that denoises the same way. Raises ValueError for flow models."""
    kinds = {"eps": "epsilon", "v": "v_prediction"}
    if diffusion.prediction not in kinds:
        raise ValueError("diffusers' DDIM knows no flow models: convert to vidrd instead")
    return {
        "_class_name": "DDIMScheduler",
        "beta_schedule": diffusion.schedule,
        "beta_start": diffusion.beta_start,
        "beta_end": diffusion.beta_end,
        "num_train_timesteps": diffusion.train_steps,
        "prediction_type": kinds[diffusion.prediction],
        "clip_sample": False,
        "set_alpha_to_one": True,
        "steps_offset": 1,
        "timestep_spacing": "trailing" if diffusion.zero_terminal_snr else "leading",
        "rescale_betas_zero_snr": diffusion.zero_terminal_snr,
    }


def diffusers_vae(config: VAEConfig) -> dict[str, Any]:
    """The config.json of diffusers' VAE that computes the same. Raises ValueError if there is none."""
    if config.temp_conv_depth or config.patch_size != 1:
        raise ValueError("diffusers has no VAE with VidRD's Temp-Conv or with patches: convert to vidrd instead")
    count = len(config.block_out_channels)
    said: dict[str, Any] = {
        "_class_name": "AutoencoderKL",
        "block_out_channels": list(config.block_out_channels),
        "down_block_types": ["DownEncoderBlock2D"] * count,
        "layers_per_block": config.layers_per_block,
        "latent_channels": config.latent_channels,
        "in_channels": config.in_channels,
        "out_channels": config.in_channels,
        "scaling_factor": 1 / config.latents_std[0],
    }
    if len(config.latents_std) > 1:
        said |= {"scaling_factor": 1.0, "latents_std": list(config.latents_std)}
    if any(config.latents_mean):
        said["latents_mean"] = list(config.latents_mean)
    if config.decoder == "svd":
        if config.norm_groups != 32:
            raise ValueError(f"diffusers' temporal decoder has norms of 32 groups, this one of {config.norm_groups}")
        return {**said, "_class_name": "AutoencoderKLTemporalDecoder"}
    return {**said, "up_block_types": ["UpDecoderBlock2D"] * count, "norm_num_groups": config.norm_groups}
