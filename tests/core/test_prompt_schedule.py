"""Prompt travel and per-clip seed, cfg and alpha: shares, mixed encodings, and exact resuming."""

from dataclasses import replace

import pytest
import torch

from vidrd_core.prompt_schedule import OVER_FRAMES, fade_of, parse_per_clip, shares_of_frames
from vidrd_core.reuse import ReuseSettings
from vidrd_core.settings import SampleSettings

PROMPTS = ["a red circle", "a red circle", "a blue circle", "a blue circle moving right"]
FAST = {"steps": 2, "seed": 1}
FEW = {"steps": 2}


def test_shares_rise_from_the_previous_prompt_to_the_new_one():
    fades = [fade_of(PROMPTS[:3], clip, 3) for clip in range(7)]
    assert fades == [None, None, *(("a red circle", share) for share in (0.25, 0.5, 0.75)), None, None]
    assert all(fade_of(PROMPTS, clip, 0) is None for clip in range(8))
    assert fade_of(PROMPTS, 3, 3) == ("a blue circle", 0.25)  # of a prompt that did not stay long enough


def test_a_fade_mixes_the_encoded_prompts(model):
    state = model.generate(PROMPTS[0], **FAST).state
    new, old = (model.extend(state, prompt, **FAST).state.latents for prompt in (PROMPTS[2], PROMPTS[0]))
    ends = [model.extend(state, PROMPTS[2], fade=(PROMPTS[0], share), **FAST).state for share in (0.0, 0.5, 1.0)]
    assert torch.allclose(ends[0].latents, old, atol=1e-5)
    assert torch.allclose(ends[2].latents, new, atol=1e-5)
    assert min(float((ends[1].latents - other).abs().max()) for other in (old, new)) > 1e-4
    assert ends[1].made_with["fade"] == [PROMPTS[0], 0.5]


def test_a_stream_with_travel_is_resumed_exactly(model):
    clips = list(model.stream(PROMPTS, 6, travel=2, **FAST))
    resumed = list(model.stream(PROMPTS, 6, travel=2, state=clips[1].state, **FAST))
    assert all(torch.equal(a.state.latents, b.state.latents) for a, b in zip(clips[2:], resumed, strict=True))
    plain = list(model.stream(PROMPTS, 6, **FAST))
    assert torch.equal(plain[1].state.latents, clips[1].state.latents)
    assert not torch.equal(plain[2].state.latents, clips[2].state.latents)


def test_over_frames_the_share_grows_over_frames_that_are_not_replayed():
    assert fade_of(PROMPTS[:3], 2, OVER_FRAMES) == ("a red circle", OVER_FRAMES)
    assert [fade_of(PROMPTS[:3], clip, OVER_FRAMES) for clip in (0, 1, 3, 4)] == [None] * 4
    assert shares_of_frames(ReuseSettings(3), 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    forward = ReuseSettings(2, order="forward", warmup_latents=1)
    assert shares_of_frames(forward, 7) == [0.0, 0.0, 0.0, 1 / 3, 2 / 3, 1.0, 1.0]
    for order in ("mirror", "forward"):
        assert shares_of_frames(ReuseSettings(0, order=order, warmup_latents=1), 3) == [1.0, 1.0, 1.0]


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
def test_invalid_travel_is_refused(model, travel):
    with pytest.raises(ValueError, match="expected a whole number of clips"):
        model.stream(PROMPTS, 4, travel=travel)


def test_a_share_out_of_range_is_refused(model):
    state = model.generate(PROMPTS[0], **FAST).state
    with pytest.raises(ValueError, match="share of the new prompt is 2"):
        model.extend(state, PROMPTS[2], fade=(PROMPTS[0], 2.0), **FAST)


def test_per_clip_settings_do_not_change_the_next_clip(model):
    reuse = ReuseSettings(2, order="forward")
    per_clip = {"seed": [3, None, 7], "cfg": [None, 4.0], "alpha": [None, None, 0.5]}
    plain = model.complete(SampleSettings(seed=1, **FEW))
    clips = [clip.state for clip in model.stream(PROMPTS[0], 4, reuse, per_clip=per_clip, **vars(plain))]
    state = model.generate(PROMPTS[0], reuse, **vars(replace(plain, seed=3))).state
    assert torch.equal(clips[0].latents, state.latents)
    following = [
        (replace(plain, cfg=4.0), reuse),
        (replace(plain, seed=7), replace(reuse, alpha=0.5)),
        (plain, reuse),
    ]
    for made, (sample, rule) in zip(clips[1:], following, strict=True):
        state = model.extend(state, PROMPTS[0], rule, **vars(sample)).state
        assert torch.equal(made.latents, state.latents)
    resumed = model.stream(PROMPTS[0], 4, reuse, state=clips[1], per_clip=per_clip, **vars(plain))
    for clip, made in zip(resumed, clips[2:], strict=True):
        assert torch.equal(clip.state.latents, made.latents)


@pytest.mark.parametrize(
    ("per_clip", "message"),
    [
        ({"steps": [3]}, "per_clip has 'steps', expected seed, cfg, alpha"),
        ({"seed": [1, 2, 3]}, "per_clip has 3 numbers for seed, but there are 2 clips"),
        ({"cfg": [None, float("nan")]}, "of clip 2 the cfg is nan"),
        ({"alpha": [-1.0]}, "of clip 1 the alpha is -1.0"),
        ({"seed": [0.5]}, "of clip 1 the seed is 0.5"),
    ],
)
def test_invalid_per_clip_settings_are_refused_before_sampling(model, per_clip, message):
    with pytest.raises(ValueError, match=message):
        model.stream(PROMPTS[0], 2, per_clip=per_clip, **FEW)


def test_per_clip_texts_are_parsed():
    assert parse_per_clip("seed", " 1, , 3", 4, 0, 9) == [1, None, 3]
    assert parse_per_clip("cfg", "\n2.5", 2, 0, 9) == [None, 2.5]
    assert parse_per_clip("cfg", " ", 2, 0, 9) == []
    for name, text, message in (
        ("seed", "1,2,3", "seed_per_clip has 3 entries, but clips are 2"),
        ("seed", "1.5", "seed_per_clip has '1.5' for clip 1, expected a whole number from 0 to 9"),
        ("cfg", ",x", "cfg_per_clip has 'x' for clip 2, expected a number from 0 to 9"),
        ("cfg", "nan", "cfg_per_clip has 'nan'"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_per_clip(name, text, 2, 0, 9)
    with pytest.raises(ValueError, match="expected a whole number of 0 or more"):
        parse_per_clip("seed", "-1", 2, 0, float("inf"))
