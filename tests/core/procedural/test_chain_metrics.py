"""Metrics of chains of procedural clips where the answer is known."""

import numpy as np
import pytest
import torch

from vidrd_core.procedural import DIRECTIONS, evaluation_scenes, render
from vidrd_core.procedural.chain_metrics import (
    measure_chain,
    motion_at_any_phase,
    moves_in_direction,
    track,
    turns,
    velocity,
)
from vidrd_core.procedural.recognition import recognize
from vidrd_core.reuse import ReuseSettings, past_dependent_noise

from ..metrics.test_seams import moving, ping_pong, scene


def turns_of(video, clips, frames=8):
    recognized = [recognize(video[start : start + frames]) for start in range(0, clips * frames, frames)]
    return turns(track(recognized), list(range(frames, clips * frames, frames)))


@pytest.mark.parametrize("way", DIRECTIONS)
def test_continuing_and_reversing_motion(way):
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


def test_velocity_ignores_frames_where_the_sprite_is_not_visible():
    positions = np.array([[0, 0], [1, 2], [np.nan, np.nan], [9, 9], [12, 13]], float)
    np.testing.assert_allclose(velocity(positions), [2, 3])
    assert np.isnan(velocity(positions[1:4])).all()


def test_metrics_of_a_mirrored_chain():
    found = measure_chain(ping_pong(8, reach=0.45), scene(reach=0.45), 8, 8, ReuseSettings())
    assert [clip["motion"] for clip in found["clips"]] == ["right", "left"] * 4
    assert [clip["right"]["motion"] for clip in found["clips"]] == [True, False] * 4
    assert found["turns"] == ["reversed"] * 7
    assert found["loop_period"] == 16
    assert found["loopiness"] > 0.4
    assert max(found["seam_ratio"]) < 0.01


def test_metrics_of_forward_clips_that_share_frames():
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


def test_the_direction_of_straight_motion_is_recognized_despite_a_jump():
    video = np.full((8, 64, 64, 3), 10, np.uint8)
    for index, x in enumerate((30, 34, 38, 42, 10, 14, 18, 22)):  # starts over in the middle
        video[index, 26:38, x : x + 12] = (228, 30, 40)
    forwards, backwards = ([recognize(each).sprites[0]] for each in (video, video[::-1]))
    assert moves_in_direction(forwards, "right", 64) == motion_at_any_phase(forwards, "right", 64) == [True]
    assert moves_in_direction(backwards, "right", 64) == motion_at_any_phase(backwards, "right", 64) == [False]
    assert moves_in_direction(forwards, "stay", 64) is None


def test_a_motion_is_recognized_at_any_phase_and_no_other_is():
    """Drawn clips, started at every phase; played backwards they show the reverse motion."""
    backwards = {"grow": "shrink", "left": "right", "up": "down", "up-left": "down-right", "up-right": "down-left"}
    backwards |= {back: word for word, back in backwards.items()} | {word: word for word in ("stay", "bounce")}
    words = [*backwards, "circle", "spin"]
    for drawn in evaluation_scenes(14, 5, 1):  # one of each motion
        word, video = drawn.sprites[0].motion, render(drawn)
        for phase in range(8):
            for clip, expected in ((video, word), (video[::-1], backwards.get(word, ""))):
                sprites = [recognize(np.roll(clip, phase, axis=0)).sprites[0]]
                found = [each for each in words if motion_at_any_phase(sprites, each, 64)[0]]
                assert found == [expected] * bool(expected), word
