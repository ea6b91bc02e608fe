"""Seams, loops and mirrored clips of videos where the answer is known."""

import numpy as np
import pytest

from vidrd_core.metrics.seams import frame_changes, loopiness, mirror_score, seam_ratio, similarity, worst_step
from vidrd_core.procedural import Scene, Sprite, render


def scene(motion="right", color="red", reach=0.5, x=0.25, y=0.5, background="navy"):
    return Scene(background, (Sprite("circle", color, "small", motion, x, y, reach),))


def moving(frames=16, reach=0.5, **changed):
    """A circle that moves at constant speed."""
    return render(scene(reach=reach, **changed), frames)


def ping_pong(clips, frames=8, **changed):
    """A clip, its mirror image, the clip again, ..."""
    clip = moving(frames, **changed)
    return np.concatenate([clip[:: 1 if index % 2 == 0 else -1] for index in range(clips)])


def still(frames=16):
    return render(scene("stay", reach=0.0), frames)


def noise(frames, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, 24, 24, 3), dtype=np.uint8)


# --- seams ---


def test_frame_changes_are_mean_absolute_differences():
    video = np.zeros((3, 4, 4, 3), np.uint8)
    video[1] = 255
    video[2, :2] = 255
    np.testing.assert_allclose(frame_changes(video), [1, 0.5])


def test_continuing_motion_has_perfect_seams():
    video = moving(24, reach=0.6, x=0.2)
    np.testing.assert_allclose(seam_ratio(video, [8, 16]), 1, atol=0.1)
    np.testing.assert_allclose(worst_step(video, [8, 16], 5), 1, atol=0.15)


def test_clips_may_differ_in_length():
    video = moving(16)
    video[12:] = np.roll(video[12:], 30, axis=1)
    ratios = seam_ratio(video, [8, 12])
    assert ratios[0] == pytest.approx(1, abs=0.1)
    assert ratios[1] > 3


def test_a_duplicated_frame_is_a_frozen_seam():
    clip = moving(16)
    video = np.concatenate([clip[:8], clip[7:15]])
    assert seam_ratio(video, [8])[0] < 0.01
    assert np.all(seam_ratio(ping_pong(4), [8, 16, 24]) < 0.01)


def test_a_cut_is_a_jump():
    video = np.concatenate([moving(8), moving(8, color="white", background="gray")])
    assert seam_ratio(video, [8])[0] > 10


def test_a_jump_one_frame_after_the_seam_is_found_by_the_window():
    video = np.concatenate([moving(8), moving(8)[-1:], moving(8, y=0.2)])
    assert seam_ratio(video, [8])[0] < 0.01
    assert worst_step(video, [8], 2)[0] > 2
    np.testing.assert_array_equal(worst_step(video, [8], 1), seam_ratio(video, [8]))


def test_the_window_ends_with_the_clip():
    video = np.concatenate([moving(8), moving(8, y=0.2)])
    worst = worst_step(video, [4, 8], 5)
    assert worst[0] < 1.3
    assert worst[1] > 2


def test_a_still_video_has_perfect_seams_unless_it_jumps():
    assert seam_ratio(still(), [8]) == pytest.approx(1)
    assert worst_step(still(), [8], 5) == pytest.approx(1)
    jump = np.concatenate([still(8), moving(16)[-1:].repeat(8, 0)])
    assert 100 < seam_ratio(jump, [8])[0] < np.inf
    assert seam_ratio(still(3), [1, 2]) == pytest.approx([1, 1])  # there is no step inside a clip
    assert seam_ratio(still(1), []).shape == (0,)


# --- loops and mirrors ---


@pytest.mark.parametrize("period", [7, 10])
def test_a_cyclic_video_has_its_peak_at_its_period(period):
    once = render(scene("circle", reach=0.25, x=0.5), period + 1)[:-1]
    video = np.concatenate([once] * 6)
    assert similarity(video, period) == pytest.approx(1)
    found = {lag: loopiness(video, lag, reach=3) for lag in range(4, 2 * period - 3)}
    assert max(found, key=found.get) == period
    assert found[period] > 0.5


def test_mirrored_chains_loop_with_two_clips():
    video = ping_pong(8)
    assert similarity(video, 16) == pytest.approx(1)
    assert loopiness(video, 16) > 0.4
    assert loopiness(video, 8) < 0.1


def test_videos_that_do_not_return_are_no_loops():
    assert abs(loopiness(noise(64), 16)) < 0.02
    assert abs(loopiness(moving(48, reach=0.6, x=0.2), 16)) < 0.15
    assert loopiness(still(48), 16) == 0


def test_loopiness_of_short_videos_and_wrong_periods():
    assert np.isnan(loopiness(noise(20), 16))
    assert np.isfinite(loopiness(noise(21), 16))
    with pytest.raises(ValueError, match="reach is 4, expected at least 1 and less than the period of 4 frames"):
        loopiness(noise(20), 4)


def test_similarity_takes_any_features():
    brightness = np.sin(np.arange(60) * 2 * np.pi / 12)
    video = noise(60)
    assert loopiness(video, 12, lambda v: np.stack([brightness, np.ones(60)], 1)) > 0.9
    assert abs(loopiness(video, 12)) < 0.05


def test_the_mirror_score_distinguishes_mirrored_from_repeated_clips():
    chain = ping_pong(4)
    repeats = np.concatenate([moving(8)] * 4)
    seams = [8, 16, 24]
    assert np.all(mirror_score(chain, seams) > 0.5)
    assert np.all(mirror_score(repeats, seams) < -0.5)
    assert np.all(np.abs(mirror_score(moving(32, reach=0.6, x=0.2), seams)) < 0.35)
    assert np.all(np.abs(mirror_score(noise(32), seams)) < 0.1)
    assert np.all(mirror_score(still(32), seams) == 0)
    # of a shorter clip, the frames beside the seam are compared
    assert mirror_score(chain[:12], [8])[0] > 0.5


@pytest.mark.parametrize("seams", [[0], [16], [8, 8], [9, 4], [-1]])
def test_seams_must_lie_inside_the_video(seams):
    for measured in (seam_ratio, mirror_score):
        with pytest.raises(ValueError, match="expected rising frame numbers from 1 to 15"):
            measured(still(16), seams)


@pytest.mark.parametrize("video", [np.zeros((2, 4, 4, 3), np.float32), np.zeros((4, 4, 3), np.uint8)])
def test_only_videos_are_measured(video):
    with pytest.raises(ValueError, match=r"expected a video uint8 \[F, H, W, 3\], got"):
        frame_changes(video)
