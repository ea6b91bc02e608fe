"""Which parts of a model a file or folder holds, and in which formats: by the names of its tensors alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidrd_core.io.configs import from_dict
from vidrd_core.io.safetensors import FormatError, first_few
from vidrd_core.models.formats import text, unet_keys, vae_keys
from vidrd_core.models.formats.config_files import OtherWeightsError, config_beside, config_path, scheduler_paths
from vidrd_core.models.formats.naming import PART_NAMES, PREFIXES, Naming, Part, Tensors, detect_naming
from vidrd_core.models.formats.schedulers import check_clipping, diffusion_values
from vidrd_core.models.formats.unet import SD1_TEXT, FoundUNet, identify_unet
from vidrd_core.models.formats.vae import identify_vae
from vidrd_core.models.formats.weight_files import (
    has_weights,
    keys_of,
    modelscope_files,
    modelscope_settings,
    read_json,
    read_tensors,
)
from vidrd_core.sampling import DiffusionConfig, Schedule

NAMINGS: dict[Part, tuple[Naming, ...]] = {
    "unet": unet_keys.NAMINGS,
    "vae": vae_keys.NAMINGS,
    "text_encoder": text.NAMINGS,
}
"""All formats of weights that are known, by the part of a model that they are for."""

IDENTIFY: dict[Part, Callable[[Tensors, dict[str, Any]], Any]] = {
    "unet": identify_unet,
    "vae": identify_vae,
    "text_encoder": text.identify_text,
}

V_BIAS = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"
V_SPREAD = 0.09  # the standard deviation of that bias is larger in SD 2.x models that predict v, smaller for eps
RELEASED_SAMPLING = {"set_alpha_to_one": False, "timestep_spacing": "leading", "steps_offset": 1}
"""How the released VidRD is sampled: by Stable Diffusion's own DDIM."""


def supported_formats(part: Part) -> str:
    """The formats in which a part can be loaded and whose files have them, for messages."""
    return ", ".join(f"{naming.name} ({naming.used_by})" for naming in NAMINGS[part])


def prefix_of(keys: Collection[str], part: Part) -> str | None:
    """The prefix of a part's tensor names in a file.

    Args:
        keys: The names of all tensors in the file.
        part: The part.

    Returns:
        The prefix, "" if the file holds the part alone, None if it does not hold it.
    """
    for prefix in PREFIXES[part]:
        if any(key.startswith(prefix) for key in keys):
            return prefix
    every = tuple(prefix for prefixes in PREFIXES.values() for prefix in prefixes)
    has_prefixes = any(key.startswith(every) for key in keys)
    return "" if not has_prefixes and detect_naming(NAMINGS[part], keys) else None


def has_part(path: Path, part: Part) -> bool:
    """Whether a file or diffusers folder holds a part. Raises FormatError for a file that cannot be read."""
    path = modelscope_files(path).get(part, Path(path))
    if path.is_dir() and has_weights(path / part):
        return True
    if path.is_dir() and not has_weights(path):
        return False
    return prefix_of(keys_of(path), part) is not None


def read_part(path: Path, part: Part) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors of one part of a file or folder of another program.

    Args:
        path: A weight file, a diffusers folder or a part's folder in one.
        part: The part.

    Returns:
        The tensors by their names in the file, without the part's prefix, and diffusers' config.json; {} without one.

    Raises:
        FileNotFoundError: The folder lacks the part, or there is no such file.
        FormatError: The file is damaged or holds something else; the message says what, and what can be loaded.
    """
    path = Path(path)
    path = modelscope_files(path).get(part, path)
    if path.is_dir():
        folder = path / part if has_weights(path / part) else path
        if not has_weights(folder):
            raise FileNotFoundError(f"{path} holds no {PART_NAMES[part]}: expected a folder {part} with its weights")
        path, config = folder, read_json(config_path(folder))
        parts = {part}
    else:
        config, parts = config_beside(path, part)
    keys = keys_of(path)
    prefix = prefix_of(keys, part)
    if prefix is None:
        raise FormatError(
            f"{path} holds {contents(keys)}, expected a {PART_NAMES[part]} in one of these formats: "
            f"{supported_formats(part)}"
        )
    read = read_tensors(path, lambda key: key.startswith(prefix))
    tensors = {key.removeprefix(prefix): tensor for key, tensor in read.items()}
    if config and any(prefix_of(keys, other) is not None for other in parts - {part}):
        try:  # it names no class: it is of another part of the file if it is not of this one's tensors
            IDENTIFY[part](tensors, config)
        except OtherWeightsError as error:
            warnings.warn(
                f"{config_path(path)} is not used for the {PART_NAMES[part]}: {error}; a _class_name "
                "in it says of which part it is",
                stacklevel=2,
            )
            config = {}
        except FormatError:  # which whoever identifies them reports with the path
            pass
    return tensors, config


def contents(keys: Iterable[str]) -> str:
    """What a file with tensors of these names holds, for messages."""
    keys = list(keys)
    found = [name for part, name in PART_NAMES.items() if prefix_of(keys, part) is not None]
    if found:
        return "a " + " and a ".join(found)
    if any(".lora_" in key or ".lora." in key for key in keys):
        return "a LoRA"
    return f"no known part of a model ({len(keys)} tensors: {first_few(keys)})"


def find_unet(path: Path) -> tuple[FoundUNet, DiffusionConfig]:
    """Read the UNet of a file or folder of another program, and its diffusion settings.

    Raises FileNotFoundError, FormatError.
    """
    tensors, config = read_part(path, "unet")
    try:
        found = identify_unet(tensors, config)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    return found, diffusion_of(path, found)


def diffusion_of(path: Path, found: FoundUNet) -> DiffusionConfig:
    """A UNet's diffusion settings: by the scheduler beside it or the buffers in its checkpoint, else by its family.

    Raises FormatError for a scheduler that is not supported.
    """
    width = found.config.cross_attention_dim
    is_video = found.config.temp_attention != "none"
    values: dict[str, Any] = {"size": 256 if is_video else 512, "cfg": 7.5, "frames": 8}
    if found.config.temp_attention == "after":
        values |= {"cfg": 9.0, "frames": 16}
    if found.config.embed_to == "stream":
        values |= {"cfg": 10.0, **RELEASED_SAMPLING}
    bias = found.tensors.get(V_BIAS)
    if not is_video and width != SD1_TEXT and bias is not None and bias.float().std() > V_SPREAD:
        values |= {"prediction": "v", "size": 768}
    values |= modelscope_settings(path)
    scheduler = _scheduler_beside(path)
    values |= diffusion_values(scheduler, is_video) or _from_buffers(path)
    try:
        diffusion = from_dict(DiffusionConfig, values, f"the scheduler beside {path}")
    except ValueError as error:
        raise FormatError(str(error)) from error
    check_clipping(scheduler, diffusion)
    return diffusion


def _scheduler_beside(path: Path) -> dict[str, Any]:
    """The scheduler_config.json of the diffusers folder that `path` is or is in; {} without one."""
    return next(filter(None, map(read_json, scheduler_paths(Path(path)))), {})


def _from_buffers(path: Path) -> dict[str, Any]:
    """The schedule of an LDM checkpoint, by its buffer alphas_cumprod, also in half precision; {} without one.

    Warns, and gives {}, if it is none that is known.
    """
    if Path(path).is_dir():
        return {}
    table = read_tensors(path, lambda key: key == "alphas_cumprod").get("alphas_cumprod")
    if table is None or table.ndim != 1 or not len(table) or not table.is_floating_point():
        return {}
    for schedule in ("scaled_linear", "linear"):
        for zero in (False, True):
            values: dict[str, Any] = {"schedule": schedule, "train_steps": len(table)}
            values |= {"zero_terminal_snr": True, "prediction": "v"} if zero else {}
            known = Schedule(DiffusionConfig(**values)).alphas_cumprod
            if torch.allclose(known, table.float(), rtol=max(1e-5, torch.finfo(table.dtype).eps), atol=1e-5):
                return values
    warnings.warn(
        f"{path} was trained with a noise schedule that is not known (its alphas_cumprod end at "
        f"{float(table[-1]):.3g}): that of Stable Diffusion is taken; put a scheduler/scheduler_config.json beside "
        "it that says which",
        stacklevel=2,
    )
    return {}
