"""Identity: how far the appearance of a subject drifts from clip to clip of a long video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vidrd_core.metrics.consistency import unit_rows
from vidrd_core.metrics.seams import Array, Features, Video, check_video

PARTS = 8  # equal parts that a video without seams is divided into


@dataclass(frozen=True)
class Identity:
    """How far the appearance of a subject drifts; 0 for a subject that keeps it.

    Args:
        mean: Mean distance of the later clips to the first one.
        drift: Distance of the last clip to the first one.
    """

    mean: float
    drift: float


def subject_identity(video: Video, seams: Sequence[int], features: Features | None = None) -> Identity:
    """Compute the mean and the last of the distances that `identity_distances` returns.

    Args:
        video: uint8 [F, H, W, 3].
        seams: Indices of the first frame of each later clip; see `identity_distances` for a video without seams.
        features: Features of frames, [F, D]: a CLIP's, or by default random ones.

    Returns:
        Distances from 0 to 2; NaN for a single frame.

    Raises:
        ValueError: This is not a video, or a seam is outside it.
    """
    distances = identity_distances(video, seams, features)
    if not len(distances):
        return Identity(float("nan"), float("nan"))
    return Identity(float(distances.mean()), float(distances[-1]))


def identity_distances(video: Video, seams: Sequence[int], features: Features | None = None) -> Array:
    """The cosine distance of each later clip to the first clip, by the mean features of their frames.

    Frame features f_j are scaled to length 1, and a clip k has their mean m_k, scaled to length 1. Its distance is
    1 - m_k . m_1. Motion within a clip does not count as far as the features are independent of position. A clip
    without any features, because its frames are of one color, has distance 0 to another such clip, else 1/2.

    VBench's subject consistency (`consistency.subject_consistency`) compares single frames with the first and the
    previous one, and so mixes motion with identity; this metric compares the means of clips and measures slow drift.

    Args:
        video: uint8 [F, H, W, 3].
        seams: Indices of the first frame of each later clip; without seams the video is divided into eighths, or into
            single frames if it has fewer than eight.
        features: Features of frames, [F, D]: a CLIP's, or by default `random_features.random_appearance_features`.

    Returns:
        [K - 1] for K clips, 0 to 2: 0 for the same appearance, about 1 for unrelated ones.

    Raises:
        ValueError: This is not a video, or a seam is outside it.
    """
    check_video(video, seams)
    if features is None:
        from vidrd_core.metrics.random_features import random_appearance_features  # needs torch

        features = random_appearance_features
    parts = min(PARTS, len(video))
    edges = [0, *seams, len(video)] if seams else [len(video) * part // parts for part in range(parts + 1)]
    found = unit_rows(features(video))
    first, *others = unit_rows(np.stack([found[start:end].mean(0) for start, end in pairwise(edges)]))
    return np.array([np.square(other - first).sum() / 2 for other in others])  # as 1 - m_k . m_1, but 0 of 0 and 0
