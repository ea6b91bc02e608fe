"""Metrics of videos: seams, motion, appearance, consistency, FVD, Inception Score, and the registry of them all.

Metrics are functions of a video uint8 [F, H, W, 3], from single ones such as `seam_ratio` to `measure_video`, which
computes all that can be computed. `METRICS` is the registry: the name, meaning, unit and direction of each. What
needs torch is imported on first use, so that `import vidrd_core.metrics` is fast and needs no optional package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vidrd_core.metrics.appearance import brightness, contrast, drift, saturation, sharpness
from vidrd_core.metrics.consistency import clipsim, frame_consistency, subject_consistency, temporal_flickering
from vidrd_core.metrics.flow import farneback, flow_jump, is_dynamic, speeds
from vidrd_core.metrics.frechet import Moments, frechet_distance
from vidrd_core.metrics.identity import Identity, identity_distances, subject_identity
from vidrd_core.metrics.inception import inception_score
from vidrd_core.metrics.registry import METRICS, Metric, MetricInputs, measure_video
from vidrd_core.metrics.scene_cuts import find_scene_cuts
from vidrd_core.metrics.seams import (
    ClipBoundaries,
    frame_changes,
    loopiness,
    mirror_score,
    seam_ratio,
    similarity,
    thumbnail_features,
    worst_step,
)

if TYPE_CHECKING:
    from vidrd_core.metrics.clip_features import CLIPFeatures
    from vidrd_core.metrics.feature_extractors import FeatureExtractor, load_classifier, load_feature_extractor
    from vidrd_core.metrics.fvd import (
        FVD,
        FeatureSource,
        FeatureStatistics,
        feature_statistics,
        frechet_video_distance,
    )
    from vidrd_core.metrics.peak_memory import peak_memory_mib
    from vidrd_core.metrics.random_features import RandomProjectionFeatures, random_appearance_features

_NEED_TORCH = {
    "CLIPFeatures": "clip_features",
    "FVD": "fvd",
    "FeatureExtractor": "feature_extractors",
    "FeatureSource": "fvd",
    "FeatureStatistics": "fvd",
    "RandomProjectionFeatures": "random_features",
    "feature_statistics": "fvd",
    "frechet_video_distance": "fvd",
    "load_classifier": "feature_extractors",
    "load_feature_extractor": "feature_extractors",
    "peak_memory_mib": "peak_memory",
    "random_appearance_features": "random_features",
}

__all__ = [
    "FVD",
    "METRICS",
    "CLIPFeatures",
    "ClipBoundaries",
    "FeatureExtractor",
    "FeatureSource",
    "FeatureStatistics",
    "Identity",
    "Metric",
    "MetricInputs",
    "Moments",
    "RandomProjectionFeatures",
    "brightness",
    "clipsim",
    "contrast",
    "drift",
    "farneback",
    "feature_statistics",
    "find_scene_cuts",
    "flow_jump",
    "frame_changes",
    "frame_consistency",
    "frechet_distance",
    "frechet_video_distance",
    "identity_distances",
    "inception_score",
    "is_dynamic",
    "load_classifier",
    "load_feature_extractor",
    "loopiness",
    "measure_video",
    "mirror_score",
    "peak_memory_mib",
    "random_appearance_features",
    "saturation",
    "seam_ratio",
    "sharpness",
    "similarity",
    "speeds",
    "subject_consistency",
    "subject_identity",
    "temporal_flickering",
    "thumbnail_features",
    "worst_step",
]


def __getattr__(name: str) -> Any:
    """Import what needs torch on first use. Raises AttributeError for unknown names."""
    if name not in _NEED_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_NEED_TORCH[name]}"), name)
