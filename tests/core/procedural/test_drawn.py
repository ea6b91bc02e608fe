"""What can be read from videos of models of drawn clips, which are told by the words that they know."""

from dataclasses import replace

import numpy as np
import pytest

import vidrd_core
from vidrd_core.metrics.registry import METRICS
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.procedural import EVALUATION_SEED, world
from vidrd_core.procedural.datasets import WorldData
from vidrd_core.procedural.drawn import Shapes, World, drawn_clips_of

from ...conftest import TEXT


def of_words(model, words):
    return replace(model, text_encoder=TextEncoder(replace(TEXT, words=words, max_length=20)))


def test_models_are_told_by_their_words(model):
    assert drawn_clips_of(model) is None
    assert isinstance(drawn_clips_of(vidrd_core.load("tiny")), Shapes)
    assert isinstance(drawn_clips_of(of_words(model, world.VOCABULARY)), World)


@pytest.mark.parametrize("drawn", [Shapes(), World()])
def test_more_prompts_begin_with_the_same_ones(drawn):
    assert drawn.prompts(100)[:30] == drawn.prompts(30)
    assert len(set(drawn.prompts(112))) > 90
    assert all(map(drawn.is_caption, drawn.prompts(40)))
    assert not drawn.is_caption("a cat on a mat")


@pytest.mark.parametrize("drawn", [Shapes(), World()])
def test_the_reference_is_of_clips_that_are_alike_and_not_the_same(drawn):
    clips = list(drawn.reference(20, 8, 32))
    assert {clip.shape for clip in clips} == {(8, 32, 32, 3)}
    assert len({clip.tobytes() for clip in clips}) == 20
    assert all((one == other).all() for one, other in zip(clips, drawn.reference(20, 8, 32), strict=True))


def test_the_reference_is_held_out():
    trained = {WorldData(clips=200, seed=1).frames_of(i).tobytes() for i in range(200)}
    assert trained.isdisjoint(clip.tobytes() for clip in World().reference(200, 8, 64))


def drifting(frames):
    (instance,) = [
        each for each in world.evaluation_instances(18, EVALUATION_SEED) if each.motion.word == "drift left"
    ]
    return world.render(instance, frames), world.describe(instance)


def test_a_drawn_video_has_perfect_figures():
    video, text = drifting(24)
    found = World().figures(video, text, 8, first=1)
    assert found["faithful_look"] == found["faithful_motion"] == [1, 1]
    assert found["identity_kept"] == found["direction_kept"] == [1, 1]
    assert max(found["position_error"]) < 0.8
    assert max(found["position_jump"]) < 0.3
    assert set(found) <= set(METRICS)


def test_faults_show_in_their_figures():
    video, text = drifting(16)
    video[8:] = video[:8][::-1]
    found = World().figures(video, text, 8)
    assert found["identity_kept"] == [1]
    assert found["direction_kept"] == [0]
    assert found["faithful_look"] == [1, 1]
    assert found["faithful_motion"] == [1, 0]
    assert 0.8 < found["position_jump"][0] < 1.2  # it stays where it is, for one step
    video[8:] = np.roll(video[8:], 24, axis=1)
    assert World().figures(video, text, 8)["position_error"][0] > 20


def test_what_cannot_be_told_is_left_out():
    video, text = drifting(16)
    assert World().figures(video, "a cat", 8) == {}
    assert World().figures(video[:5], text, 8) == World().figures(video, text, 3) == {}
    assert World().figures(video[:, :, :48], text, 8) == {}
    assert set(World().figures(video[:8], text, 8)) == {"faithful_look", "faithful_motion"}
    video[8:] = 90  # nothing
    found = World().figures(video, text, 8)
    assert found["position_error"] == found["position_jump"] == found["direction_kept"] == [None]
    assert found["identity_kept"] == [0]
    still = text.replace("drifting left", "standing still")
    assert World().figures(np.repeat(video[:1], 16, 0), still, 8)["position_jump"] == [None]
