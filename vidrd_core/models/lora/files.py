"""Read adapter files and folders of kohya, PEFT, diffusers and LyCORIS: each weight's change, by the file's names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from torch import Tensor

from vidrd_core.io.safetensors import FormatError, first_few, is_finite
from vidrd_core.models.formats.detect import contents
from vidrd_core.models.formats.weight_files import keys_of, read_tensors
from vidrd_core.models.lora.changes import (
    Change,
    Difference,
    Hadamard,
    Kronecker,
    LowRank,
    Magnitude,
    Replacement,
)
from vidrd_core.models.lora.names import plain_name
from vidrd_core.models.lora.settings import WRAPPER, Settings

# What follows a layer's name, by the part of its change that it is. The name of an adapter, which is in the keys of
# PEFT's state_dict ("lora_A.default.weight"), is left out before.
ENDINGS = {
    "down": ("lora_down.weight", "lora_A.weight", "lora.down.weight", "lora_linear_layer.down.weight"),
    "up": ("lora_up.weight", "lora_B.weight", "lora.up.weight", "lora_linear_layer.up.weight"),
    "mid": ("lora_mid.weight",),
    "up_bias": ("lora_B.bias",),
    "embedding_down": ("lora_embedding_A",),
    "embedding_up": ("lora_embedding_B",),
    "alpha": ("alpha", "lora.alpha"),
    "lycoris_lengths": ("dora_scale",),
    "peft_lengths": ("lora_magnitude_vector", "lora_magnitude_vector.weight"),
    **{name: (name,) for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "lokr_w1",
                                  "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")},
    "difference": ("diff", "w_norm"),
    "bias_difference": ("diff_b", "b_norm"),
}  # fmt: skip
PARTS = {f".{ending}": part for part, endings in ENDINGS.items() for ending in endings}
WHOLE = {".base_layer.weight": "whole", ".base_layer.bias": "whole_bias", ".weight": "whole", ".bias": "whole_bias"}
# diffusers before PEFT, in attention: UNet "attn1.processor.to_q_lora.", text encoder "self_attn.to_q_lora."
OLD_ENDING = re.compile(r"_lora\.(down|up)\.weight$")
NAMED = re.compile(r"(?<=\.)(lora_(?:embedding_)?[AB]|lora_magnitude_vector|hada_\w+|lokr_\w+)"
                   r"\.(?!(?:weight|bias)$)([^.]+)(?=\.(?:weight|bias)$|$)")  # fmt: skip
OTHER_ADAPTERS = {
    ".oft_": "an OFT or BOFT",
    ".boft_": "an OFT or BOFT",
    ".on_input": "an IA3",
    ".ia3_l": "an IA3",
    ".a1.weight": "a GLoRA",
    ".lora_E": "an AdaLoRA",
    ".lambda_layer": "a T-LoRA",
    ".vera_lambda_": "a VeRA",
    ".trainable_tokens_delta": "trained tokens",
    ".set_weight": "whole weights of ComfyUI",
    ".reshape_weight": "a LoRA that changes a layer's shape",
}
FOLDER_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "pytorch_lora_weights.bin",
                "adapter_model.bin")  # fmt: skip

Parts = dict[str, Tensor]


def read_lora(path: Path) -> dict[str, Change]:
    """Read a LoRA, or another adapter that adds to weights: DoRA, LoHa, LoKr, full differences.

    Args:
        path: A file of kohya, PEFT, diffusers or LyCORIS, or a folder of PEFT or diffusers.

    Returns:
        The change of each weight, by the file's name of its layer, and of each bias, by that name and ".bias".

    Raises:
        FileNotFoundError: There is no such file, or no LoRA in the folder.
        FormatError: The file is damaged, no LoRA, or another kind of adapter; the message says which.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no LoRA {path}")
    file = _in_folder(path) if path.is_dir() else path
    tensors = read_tensors(file)
    settings = Settings.of(file, tensors)
    settings.check(tensors)
    _refuse_other_adapters(file, tensors)
    names = {named[2] for key in tensors if (named := NAMED.search(key))}
    if len(names) > 1:
        raise FormatError(f"{file} holds the adapters {', '.join(sorted(names))}, expected one: save each by itself, "
                          f"with PEFT's save_pretrained")  # fmt: skip
    layers: dict[str, Parts] = {}
    unknown = []
    for key, tensor in tensors.items():
        if (found := _part_of(key)) is None:
            unknown.append(key)
            continue
        layer, part = found
        layers.setdefault(layer, {})[part] = tensor
    if unknown:
        raise FormatError(f"{file} holds tensors that are no LoRA ({first_few(unknown)}), expected those of LoRA, "
                          f"DoRA, LoHa, LoKr or full differences alone")  # fmt: skip
    changes: dict[str, Change] = {}
    lacking = []
    for layer, parts in layers.items():
        _check_numbers(file, layer, parts)
        try:
            of_layer = _changes(layer, parts, settings)
            _ = [change.size for change in of_layer.values()]  # raises if no product is defined
        except FormatError:
            raise
        except (RuntimeError, IndexError, ValueError) as error:
            shapes = ", ".join(f"{part} {list(tensor.shape)}" for part, tensor in parts.items())
            raise FormatError(f"{file}: {layer} has matrices that cannot be multiplied ({shapes})") from error
        if not of_layer:
            lacking.append(layer)
        changes |= of_layer
    if lacking:
        raise FormatError(f"{file} holds half of {_kind_of(layers[lacking[0]])} ({first_few(lacking)}), expected all "
                          f"matrices of each layer")  # fmt: skip
    return changes


def _check_numbers(file: Path, layer: str, parts: Parts) -> None:
    """Refuse tensors that no training makes: of no numbers, of other ones, not finite. Raises FormatError."""
    for part, tensor in parts.items():
        what = f"{file}: {part} of {layer}"
        if not tensor.is_floating_point() and part != "alpha":
            raise FormatError(f"{what} holds {str(tensor.dtype).removeprefix('torch.')} numbers, expected fractions")
        if not tensor.numel():
            raise FormatError(f"{what} is {list(tensor.shape)}: it holds no numbers, expected a rank of 1 or more")
        if part == "alpha" and tensor.numel() != 1:
            raise FormatError(f"{what} has {tensor.numel()} numbers, expected one")
        if not is_finite(tensor):
            raise FormatError(f"{what} holds numbers that are not finite (NaN or infinity): get the file again")


def is_lora(path: Path) -> bool:
    """Whether a file, or a folder of PEFT or diffusers, holds a LoRA or another adapter, loadable or not."""
    if path.is_dir():
        return any((path / name).is_file() for name in FOLDER_FILES)
    keys = keys_of(path)
    return any(_is_adapter_key(key) for key in keys) or any(mark in key for mark in OTHER_ADAPTERS for key in keys)


def _in_folder(folder: Path) -> Path:
    found = next((folder / name for name in FOLDER_FILES if (folder / name).is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{folder} holds no LoRA: expected {' or '.join(FOLDER_FILES[:2])}")
    return found


def _refuse_other_adapters(file: Path, keys: Iterable[str]) -> None:
    keys = list(keys)
    for mark, what in OTHER_ADAPTERS.items():
        if named := [key for key in keys if mark in key]:
            raise FormatError(f"{file} is {what} ({first_few(named)}), which is not supported: expected a LoRA, "
                              f"DoRA, LoHa, LoKr or full differences of weights")  # fmt: skip
    if not any(_is_adapter_key(key) for key in keys):
        raise FormatError(f"{file} is no LoRA: it holds {contents(keys)}")


def _is_adapter_key(key: str) -> bool:
    found = _part_of(key)
    return found is not None and found[1] not in ("alpha", "whole", "whole_bias")


def _part_of(key: str) -> tuple[str, str] | None:
    """The layer and the part of its change that a key names; None for another key."""
    key = NAMED.sub(r"\1", key)
    if (old := OLD_ENDING.search(key)) is not None:
        return plain_name(key[: old.start()]), old[1]
    endings = PARTS | WHOLE if key.startswith(WRAPPER) else PARTS
    for ending, part in endings.items():
        if key.endswith(ending):
            return plain_name(key.removesuffix(ending)), part
    return None


def _kind_of(parts: Parts) -> str:
    """The kind of adapter that a layer's parts, not all of them, belong to."""
    marks = {"hada_": "a LoHa", "lokr_": "a LoKr", "lycoris_lengths": "a DoRA", "peft_lengths": "a DoRA"}
    return next((kind for mark, kind in marks.items() if any(part.startswith(mark) for part in parts)), "a LoRA")


def _changes(layer: str, parts: Parts, settings: Settings) -> dict[str, Change]:
    """The changes of a layer's weight and bias; {} if parts are missing or do not belong together."""
    rest = dict(parts)
    alpha = rest.pop("alpha", None)
    magnitude = _magnitude(rest)
    make = next((make for part, make in _KINDS.items() if part in rest), None)

    def scale(rank: int | None) -> float:
        return settings.scale(layer, rank, alpha)

    changes: dict[str, Change] = {}
    try:
        if make is not None:
            changes[layer] = make(rest, scale, magnitude)
    except KeyError:  # a matrix is missing
        return {}
    if (added := rest.pop("up_bias", None)) is not None and layer in changes:
        changes[f"{layer}.bias"] = Difference(changes[layer].scale, None, added)
    if (added := rest.pop("bias_difference", None)) is not None:
        changes[f"{layer}.bias"] = Difference(1.0, None, added)
    if (whole := rest.pop("whole_bias", None)) is not None:
        changes[f"{layer}.bias"] = Replacement(1.0, None, whole)
    used = layer in changes and changes[layer].magnitude is magnitude
    return {} if rest or not (used or magnitude is None) else changes


Scale = Callable[[int | None], float]  # the factor for a rank


def _magnitude(rest: Parts) -> Magnitude | None:
    if "lycoris_lengths" in rest:
        return Magnitude(rest.pop("lycoris_lengths"), "lycoris", None)
    if "peft_lengths" in rest:
        return Magnitude(rest.pop("peft_lengths"), "peft", columns="embedding_down" in rest)
    return None


def _low_rank(rest: Parts, scale: Scale, magnitude: Magnitude | None) -> Change:
    down, up = rest.pop("down"), rest.pop("up")
    return LowRank(scale(down.shape[0]), magnitude, down, up, rest.pop("mid", None))


def _low_rank_embedding(rest: Parts, scale: Scale, magnitude: Magnitude | None) -> Change:
    """PEFT's matrices of an embedding are those of its transpose."""
    down, up = rest.pop("embedding_up").T, rest.pop("embedding_down").T
    return LowRank(scale(down.shape[0]), magnitude, down, up, None)


def _hadamard(rest: Parts, scale: Scale, magnitude: Magnitude | None) -> Change:
    first, second = ((rest.pop(f"hada_w{n}_a"), rest.pop(f"hada_w{n}_b")) for n in (1, 2))
    kernels = (rest.pop("hada_t1"), rest.pop("hada_t2")) if "hada_t1" in rest else None
    return Hadamard(scale(first[1].shape[0]), magnitude, first, second, kernels)


def _kronecker(rest: Parts, scale: Scale, magnitude: Magnitude | None) -> Change:
    first, second = (
        (rest.pop(name),) if (name := f"lokr_w{n}") in rest else (rest.pop(f"{name}_a"), rest.pop(f"{name}_b"))
        for n in (1, 2)
    )
    rank = next((pair[1].shape[0] for pair in (first, second) if len(pair) == 2), None)
    return Kronecker(scale(rank), magnitude, first, second, rest.pop("lokr_t2", None))


def _difference(rest: Parts, scale: Scale, magnitude: Magnitude | None) -> Change:
    return Difference(1.0, magnitude, rest.pop("difference"))


def _replacement(rest: Parts, scale: Scale, magnitude: Magnitude | None) -> Change:
    return Replacement(1.0, None, rest.pop("whole"))


# By the part that tells the kind.
_KINDS: dict[str, Callable[[Parts, Scale, Magnitude | None], Change]] = {
    "lokr_w1": _kronecker,
    "lokr_w1_a": _kronecker,
    "hada_w1_a": _hadamard,
    "embedding_down": _low_rank_embedding,
    "down": _low_rank,
    "difference": _difference,
    "whole": _replacement,
}
