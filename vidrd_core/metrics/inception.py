"""The Inception Score of images, and of videos as it is measured on UCF-101."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidrd_core.metrics.seams import Array

SPLITS = 10
TOLERANCE = 1e-3  # by how much the probabilities of a video may miss a sum of 1


def inception_score(probabilities: NDArray[np.floating], splits: int = SPLITS, seed: int = 0) -> tuple[float, float]:
    """Compute the Inception Score `exp(E KL(p(y|x) || p(y)))`, 1 to the number of classes.

    Videos are assigned to the splits at random, so they may be sorted by class.

    Args:
        probabilities: A classifier's class probabilities [n, classes]; on UCF-101 those of a C3D trained there, for
            10,000 videos in 10 splits.
        splits: Number of splits, 1 to n.
        seed: Seed of the assignment.

    Returns:
        Mean and standard deviation over the splits.

    Raises:
        ValueError: These are no probabilities, or there are fewer videos than splits.

    Source:
        Salimans et al., "Improved Techniques for Training GANs", 2016; for videos: Saito et al., "Temporal Generative
        Adversarial Nets" (TGAN), 2017.
    """
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2 or not np.isfinite(p).all() or (p < 0).any() or (abs(p.sum(1) - 1) > TOLERANCE).any():
        raise ValueError(
            f"probabilities are {list(p.shape)}, expected [n, classes] of 0 to 1 that add up to 1 for each video: "
            f"take a softmax of the classifier's output"
        )
    if not 1 <= splits <= len(p):
        raise ValueError(f"splits is {splits}, expected 1 to the number of videos, {len(p)}")
    p = p[np.random.default_rng(seed).permutation(len(p))] / p.sum(1, keepdims=True)
    scores = [np.exp(_mean_divergence(part)) for part in np.array_split(p, splits)]
    return float(np.mean(scores)), float(np.std(scores))


def _mean_divergence(p: Array) -> float:
    """Mean KL divergence of the rows from their mean; 0 log 0 is 0."""
    mean = p.mean(0)
    ratio = np.divide(p, mean, out=np.ones_like(p), where=p > 0)
    return float((p * np.log(ratio)).sum(1).mean())
