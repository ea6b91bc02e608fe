"""Elementwise operations and chunked application that allocate no memory beyond their result without gradients.

Each of them is the usual operation while gradients are enabled.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# Elements at work in a chunk: as many as a CPU's cache holds, and as keep other devices busy.
CPU_CHUNK, DEVICE_CHUNK = 2**23, 2**25


def add(x: Tensor, other: Tensor) -> Tensor:
    """x + other, in the memory of x, which nobody else may hold."""
    return x + other if torch.is_grad_enabled() else x.add_(other)


def multiply(x: Tensor, other: Tensor) -> Tensor:
    """x * other, in the memory of x, which nobody else may hold."""
    return x * other if torch.is_grad_enabled() else x.mul_(other)


def silu(x: Tensor) -> Tensor:
    """SiLU, in the memory of x, which nobody else may hold."""
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
