"""Consistency of frames and their agreement with a text, by features of a network.

A still video has perfect consistency: always read it together with a metric of motion (`vidrd_core.metrics.flow`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vidrd_core.metrics.seams import Array, Features, Video, check_video, frame_changes, thumbnail_features

TextFeatures = Callable[[Sequence[str]], Array]
"""Texts to features [n, D] in the space of the frames' features."""


def frame_consistency(video: Video, features: Features = thumbnail_features) -> float:
    """Mean cosine similarity of the features of neighboring frames.

    Args:
        video: uint8 [F, H, W, 3].
        features: Features of frames; CLIP's in text-to-video papers.

    Returns:
        -1 to 1; NaN for a single frame.

    Source:
        Esser et al., "Structure and Content-Guided Video Synthesis with Diffusion Models" (Gen-1), 2023.
    """
    check_video(video, ())
    found = unit_rows(features(video))
    return float(np.einsum("fd,fd->f", found[:-1], found[1:]).mean()) if len(found) > 1 else float("nan")


def subject_consistency(video: Video, features: Features = thumbnail_features) -> float:
    """Mean over frames of the mean of two cosine similarities: to the first frame and to the previous frame.

    With DINO's features this is VBench's subject consistency, with CLIP's its background consistency. Negative
    similarities count as 0.

    Args:
        video: uint8 [F, H, W, 3].
        features: Features of frames.

    Returns:
        0 to 1; NaN for a single frame.

    Source:
        Huang et al., "VBench", CVPR 2024.
    """
    check_video(video, ())
    found = unit_rows(features(video))
    if len(found) < 2:
        return float("nan")
    to_first = (found[1:] @ found[0]).clip(0)
    to_previous = np.einsum("fd,fd->f", found[:-1], found[1:]).clip(0)
    return float((to_first + to_previous).mean() / 2)


def clipsim(video: Video, text: str, features: Features, text_features: TextFeatures) -> float:
    """CLIPSIM: mean cosine similarity of a text's and the frames' CLIP features, without CLIP's logit scale.

    Args:
        video: uint8 [F, H, W, 3].
        text: The prompt.
        features: CLIP's image features, [F, D].
        text_features: CLIP's text features, [n, D].

    Returns:
        -1 to 1.

    Raises:
        ValueError: Image and text features differ in width.

    Source:
        Wu et al., "GODIVA: Generating Open-DomaIn Videos from nAtural Descriptions", 2021.
    """
    check_video(video, ())
    (prompt,) = unit_rows(text_features([text]))
    frames = unit_rows(features(video))
    if frames.shape[1] != len(prompt):
        raise ValueError(
            f"frames have {frames.shape[1]} features, the text has {len(prompt)}: expected as many, from one network"
        )
    return float((frames @ prompt).mean())


def temporal_flickering(video: Video) -> float:
    """1 minus the mean absolute change from frame to frame: VBench's temporal flickering, for static scenes.

    Motion counts as flicker, so compare only videos of similar scenes.

    Args:
        video: uint8 [F, H, W, 3].

    Returns:
        0 to 1; 1 without flicker, and for a single frame.

    Source:
        Huang et al., "VBench", CVPR 2024.
    """
    changes = frame_changes(video)
    return float(1 - changes.mean()) if len(changes) else 1.0


def unit_rows(features: Array) -> Array:
    """Features [n, D] with rows of length 1, in float64; rows of zeros stay. Raises ValueError for other shapes."""
    values = np.asarray(features, np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"features are {list(values.shape)}, expected [n, D] of finite numbers")
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(lengths > 0, lengths, 1)
