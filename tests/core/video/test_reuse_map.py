"""The reuse map, read back from its pixels."""

import numpy as np
import pytest

from vidrd_core.reuse import ReuseSettings
from vidrd_core.video.reuse_map import CELL, GAP, MARGIN, NEW, NOISE_HEIGHT, OLD, REPLAYED, STEPS_HEIGHT, reuse_map


def heights(settings, steps, colour, frames=8):
    """The height of a colour in pixels in the middle of each frame's column, above the legend."""
    pixels = np.asarray(reuse_map(settings, frames, steps))
    middles = [MARGIN + j * (CELL + GAP) + CELL - 4 for j in range(frames)]
    return [int((pixels[:-40, x] == colour).all(-1).sum()) for x in middles]


@pytest.mark.parametrize("order", ["mirror", "forward"])
@pytest.mark.parametrize("steps", [10, 50])
def test_replayed_steps_are_as_high_as_they_are_many(order, steps):
    settings = ReuseSettings(prompt_frames=3, beta=0.6, order=order)
    counts = settings.replay_counts(steps) + [0] * 5
    for height, count in zip(heights(settings, steps, REPLAYED), counts, strict=True):
        assert height == pytest.approx(STEPS_HEIGHT * count / steps, abs=2)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 4.0])
def test_the_height_of_new_noise_is_its_share_of_the_variance(alpha):
    settings = ReuseSettings(alpha=alpha)
    new, old = heights(settings, 50, NEW), heights(settings, 50, OLD)
    assert new[:4] == [0] * 4
    for height in new[4:]:
        assert height == pytest.approx(NOISE_HEIGHT / (1 + alpha**2), abs=2)
    assert np.array(new) + old == pytest.approx(NOISE_HEIGHT + 1, abs=1)


def test_invalid_settings_are_refused():
    with pytest.raises(ValueError, match="expected less than the 4 frames"):
        reuse_map(ReuseSettings(), frames=4)
    with pytest.raises(ValueError, match="steps is 0"):
        reuse_map(ReuseSettings(), steps=0)
