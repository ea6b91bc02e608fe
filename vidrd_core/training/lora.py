"""LoRA layers in a UNet (Hu et al., arXiv 2106.09685), by PEFT: inject, save as a file, merge."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from vidrd_core.io import safetensors
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.training.data import RecipeError

TARGETS = r".*\.(attn1|attn2|temp_attn)\.(to_q|to_k|to_v|to_out\.0)"
FILE = "lora.safetensors"


def inject(unet: UNet3D, rank: int) -> None:
    """Add LoRA layers, without effect at first, to the projections of self-, cross- and temporal attention.

    Raises RecipeError if PEFT is missing.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise RecipeError("the preset lora needs PEFT: pip install peft") from error
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS), unet)


def has_lora(unet: UNet3D) -> bool:
    """Whether a UNet has LoRA layers."""
    return any(".lora_A." in name for name, _ in unet.named_parameters())


def save(unet: UNet3D, path: Path) -> None:
    """Write the LoRA layers as a file with the names of diffusers and PEFT, which LoRA loaders know."""
    tensors: dict[str, Tensor] = {
        f"unet.{name.replace('.default.weight', '.weight')}": value.detach().cpu().contiguous()
        for name, value in unet.state_dict().items()
        if ".lora_A." in name or ".lora_B." in name
    }
    safetensors.write_tensors(path, tensors, {"format": "pt"})


def merge(unet: UNet3D) -> None:
    """Merge the LoRA layers into the weights and remove them."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(unet.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, last = name.rpartition(".")
            setattr(unet.get_submodule(parent), last, module.get_base_layer())
