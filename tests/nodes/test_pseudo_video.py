"""The Pseudo-Video node."""

import pytest
import torch

SETTINGS = {
    "frames": 8,
    "width": 0,
    "height": 0,
    "zoom": 1.5,
    "pan": 0.2,
    "direction": "in",
    "easing": "linear",
    "seed": 2**64 - 1,
}


@pytest.fixture(scope="module")
def still():
    return torch.rand(1, 48, 64, 3, generator=torch.Generator().manual_seed(0))


def test_a_still_becomes_a_clip_of_its_size(run, still):
    (clip,) = run("PseudoVideo", image=still, **SETTINGS)
    assert clip.shape == (8, 48, 64, 3)
    assert clip.dtype == torch.float32
    assert (clip[1:] - clip[:-1]).abs().mean((1, 2, 3)).min() > 0.01
    (again,) = run("PseudoVideo", image=still, **SETTINGS)
    assert torch.equal(clip, again)
    (other,) = run("PseudoVideo", image=still, **{**SETTINGS, "seed": 0})
    assert not torch.equal(clip, other)


def test_a_size_of_zero_is_that_of_the_still(run, still):
    sizes = {(0, 0): (48, 64), (32, 0): (24, 32), (0, 96): (96, 128), (40, 40): (40, 40)}
    for (width, height), (down, across) in sizes.items():
        (clip,) = run("PseudoVideo", image=still, **{**SETTINGS, "width": width, "height": height})
        assert clip.shape == (8, down, across, 3)


def test_without_motion_frames_equal_the_still(run, still):
    (clip,) = run("PseudoVideo", image=still, **{**SETTINGS, "zoom": 1.0, "pan": 0.0})
    assert torch.equal(clip, still.expand_as(clip))


def test_several_stills_are_refused_with_a_remedy(run, still):
    with pytest.raises(ValueError, match=r"2 stills, expected one.*ImageFromBatch.*Rebatch Images"):
        run("PseudoVideo", image=still.repeat(2, 1, 1, 1), **SETTINGS)


def test_ranges_equal_those_of_vidrd_core(pack, run, still):
    inputs = {each.id: each for each in pack["VidRD_PseudoVideo"].GET_SCHEMA().inputs}
    assert set(inputs) == {"image", *SETTINGS}
    for name in ("zoom", "pan"):
        for value in (inputs[name].min, inputs[name].max):
            run("PseudoVideo", image=still, **{**SETTINGS, name: value})
        with pytest.raises(ValueError, match=name):
            run("PseudoVideo", image=still, **{**SETTINGS, name: inputs[name].max + 1})


def test_choices_are_checked_before_anything_runs(pack):
    node = pack["VidRD_PseudoVideo"]
    assert node.validate_inputs(direction="out", easing="smooth") is True
    assert "direction is 'up'" in node.validate_inputs(direction="up")
    assert "easing is 'slow'" in node.validate_inputs(easing="slow")
