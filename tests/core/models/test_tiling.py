"""Tiles: they cover the whole, blend linearly, and leave a local function's result unchanged away from seams."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from vidrd_core.models.tiling import apply_tiled, blend_weights, tile_spans


@pytest.mark.parametrize("tile", [4, 5, 8, 64])
@pytest.mark.parametrize("length", [1, 4, 5, 9, 17, 64, 65, 127, 128, 200])
def test_tiles_cover_with_an_overlap_of_a_quarter(length, tile):
    found = tile_spans(length, tile)
    assert found[0][0] == 0
    assert found[-1][1] == length
    assert len({stop - start for start, stop in found}) == 1
    assert all(stop - start <= tile for start, stop in found)
    assert all(stop - start >= tile // 4 for (_, stop), (start, _) in pairwise(found))
    if length > tile:  # no fewer would do
        assert tile + (len(found) - 2) * (tile - tile // 4) < length


@pytest.mark.parametrize("tile", [4, 5, 6, 7, 8, 11, 40])
def test_weights_sum_to_one(tile):
    for length in range(1, 100):
        places = tile_spans(length, tile)
        total = torch.zeros(3 * length, dtype=torch.float64)
        for (start, stop), share in zip(places, blend_weights(places, 3), strict=True):
            total[3 * start : 3 * stop] += share
        torch.testing.assert_close(total, torch.ones_like(total))


def test_weights_fall_linearly():
    first, second = (range(*span) for span in tile_spans(65, 40)[:2])
    common = 3 * len(set(first) & set(second))
    falling = blend_weights(tile_spans(65, 40), 3)[0][-common:]
    torch.testing.assert_close(falling, 1 - (torch.arange(common).double() + 0.5) / common)


@pytest.mark.parametrize("size", [(16, 40), (33, 17), (50, 41), (16, 16), (7, 3)])
def test_a_local_function_is_unchanged_away_from_seams(size):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    kernel = torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(1))

    def blur(x):  # up by two, and two elements to either side
        return F.conv2d(F.interpolate(x, scale_factor=2), kernel, padding=1)

    whole, tiled = blur(x), apply_tiled(blur, x, 16, 1, 2)
    near = torch.zeros(2 * size[0], 2 * size[1], dtype=torch.bool)
    for dim, length in enumerate(size):
        for start, stop in tile_spans(length, 16):
            for edge in {start, stop} - {0, length}:
                near.narrow(dim, 2 * edge - 1, 2).fill_(True)
    torch.testing.assert_close(tiled[..., ~near], whole[..., ~near], rtol=1e-5, atol=1e-5)
    if max(size) <= 16:
        assert torch.equal(tiled, whole)
    else:
        assert near.any()
        assert not torch.allclose(tiled[..., near], whole[..., near], rtol=1e-5, atol=1e-5)


def test_images_shrink_in_tiles_too():
    x = torch.randn(1, 1, 48, 80, generator=torch.Generator().manual_seed(0))
    whole, tiled = F.avg_pool2d(x, 4), apply_tiled(lambda part: F.avg_pool2d(part, 4), x, 8, 4, 1)
    torch.testing.assert_close(tiled, whole)
