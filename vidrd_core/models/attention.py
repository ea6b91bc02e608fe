"""Attention: torch's fused kernels, and plain matrix products where those are missing or slow."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vidrd_core.models.fastest import fastest

Softmax = Callable[[Tensor], Tensor]
Attention = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""`attention(q, k, v, heads)`: q [B, L, heads*d], k and v [B, S, heads*d] -> [B, L, heads*d]."""

SHORT = 32  # tokens: the block size of torch's fused CPU kernel, which has other ways for so few
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
    tokens = max(q.shape[1], k.shape[1])
    if q.device.type == "cpu" and tokens <= SHORT and not torch.compiler.is_compiling():
        way = way_for_few(q.dtype, tokens, q.shape[2] // heads, torch.get_num_threads())
        if way != "fused":
            softmax = FEW[way]
            if torch.is_grad_enabled():  # chunks would be concatenated, and their gradients, too
                return _matmul_attention(q, k, v, heads, softmax)
            held = max(1, CHUNK // q[0].numel()) * heads * q.shape[1] * k.shape[1]
            return sliced_attention(q, k, v, heads, held, softmax)
    return fused_attention(q, k, v, heads)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attention by torch's fused kernel: q [B, L, heads*d], k and v [B, S, heads*d] -> [B, L, heads*d]."""
    q, k, v = (rearrange(t, "b l (h d) -> b h l d", h=heads) for t in (q, k, v))
    return rearrange(F.scaled_dot_product_attention(q, k, v), "b h l d -> b l (h d)")


def softmax_of_rows(scores: Tensor) -> Tensor:
    """Softmax over the last dimension of [N, L, S]."""
    return scores.softmax(-1)


def softmax_of_columns(scores: Tensor) -> Tensor:
    """The same by torch's kernel for other dimensions, which fills its vectors however few keys there are."""
    return scores.permute(2, 0, 1).contiguous().softmax(0).permute(1, 2, 0)


FEW: dict[str, Softmax] = {"columns": softmax_of_columns, "rows": softmax_of_rows}


@cache
def way_for_few(dtype: torch.dtype, tokens: int, width: int, threads: int) -> str:
    """How attention over at most `SHORT` tokens is fastest on this CPU: "fused", or products with a softmax of `FEW`.

    Args:
        dtype: Of the tensors.
        tokens: Queries or keys, whichever are more.
        width: Channels of a head.
        threads: Of torch.

    Returns:
        "fused", or a key of `FEW`.
    """
    with torch.random.fork_rng(devices=[]):
        q = torch.randn(512, tokens, 4 * width).to(dtype)
    ways: dict[str, Callable[[], Tensor]] = {
        name: partial(_matmul_attention, q, q, q, 4, softmax) for name, softmax in FEW.items()
    }
    ways["fused"] = partial(fused_attention, q, q, q, 4)
    return fastest(f"attention over {tokens} tokens, heads of {width}, {str(dtype).removeprefix('torch.')}", ways)


def sliced_attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, max_scores: int, softmax: Softmax = softmax_of_rows
) -> Tensor:
    """Attention by matrix products over several batch entries at a time, or several queries of one.

    Args:
        q: Queries [B, L, heads*d].
        k: Keys [B, S, heads*d].
        v: Values [B, S, heads*d].
        heads: The number of attention heads.
        max_scores: No more scores than these are held at once, or those of one query if that is more.
        softmax: Of scores [N, L, S] over their last dimension.

    Returns:
        [B, L, heads*d].
    """
    per_query = heads * k.shape[1]
    entries, queries = max_scores // (per_query * q.shape[1]), max(1, max_scores // per_query)
    if entries >= len(q):
        return _matmul_attention(q, k, v, heads, softmax)
    if entries:
        chunks = zip(q.split(entries), k.split(entries), v.split(entries), strict=True)
        return torch.cat([_matmul_attention(*chunk, heads, softmax) for chunk in chunks])
    rows = zip(q.split(1), k.split(1), v.split(1), strict=True)
    return torch.cat([torch.cat([_matmul_attention(few, k, v, heads, softmax) for few in q.split(queries, dim=1)],
                                dim=1) for q, k, v in rows])  # fmt: skip


def _matmul_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, softmax: Softmax) -> Tensor:
    batch = len(q)
    q, k, v = (rearrange(t, "b l (h d) -> (b h) l d", h=heads) for t in (q, k, v))
    scores = torch.baddbmm(q.new_empty(1), q, k.transpose(1, 2), beta=0, alpha=q.shape[-1] ** -0.5)
    return rearrange(softmax(scores) @ v, "(b h) l d -> b l (h d)", b=batch)
