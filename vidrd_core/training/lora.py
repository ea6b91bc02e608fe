"""Low-rank changes of a UNet by PEFT (Hu et al., 2021): put in, written as a file of their own, merged."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from vidrd_core.io import safetensors
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.training.data import RecipeError

TARGETS = r".*\.(attn1|attn2|temp_attn)\.(to_q|to_k|to_v|to_out\.0)"
FILE = "lora.safetensors"


def put_in(unet: UNet3D, rank: int) -> None:
    """Put layers of a rank beside all that self-, cross- and temporal attention project; at first without effect.

    Raises RecipeError if PEFT is missing.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise RecipeError("the preset lora needs PEFT: pip install peft") from error
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS), unet)


def is_in(unet: UNet3D) -> bool:
    return any(".lora_A." in name for name, _ in unet.named_parameters())


def write(unet: UNet3D, path: Path) -> None:
    """Write the changes as a LoRA file, by the names of diffusers and PEFT, which LoRA loaders know."""
    changes: dict[str, Tensor] = {
        f"unet.{name.replace('.default.weight', '.weight')}": value.detach().cpu().contiguous()
        for name, value in unet.state_dict().items()
        if ".lora_A." in name or ".lora_B." in name
    }
    safetensors.write_tensors(path, changes, {"format": "pt"})


def merge(unet: UNet3D) -> None:
    """Add the changes to the weights and take the layers out."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(unet.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, last = name.rpartition(".")
            setattr(unet.get_submodule(parent), last, module.get_base_layer())
