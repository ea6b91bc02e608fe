"""The layers that models are built from by default: torch's, with weights on any device and of any dtype.

A weight on another device than the input, or of another dtype (fp8), is cast to the input's in each call.
A host may build models from a namespace of its own with the same four classes.

Beside the layers: elementwise operations and chunked application that allocate no memory beyond their result. Each is
the usual operation while gradients are enabled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrd_core.models import kernels, training_kernels

# Elements at work in a chunk: as many as a CPU's cache holds, and as keep other devices busy.
CPU_CHUNK, DEVICE_CHUNK = 2**22, 2**25


def cast_to_input(layer: Any, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Cast a layer's weight and bias to the device and dtype of x; unchanged while gradients are enabled.

    Args:
        layer: Any layer with `weight` and `bias`.
        x: The layer's input.

    Returns:
        Weight and bias; None for a layer without bias.
    """
    return _cast(layer.weight, x), None if layer.bias is None else _cast(layer.bias, x)


def _cast(weight: Tensor, x: Tensor) -> Tensor:
    if torch.is_grad_enabled() or (weight.dtype == x.dtype and weight.device == x.device):
        return weight
    return weight.to(x.device, x.dtype, non_blocking=True)


class Linear(nn.Linear):
    """A linear layer, through oneDNN on x86 CPUs."""

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """x [..., in] -> [..., out], to which `plus` is added."""
        weight, bias = cast_to_input(self, x)
        if kernels.apply_to(x):
            return kernels.linear(x, weight, bias, plus)
        out = training_kernels.linear(x, weight, bias)
        return out if plus is None else add(out, plus)


class Conv2d(nn.Conv2d):
    """A 2-D convolution over [B, C, H, W], through oneDNN on x86 CPUs."""

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """x [B, C, H, W] -> [B, C', H', W'], to which `plus` is added."""
        weight, bias = cast_to_input(self, x)
        if x.ndim == 4 and kernels.apply_to(x):
            return kernels.conv2d(x, weight, bias, self.stride, cast("tuple[int, ...]", self.padding), plus)
        if x.ndim == 4 and torch.is_grad_enabled():
            padding = cast("tuple[int, ...]", self.padding)
            out = training_kernels.conv2d(x, weight, bias, self.stride, padding)
        else:
            out = self._conv_forward(x, weight, bias)
        return out if plus is None else add(out, plus)


class GroupNorm(nn.GroupNorm):
    """Group normalisation over [B, C, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, ...] -> like x."""
        if torch.is_grad_enabled() and not x.requires_grad:
            # torch 2.13's backward crashes if weights are trained, but x needs no gradient and is channels-last.
            x = x.contiguous()
        return F.group_norm(x, self.num_groups, *cast_to_input(self, x), self.eps)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the last dimension."""

    def forward(self, x: Tensor) -> Tensor:
        """x [..., C] -> like x."""
        return F.layer_norm(x, self.normalized_shape, *cast_to_input(self, x), self.eps)


class Dropout(nn.Dropout):
    """Dropout, faster than torch's on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape -> like x; unchanged unless in training."""
        return training_kernels.dropout(x, self.p) if self.training else x


def sum_of(layer: nn.Module, x: Tensor, other: Tensor) -> Tensor:
    """layer(x) + other, in one pass if the layer is one of these and not a host's."""
    return layer(x, other) if isinstance(layer, (Linear, Conv2d)) else add(layer(x), other)


def add(x: Tensor, other: Tensor) -> Tensor:
    """x + other, in the memory of x, which nothing else may use."""
    return x + other if torch.is_grad_enabled() else x.add_(other)


def multiply(x: Tensor, other: Tensor) -> Tensor:
    """x * other, in the memory of x, which nothing else may use."""
    return x * other if torch.is_grad_enabled() else x.mul_(other)


def silu(x: Tensor) -> Tensor:
    """SiLU, in the memory of x, which nothing else may use."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def in_chunks(x: Tensor, function: Callable[[Tensor], Tensor], growth: int) -> Tensor:
    """Apply a function to a few batch entries at a time, so that its intermediate results stay small.

    Args:
        x: [N, ...].
        function: Takes [n, ...] to the same shape, each entry independently of the others.
        growth: How many times as large as its input the function's intermediate results are.

    Returns:
        `function(x)`, [N, ...].
    """
    size = max(1, (CPU_CHUNK if x.device.type == "cpu" else DEVICE_CHUNK) // max(1, growth * x[0].numel()))
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or size >= len(x):
        return function(x)
    out = torch.empty_like(x)
    for part, into in zip(x.split(size), out.split(size), strict=True):
        into.copy_(function(part))
    return out
