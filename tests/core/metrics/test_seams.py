"""Seams, loops and mirror images of videos whose answer is known."""

import numpy as np
import pytest
import torch

from vidrd_core.metrics.seams import frame_changes, loopiness, mirror_score, seam_ratio, similarity, worst_step
from vidrd_core.procedural import DIRECTIONS, Scene, Sprite, render
from vidrd_core.procedural.chain_metrics import measure_chain, track, turns, velocity
from vidrd_core.procedural.recognition import recognize
from vidrd_core.reuse import ReuseSettings, past_dependent_noise


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


def test_steps_are_mean_absolute_changes():
    video = np.zeros((3, 4, 4, 3), np.uint8)
    video[1] = 255
    video[2, :2] = 255
    np.testing.assert_allclose(frame_changes(video), [1, 0.5])


def test_motion_that_goes_on_has_perfect_seams():
    video = moving(24, reach=0.6, x=0.2)
    np.testing.assert_allclose(seam_ratio(video, [8, 16]), 1, atol=0.1)
    np.testing.assert_allclose(worst_step(video, [8, 16], 5), 1, atol=0.15)


def test_clips_may_differ_in_length():
    video = moving(16)
    video[12:] = np.roll(video[12:], 30, axis=1)
    ratios = seam_ratio(video, [8, 12])
    assert ratios[0] == pytest.approx(1, abs=0.1)
    assert ratios[1] > 3


def test_a_doubled_frame_is_a_frozen_seam():
    clip = moving(16)
    video = np.concatenate([clip[:8], clip[7:15]])
    assert seam_ratio(video, [8])[0] < 0.01
    assert np.all(seam_ratio(ping_pong(4), [8, 16, 24]) < 0.01)


def test_a_cut_is_a_jump():
    video = np.concatenate([moving(8), moving(8, color="white", background="gray")])
    assert seam_ratio(video, [8])[0] > 10


def test_a_jump_moved_one_frame_on_is_found_by_the_window():
    video = np.concatenate([moving(8), moving(8)[-1:], moving(8, y=0.2)])
    assert seam_ratio(video, [8])[0] < 0.01
    assert worst_step(video, [8], 2)[0] > 2
    np.testing.assert_array_equal(worst_step(video, [8], 1), seam_ratio(video, [8]))


def test_the_window_ends_with_the_clip():
    video = np.concatenate([moving(8), moving(8, y=0.2)])
    worst = worst_step(video, [4, 8], 5)
    assert worst[0] < 1.3
    assert worst[1] > 2


def test_a_still_video_has_perfect_seams_and_a_jump_out_of_stillness_has_not():
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


def test_what_does_not_come_back_is_no_loop():
    assert abs(loopiness(noise(64), 16)) < 0.02
    assert abs(loopiness(moving(48, reach=0.6, x=0.2), 16)) < 0.15
    assert loopiness(still(48), 16) == 0


def test_loopiness_of_short_videos_and_wrong_periods():
    assert np.isnan(loopiness(noise(20), 16))
    assert np.isfinite(loopiness(noise(21), 16))
    with pytest.raises(ValueError, match="reach is 4, expected at least 1 and less than the period of 4 frames"):
        loopiness(noise(20), 4)


def test_the_similarity_can_be_of_any_features():
    brightness = np.sin(np.arange(60) * 2 * np.pi / 12)
    video = noise(60)
    assert loopiness(video, 12, lambda v: np.stack([brightness, np.ones(60)], 1)) > 0.9
    assert abs(loopiness(video, 12)) < 0.05


def test_the_mirror_score_tells_mirror_images_from_repeats():
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


# --- movement ---


def turns_of(video, clips, frames=8):
    readings = [recognize(video[start : start + frames]) for start in range(0, clips * frames, frames)]
    return turns(track(readings), list(range(frames, clips * frames, frames)))


@pytest.mark.parametrize("way", DIRECTIONS)
def test_movement_that_goes_on_and_that_turns_back(way):
    dx, dy = DIRECTIONS[way]
    start = {"x": 0.5 - 0.3 * dx, "y": 0.5 - 0.3 * dy, "motion": way, "reach": 0.6}
    assert turns_of(moving(16, **start), 2) == ["kept"]
    assert turns_of(ping_pong(4, **start), 4) == ["reversed"] * 3


def test_turning_standing_still_and_vanishing():
    right, down = moving(8), moving(8, motion="down", y=0.25, x=0.75)
    assert turns_of(np.concatenate([right, down]), 2) == ["turned"]
    assert turns_of(np.concatenate([right, right[-1:].repeat(8, 0)]), 2) == ["still"]
    nothing = np.broadcast_to(right[0, 0, 0], right.shape)
    assert turns_of(np.concatenate([right, nothing]), 2) == ["lost"]


def test_velocity_leaves_out_what_was_not_seen():
    positions = np.array([[0, 0], [1, 2], [np.nan, np.nan], [9, 9], [12, 13]], float)
    np.testing.assert_allclose(velocity(positions), [2, 3])
    assert np.isnan(velocity(positions[1:4])).all()


# --- chains ---


def test_measures_of_a_mirrored_chain():
    found = measure_chain(ping_pong(8, reach=0.45), scene(reach=0.45), 8, 8, ReuseSettings())
    assert [clip["motion"] for clip in found["clips"]] == ["right", "left"] * 4
    assert [clip["right"]["motion"] for clip in found["clips"]] == [True, False] * 4
    assert found["turns"] == ["reversed"] * 7
    assert found["loop_period"] == 16
    assert found["loopiness"] > 0.4
    assert max(found["seam_ratio"]) < 0.01


def test_measures_of_forward_clips_that_share_frames():
    """Three clips of 8 frames of which 6 are shared: 12 frames of one even way."""
    found = measure_chain(moving(12), scene(), 8, 3, ReuseSettings(prompt_frames=6, order="forward"))
    assert [clip["motion"] for clip in found["clips"]] == ["right"] * 3
    assert found["turns"] == ["kept"] * 2
    np.testing.assert_allclose(found["seam_ratio"], 1, atol=0.15)
    assert len(found["worst_step"]) == len(found["mirror_score"]) == 2


@pytest.mark.parametrize(("order", "prompt_frames"), [("mirror", 4), ("forward", 0), ("forward", 3), ("forward", 6)])
def test_the_loop_period_is_that_of_the_noise(order, prompt_frames):
    """With hardly any new noise, shown frames have the noise of the frame one period before."""
    reuse = ReuseSettings(prompt_frames, alpha=1e6, order=order)
    generator = torch.Generator().manual_seed(0)
    clip = torch.randn(1, 1, 8, 4, 4, generator=generator)
    shown = [clip]
    for _ in range(6):
        clip = past_dependent_noise(clip, reuse, generator)
        shown.append(clip[:, :, reuse.repeated_frames :])
    video = torch.cat(shown, dim=2)
    clips = ping_pong(2)[: 16 - reuse.repeated_frames]
    period = measure_chain(clips, scene(), 8, 2, reuse)["loop_period"]
    assert video.shape[2] > period
    torch.testing.assert_close(video[:, :, period:], video[:, :, :-period], atol=1e-4, rtol=0)
