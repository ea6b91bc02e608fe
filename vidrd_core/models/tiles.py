"""Large pictures piece by piece: tiles that overlap, blended linearly where they do."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def in_tiles(function: Callable[[Tensor], Tensor], x: Tensor, tile: int, cell: int, out_cell: int) -> Tensor:
    """Apply a function of pictures to x [..., H, W], tile by tile -> [..., H', W'].

    Sizes are counted in cells, which are `cell` elements wide and high in x and `out_cell` in the result (for SD's
    decoder 1 and 8, for its encoder 8 and 1). A tile is at most `tile` cells a side; x that is no larger goes to the
    function whole.
    """
    height, width = x.shape[-2] // cell, x.shape[-1] // cell
    if max(height, width) <= tile:
        return function(x)
    rows, columns = spans(height, tile), spans(width, tile)
    result: Tensor | None = None
    for (top, bottom), down in zip(rows, shares(rows, out_cell), strict=True):
        for (left, right), across in zip(columns, shares(columns, out_cell), strict=True):
            part = function(x[..., top * cell : bottom * cell, left * cell : right * cell])
            if result is None:
                result = part.new_zeros(*part.shape[:-2], height * out_cell, width * out_cell)
            part = part * (down[:, None] * across).to(part)
            result[..., top * out_cell : bottom * out_cell, left * out_cell : right * out_cell] += part
    assert result is not None
    return result


def spans(length: int, tile: int) -> list[tuple[int, int]]:
    """Where tiles of one size, at most `tile`, begin and end so that they cover `length`: as few as can be if each
    lies over the next by a quarter of `tile`, and no larger than they must be."""
    if length <= tile:
        return [(0, length)]
    overlap = max(1, tile // 4)
    count = math.ceil((length - overlap) / (tile - overlap))
    size = math.ceil((length + (count - 1) * overlap) / count)
    starts = [(length - size) * i // (count - 1) for i in range(count)]
    return [(start, start + size) for start in starts]


def shares(spans: list[tuple[int, int]], cell: int) -> list[Tensor]:
    """Each tile's share along one side, [(stop - start) * cell]: rising and falling linearly where it overlaps with
    its neighbours, and 1 in sum at every place. No more than two overlap if tiles are of 4 or more."""
    found = []
    for i, (start, stop) in enumerate(spans):
        place = (torch.arange((stop - start) * cell, dtype=torch.float64) + 0.5) / cell
        share = torch.ones_like(place)
        if i > 0:
            share = share.minimum(place / (spans[i - 1][1] - start))
        if i < len(spans) - 1:
            share = share.minimum((stop - start - place) / (stop - spans[i + 1][0]))
        found.append(share)
    return found
