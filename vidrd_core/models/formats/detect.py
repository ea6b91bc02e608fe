"""Which part of a model a file or folder holds: UNet, VAE, text encoder, found by the names of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.formats.text import looks_like_text
from vidrd_core.models.formats.unet import SD1_TEXT, FoundUNet, looks_like_unet, read_unet
from vidrd_core.models.formats.weight_files import has_weights, keys_of, read_json, read_tensors
from vidrd_core.sampling import DiffusionConfig, Schedule

NAMES = {"unet": "UNet", "vae": "VAE", "text_encoder": "text encoder"}
PREFIXES = {
    "unet": ("model.diffusion_model.", "unet."),
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "text_encoder."),
}


def looks_like_vae(keys: list[str]) -> bool:
    """Whether these are the keys of a VAE of this family."""
    return any(key.startswith(("decoder.conv_in.", "encoder.conv_in.")) for key in keys)


_LOOKS: dict[str, Callable[[list[str]], bool]] = {
    "unet": looks_like_unet,
    "vae": looks_like_vae,
    "text_encoder": looks_like_text,
}
CAN_BE_LOADED = (
    "Stable Diffusion 1.x and 2.x, ModelScope, ZeroScope and VidRD: their UNets, VAEs and text encoders, whole "
    "checkpoints and diffusers folders"
)
V_BIAS = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"
V_SPREAD = 0.09  # SD 2.x models that predict v have a bias there that spreads more than this, those of eps less


def prefix_of(keys: Sequence[str], part: str) -> str | None:
    """With what the names of a part's tensors begin ("" if it is alone); None if there is no such part."""
    for prefix in PREFIXES[part]:
        if any(key.startswith(prefix) for key in keys):
            return prefix
    has_prefixes = any(
        key.startswith(prefix) for prefixes in PREFIXES.values() for prefix in prefixes for key in keys
    )
    return "" if not has_prefixes and _LOOKS[part](list(keys)) else None


def holds(path: Path, part: str) -> bool:
    """Whether a file or diffusers folder holds a part. Raises FormatError for a file that cannot be read."""
    path = Path(path)
    if path.is_dir() and has_weights(path / part):
        return True
    if path.is_dir() and not has_weights(path):
        return False
    return prefix_of(keys_of(path), part) is not None


def read_part(path: Path, part: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a part ("unet", "vae", "text_encoder") under their own names, and diffusers' config.json.

    Raises FileNotFoundError, or FormatError saying what is there instead.
    """
    path = Path(path)
    if path.is_dir():
        folder = path / part if has_weights(path / part) else path
        if not has_weights(folder):
            raise FileNotFoundError(f"{path} holds no {NAMES[part]}: expected a folder {part} with its weights")
        path, config = folder, read_json(folder / "config.json")
    else:
        beside = read_json(path.with_name("config.json"))
        config = beside if "_class_name" in beside or "architectures" in beside else {}
    keys = keys_of(path)
    prefix = prefix_of(keys, part)
    if prefix is None:
        raise FormatError(f"{path} holds {contents(keys)}, expected a {NAMES[part]}; loaded can be {CAN_BE_LOADED}")
    tensors = read_tensors(path, lambda key: key.startswith(prefix))
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}, config


def contents(keys: Iterable[str]) -> str:
    """What a file with these keys holds, in words."""
    keys = list(keys)
    found = [name for part, name in NAMES.items() if prefix_of(keys, part) is not None]
    if found:
        return "a " + " and a ".join(found)
    if any(".lora_" in key or ".lora." in key for key in keys):
        return "a LoRA"
    return f"no part of a model that is known ({len(keys)} tensors: {', '.join(keys[:3])}, ...)"


def find_unet(path: Path) -> tuple[FoundUNet, DiffusionConfig]:
    """The UNet of a file or folder, and how it denoises. Raises FileNotFoundError, FormatError."""
    tensors, config = read_part(path, "unet")
    try:
        found = read_unet(tensors, config)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    return found, diffusion_of(path, found)


def diffusion_of(path: Path, found: FoundUNet) -> DiffusionConfig:
    """How a UNet denoises: as the scheduler beside it says, or the buffers in its checkpoint, else as its family."""
    width = found.config.cross_attention_dim
    is_video = found.config.temp_attention != "none"
    values: dict[str, Any] = {"size": 256 if is_video else 512, "cfg": 7.5, "frames": 8}
    if found.config.temp_attention == "after":
        values |= {"cfg": 9.0, "frames": 16}
    if found.config.embed_to == "stream":
        values["cfg"] = 10.0
    bias = found.tensors.get(V_BIAS)
    if not is_video and width != SD1_TEXT and bias is not None and bias.float().std() > V_SPREAD:
        values |= {"prediction": "v", "size": 768}
    values |= _from_scheduler(_scheduler_beside(path)) or _from_buffers(path)
    try:
        return DiffusionConfig(**values)
    except ValueError as error:
        raise FormatError(f"the scheduler beside {path} does not fit: {error}") from error


def _scheduler_beside(path: Path) -> dict[str, Any]:
    """scheduler_config.json of the diffusers folder that a path is, or is in."""
    path = Path(path)
    for folder in (path, path.parent, path.parent.parent):
        if found := read_json(folder / "scheduler" / "scheduler_config.json"):
            return found
    return {}


def _from_scheduler(said: dict[str, Any]) -> dict[str, Any]:
    kinds = {"epsilon": "eps", "v_prediction": "v", "sample": None}
    values: dict[str, Any] = {}
    if (prediction := said.get("prediction_type")) is not None:
        if (kind := kinds.get(prediction)) is None:
            raise FormatError(f"the scheduler's prediction_type is {prediction!r}, expected epsilon or v_prediction")
        values["prediction"] = kind
    for theirs, ours in (("beta_schedule", "schedule"), ("num_train_timesteps", "train_steps")):
        if theirs in said:
            values[ours] = said[theirs]
    if (schedule := values.get("schedule", "linear")) not in ("linear", "scaled_linear"):
        raise FormatError(f"the scheduler's beta_schedule is {schedule!r}, expected linear or scaled_linear")
    values |= {name: said[name] for name in ("beta_start", "beta_end") if name in said}
    if said.get("rescale_betas_zero_snr"):
        values = {"prediction": "v", **values, "zero_terminal_snr": True}
    return values


def _from_buffers(path: Path) -> dict[str, Any]:
    """The schedule that an LDM checkpoint's own table of noise levels is."""
    if Path(path).is_dir():
        return {}
    table = read_tensors(path, lambda key: key == "alphas_cumprod").get("alphas_cumprod")
    if table is None:
        return {}
    for schedule in ("scaled_linear", "linear"):
        for zero in (False, True):
            values: dict[str, Any] = {"schedule": schedule, "train_steps": len(table)}
            values |= {"zero_terminal_snr": True, "prediction": "v"} if zero else {}
            known = Schedule(DiffusionConfig(**values)).alphas_cumprod
            if torch.allclose(known, table.float(), atol=1e-5):
                return values
    return {}
