"""Appearance and its drift, in videos where the answer is known."""

import numpy as np
import pytest

from vidrd_core.metrics.appearance import FRAME_STATISTICS, brightness, contrast, drift, saturation, sharpness

from .test_seams import moving, noise, still


def even(*color, frames=2):
    return np.full((frames, 8, 8, 3), color, np.uint8)


def test_statistics_of_uniform_colors():
    np.testing.assert_allclose(brightness(even(255, 255, 255)), 1)
    np.testing.assert_allclose(brightness(even(0, 255, 0)), 0.587)
    np.testing.assert_allclose(saturation(even(255, 0, 0)), 1)
    np.testing.assert_allclose(saturation(even(90, 90, 90)), 0)
    for trait in (contrast, sharpness):
        np.testing.assert_allclose(trait(even(10, 60, 200)), 0, atol=1e-12)


def test_contrast_and_sharpness_of_known_patterns():
    halves = even(0, 0, 0)
    halves[:, :, 4:] = 255
    np.testing.assert_allclose(contrast(halves), 0.5)
    board = even(0, 0, 0)
    board[:, ::2, 1::2] = board[:, 1::2, ::2] = 255
    assert sharpness(board)[0] > 10 * sharpness(halves)[0] > 0


def test_blur_reduces_sharpness():
    video = noise(2)
    blurred = ((video.astype(int) + np.roll(video, 1, 1) + np.roll(video, 1, 2)) // 3).astype(np.uint8)
    assert np.all(sharpness(blurred) < sharpness(video) / 2)


def test_videos_that_do_not_drift():
    for video in (still(24), moving(24)):
        for each in drift(video, [8, 16]).values():
            assert abs(each.slope) < 2e-3
            assert abs(each.change) < 4e-3


def test_brightness_that_rises_clip_by_clip():
    video = np.concatenate([even(*[40 + 20 * clip] * 3, frames=4) for clip in range(5)])
    found = drift(video, [4, 8, 12, 16])
    assert found["brightness"].slope == pytest.approx(20 / 255)
    assert found["brightness"].change == pytest.approx(80 / 255)
    assert found["saturation"].slope == found["saturation"].change == 0


def test_colors_that_fade_clip_by_clip():
    video = np.concatenate([even(200, 200 - s, 200 - s, frames=3) for s in (150, 100, 50)])
    assert drift(video, [3, 6])["saturation"].slope == pytest.approx(-50 / 255)


def test_clips_of_different_lengths_have_equal_weight():
    video = np.concatenate([even(10, 10, 10, frames=2), even(20, 20, 20, frames=9), even(30, 30, 30, frames=3)])
    assert drift(video, [2, 11])["brightness"].slope == pytest.approx(10 / 255)


def test_one_clip_does_not_drift():
    assert {(each.slope, each.change) for each in drift(moving(8), []).values()} == {(0.0, 0.0)}
    assert drift(moving(8), []).keys() == FRAME_STATISTICS.keys()


def test_invalid_seams_are_refused():
    with pytest.raises(ValueError, match=r"seams are \[8\], expected rising frame numbers from 1 to 7"):
        drift(moving(8), [8])
