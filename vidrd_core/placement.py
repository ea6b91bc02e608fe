"""Where a model computes, with what numbers, and where its weights are meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import nn

from vidrd_core.models.unet3d import UNet3D

Offload = Literal["none", "parts", "blocks"]
STORAGE = ("float8_e4m3fn", "float8_e5m2")
PRECISE = ("conv_in", "conv_out", "time_embedding")  # parts of a UNet that are small, and that all else depends on


@dataclass(frozen=True)
class Placement:
    """How much of a device's memory a model takes.

    `dtype` is what the UNet computes with, `storage` how the weights of its linear layers and convs are kept if
    otherwise (fp8: half of fp16). `offload` "parts" keeps text encoder, UNet and VAE in main memory while another one
    of them works; "blocks" keeps the UNet there always, and brings it block by block.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    storage: torch.dtype | None = None
    offload: Offload = "none"

    def __post_init__(self) -> None:
        if self.offload not in get_args(Offload):
            raise ValueError(f"offload is {self.offload!r}, expected one of {', '.join(get_args(Offload))}")
        if self.offload != "none" and self.device.type == "cpu":
            raise ValueError(
                f"offload is {self.offload!r}, which keeps weights in main memory while a device computes: name one, "
                f"like cuda, or leave it none"
            )
        if self.storage is not None and str(self.storage).removeprefix("torch.") not in STORAGE:
            raise ValueError(f"storage is {self.storage}, expected one of {', '.join(STORAGE)}")


def store(unet: UNet3D, dtype: torch.dtype) -> None:
    """Keep the weights of a UNet's linear layers and convs as another type; each is cast as it is used.

    Raises ValueError for a weight that is too large for it.
    """
    layers = {
        name: module
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and name.split(".")[0] not in PRECISE
    }
    most = torch.finfo(dtype).max
    for name, layer in layers.items():
        if layer.weight.numel() and (highest := float(layer.weight.abs().max())) > most:
            raise ValueError(f"{name}.weight goes up to {highest:.4g}, {dtype} to {most:.4g}: leave storage out")
    for layer in layers.values():
        layer.weight.data = layer.weight.data.to(dtype)
