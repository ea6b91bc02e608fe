"""The names that LoRA files have for a model's layers: kohya's, by diffusers' or LDM's blocks, LyCORIS's, PEFT's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import nn

from vidrd_core.models.formats.unet_keys import is_temporal, ldm_keys_from_ours

COMFYUI = "diffusion_model."  # before the layers of a UNet in what ComfyUI's Extract and Save LoRA writes
UNET_PREFIXES = ("lora_unet_", "lycoris_", "unet.", "base_model.model.unet.", "base_model.model.", COMFYUI, "")
TEXT_PREFIXES = ("lora_te_", "lora_te1_", "lycoris_", "text_encoder.", "base_model.model.text_encoder.",
                 "base_model.model.", "text_encoders.clip_l.transformer.", "text_encoders.clip_h.transformer.",
                 "")  # fmt: skip
MIDDLES = ("text_model.", "text_model_", "")  # a level of names in transformers before version 5
SDXL = ("lora_te2_", "text_encoder_2.", "text_encoders.clip_g.")


def layers_of(part: nn.Module) -> dict[str, str]:
    """The layers that a LoRA can change, norms among them: their name -> the name of their weight."""
    return {name: f"{name}.weight" for name, module in part.named_modules() if "weight" in module._parameters}


def unet_names(unet: nn.Module) -> dict[str, str]:
    """All names that LoRA files may have for a UNet's layers -> the names of their weights here."""
    ours = layers_of(unet)
    names = _with_prefixes(ours, UNET_PREFIXES)
    flat = {name: key for name, key in ours.items() if not is_temporal(key)}  # LDM has other numbers in 3-D
    theirs = ldm_keys_from_ours(flat.values())
    for key in flat.values():
        layer = theirs[key].removesuffix(".weight")
        names["lora_unet_" + layer.replace(".", "_")] = names[COMFYUI + layer] = key
    return names


def text_names(encoder: nn.Module) -> dict[str, str]:
    """All names that LoRA files may have for a text encoder's layers -> the names of their weights here."""
    short = {name.removeprefix("clip.").removeprefix("text_model."): key for name, key in layers_of(encoder).items()}
    return _with_prefixes(short, [prefix + middle for prefix in TEXT_PREFIXES for middle in MIDDLES])


def _with_prefixes(layers: Mapping[str, str], prefixes: Iterable[str]) -> dict[str, str]:
    names = {}
    for prefix in prefixes:
        for name, key in layers.items():
            is_kohya = prefix.startswith(("lora_", "lycoris_"))
            names[prefix + (name.replace(".", "_") if is_kohya else name)] = key
    return names


def plain_name(layer: str) -> str:
    """A layer's name as diffusers has had it since PEFT.

    Before, it named the attention processor ("attn1.processor.to_out"), and the text encoder's layers as the UNet's
    ("self_attn.to_q").
    """
    layer = re.sub(r"(\.self_attn)\.to_(q|k|v|out)$", r"\1.\2_proj", layer.replace(".processor.", "."))
    return re.sub(r"\.to_out$", ".to_out.0", layer)


def is_sdxl_layer(layer: str) -> bool:
    """Whether a layer is of a second text encoder, as in SDXL."""
    return layer.startswith(SDXL)


def is_unused_layer(layer: str) -> bool:
    """Whether a layer is the text projection, which Stable Diffusion does not use."""
    return is_text_layer(layer) and layer.removesuffix(".bias").endswith("text_projection")


def number_of_text_layer(layer: str) -> int:
    """The number of the text encoder's transformer layer that a layer is in; -1 for other layers."""
    found = re.search(r"encoder[._]layers[._](\d+)[._]", layer) if is_text_layer(layer) else None
    return int(found[1]) if found else -1


def is_text_layer(layer: str) -> bool:
    """Whether a layer is of a text encoder, by the prefix of its name."""
    plain = layer.removeprefix("base_model.model.").removeprefix("lycoris_")
    return f"{plain}.".startswith(("lora_te", "text_encoder.", "text_encoders.", *(
        f"{begin}{end}" for begin in ("text_model", "encoder", "embeddings", "final_layer_norm") for end in "._"
    )))  # fmt: skip
