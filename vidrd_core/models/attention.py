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
FUSED = ("cpu", "cuda", "xpu")  # where torch's kernels never hold all scores
SCORES = 2**26  # how many are held at once elsewhere


def sdpa(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention: through torch's fused kernels, where there are such and they are fast."""
    if q.device.type not in FUSED:
        return sliced(q, k, v, heads, SCORES)
    if q.device.type == "cpu" and max(q.shape[1], k.shape[1]) <= SHORT:
        if torch.is_grad_enabled():  # pieces would be put together again, and their gradients, too
            return _by_products(q, k, v, heads)
        return sliced(q, k, v, heads, max(1, PIECE // q[0].numel()) * heads * q.shape[1] * k.shape[1])
    q, k, v = (rearrange(t, "b l (h d) -> b h l d", h=heads) for t in (q, k, v))
    return rearrange(F.scaled_dot_product_attention(q, k, v), "b h l d -> b l (h d)")


def sliced(q: Tensor, k: Tensor, v: Tensor, heads: int, scores: int) -> Tensor:
    """The same by matrix products, holding no more than so many scores at once, or those of one query.

    It takes several entries of the batch at a time, or of one entry several queries.
    """
    of_query = heads * k.shape[1]
    entries, queries = scores // (of_query * q.shape[1]), max(1, scores // of_query)
    if entries >= len(q):
        return _by_products(q, k, v, heads)
    if entries:
        pieces = zip(q.split(entries), k.split(entries), v.split(entries), strict=True)
        return torch.cat([_by_products(*piece, heads) for piece in pieces])
    rows = zip(q.split(1), k.split(1), v.split(1), strict=True)
    return torch.cat([torch.cat([_by_products(few, k, v, heads) for few in q.split(queries, dim=1)], dim=1)
                      for q, k, v in rows])  # fmt: skip


def _by_products(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    batch = len(q)
    q, k, v = (rearrange(t, "b l (h d) -> (b h) l d", h=heads) for t in (q, k, v))
    scores = torch.baddbmm(q.new_empty(1), q, k.transpose(1, 2), beta=0, alpha=q.shape[-1] ** -0.5)
    return rearrange(scores.softmax(-1) @ v, "(b h) l d -> b l (h d)", b=batch)
