"""Tiled processing of large frames: overlapping tiles, blended linearly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Span = tuple[int, int]  # start and stop of a tile along one side
Place = tuple[Span, Span]  # rows, columns


def apply_tiled(function: Callable[[Tensor], Tensor], x: Tensor, tile: int, cell: int, out_cell: int) -> Tensor:
    """Apply a function to an image tile by tile, and blend the results.

    Sizes are counted in cells: latents on one side of a VAE, the square of pixels of one latent on the other.

    Args:
        function: Takes [..., h, w] to [..., h', w'].
        x: [..., H, W]; if no larger than one tile, it is processed without tiling.
        tile: The largest side of a tile, in cells.
        cell: Elements of x along the side of a cell: 1 for SD's decoder, 8 for its encoder.
        out_cell: Elements of the result along the side of a cell: 8 for SD's decoder, 1 for its encoder.

    Returns:
        [..., H', W'].
    """
    height, width = x.shape[-2] // cell, x.shape[-1] // cell
    if max(height, width) <= tile:
        return function(x)
    places = tile_places(height, width, tile)
    return blend_tiles((function(crop(x, place, cell)) for place in places), places, out_cell)


def tile_places(height: int, width: int, tile: int) -> list[Place]:
    """The places of all tiles of an image, row by row; sizes in cells."""
    return [(down, across) for down in tile_spans(height, tile) for across in tile_spans(width, tile)]


def crop(x: Tensor, place: Place, cell: int) -> Tensor:
    """The part of an image [..., H, W] at a place; `cell` is the side of a cell in elements."""
    (top, bottom), (left, right) = place
    return x[..., top * cell : bottom * cell, left * cell : right * cell]


def blend_tiles(parts: Iterator[Tensor], places: list[Place], cell: int) -> Tensor:
    """Blend tiles into one image.

    Args:
        parts: The tiles [..., h, w], in the order of `places`.
        places: Where they are, in cells.
        cell: Elements along the side of a cell.

    Returns:
        The image [..., H, W].
    """
    rows, columns = (sorted({place[side] for place in places}) for side in (0, 1))
    down, across = (dict(zip(lines, blend_weights(lines, cell), strict=True)) for lines in (rows, columns))
    result: Tensor | None = None
    for part, place in zip(parts, places, strict=True):
        if result is None:
            result = part.new_zeros(*part.shape[:-2], rows[-1][1] * cell, columns[-1][1] * cell)
        weights = down[place[0]][:, None] * across[place[1]]
        crop(result, place, cell).add_(part * weights.to(part))
    assert result is not None
    return result


def tile_spans(length: int, tile: int) -> list[tuple[int, int]]:
    """Place tiles along one side: as few as possible that overlap by at least a quarter of `tile`.

    Args:
        length: The side that they cover.
        tile: The largest size of a tile; all have one size, as small as their number allows.

    Returns:
        Start and stop of each tile, in order; one of the side's length if that is no more than `tile`.
    """
    if length <= tile:
        return [(0, length)]
    overlap = max(1, tile // 4)
    count = math.ceil((length - overlap) / (tile - overlap))
    size = math.ceil((length + (count - 1) * overlap) / count)
    starts = [(length - size) * i // (count - 1) for i in range(count)]
    return [(start, start + size) for start in starts]


def blend_weights(spans: list[tuple[int, int]], cell: int) -> list[Tensor]:
    """The weights of each tile along one side: linear ramps where it overlaps its neighbours, with a sum of 1.

    Args:
        spans: Of `tile_spans`, for tiles of 4 or more, of which no more than two overlap.
        cell: Elements in a cell.

    Returns:
        One vector [(stop - start) * cell] for each tile, float64.
    """
    found = []
    for i, (start, stop) in enumerate(spans):
        place = (torch.arange((stop - start) * cell, dtype=torch.float64) + 0.5) / cell
        weights = torch.ones_like(place)
        if i > 0:
            weights = weights.minimum(place / (spans[i - 1][1] - start))
        if i < len(spans) - 1:
            weights = weights.minimum((stop - start - place) / (stop - spans[i + 1][0]))
        found.append(weights)
    return found
