"""Which layer of a model a LoRA's name means: kohya's names, by diffusers' or LDM's blocks, and PEFT's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from vidrd_core.models.formats.unet_keys import is_temporal, ldm_keys_from_ours

OF_UNET = ("lora_unet_", "unet.", "base_model.model.unet.", "base_model.model.", "")
OF_TEXT = ("lora_te_", "lora_te1_", "text_encoder.", "base_model.model.text_encoder.", "base_model.model.", "")
MIDDLE = ("text_model.", "text_model_", "")  # a level of names that transformers had before version 5
SDXL = ("lora_te2_", "text_encoder_2.")


def layers_of(part: nn.Module) -> dict[str, str]:
    """The weights of a part that a LoRA can change: the layer's name -> its weight's."""
    return {
        name: f"{name}.weight"
        for name, module in part.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding)
    }


def unet_names(unet: nn.Module) -> dict[str, str]:
    """All names of a UNet's layers -> their weights' names here."""
    ours = layers_of(unet)
    names = _with_prefixes(ours, OF_UNET)
    flat = {name: key for name, key in ours.items() if not is_temporal(key)}  # LDM counts differently in 3-D
    theirs = ldm_keys_from_ours(flat.values())
    for key in flat.values():
        names["lora_unet_" + theirs[key].removesuffix(".weight").replace(".", "_")] = key
    return names


def text_names(encoder: nn.Module) -> dict[str, str]:
    """All names of a text encoder's layers -> their weights' names here."""
    short = {name.removeprefix("clip.").removeprefix("text_model."): key for name, key in layers_of(encoder).items()}
    return _with_prefixes(short, [prefix + middle for prefix in OF_TEXT for middle in MIDDLE])


def _with_prefixes(layers: Mapping[str, str], prefixes: Iterable[str]) -> dict[str, str]:
    names = {}
    for prefix in prefixes:
        for name, key in layers.items():
            is_kohya = prefix.startswith("lora_")
            names[prefix + (name.replace(".", "_") if is_kohya else name)] = key
    return names


def is_of_sdxl(layer: str) -> bool:
    """Whether a name is of the second text encoder, which SDXL alone has."""
    return layer.startswith(SDXL)


def is_of_text(layer: str) -> bool:
    """Whether a name is of a text encoder, going by how it begins."""
    plain = layer.removeprefix("base_model.model.")
    return plain.startswith(("lora_te", "text_encoder.", "text_model.", "encoder.layers."))
