"""Shares of sources."""

import numpy as np
import pytest

from vidrd_core.training.datasets import shares


def test_a_sources_share_is_by_its_weight_whatever_its_size():
    mixture = shares({"a": 10, "b": 1000, "c": 5}, {"a": 3, "c": 0})
    assert {s.name: s.share for s in mixture} == {"a": 0.75, "b": 0.25, "c": 0}
    assert [s.visits(400) for s in mixture] == pytest.approx([30, 0.1, 0])


@pytest.mark.parametrize(
    ("clips", "weights", "message"),
    [
        ({"a": 1}, {"b": 1}, "there is no source b; the sources are a"),
        ({"a": 1}, {"a": -1}, "weights are {'a': -1.0}, expected numbers of 0 or more"),
        ({"a": 1}, {"a": np.nan}, "expected numbers of 0 or more"),
        ({"a": 0}, {}, "a has no clips to draw from: give it weight 0, or clips"),
        ({"a": 1}, {"a": 0}, "there is nothing to draw from: all weights are 0, of a"),
        ({}, {}, "no source is left that has clips"),
    ],
)
def test_invalid_weights_are_refused(clips, weights, message):
    with pytest.raises(ValueError, match=message):
        shares(clips, weights)
