"""Write a model's UNet or VAE in another format, for other programs or as a file of this package."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from vidrd_core.io import safetensors
from vidrd_core.io.atomic import atomic_folder
from vidrd_core.io.configs import to_dict
from vidrd_core.loading import SUFFIX, files_of, find
from vidrd_core.models.claimed_sizes import on_meta
from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.formats import diffusers_config
from vidrd_core.models.formats.config_files import CONFIG, SCHEDULER
from vidrd_core.models.formats.detect import NAMINGS
from vidrd_core.models.formats.naming import PREFIXES
from vidrd_core.models.formats.unet import write_unet
from vidrd_core.models.formats.vae import write_vae
from vidrd_core.models.inflate import write_temporal
from vidrd_core.models.load_parts import UNET, VAE, find_vae, read_unet
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.sampling import DiffusionConfig, Schedule

Part = Literal["unet", "vae"]
WEIGHTS = "diffusion_pytorch_model.safetensors"
SAMPLING = (
    "prediction", "schedule", "beta_start", "beta_end", "train_steps", "zero_terminal_snr", "trained_betas",
    "timestep_spacing", "steps_offset", "set_alpha_to_one", "final_sigmas_type", "clip_sample_range",
)  # fmt: skip
Write = Callable[[Path], None]


def targets(part: Part = "unet") -> tuple[str, ...]:
    """What a part can be converted to: the formats that can be written, then this package's own files."""
    return (*sorted(naming.target for naming in NAMINGS[part] if naming.target), "vidrd", "temporal")


def convert(
    name_or_path: str | Path, target: str | Path, to: str, part: Part = "unet", overwrite: bool = False
) -> list[str]:
    """Write a model's UNet or VAE in another format; the values of its tensors stay the same.

    Args:
        name_or_path: A built-in model by name, or a file or folder in any format that can be loaded.
        target: The file to write (.safetensors), or for "diffusers" the folder. In a folder only the files that are
            written are overwritten.
        to: One of `targets(part)`. "diffusers": a folder for UNet2DConditionModel, UNet3DConditionModel,
            AutoencoderKL or AutoencoderKLTemporalDecoder. "ldm": a file with the names of Stable Diffusion's and
            ModelScope's checkpoints. "vidrd": a file of this package. "temporal": the temporal layers of a UNet3D
            alone.
        part: The part to convert.
        overwrite: Replace a target that exists.

    Returns:
        Settings that the target has no place for and that have to be given when it is loaded, as "prediction=v".

    Raises:
        FileNotFoundError: There is no such model.
        FormatError: The model is damaged or cannot be loaded.
        ValueError: The target's format has no place for a layer or setting of the model, or an argument is invalid.
        FileExistsError: The target exists and `overwrite` is not set.
        OSError: The target cannot be written.
    """
    target = Path(target)
    if part not in get_args(Part) or to not in targets(part):
        raise ValueError(f"cannot convert a {part} to {to!r}: expected unet or vae, to {', '.join(targets())}")
    if to != "diffusers" and target.suffix != SUFFIX:
        raise ValueError(f"{target} must be a file: give a name that ends in {SUFFIX}")
    if target.exists() and to != "diffusers" and not overwrite:
        raise FileExistsError(f"{target} is there already: add --overwrite, or give another name")
    source = files_of(find(name_or_path))[part]
    if part == "unet":
        return _convert_unet(source, target, to, overwrite)
    _convert_vae(source, target, to, overwrite)
    return []


def _convert_unet(source: Path, target: Path, to: str, overwrite: bool) -> list[str]:
    found, config, diffusion = read_unet(source)
    unet = on_meta(lambda: UNet3D(config), config, found, source)
    tensors = safetensors.matched(unet.state_dict(), found, source)
    if to == "temporal":
        _write_file(target, lambda path: write_temporal(tensors, config, path))
    elif to == "vidrd":
        details = {"config": to_dict(config), "diffusion": to_dict(diffusion)}
        _write_file(target, lambda path: safetensors.write(path, tensors, UNET, **details))
    elif to == "diffusers":
        described = {
            CONFIG: diffusers_config.unet_config(config, diffusion),
            SCHEDULER: diffusers_config.scheduler_config(diffusion),
        }
        _write_folder(target, write_unet(config, tensors, to), described, overwrite)
    else:
        return _write_unet_file(target, tensors, config, diffusion, to)
    return []


def _convert_vae(source: Path, target: Path, to: str, overwrite: bool) -> None:
    if to == "temporal":
        raise ValueError("temporal layers are taken out of UNets only: a VAE's stay in the VAE")
    found, config = find_vae(source)
    vae = on_meta(lambda: TemporalVAE(config), config, found, source)
    tensors = safetensors.matched(vae.state_dict(), found, source)
    if to == "vidrd":
        _write_file(target, lambda path: safetensors.write(path, tensors, VAE, config=to_dict(config)))
    elif to == "diffusers":
        described = {CONFIG: diffusers_config.vae_config(config)}
        written = diffusers_config.with_quant_conv(write_vae(config, tensors, to), config)
        _write_folder(target, written, described, overwrite)
    else:
        written = write_vae(config, tensors, to)
        _write_file(target, lambda path: _write_checked(path, written, config, lambda path: find_vae(path)[1]))


def _write_unet_file(
    target: Path, tensors: Mapping[str, Tensor], config: UNet3DConfig, diffusion: DiffusionConfig, to: str
) -> list[str]:
    """Write a UNet's file in one of `NAMINGS`; for "ldm", an image UNet's as in Stable Diffusion's checkpoints."""
    written = write_unet(config, tensors, to)
    if to == "ldm" and config.temp_attention == "none":
        written = {f"{PREFIXES['unet'][0]}{key}": tensor for key, tensor in written.items()}
        if diffusion.prediction != "flow":
            written["alphas_cumprod"] = Schedule(diffusion).alphas_cumprod
    lost: list[str] = []

    def write(path: Path) -> None:
        _write_checked(path, written, config, lambda path: read_unet(path)[1])
        read = read_unet(path)[2]
        pairs = {name: (getattr(diffusion, name), getattr(read, name)) for name in SAMPLING}
        lost.extend(f"{name}={value}" for name, (value, other) in pairs.items() if value != other)

    _write_file(target, write)
    return lost


def _write_checked(path: Path, tensors: dict[str, Tensor], config: Any, read: Callable[[Path], Any]) -> None:
    """Write a file without settings, and read them back from names and shapes. Raises ValueError if one is lost."""
    safetensors.write_tensors(path, tensors, {"format": "pt"})
    advice = "no published model is like this; convert to vidrd instead"
    try:
        found = read(path)
    except safetensors.FormatError as error:
        raise ValueError(f"names and shapes in this format do not show all settings: {advice} ({error})") from error
    names = [field.name for field in dataclasses.fields(config) if field.name != "dropout"]  # of training alone
    if lost := [name for name in names if getattr(found, name) != getattr(config, name)]:
        raise ValueError(f"names and shapes in this format do not show {', '.join(lost)}: {advice}")


def _write_file(target: Path, write: Write) -> None:
    """Write a file that appears complete or not at all."""
    with atomic_folder(target) as staging:
        write(staging / target.name)
        os.replace(staging / target.name, target)


def _write_folder(
    target: Path, tensors: Mapping[str, Tensor], described: Mapping[str, dict[str, Any]], overwrite: bool
) -> None:
    """Write weights and JSON files into a folder, where they appear once all of them are written."""
    names = [*described, WEIGHTS]
    if (taken := [name for name in names if (target / name).exists()]) and not overwrite:
        raise FileExistsError(f"{target} already holds {', '.join(taken)}: add --overwrite, or give another name")
    with atomic_folder(target) as staging:
        for name, values in described.items():
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        safetensors.write_tensors(staging / WEIGHTS, tensors, {"format": "pt"})
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / name, target / name)
