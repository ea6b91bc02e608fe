"""Prompt travel: shares, mixed texts, and the same bits after a resume."""

import pytest
import torch

from vidrd_core.prompt_schedule import OVER_FRAMES, fade_of, shares_of_frames
from vidrd_core.reuse import ReuseSettings

PROMPTS = ["a red circle", "a red circle", "a blue circle", "a blue circle moving right"]
FAST = {"steps": 2, "seed": 1}


def test_shares_rise_from_the_prompt_before_to_the_new_one():
    fades = [fade_of(PROMPTS[:3], clip, 3) for clip in range(7)]
    assert fades == [None, None, *(("a red circle", share) for share in (0.25, 0.5, 0.75)), None, None]
    assert all(fade_of(PROMPTS, clip, 0) is None for clip in range(8))
    assert fade_of(PROMPTS, 3, 3) == ("a blue circle", 0.25)  # of a prompt that did not stay long enough


def test_a_fade_mixes_the_encoded_texts(model):
    state = model.generate(PROMPTS[0], **FAST).state
    new, old = (model.extend(state, prompt, **FAST).state.latents for prompt in (PROMPTS[2], PROMPTS[0]))
    ends = [model.extend(state, PROMPTS[2], fade=(PROMPTS[0], share), **FAST).state for share in (0.0, 0.5, 1.0)]
    assert torch.allclose(ends[0].latents, old, atol=1e-5)
    assert torch.allclose(ends[2].latents, new, atol=1e-5)
    assert min(float((ends[1].latents - other).abs().max()) for other in (old, new)) > 1e-4
    assert ends[1].made_with["fade"] == [PROMPTS[0], 0.5]


def test_a_travelling_stream_is_resumed_to_the_bit(model):
    clips = list(model.stream(PROMPTS, 6, travel=2, **FAST))
    resumed = list(model.stream(PROMPTS, 6, travel=2, state=clips[1].state, **FAST))
    assert all(torch.equal(a.state.latents, b.state.latents) for a, b in zip(clips[2:], resumed, strict=True))
    plain = list(model.stream(PROMPTS, 6, **FAST))
    assert torch.equal(plain[1].state.latents, clips[1].state.latents)
    assert not torch.equal(plain[2].state.latents, clips[2].state.latents)


def test_over_frames_the_share_grows_where_frames_are_new_or_let_go():
    assert fade_of(PROMPTS[:3], 2, OVER_FRAMES) == ("a red circle", OVER_FRAMES)
    assert [fade_of(PROMPTS[:3], clip, OVER_FRAMES) for clip in (0, 1, 3, 4)] == [None] * 4
    assert shares_of_frames(ReuseSettings(3), 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    forward = ReuseSettings(2, order="forward", head=1)
    assert shares_of_frames(forward, 7) == [0.0, 0.0, 0.0, 1 / 3, 2 / 3, 1.0, 1.0]
    for order in ("mirror", "forward"):
        assert shares_of_frames(ReuseSettings(0, order=order, head=1), 3) == [1.0, 1.0, 1.0]


def test_over_frames_predictions_are_mixed(model):
    first, last = ReuseSettings(3, beta=0.0), {"steps": 1, "cfg": 20.0}
    state = model.generate(PROMPTS[0], first, **last).state
    given = {"reuse": first, **last}
    old, new = (model.extend(state, prompt, **given).state.latents for prompt in (PROMPTS[0], PROMPTS[2]))
    mixed = model.extend(state, PROMPTS[2], fade=(PROMPTS[0], OVER_FRAMES), **given).state
    share = torch.tensor(shares_of_frames(first, 8))[:, None, None]
    assert torch.allclose(mixed.latents, old.lerp(new, share), atol=1e-5)  # as one step is linear in predictions
    assert not torch.allclose(old, new, atol=1e-4)
    clips = list(model.stream(PROMPTS, 4, travel=OVER_FRAMES, **FAST))
    resumed = list(model.stream(PROMPTS, 4, travel=OVER_FRAMES, state=clips[1].state, **FAST))
    assert torch.equal(clips[3].state.latents, resumed[1].state.latents)
    assert clips[2].state.made_with["fade"] == [PROMPTS[1], OVER_FRAMES]


@pytest.mark.parametrize("travel", [-2, 1.5, None])
def test_bad_travel_is_refused(model, travel):
    with pytest.raises(ValueError, match="expected a whole number of clips"):
        model.stream(PROMPTS, 4, travel=travel)


def test_a_share_is_from_0_to_1(model):
    state = model.generate(PROMPTS[0], **FAST).state
    with pytest.raises(ValueError, match="share of the new prompt is 2"):
        model.extend(state, PROMPTS[2], fade=(PROMPTS[0], 2.0), **FAST)
