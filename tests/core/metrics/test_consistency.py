"""Consistency, CLIPSIM and flicker where the answer is known."""

import numpy as np
import pytest

from vidrd_core.metrics.consistency import clipsim, frame_consistency, subject_consistency, temporal_flickering

from .test_seams import moving, noise, still


def angles(*degrees):
    """Features of frames at these angles in degrees."""
    turned = np.radians(degrees)
    return lambda video: np.stack([np.cos(turned), np.sin(turned)], 1)


def test_features_at_known_angles():
    video = still(4)
    assert frame_consistency(video, angles(0, 60, 120, 180)) == pytest.approx(0.5)
    # To the first: 0.5, 0 for -0.5, 0 for -1; to the one before: 0.5 each.
    assert subject_consistency(video, angles(0, 60, 120, 180)) == pytest.approx((0.5 + 0.25 + 0.25) / 3)


def test_still_videos_are_consistent_and_noise_is_not():
    for consistency in (frame_consistency, subject_consistency):
        assert consistency(still()) == pytest.approx(1)
        assert 0 < consistency(noise(12)) < consistency(moving()) < 1
        assert np.isnan(consistency(still(1)))


def test_consistency_does_not_depend_on_the_length_of_features():
    video = moving()
    scaled = frame_consistency(video, lambda frames: frames.reshape(len(frames), -1) * 7.0)
    assert scaled == pytest.approx(frame_consistency(video, lambda frames: frames.reshape(len(frames), -1) / 255))


def test_clipsim_is_the_mean_cosine_with_the_text():
    said = {"right": [1.0, 0.0], "up": [0.0, 3.0]}
    texts = lambda names: np.array([said[name] for name in names])  # noqa: E731
    assert clipsim(still(2), "right", angles(0, 60), texts) == pytest.approx(0.75)
    assert clipsim(still(2), "up", angles(0, 90), texts) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="frames have 2 features, the text has 3: expected as many"):
        clipsim(still(2), "x", angles(0, 0), lambda _: np.ones((1, 3)))


def test_invalid_features_are_refused():
    with pytest.raises(ValueError, match=r"features are \[2, 1\], expected \[n, D\] of finite numbers"):
        frame_consistency(still(2), lambda _: np.full((2, 1), np.nan))


def test_flicker_of_a_static_scene():
    assert temporal_flickering(still()) == 1
    assert temporal_flickering(still(1)) == 1
    video = np.zeros((5, 8, 8, 3), np.uint8)
    video[1::2] = 51
    assert temporal_flickering(video) == pytest.approx(0.8)
    assert temporal_flickering(noise(40)) == pytest.approx(2 / 3, abs=0.02)  # of two even numbers in 0 .. 1
