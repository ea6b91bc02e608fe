"""Figures of long videos of the drawn world: a drawn one is perfect, and each fault shows in its figure."""

import numpy as np
import pytest

from vidrd_core.procedural import world
from vidrd_core.procedural.world.captions import wanted_of
from vidrd_core.procedural.world.chains import measure_chain

MOTIONS = ("drift right", "drift up-left", "follow down", "bounce", "orbit", "swing", "pulse", "spin", "stay")


def instance(motion, seed=0):
    return world.random_instance(np.random.default_rng((21, seed)), [motion])


def chain(motion, seed=0):
    each = instance(motion, seed)
    return world.render(each, 24), wanted_of(each)


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_drawn_video_keeps_its_instance_and_its_law(motion):
    for seed in (0, 1):
        found = measure_chain(*chain(motion, seed), 8)
        assert all(found.kept)
        assert max(found.seam_error) < (2 if motion == "bounce" else 0.8)
        assert all(each.all for each in found.shown)
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
    found = measure_chain(frames, wanted, 8)
    assert found.kept == (True, False)
    assert all(each.all for each in found.shown)
    assert found.seam_error[0] < 0.8 < 4 < found.seam_error[1]


@pytest.mark.parametrize("motion", ["drift right", "follow down"])
def test_motion_that_turns_back_is_told(motion):
    frames, wanted = chain(motion, 3)
    frames[8:16] = frames[8:16][::-1]
    found = measure_chain(frames, wanted, 8)
    assert found.direction[0] == 0
    if motion != "follow down":
        assert found.seam_error[0] > 2


def test_a_clip_that_does_not_show_its_caption_is_told():
    frames, wanted = chain("stay")
    frames[8:16] = world.render(instance("drift up", 5), 8)
    found = measure_chain(frames, wanted, 8)
    assert tuple(each.all for each in found.shown) == (True, False, True)
    frames[8:16] = 90
    found = measure_chain(frames, wanted, 8)
    assert tuple(each.all for each in found.shown) == (True, False, True)
    assert found.kept == (False, True)
    assert np.isnan(found.seam_error).all()


def test_clips_of_a_forward_video_overlap():
    """A later clip begins with frames of the one before, and its own ones follow the law of all before them."""
    for motion in ("drift left", "orbit"):
        each = instance(motion, 4)
        found = measure_chain(world.render(each, 20), wanted_of(each), 8, repeated=2)
        assert len(found.shown) == 3
        assert all(shown.all for shown in found.shown)
        assert found.kept == (True, True)
        assert max(found.seam_error) < 0.8
        assert found.direction == (1, 1)
    jump = world.render(each, 20)
    jump[14:] = np.roll(jump[14:], 20, axis=2)
    assert measure_chain(jump, wanted_of(each), 8, repeated=2).seam_error[1] > 10
    # A last clip of fewer than four own frames is not judged at its seam.
    assert np.isnan(measure_chain(world.render(each, 14), wanted_of(each), 8, repeated=5).seam_error[-1])


@pytest.mark.parametrize(("shown", "frames"), [(11, 3), (5, 8)])
def test_clips_that_are_too_short_are_refused(shown, frames):
    with pytest.raises(ValueError, match=f"a clip has {min(shown, frames)} frames, expected 4 or more"):
        measure_chain(np.zeros((shown, 64, 64, 3), np.uint8), wanted_of(instance("stay")), frames)
