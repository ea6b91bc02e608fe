"""What takes no memory but its result's, where no gradients are wanted."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

ON_CPU, ELSEWHERE = 2**23, 2**25  # numbers at work: what a CPU's cache holds, what keeps other devices busy


def plus(x: Tensor, more: Tensor) -> Tensor:
    """x + more, in the memory of x, which must be the caller's own."""
    return x + more if torch.is_grad_enabled() else x.add_(more)


def times(x: Tensor, factor: Tensor) -> Tensor:
    """x * factor, in the memory of x, which must be the caller's own."""
    return x * factor if torch.is_grad_enabled() else x.mul_(factor)


def silu(x: Tensor) -> Tensor:
    """SiLU, in the memory of x, which must be the caller's own."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def in_pieces(x: Tensor, function: Callable[[Tensor], Tensor], growth: int) -> Tensor:
    """function(x) -> like x [N, ...], where each entry counts by itself.

    Without gradients it takes a few entries at a time, so that what is in between, `growth` times as much as x, stays
    small.
    """
    size = max(1, (ON_CPU if x.device.type == "cpu" else ELSEWHERE) // max(1, growth * x[0].numel()))
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or size >= len(x):
        return function(x)
    out = torch.empty_like(x)
    for part, into in zip(x.split(size), out.split(size), strict=True):
        into.copy_(function(part))
    return out
