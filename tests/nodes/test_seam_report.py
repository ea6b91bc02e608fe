"""The Seam Report node."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vidrd_core.procedural import world

NUMBERS = {"clip_frames": 8, "repeated_frames": 0, "prompt_frames": 4}


@pytest.fixture(scope="module")
def clip():
    """Eight frames of a square that moves right."""
    frames = torch.zeros(8, 32, 32, 3)
    for number, frame in enumerate(frames):
        frame[12:20, 2 * number : 2 * number + 8] = torch.tensor([0.9, 0.2, 0.1])
    return frames


def test_a_reversed_video_is_detected(run, clip):
    report, text, ratio, worst, loop = run("SeamReport", images=torch.cat([clip, clip.flip(0), clip]), **NUMBERS)
    assert report.shape[0] == 1
    assert report.shape[3] == 3
    assert text.count("seam at frame") == 2
    assert "the previous clip played backwards" in text
    assert ratio < 0.1
    assert worst == pytest.approx(1, abs=0.1)
    assert loop > 0.9
    assert isinstance(ratio, float)


def test_one_clip_has_no_seams(run, clip):
    _, text, *numbers = run("SeamReport", images=clip, **{**NUMBERS, "clip_frames": 0})
    assert "seam at" not in text
    assert numbers == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("order", ["mirror", "forward"])
def test_clip_boundaries_come_from_the_state(run, tiny, order):
    given = {"model": tiny.model, "positive": tiny.positive[0], "negative": tiny.negative, "latent": tiny.latent}
    given |= {"steps": 2, "cfg": 2.5, "seed": 3, "scheduler": "ddim_uniform", "sampler_name": "euler"}
    given |= {"prompt_frames": 2, "alpha": 4.0, "beta": 0.4, "order": order}
    first, _, state = run("Extend", **given)
    more, _, state = run("Extend", **given, state=state)
    video = torch.cat([tiny.vae.decode(each["samples"]).reshape(-1, 64, 64, 3) for each in (first, more)])
    from_state = run("SeamReport", images=video, clip_frames=3, repeated_frames=1, prompt_frames=1, state=state)
    repeated = 2 if order == "forward" else 0
    by_hand = run("SeamReport", images=video, clip_frames=8, repeated_frames=repeated, prompt_frames=2)
    assert from_state[1:] == by_hand[1:]
    assert "seam at frame 8" in from_state[1]
    with pytest.raises(
        ValueError, match=r"images has 5 frames, expected 1\d: the state is that of clip 2, with 8 frames per clip"
    ):
        run("SeamReport", images=video[:5], **NUMBERS, state=state)


def test_with_the_state_of_drawn_clips_identity_and_position_are_told(run, tiny):
    instance = world.random_instance(np.random.default_rng(4), ["drift right"])
    video = torch.from_numpy(world.render(instance, 16)).float() / 255
    given = {"model": tiny.model, "positive": tiny.positive[0], "negative": tiny.negative, "latent": tiny.latent}
    given |= {"steps": 1, "cfg": 1.0, "seed": 3, "scheduler": "ddim_uniform", "sampler_name": "euler"}
    given |= {"prompt_frames": 2, "alpha": 4.0, "beta": 0.4, "order": "mirror"}
    _, _, state = run("Extend", **given)
    _, _, state = run("Extend", **given, state=state)
    state = replace(state, made_with={**state.made_with, "prompt": world.describe(instance)})
    _, text, *_ = run("SeamReport", images=video, **NUMBERS, state=state)
    assert "position error 0.0: nothing is visible" in text
    video[8:] = video[8:].flip(3)
    assert "it shows another thing or ground" in run("SeamReport", images=video, **NUMBERS, state=state)[1]
    assert "position error" not in run("SeamReport", images=video, **NUMBERS)[1]


def test_invalid_numbers_are_refused(run, clip):
    with pytest.raises(ValueError, match="repeated is 8, expected 0 or more and less than the 8 frames of a clip"):
        run("SeamReport", images=clip, **{**NUMBERS, "repeated_frames": 8})
