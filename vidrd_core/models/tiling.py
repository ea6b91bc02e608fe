"""Large pictures piece by piece: tiles that overlap, blended linearly where they do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Span = tuple[int, int]  # where a tile begins and ends along a side
Place = tuple[Span, Span]  # down, across


def in_tiles(function: Callable[[Tensor], Tensor], x: Tensor, tile: int, cell: int, out_cell: int) -> Tensor:
    """Apply a function of pictures to x [..., H, W], tile by tile -> [..., H', W'].

    Sizes are counted in cells, which are `cell` elements wide and high in x and `out_cell` in the result (for SD's
    decoder 1 and 8, for its encoder 8 and 1). A tile is at most `tile` cells a side; x that is no larger goes to the
    function whole.
    """
    height, width = x.shape[-2] // cell, x.shape[-1] // cell
    if max(height, width) <= tile:
        return function(x)
    places = places_of(height, width, tile)
    return blended((function(cut(x, place, cell)) for place in places), places, out_cell)


def places_of(height: int, width: int, tile: int) -> list[Place]:
    """Where the tiles of a picture of so many cells are."""
    return [(down, across) for down in spans(height, tile) for across in spans(width, tile)]


def cut(x: Tensor, place: Place, cell: int) -> Tensor:
    """What of a picture [..., H, W] is at a place."""
    (top, bottom), (left, right) = place
    return x[..., top * cell : bottom * cell, left * cell : right * cell]


def blended(parts: Iterator[Tensor], places: list[Place], cell: int) -> Tensor:
    """The tiles' results as one picture: where they overlap, each has its share."""
    rows, columns = (sorted({place[side] for place in places}) for side in (0, 1))
    down, across = (dict(zip(lines, shares(lines, cell), strict=True)) for lines in (rows, columns))
    result: Tensor | None = None
    for part, place in zip(parts, places, strict=True):
        if result is None:
            result = part.new_zeros(*part.shape[:-2], rows[-1][1] * cell, columns[-1][1] * cell)
        share = down[place[0]][:, None] * across[place[1]]
        cut(result, place, cell).add_(part * share.to(part))
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
