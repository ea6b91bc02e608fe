"""The Frechet distance of two sets of features, each taken as a Gaussian: the basis of FID and FVD.

Features are accumulated in batches and never kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Gaussian(Protocol):
    """What a Frechet distance is computed from: `Moments`, or saved statistics."""

    @property
    def mean(self) -> Array:
        """[D]."""

    @property
    def covariance(self) -> Array:
        """[D, D]."""


@dataclass
class Moments:
    """Mean and covariance of features [n, D] that arrive in batches, accumulated in float64.

    Args:
        count: Number of features so far.
        origin: Mean of the first batch [D], subtracted from all features to keep precision.
        sums: Sum of the features minus `origin`, [D].
        products: Sum of their outer products, [D, D].
    """

    count: int = 0
    origin: Array | None = None
    sums: Array | None = None
    products: Array | None = None

    def add(self, features: NDArray[np.floating]) -> None:
        """Accumulate features [n, D]. Raises ValueError for another shape, or values that are not finite."""
        values = np.asarray(features, np.float64)
        wanted = "[n, D]" if self.origin is None else f"[n, {len(self.origin)}]"
        if values.ndim != 2 or (self.origin is not None and values.shape[1] != len(self.origin)):
            raise ValueError(f"features are {list(values.shape)}, expected {wanted}")
        if not np.isfinite(values).all():
            raise ValueError("features are not finite numbers: check the network and the videos it was given")
        if not len(values):
            return
        if self.origin is None or self.sums is None or self.products is None:
            dim = values.shape[1]
            self.origin, self.sums, self.products = values.mean(0), np.zeros(dim), np.zeros((dim, dim))
        values = values - self.origin
        self.count += len(values)
        self.sums += values.sum(0)
        self.products += values.T @ values

    @property
    def mean(self) -> Array:
        """The mean [D]. Raises ValueError without features."""
        if self.origin is None or self.sums is None:
            raise ValueError("there are no features: give videos")
        return np.asarray(self.origin + self.sums / self.count)

    @property
    def covariance(self) -> Array:
        """The unbiased covariance [D, D]. Raises ValueError for fewer than two features."""
        if self.count < 2 or self.sums is None or self.products is None:
            raise ValueError(f"there are features of {self.count} videos, expected two or more")
        return np.asarray((self.products - np.outer(self.sums, self.sums) / self.count) / (self.count - 1))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Compute the Frechet distance `|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))` of two Gaussians.

    The trace of the root comes from the eigenvalues of C_a^(1/2) C_b C_a^(1/2), which are those of C_a C_b but of a
    symmetric matrix and so real; those that rounding made negative count as 0.

    Args:
        a: Mean [D] and covariance [D, D].
        b: Mean [D] and covariance [D, D] of the other Gaussian.

    Returns:
        0 or more, in the squared unit of the features.

    Raises:
        ValueError: The features differ in width, or there are fewer than two.

    Source:
        Dowson and Landau, 1982; FID: Heusel et al., 2017; FVD: Unterthiner et al., 2018.
    """
    if len(a.mean) != len(b.mean):
        raise ValueError(f"features have {len(a.mean)} and {len(b.mean)} numbers, expected as many: use one network")
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ b.covariance @ root).clip(0)).sum()
    apart = np.square(a.mean - b.mean).sum()
    return float(max(0.0, apart + np.trace(a.covariance) + np.trace(b.covariance) - 2 * shared))
