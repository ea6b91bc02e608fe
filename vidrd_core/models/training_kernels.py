"""Layers with gradients on x86 CPUs, faster than torch's own: what `kernels` is without gradients.

MKL does not use AVX-512 on processors other than Intel's, at half the speed; torch takes it for float32 products, and
for convolutions on a single thread. And a convolution whose input is channels-last has its weights copied to that
order in each direction, which takes more time than the convolution itself where the weights are many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from vidrd_core.models import kernels
from vidrd_core.models.kernels import HEAVY, MIN_ROWS

LEVELS = 2**16  # of a random number in `dropout`


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.linear, of float32 by the library that is the fastest here, in each direction."""
    if not _apply_to(x) or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight, bias)
    if x.numel() < MIN_ROWS * x.shape[-1]:
        return F.linear(x, weight, bias)
    return cast(Tensor, _Linear.apply(x, weight, bias))


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """F.conv2d, with an input that has few pixels in the order of the weights, where that is faster here."""
    if _apply_to(x) and weight.numel() > HEAVY * x.numel():
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if dtype in kernels.dtypes():
            given = (weight.detach(), None, (padding, stride, (1, 1), 1), None)
            if kernels.way_for_heavy(x.detach(), given, dtype) == "contiguous":
                out = F.conv2d(x.contiguous(), weight, bias, tuple(stride), tuple(padding))
                return out.contiguous(memory_format=torch.channels_last)
    return F.conv2d(x, weight, bias, tuple(stride), tuple(padding))


def gated(x: Tensor) -> Tensor:
    """x [..., 2 * width], whose second half gates the first by GELU -> [..., width].

    The gradients of the halves are written beside each other, and only x is kept for them.
    """
    if torch.compiler.is_compiling():
        value, gate = x.chunk(2, dim=-1)
        return F.gelu(gate) * value
    return cast(Tensor, _Gated.apply(x))


def dropout(x: Tensor, rate: float) -> Tensor:
    """Dropout in training; on a CPU by a quarter of torch's random bits, the rate to the nearest of 65,536 levels."""
    level = round(rate * LEVELS)
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not 0 < level < LEVELS:
        return F.dropout(x, rate)
    kept = torch.empty_like(x, requires_grad=False)  # laid out as x
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    numbers = bits.view(torch.int16)[: x.numel()]  # -LEVELS / 2 .. LEVELS / 2 - 1
    torch.ge(numbers, level - LEVELS // 2, out=kept.as_strided((x.numel(),), (1,)))
    return x * kept.mul_(LEVELS / (LEVELS - level))


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return kernels.linear(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            kernels.product_with_transpose(rows, weight).view(x.shape) if of_x else None,
            kernels.product_of_rows(rows, x.reshape(-1, x.shape[-1])) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        value, gate = x.chunk(2, dim=-1)
        return F.gelu(gate).mul_(value)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        out = torch.empty_like(x)
        (value, gate), (of_value, of_gate) = x.chunk(2, dim=-1), out.chunk(2, dim=-1)
        torch.mul(grad, F.gelu(gate), out=of_value)
        torch.ops.aten.gelu_backward.grad_input(grad * value, gate, grad_input=of_gate)
        return out


def _apply_to(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and torch.float32 in kernels.dtypes()
