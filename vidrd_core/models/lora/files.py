"""Read LoRA files and folders of kohya, PEFT and diffusers: the change of each layer, by the file's name for it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidrd_core.io.safetensors import FormatError, file_format, first_few, open_safetensors
from vidrd_core.models.formats.detect import contents
from vidrd_core.models.formats.weight_files import keys_of, read_json, read_tensors

# What follows a layer's name: the two matrices (and a kernel between them) of kohya, PEFT and older diffusers.
ENDINGS = {
    "down": ("lora_down.weight", "lora_A.weight", "lora_A.default.weight", "lora.down.weight",
             "lora_linear_layer.down.weight"),
    "up": ("lora_up.weight", "lora_B.weight", "lora_B.default.weight", "lora.up.weight",
           "lora_linear_layer.up.weight"),
    "mid": ("lora_mid.weight",),
    "alpha": ("alpha", "lora.alpha"),
}  # fmt: skip
PROCESSOR_KEY = re.compile(r"(.*)\.processor\.(to_q|to_k|to_v|to_out)_lora\.(down|up)\.weight")
OTHER_ADAPTERS = {
    "hada_": "a LoHa",
    "lokr_": "a LoKr",
    "dora_scale": "a DoRA",
    "lora_magnitude_vector": "a DoRA",
    "oft_": "an OFT",
    "on_input": "an IA3",
    ".diff": "full differences of weights",
}
FOLDER_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "pytorch_lora_weights.bin",
                "adapter_model.bin")  # fmt: skip


@dataclass(frozen=True)
class Change:
    """What a LoRA adds to a weight: scale * up @ down.

    Args:
        down: [r, in, ...].
        up: [out, r, ...].
        scale: alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA.
        mid: [r, r, ...], a conv kernel between the two (CP decomposition), if there is one.

    Source:
        Hu et al., LoRA (arXiv 2106.09685), section 4.1; Kalajdzievski, rsLoRA (arXiv 2312.03732).
    """

    down: Tensor
    up: Tensor
    scale: float
    mid: Tensor | None = None

    @property
    def rank(self) -> int:
        """The rank r."""
        return self.down.shape[0]

    def like(self, weight: Tensor) -> Tensor:
        """The change in float32, on a weight's device and of its shape. Raises ValueError if it does not fit."""
        down, up = (t.to(weight.device, torch.float32) for t in (self.down, self.up))
        if self.mid is None:
            change = up.flatten(1) @ down.flatten(1)
        else:
            mid = self.mid.to(weight.device, torch.float32)
            change = torch.einsum("or,rs...,si->oi...", up.flatten(1), mid, down.flatten(1))
        if change.shape[0] != weight.shape[0] or change.numel() != weight.numel():
            raise ValueError(f"it has {up.shape[0]} outputs of {change.numel() // up.shape[0]} inputs")
        return self.scale * change.reshape(weight.shape)


def read_lora(path: Path) -> dict[str, Change]:
    """Read a LoRA.

    Args:
        path: A file of kohya, PEFT or diffusers, or a folder of PEFT or diffusers.

    Returns:
        The change of each layer, by the file's name for it.

    Raises:
        FileNotFoundError: There is no such file, or no LoRA in the folder.
        FormatError: The file is damaged, no LoRA, or another kind of adapter; the message says which.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no LoRA {path}")
    file = _in_folder(path) if path.is_dir() else path
    tensors = read_tensors(file)
    _refuse_other_adapters(file, tensors)
    pairs: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for key, tensor in tensors.items():
        if (found := _part_of(key)) is None:
            unknown.append(key)
            continue
        layer, part = found
        pairs.setdefault(layer, {})[part] = tensor
    lacking = [layer for layer, pair in pairs.items() if not {"down", "up"} <= set(pair)]
    if unknown or lacking:
        what = f"half of a LoRA ({first_few(lacking)})"
        if unknown:
            what = f"tensors that are no LoRA ({first_few(unknown)})"
        raise FormatError(f"{file} holds {what}, expected a down and an up matrix for each layer")
    config = _config(file)
    return {layer: _change(file, layer, pair, config) for layer, pair in pairs.items()}


def is_lora(path: Path) -> bool:
    """Whether a file, or a folder of PEFT or diffusers, holds a LoRA."""
    if path.is_dir():
        return any((path / name).is_file() for name in FOLDER_FILES)
    return any(_part_of(key) for key in keys_of(path) if not key.endswith("alpha"))


def _in_folder(folder: Path) -> Path:
    found = next((folder / name for name in FOLDER_FILES if (folder / name).is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{folder} holds no LoRA: expected {' or '.join(FOLDER_FILES[:2])}")
    return found


def _refuse_other_adapters(file: Path, keys: Iterable[str]) -> None:
    keys = list(keys)
    for mark, what in OTHER_ADAPTERS.items():
        if named := [key for key in keys if mark in key]:
            raise FormatError(f"{file} is {what} ({first_few(named)}), which is not supported: only plain LoRA is")
    if not any(_part_of(key) for key in keys):
        raise FormatError(f"{file} is no LoRA: it holds {contents(keys)}")


def _part_of(key: str) -> tuple[str, str] | None:
    """The layer and the part of its change ("down", "up", "mid", "alpha") that a key names; None for another key."""
    if (old := PROCESSOR_KEY.fullmatch(key)) is not None:
        return f"{old[1]}.{old[2]}{'.0' if old[2] == 'to_out' else ''}", old[3]
    for part, endings in ENDINGS.items():
        for ending in endings:
            if key.endswith(f".{ending}"):
                return key.removesuffix(f".{ending}"), part
    return None


def _config(file: Path) -> dict[str, Any]:
    """Ranks and alphas in PEFT's config beside a file, or in diffusers' metadata inside it."""
    config = read_json(file.with_name("adapter_config.json")) if file.name.startswith("adapter_model") else {}
    if file_format(file) == "safetensors":
        with open_safetensors(file) as opened:
            inside = (opened.metadata() or {}).get("lora_adapter_metadata")
        try:
            config |= json.loads(inside) if inside else {}
        except ValueError as error:
            raise FormatError(f"{file} has metadata that are no JSON: {error}") from error
    return config


def _change(file: Path, layer: str, pair: Mapping[str, Tensor], config: Mapping[str, Any]) -> Change:
    down, up, mid = pair["down"], pair["up"], pair.get("mid")
    rank = down.shape[0]
    if down.ndim < 2 or up.ndim < 2 or up.shape[1] != rank:
        raise FormatError(
            f"{file}: {layer} has matrices of {list(up.shape)} and {list(down.shape)}, which cannot be multiplied"
        )
    return Change(down, up, _scale(layer, rank, pair.get("alpha"), config), mid)


def _scale(layer: str, rank: int, alpha: Tensor | None, config: Mapping[str, Any]) -> float:
    """alpha / rank, or alpha / sqrt(rank) for rank-stabilised LoRA; 1 without an alpha."""
    if alpha is not None:
        return float(alpha) / rank
    part = layer.split(".")[0]  # diffusers' metadata has its entries as "unet.lora_alpha"

    def entry(name: str) -> Any:
        return config.get(f"{part}.{name}", config.get(name))

    patterns = entry("alpha_pattern") or {}
    named = next((value for pattern, value in patterns.items() if re.search(rf"(^|\.){pattern}$", layer)), None)
    found = named if named is not None else entry("lora_alpha")
    if found is None:
        return 1.0
    return float(found) / (math.sqrt(rank) if entry("use_rslora") else rank)
