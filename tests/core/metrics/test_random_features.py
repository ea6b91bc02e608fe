"""Features of random projections distinguish clips by what they show and by how it moves."""

import numpy as np
import pytest
import torch

from vidrd_core.metrics.feature_extractors import load_feature_extractor
from vidrd_core.metrics.fvd import feature_statistics, frechet_video_distance
from vidrd_core.metrics.random_features import RandomProjectionFeatures
from vidrd_core.procedural import evaluation_scenes, render

NAME = "python:vidrd_core.metrics.random_features:RandomProjectionFeatures"


def clips(count, seed, size=64):
    return np.stack([render(scene, size=size) for scene in evaluation_scenes(count, seed)])


def test_distances_are_small_for_alike_and_large_for_other_clips():
    extractor = load_feature_extractor(NAME)

    def distance(videos):
        found = [feature_statistics([each], extractor, extractor.name, None) for each in (videos, clips(150, 1))]
        return frechet_video_distance(*found).value

    drawn = clips(150, 2)
    other = {
        "still": drawn[:, :1].repeat(8, 1),
        "frames in any order": drawn[:, [3, 0, 6, 2, 7, 1, 5, 4]],
        "brighter": np.minimum(drawn.astype(int) + 60, 255).astype(np.uint8),
    }
    alike = distance(drawn)
    for name, videos in other.items():
        assert distance(videos) > 1.5 * alike, name


def test_size_hardly_counts():
    found = [load_feature_extractor(NAME)(clips(4, 3, size)) for size in (64, 128)]
    np.testing.assert_allclose(*found, atol=0.2)
    assert found[0].shape == (4, 64)


def test_single_frames_are_refused():
    with pytest.raises(ValueError, match="videos have 1 frame, expected 2 or more"):
        RandomProjectionFeatures()(torch.zeros(1, 3, 1, 8, 8))
