"""Prompt alignment of clips where the answer is known."""

import numpy as np

import vidrd_core
from vidrd_core.procedural.prompt_alignment import prompt_alignment, scene_for_prompt

from ..metrics.test_seams import moving, ping_pong, scene


def test_look_and_motion_of_clips():
    shown = scene("right", reach=0.5)
    assert prompt_alignment(ping_pong(3), shown, 8, first=1) == {"faithful_look": 1, "faithful_motion": 0.5}
    on = np.concatenate([moving(8), moving(8)])
    assert prompt_alignment(on, shown, 8) == {"faithful_look": 1, "faithful_motion": 1}
    assert prompt_alignment(moving(8, color="white").repeat(2, 0), shown, 8)["faithful_look"] == 0
    assert prompt_alignment(on, None, 8) == prompt_alignment(moving(4), shown, 8) == {}


def test_a_motion_may_start_within_a_clip():
    shown = scene("right", reach=0.5)
    assert prompt_alignment(np.roll(moving(8), 3, axis=0), shown, 8) == {"faithful_look": 1, "faithful_motion": 1}
    assert prompt_alignment(np.roll(moving(8)[::-1], 3, axis=0), shown, 8) == {
        "faithful_look": 1,
        "faithful_motion": 0,
    }


def test_clips_of_a_forward_video_overlap():
    shown = scene("right", reach=0.5)
    video = np.concatenate([moving(8), moving(8)[2:]])  # the second clip begins with the first one's end
    assert len(video) == 14
    assert prompt_alignment(video, shown, 8, repeated=2)["faithful_look"] == 1


def test_only_models_of_procedural_clips_have_a_scene(model):
    text = "a red circle moving right"
    found = scene_for_prompt(vidrd_core.load("tiny"), text)
    assert (found.sprites[0].color, found.sprites[0].motion) == ("red", "right")
    assert scene_for_prompt(model, text) is None
