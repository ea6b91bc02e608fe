"""Pictures of known colours, and how far others' decoders show them off."""

from __future__ import annotations

import numpy as np

COLOURS = [
    (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255), (0, 0, 0), (64, 64, 64),
    (128, 128, 128), (192, 192, 192), (255, 255, 255), (230, 30, 40), (30, 220, 60), (20, 40, 230), (200, 120, 60),
    (90, 60, 150),
]  # fmt: skip
SIZES = [(64, 64), (512, 512), (720, 1280)]  # height and width


def patches(height: int, width: int) -> np.ndarray:
    """The 16 colours as a grid of 4 x 4, uint8 [H, W, 3]."""
    rows, columns = 4 * np.mgrid[:height, :width] // np.array([height, width])[:, None, None]
    return np.array(COLOURS, np.uint8)[4 * rows + columns]


def gradient(height: int, width: int) -> np.ndarray:
    """A smooth picture, of at most 1.2 levels from pixel to pixel, uint8 [H, W, 3]."""
    y, x = np.mgrid[:height, :width] * (1.2 if min(height, width) < 160 else 195 / np.array([height, width]).max())
    return np.stack([30 + x, 225 - y, 100 + (x - y) / 2], -1).round().astype(np.uint8)


def check_patches(shown: np.ndarray, most: int = 3) -> None:
    """Assert that a decoded picture has the colours of `patches`, but at their edges, where chroma blurs."""
    height, width = shown.shape[:2]
    inside = [(np.arange(n) % (n // 4) >= 3) & (np.arange(n) % (n // 4) < n // 4 - 3) for n in (height, width)]
    errors = np.abs(shown.astype(int) - patches(height, width))[np.ix_(*inside)]
    assert errors.size > 0.3 * shown.size
    assert errors.max() <= most


def check_gradient(shown: np.ndarray) -> None:
    """Assert that a decoded picture is near `gradient`.

    Swscale rounds colours down and repeats chroma: with no encoder between, it is 1.2 off on the whole, 4 at most.
    """
    errors = np.abs(shown.astype(int) - gradient(*shown.shape[:2]))
    assert errors.mean() < 1.4
    assert (errors > 3).mean() < 0.007
    assert errors.max() <= 6
