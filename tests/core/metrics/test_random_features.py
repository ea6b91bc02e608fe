"""Features of random projections distinguish clips by what they show and by how it moves."""

import numpy as np
import pytest
import torch

from vidrd_core.metrics.feature_extractors import load_feature_extractor
from vidrd_core.metrics.fvd import feature_statistics, frechet_video_distance
from vidrd_core.metrics.random_features import RandomProjectionFeatures, random_appearance_features
from vidrd_core.procedural import Scene, Sprite, evaluation_scenes, render

from .test_seams import moving, still

NAME = "python:vidrd_core.metrics.random_features:RandomProjectionFeatures"


def clips(count, seed, size=64):
    return np.stack([render(scene, size=size) for scene in evaluation_scenes(count, seed)])


def test_distances_are_small_for_similar_and_large_for_different_clips():
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


def test_resolution_hardly_counts():
    found = [load_feature_extractor(NAME)(clips(4, 3, size)) for size in (64, 128)]
    np.testing.assert_allclose(*found, atol=0.2)
    assert found[0].shape == (4, 64)


def test_single_frames_are_refused():
    with pytest.raises(ValueError, match="videos have 1 frame, expected 2 or more"):
        RandomProjectionFeatures()(torch.zeros(1, 3, 1, 8, 8))


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_the_appearance_of_a_subject_does_not_depend_on_its_position():
    first, *_, last = random_appearance_features(moving(16))
    assert cosine(first, last) > 0.99
    (green,) = random_appearance_features(moving(1, color="green"))
    assert cosine(first, green) < 0.5
    (star,) = random_appearance_features(
        render(Scene("navy", (Sprite("star", "red", "small", "stay", 0.5, 0.5),)), 1)
    )
    assert cosine(first, star) < 0.95
    (large,) = random_appearance_features(moving(1).repeat(4, axis=1).repeat(4, axis=2))
    assert cosine(first, large) > 0.99


def test_a_plain_background_has_no_features():
    assert (random_appearance_features(np.full((2, 32, 48, 3), 90, np.uint8)) == 0).all()
    assert random_appearance_features(still(3)).shape == (3, 256)
