"""Attention: torch's fused kernels, and plain matrix products where those are missing or slow."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

Attention = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""`attention(q, k, v, heads)`: q [B, L, heads*d], k and v [B, S, heads*d] -> [B, L, heads*d]."""

SHORT = 32  # tokens: the block size of torch's fused CPU kernel
CHUNK = 2**19  # elements of q in a chunk of the batch, which a CPU's cache holds with all that is computed from it
FUSED_DEVICES = ("cpu", "cuda", "xpu")  # device types whose kernels never hold the full score matrix
MAX_SCORES = 2**26  # attention scores that are held at once on other devices


def sdpa(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention, by the fastest way on the tensors' device.

    Args:
        q: Queries [B, L, heads*d].
        k: Keys [B, S, heads*d].
        v: Values [B, S, heads*d].
        heads: The number of attention heads.

    Returns:
        [B, L, heads*d].

    Source:
        Vaswani et al., Attention Is All You Need (2017), section 3.2.
    """
    if q.device.type not in FUSED_DEVICES:
        return sliced_attention(q, k, v, heads, MAX_SCORES)
    if q.device.type == "cpu" and max(q.shape[1], k.shape[1]) <= SHORT:
        if torch.is_grad_enabled():  # chunks would be concatenated, and their gradients, too
            return _matmul_attention(q, k, v, heads)
        return sliced_attention(q, k, v, heads, max(1, CHUNK // q[0].numel()) * heads * q.shape[1] * k.shape[1])
    q, k, v = (rearrange(t, "b l (h d) -> b h l d", h=heads) for t in (q, k, v))
    return rearrange(F.scaled_dot_product_attention(q, k, v), "b h l d -> b l (h d)")


def sliced_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, max_scores: int) -> Tensor:
    """Attention by matrix products over several batch entries at a time, or several queries of one.

    Args:
        q: Queries [B, L, heads*d].
        k: Keys [B, S, heads*d].
        v: Values [B, S, heads*d].
        heads: The number of attention heads.
        max_scores: No more scores than these are held at once, or those of one query if that is more.

    Returns:
        [B, L, heads*d].
    """
    per_query = heads * k.shape[1]
    entries, queries = max_scores // (per_query * q.shape[1]), max(1, max_scores // per_query)
    if entries >= len(q):
        return _matmul_attention(q, k, v, heads)
    if entries:
        chunks = zip(q.split(entries), k.split(entries), v.split(entries), strict=True)
        return torch.cat([_matmul_attention(*chunk, heads) for chunk in chunks])
    rows = zip(q.split(1), k.split(1), v.split(1), strict=True)
    return torch.cat([torch.cat([_matmul_attention(few, k, v, heads) for few in q.split(queries, dim=1)], dim=1)
                      for q, k, v in rows])  # fmt: skip


def _matmul_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    batch = len(q)
    q, k, v = (rearrange(t, "b l (h d) -> (b h) l d", h=heads) for t in (q, k, v))
    scores = torch.baddbmm(q.new_empty(1), q, k.transpose(1, 2), beta=0, alpha=q.shape[-1] ** -0.5)
    return rearrange(scores.softmax(-1) @ v, "(b h) l d -> b l (h d)", b=batch)
