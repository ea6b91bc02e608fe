"""Speed and direction of motion in videos where the answer is known."""

import numpy as np
import pytest

from vidrd_core.metrics.flow import flow_jump, is_dynamic, speeds

from .test_seams import moving, ping_pong, still


def textured(frames=12, step=3.0, size=96):
    """A pattern that moves right by `step` pixels per frame."""
    y, x = np.mgrid[:size, :size].astype(float)

    def frame(t):
        z = np.sin((x - t * step) / 5) + np.sin(y / 7 + 1) * np.cos((x - t * step) / 11)
        return np.clip(128 + 50 * z, 0, 255).astype(np.uint8)[..., None].repeat(3, -1)

    return np.stack([frame(t) for t in range(frames)])


def test_speeds_are_in_256ths_of_the_shorter_side():
    np.testing.assert_allclose(speeds(textured(step=3.0)), 3 * 256 / 96, rtol=0.15)
    np.testing.assert_allclose(speeds(still()), 0, atol=0.05)


def test_moving_videos_are_dynamic_and_still_ones_are_not():
    assert is_dynamic(textured(step=3.0))
    assert not is_dynamic(textured(step=0.5))
    assert not is_dynamic(still())
    assert is_dynamic(moving(16, reach=0.8, x=0.1))


def test_a_quarter_of_the_steps_make_a_video_dynamic():
    fast, rest = textured(7, 3.0), textured(1).repeat(10, 0)
    assert is_dynamic(np.concatenate([fast, rest]))
    assert not is_dynamic(np.concatenate([fast[:3], rest, rest]))


def test_continuing_motion_does_not_turn_and_mirrored_motion_reverses():
    for video in (textured(16), moving(16)):
        assert flow_jump(video, [8])[0] < 15
    assert np.all(flow_jump(ping_pong(4), [8, 16, 24]) > 165)
    mirrored = np.concatenate([textured(8), textured(8)[::-1]])
    assert flow_jump(mirrored, [8])[0] > 165


def test_a_turn_to_the_side_is_a_right_angle():
    right = textured(8)
    turned = np.concatenate([right, right.transpose(0, 2, 1, 3)])
    assert flow_jump(turned, [8])[0] == pytest.approx(90, abs=10)


def test_a_jump_at_the_seam_itself_does_not_count():
    video = np.concatenate([moving(8), moving(8, y=0.2)])
    assert flow_jump(video, [8])[0] < 15


def test_still_clips_have_no_direction():
    assert np.isnan(flow_jump(np.concatenate([moving(8), still(8)]), [8])).all()
    assert np.isnan(flow_jump(moving(4), [3])).all()  # a clip of one frame has no steps


def test_a_small_object_in_a_large_frame_counts():
    video = np.zeros((16, 256, 256, 3), np.uint8)
    for t in range(16):
        x = 40 + 6 * (t if t < 8 else 15 - t)
        video[t, 100:112, x : x + 12] = 250
    assert flow_jump(video, [8])[0] > 165


def test_opposite_motions_have_no_common_direction():
    right = textured(12)
    both = np.concatenate([right, right[:, :, ::-1]], axis=1)
    assert np.isnan(flow_jump(both, [6])).all()


def test_another_flow_function_can_be_passed():
    def flow(video):
        for t in range(len(video) - 1):
            yield np.full((*video.shape[1:3], 2), (1.0, 0.0) if t < 8 else (0.0, -1.0))

    assert flow_jump(still(16), [8], flow)[0] == pytest.approx(90)
    np.testing.assert_allclose(speeds(still(16), flow), 4)


@pytest.mark.parametrize("window", [0, -1])
def test_invalid_windows_are_refused(window):
    with pytest.raises(ValueError, match=f"window is {window}, expected 1 step or more"):
        flow_jump(moving(), [8], window=window)
