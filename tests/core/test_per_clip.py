"""Seed, cfg and alpha of single clips: each clip is what it would be with these for all."""

from dataclasses import replace

import pytest
import torch

from vidrd_core.per_clip import numbers_of
from vidrd_core.reuse import ReuseSettings
from vidrd_core.settings import SampleSettings

TEXT, FAST = "a red circle", {"steps": 2}


def test_a_clip_is_made_with_its_own_and_the_next_with_those_of_all(model):
    reuse = ReuseSettings(2, order="forward")
    per_clip = {"seed": [3, None, 7], "cfg": [None, 4.0], "alpha": [None, None, 0.5]}
    plain = model.complete(SampleSettings(seed=1, **FAST))
    clips = [clip.state for clip in model.stream(TEXT, 4, reuse, per_clip=per_clip, **vars(plain))]
    state = model.generate(TEXT, reuse, **vars(replace(plain, seed=3))).state
    assert torch.equal(clips[0].latents, state.latents)
    following = [
        (replace(plain, cfg=4.0), reuse),
        (replace(plain, seed=7), replace(reuse, alpha=0.5)),
        (plain, reuse),
    ]
    for made, (sample, rule) in zip(clips[1:], following, strict=True):
        state = model.extend(state, TEXT, rule, **vars(sample)).state
        assert torch.equal(made.latents, state.latents)
    resumed = model.stream(TEXT, 4, reuse, state=clips[1], per_clip=per_clip, **vars(plain))
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
def test_what_cannot_be_is_told_before_anything_is_made(model, per_clip, message):
    with pytest.raises(ValueError, match=message):
        model.stream(TEXT, 2, per_clip=per_clip, **FAST)


def test_texts():
    assert numbers_of("seed", " 1, , 3", 4, 0, 9) == [1, None, 3]
    assert numbers_of("cfg", "\n2.5", 2, 0, 9) == [None, 2.5]
    assert numbers_of("cfg", " ", 2, 0, 9) == []
    for name, text, message in (
        ("seed", "1,2,3", "seed_per_clip has 3 entries, but clips are 2"),
        ("seed", "1.5", "seed_per_clip has '1.5' for clip 1, expected a whole number from 0 to 9"),
        ("cfg", ",x", "cfg_per_clip has 'x' for clip 2, expected a number from 0 to 9"),
        ("cfg", "nan", "cfg_per_clip has 'nan'"),
    ):
        with pytest.raises(ValueError, match=message):
            numbers_of(name, text, 2, 0, 9)
    with pytest.raises(ValueError, match="expected a whole number of 0 or more"):
        numbers_of("seed", "-1", 2, 0, float("inf"))
