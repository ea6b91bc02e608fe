"""ComfyUI's layers and attention, which `vidrd_core` builds its networks from."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor


class HostOps:
    """Constructors of layers (`Linear`, `Conv2d`, `GroupNorm`, ...) with a fixed dtype and device.

    Args:
        operations: One of ComfyUI's classes of layers, in `comfy.ops`.
        dtype: The dtype of the weights; None is torch's default one.
        device: Where they are allocated; None is torch's default device.
    """

    def __init__(self, operations: Any, dtype: torch.dtype | None, device: torch.device | None) -> None:
        self.operations, self.options = operations, {"dtype": dtype, "device": device}

    def __getattr__(self, name: str) -> Any:
        return partial(getattr(self.operations, name), **self.options)


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """The attention that the user chose for ComfyUI.

    Args:
        q: Queries [B, L, heads * d].
        k: Keys [B, S, heads * d].
        v: Values [B, S, heads * d].
        heads: The number of heads.

    Returns:
        [B, L, heads * d].
    """
    return optimized_attention(q, k, v, heads)
