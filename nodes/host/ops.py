"""The host's layers, as `vidrd_core` builds from them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor


class Ops:
    """`Linear`, `Conv2d`, `GroupNorm`, `LayerNorm` of one of the host's `operations`, with dtype and device."""

    def __init__(self, operations: Any, dtype: torch.dtype | None, device: torch.device | None) -> None:
        self.operations, self.placed = operations, {"dtype": dtype, "device": device}

    def __getattr__(self, name: str) -> Any:
        return partial(getattr(self.operations, name), **self.placed)


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """The host's attention, whichever the user chose: q [B, L, heads*d], k and v [B, S, heads*d]."""
    return optimized_attention(q, k, v, heads)
