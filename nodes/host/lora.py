"""The names that LoRA files have for our UNet's layers, told to the host's LoRA loaders.

The host knows kohya's by diffusers' blocks by itself. It asks nobody for others, so its function is wrapped: for
models of ours it knows more names, for all others nothing changes.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import comfy.lora

from vidrd_core.models.lora.names import unet_names
from vidrd_core.models.unet3d import UNet3D

WRAPPED = "_vidrd_wrapped"


def tell_names() -> None:
    """Wrap the host's function, once."""
    theirs = comfy.lora.model_lora_keys_unet
    if hasattr(theirs, WRAPPED):
        return

    @wraps(theirs)
    def model_lora_keys_unet(model: Any, key_map: dict[str, Any] | None = None) -> dict[str, Any]:
        names = theirs(model, {} if key_map is None else key_map)
        unet = getattr(model, "diffusion_model", None)
        if isinstance(unet, UNet3D):
            for name, key in unet_names(unet).items():
                names.setdefault(name, f"diffusion_model.{key}")
                if ".to_" in name:  # as diffusers wrote them before PEFT, to_out without its number
                    names.setdefault(
                        name.replace(".to_", ".processor.to_").removesuffix(".0"), f"diffusion_model.{key}"
                    )
        return names

    setattr(model_lora_keys_unet, WRAPPED, True)
    comfy.lora.model_lora_keys_unet = model_lora_keys_unet
