"""The benchmark of kept features; timings are not checked."""

import pytest
import torch
from feature_cache import CHOICES, calls, chains, name_of


@pytest.mark.slow
def test_every_choice_is_measured_against_its_order_with_nothing_kept():
    found = chains(prompts=1, clips=2, steps=2, share=0.25)
    assert list(found) == [name_of(choice) for choice in CHOICES]
    for (_, *intervals), own in zip(CHOICES, found.values(), strict=True):
        assert own["seconds"] > 0
        assert (own["psnr"] is None) == (intervals == [1, 1])
        assert 0 <= own["faithful_motion"] <= 1


@pytest.mark.slow
def test_single_calls_are_compared_with_a_call_of_all():
    found = calls(32, torch.float32, frames=4, rounds=1)
    assert found["all"] == [1.0, 1.0, 1.0]
    assert len(found) == 4
    assert all(ratio > 0 for own in found.values() for ratio in own)
