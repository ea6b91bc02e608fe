"""How alike the frames of a video are, and how well they show what was asked for, by the features of a network.

Stillness wins consistency: never read it without how much moves (`vidrd_core.metrics.flow`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vidrd_core.metrics.seams import Array, Features, Video, check, small_frames, steps

TextFeatures = Callable[[Sequence[str]], Array]
"""Texts to their features, [n, D], in the space of the frames' ones."""


def frame_consistency(video: Video, features: Features = small_frames) -> float:
    """Mean cosine of the features of neighbouring frames, -1 to 1: CLIP's in text-to-video papers (GEN-1, 2023).

    nan for a video of one frame.
    """
    check(video, ())
    found = _unit(features(video))
    return float(np.einsum("fd,fd->f", found[:-1], found[1:]).mean()) if len(found) > 1 else float("nan")


def subject_consistency(video: Video, features: Features = small_frames) -> float:
    """Mean over frames of the mean of two cosines, to the first frame and to the one before, those below 0 as 0.

    VBench's subject consistency with DINO's features, its background consistency with CLIP's (Huang et al., 2024).
    nan for a video of one frame.
    """
    check(video, ())
    found = _unit(features(video))
    if len(found) < 2:
        return float("nan")
    to_first = (found[1:] @ found[0]).clip(0)
    to_last = np.einsum("fd,fd->f", found[:-1], found[1:]).clip(0)
    return float((to_first + to_last).mean() / 2)


def clipsim(video: Video, text: str, features: Features, text_features: TextFeatures) -> float:
    """CLIPSIM: mean cosine of a text's and the frames' CLIP features, without CLIP's scale (Wu et al., 2021)."""
    check(video, ())
    (said,) = _unit(text_features([text]))
    shown = _unit(features(video))
    if shown.shape[1] != len(said):
        raise ValueError(
            f"frames have {shown.shape[1]} features, the text has {len(said)}: expected as many, of one network"
        )
    return float((shown @ said).mean())


def temporal_flickering(video: Video) -> float:
    """1 less the mean absolute change from frame to frame: VBench's, of scenes that stand still (Huang et al., 2024).

    1 for a video without flicker, or of one frame. Motion counts as flicker, so compare like scenes alone.
    """
    changes = steps(video)
    return float(1 - changes.mean()) if len(changes) else 1.0


def _unit(features: Array) -> Array:
    """Rows of length 1; those of zeros stay."""
    values = np.asarray(features, np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"features are {list(values.shape)}, expected [n, D] of finite numbers")
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(lengths > 0, lengths, 1)
