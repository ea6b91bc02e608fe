"""Attention: torch's fused kernels, and what is faster or smaller where these are not at their best."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

Attention = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""`attention(q, k, v, heads)`: q [B, L, heads*d], k and v [B, S, heads*d] -> [B, L, heads*d]."""

SHORT = 32  # tokens: torch's fused kernel for CPUs works in blocks of as many
PIECE = 2**19  # queries' numbers in a piece of a batch, which a CPU's cache holds together with all that follows


def sdpa(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention through torch's fused kernels; over a few tokens on a CPU by matrix products."""
    if q.device.type == "cpu" and max(q.shape[1], k.shape[1]) <= SHORT and len(q) > 1:
        size = max(1, PIECE // q[0].numel())
        pieces = zip(q.split(size), k.split(size), v.split(size), strict=True)
        return torch.cat([by_products(*piece, heads) for piece in pieces])
    q, k, v = (rearrange(t, "b l (h d) -> b h l d", h=heads) for t in (q, k, v))
    return rearrange(F.scaled_dot_product_attention(q, k, v), "b h l d -> b l (h d)")


def by_products(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """The same by two batched matrix products, which hold all scores [B*heads, L, S] in memory."""
    batch = len(q)
    q, k, v = (rearrange(t, "b l (h d) -> (b h) l d", h=heads) for t in (q, k, v))
    scores = torch.baddbmm(q.new_empty(1), q, k.transpose(1, 2), beta=0, alpha=q.shape[-1] ** -0.5)
    return rearrange(scores.softmax(-1) @ v, "(b h) l d -> b l (h d)", b=batch)
