"""Figures of long videos of the drawn world: a drawn one is perfect, and each fault shows in its figure."""

import numpy as np
import pytest

from vidrd_core.procedural import world
from vidrd_core.procedural.world.captions import wanted_of
from vidrd_core.procedural.world.chains import measure_chain

STARTS = (0, 8, 16)
MOTIONS = ("drift right", "drift up-left", "follow down", "bounce", "orbit", "swing", "pulse", "spin", "stay")


def instance(motion, seed=0):
    return world.random_instance(np.random.default_rng((21, seed)), [motion])


def chain(motion, seed=0):
    each = instance(motion, seed)
    return world.render(each, 24), wanted_of(each)


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_drawn_video_keeps_its_instance_and_its_law(motion):
    for seed in (0, 1):
        found = measure_chain(*(chain(motion, seed)[0], STARTS, chain(motion, seed)[1]))
        assert all(found.kept)
        assert max(found.seam_error) < (2 if motion == "bounce" else 0.8)
        assert all(found.faithful)
        directions = np.array(found.direction)
        if motion in ("pulse", "spin", "stay"):
            assert np.isnan(directions).all()
            assert found.step < 0.5
        else:
            assert np.nanmin(directions) == 1
            assert (found.step > 1) != motion.startswith("follow")


def test_another_instance_in_a_later_clip_is_told():
    frames, wanted = chain("drift right")
    twin = world.random_instance(np.random.default_rng(9), [wanted.motion], wanted.shape, wanted.color, wanted.ground)
    frames[16:] = world.render(twin, 8)
    found = measure_chain(frames, STARTS, wanted)
    assert found.kept == (True, False)
    assert all(found.faithful)
    assert found.seam_error[0] < 0.8 < 4 < found.seam_error[1]


@pytest.mark.parametrize("motion", ["drift right", "follow down"])
def test_motion_that_turns_back_is_told(motion):
    frames, wanted = chain(motion, 3)
    frames[8:16] = frames[8:16][::-1]
    found = measure_chain(frames, STARTS, wanted)
    assert found.direction[0] == 0
    if motion != "follow down":
        assert found.seam_error[0] > 2


def test_a_clip_that_does_not_show_its_caption_is_told():
    frames, wanted = chain("stay")
    frames[8:16] = world.render(instance("drift up", 5), 8)
    found = measure_chain(frames, STARTS, wanted)
    assert found.faithful == (True, False, True)
    frames[8:16] = 90
    found = measure_chain(frames, STARTS, wanted)
    assert found.faithful == (True, False, True)
    assert found.kept == (False, True)
    assert np.isnan(found.seam_error).all()


def test_clips_that_are_too_short_are_refused():
    with pytest.raises(ValueError, match="a clip has 3 frames, expected 4 or more"):
        measure_chain(np.zeros((11, 64, 64, 3), np.uint8), (0, 8), wanted_of(instance("stay")))
