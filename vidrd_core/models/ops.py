"""The layers that models are built from, unless a host supplies its own: torch's, for any place and type of weights.

A weight that is kept elsewhere than the input, or as another type (fp8), is brought to it for the time of a call.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HAS_ONEDNN = platform.machine().lower() in ("x86_64", "amd64") and torch.backends.mkldnn.is_available()
LEAST_ROWS = 32  # below this a matrix product is over before oneDNN has arranged it


def at_input(layer: Any, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """A layer's weight and bias where the input is and of its type; as they are when gradients are wanted."""
    return _at(layer.weight, x), None if layer.bias is None else _at(layer.bias, x)


def _at(weight: Tensor, x: Tensor) -> Tensor:
    if torch.is_grad_enabled() or (weight.dtype == x.dtype and weight.device == x.device):
        return weight
    return weight.to(x.device, x.dtype, non_blocking=True)


class Linear(nn.Linear):
    """A linear layer, on x86 CPUs by way of oneDNN.

    In float32 torch's own uses MKL, which leaves AVX-512 alone on other makers' processors: half of their speed.
    """

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = at_input(self, x)
        if not _by_conv(x):
            return F.linear(x, weight, bias)
        pixels = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # [1, C, rows, 1], channels last
        out = F.conv2d(pixels, weight[:, :, None, None], bias)
        return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def _by_conv(x: Tensor) -> bool:
    """Whether a linear layer of float32 goes through oneDNN's convs."""
    if not HAS_ONEDNN or x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    return x.numel() >= LEAST_ROWS * x.shape[-1]


class Conv2d(nn.Conv2d):
    """A conv over [B, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, *at_input(self, x))


class GroupNorm(nn.GroupNorm):
    """A norm over groups of channels."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and not x.requires_grad:
            # Torch 2.13's backward writes to nowhere where weights are to be trained, but x is not, and lies
            # channels last.
            x = x.contiguous()
        return F.group_norm(x, self.num_groups, *at_input(self, x), self.eps)


class LayerNorm(nn.LayerNorm):
    """A norm over the last dimension."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, *at_input(self, x), self.eps)
