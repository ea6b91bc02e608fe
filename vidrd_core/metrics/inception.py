"""The Inception Score (Salimans et al., 2016), and of videos as on UCF-101 (Saito et al., 2017; TGAN)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidrd_core.metrics.seams import Array

SPLITS = 10
SUM = 1e-3  # by so much the probabilities of a video may miss 1


def inception_score(probabilities: NDArray[np.floating], splits: int = SPLITS, seed: int = 0) -> tuple[float, float]:
    """exp(E KL(p(y|x) || p(y))): mean and standard deviation over the splits, 1 to the number of classes.

    `probabilities` [n, classes] are a classifier's, of n videos: on UCF-101 those of C3D trained there, 10,000 videos
    in 10 splits. The videos are dealt out to the splits at random by `seed`, so that they may come by classes. Raises
    ValueError for what is no probabilities, or fewer videos than splits.
    """
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2 or not np.isfinite(p).all() or (p < 0).any() or (abs(p.sum(1) - 1) > SUM).any():
        raise ValueError(
            f"probabilities are {list(p.shape)}, expected [n, classes] of 0 to 1 that add up to 1 for each video: "
            f"take a softmax of what the classifier gives"
        )
    if not 1 <= splits <= len(p):
        raise ValueError(f"splits is {splits}, expected 1 to the number of videos, {len(p)}")
    p = p[np.random.default_rng(seed).permutation(len(p))] / p.sum(1, keepdims=True)
    scores = [np.exp(_divergence(part)) for part in np.array_split(p, splits)]
    return float(np.mean(scores)), float(np.std(scores))


def _divergence(p: Array) -> float:
    """Mean KL divergence of rows from their mean; 0 log 0 is 0."""
    mean = p.mean(0)
    ratio = np.divide(p, mean, out=np.ones_like(p), where=p > 0)
    return float((p * np.log(ratio)).sum(1).mean())
