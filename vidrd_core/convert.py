"""Write a UNet or a VAE for other programs, or as a file of our own: the way back from `load`."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from vidrd_core.io import safetensors as checkpoint
from vidrd_core.io.atomic import atomic_folder
from vidrd_core.io.configs import to_dict
from vidrd_core.loading import SUFFIX, files_of, find
from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.formats import diffusers
from vidrd_core.models.formats.unet import write_unet
from vidrd_core.models.formats.vae import write_vae
from vidrd_core.models.inflate import write_temporal
from vidrd_core.models.load_parts import UNET, VAE, find_vae, read_unet
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.sampling import DiffusionConfig, Schedule

Target = Literal["diffusers", "ldm", "vidrd", "temporal"]
Part = Literal["unet", "vae"]
WEIGHTS, CONFIG = "diffusion_pytorch_model.safetensors", "config.json"
SCHEDULER = "scheduler/scheduler_config.json"
LDM_UNET = "model.diffusion_model."  # before the names of a UNet in Stable Diffusion's own checkpoints
SAMPLING = ("prediction", "schedule", "beta_start", "beta_end", "train_steps", "zero_terminal_snr")
Write = Callable[[Path], None]


def convert(
    name_or_path: str | Path, target: str | Path, to: Target, part: Part = "unet", overwrite: bool = False
) -> list[str]:
    """Read a model's UNet or VAE, ours or of others, and write it as `to` says; all numbers stay what they are.

    "diffusers": a folder that its classes open (UNet2DConditionModel, UNet3DConditionModel, AutoencoderKL,
    AutoencoderKLTemporalDecoder). "ldm": a safetensors file by Stable Diffusion's and ModelScope's own names.
    "vidrd": a file of ours. "temporal": a file with a UNet3D's layers over time alone.

    Gives what has to be told when the target is loaded, as it has no place for it: settings as in "prediction=v".

    Raises FileNotFoundError, FormatError, ValueError for what the other program has no place for, FileExistsError if
    the target is there and `overwrite` is not set. Of a folder only the files that are written are overwritten.
    """
    target = Path(target)
    if to not in get_args(Target) or part not in get_args(Part):
        raise ValueError(f"cannot convert a {part} to {to!r}: expected unet or vae, to {', '.join(get_args(Target))}")
    if to != "diffusers" and target.suffix != SUFFIX:
        raise ValueError(f"{target} is to be a file: give a name that ends in {SUFFIX}")
    if target.exists() and to != "diffusers" and not overwrite:
        raise FileExistsError(f"{target} is there already: add --overwrite, or give another name")
    source = files_of(find(name_or_path))[part]
    if part == "unet":
        return _convert_unet(source, target, to, overwrite)
    _convert_vae(source, target, to, overwrite)
    return []


def _convert_unet(source: Path, target: Path, to: Target, overwrite: bool) -> list[str]:
    found, config, diffusion = read_unet(source)
    with torch.device("meta"):
        state = UNet3D(config).state_dict()
    tensors = checkpoint.fitted(state, found, source)
    if to == "temporal":
        _write_file(target, lambda path: write_temporal(tensors, config, path))
    if to == "vidrd":
        about = {"config": to_dict(config), "diffusion": to_dict(diffusion)}
        _write_file(target, lambda path: checkpoint.write(path, tensors, UNET, **about))
    if to == "ldm":
        return _write_ldm_unet(target, tensors, config, diffusion)
    if to == "diffusers":
        said = {CONFIG: diffusers.unet_class(config, diffusion), SCHEDULER: diffusers.scheduler(diffusion)}
        _write_folder(target, write_unet(config, tensors, "diffusers"), said, overwrite)
    return []


def _convert_vae(source: Path, target: Path, to: Target, overwrite: bool) -> None:
    if to == "temporal":
        raise ValueError("layers over time are taken out of UNets: a VAE's stay with it")
    found, config = find_vae(source)
    with torch.device("meta"):
        state = TemporalVAE(config).state_dict()
    tensors = checkpoint.fitted(state, found, source)
    if to == "vidrd":
        _write_file(target, lambda path: checkpoint.write(path, tensors, VAE, config=to_dict(config)))
    if to == "ldm":
        written = write_vae(config, tensors, "ldm")
        _write_file(target, lambda path: _write_checked(path, written, config, lambda path: find_vae(path)[1]))
    if to == "diffusers":
        said = {CONFIG: diffusers.vae_class(config)}
        written = diffusers.with_quant_conv(write_vae(config, tensors, "diffusers"), config)
        _write_folder(target, written, said, overwrite)


def _write_ldm_unet(
    target: Path, tensors: Mapping[str, Tensor], config: UNet3DConfig, diffusion: DiffusionConfig
) -> list[str]:
    """Stable Diffusion's as in its checkpoints, which have their table of noise levels; others' names stand alone."""
    written, is_flat = write_unet(config, tensors, "LDM"), config.temp_attention == "none"
    if is_flat:
        written = {f"{LDM_UNET}{key}": tensor for key, tensor in written.items()}
    if is_flat and diffusion.prediction != "flow":
        written["alphas_cumprod"] = Schedule(diffusion).alphas_cumprod
    told: list[str] = []

    def write(path: Path) -> None:
        _write_checked(path, written, config, lambda path: read_unet(path)[1])
        read = read_unet(path)[2]
        pairs = {name: (getattr(diffusion, name), getattr(read, name)) for name in SAMPLING}
        told.extend(f"{name}={value}" for name, (value, other) in pairs.items() if value != other)

    _write_file(target, write)
    return told


def _write_checked(path: Path, tensors: dict[str, Tensor], config: Any, read: Callable[[Path], Any]) -> None:
    """Write a file whose names and shapes alone tell the settings. Raises ValueError unless they tell these."""
    checkpoint.write_tensors(path, tensors, {"format": "pt"})
    advice = "no published model is like this; convert to vidrd or diffusers instead"
    try:
        found = read(path)
    except checkpoint.FormatError as error:
        raise ValueError(f"LDM's names and shapes do not tell all of it: {advice} ({error})") from error
    names = [field.name for field in dataclasses.fields(config) if field.name != "dropout"]  # of training alone
    if lost := [name for name in names if getattr(found, name) != getattr(config, name)]:
        raise ValueError(f"LDM's names and shapes do not tell {', '.join(lost)} of it: {advice}")


def _write_file(target: Path, write: Write) -> None:
    """A file that appears whole or not at all."""
    with atomic_folder(target) as staging:
        write(staging / target.name)
        os.replace(staging / target.name, target)


def _write_folder(
    target: Path, tensors: Mapping[str, Tensor], described: Mapping[str, dict[str, Any]], overwrite: bool
) -> None:
    """Weights and JSON files in a folder, where they appear once all of them are written."""
    names = [*described, WEIGHTS]
    if (taken := [name for name in names if (target / name).exists()]) and not overwrite:
        raise FileExistsError(f"{target} already holds {', '.join(taken)}: add --overwrite, or give another name")
    with atomic_folder(target) as staging:
        for name, said in described.items():
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        checkpoint.write_tensors(staging / WEIGHTS, tensors, {"format": "pt"})
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / name, target / name)
