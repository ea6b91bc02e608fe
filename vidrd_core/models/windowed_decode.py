"""Decode a video that arrives in chunks with a decoder whose norms span frames: window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor


def decode_windows(
    decode: Callable[[Tensor], Tensor], chunks: Iterable[Tensor], context: int, past: Tensor | None = None
) -> Iterator[Tensor]:
    """Chunks of latents [B, C, f, h, w] to chunks of frames [B, 3, f', H, W], as many in all.

    A window is the latents whose frames are due, with up to `context` on either side. A frame is given out when
    `context` later latents are known, or the chunks end; then the last ones are those of the last window, so that one
    chunk that holds all is decoded as a whole. Of `past`, the latents just before, the last `context` are beside the
    first window. No more than a chunk and twice the context is held.
    """
    window: Tensor | None = past[:, :, max(0, past.shape[2] - context) :] if past is not None else None
    known = 0 if window is None else window.shape[2]  # latents of the window whose frames have been given out
    rest: Tensor | None = None  # the last window's frames that are not final unless the chunks end
    for chunk in chunks:
        if not chunk.shape[2]:
            continue
        window = chunk if window is None else torch.cat([window, chunk], dim=2)
        rest = None
        final = window.shape[2] - context
        if final <= known:
            continue
        frames = decode(window)
        rest = frames[:, :, final:].clone()  # a view would keep all of them
        yield frames[:, :, known:final]
        del frames
        start = max(0, final - context)
        window, known = window[:, :, start:].clone(), final - start
    if rest is None and window is not None and window.shape[2] > known:
        rest = decode(window)[:, :, known:]
    if rest is not None and rest.shape[2]:
        yield rest
