"""LoRA key names of VidRD's UNet3D, for ComfyUI's LoRA loaders.

ComfyUI itself knows kohya's names, by diffusers' blocks. It has no hook for further ones, so its function that maps
them is wrapped: a UNet3D of VidRD gets more names, and nothing changes for other models.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import comfy.lora

from vidrd_core.models.lora.names import unet_names
from vidrd_core.models.unet3d import UNet3D

WRAPPED = "_vidrd_wrapped"


def register_lora_keys() -> None:
    """Wrap `comfy.lora.model_lora_keys_unet`, once for all models."""
    original = comfy.lora.model_lora_keys_unet
    if hasattr(original, WRAPPED):
        return

    @wraps(original)
    def model_lora_keys_unet(model: Any, key_map: dict[str, Any] | None = None) -> dict[str, Any]:
        names = original(model, {} if key_map is None else key_map)
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
