"""The Frechet distance of two sets of features, as Gaussians (Dowson and Landau, 1982; FID: Heusel et al., 2017; FVD:
Unterthiner et al., 2018). Features are taken in some at a time and never kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Gaussian(Protocol):
    """What a Frechet distance is of: `Moments`, or statistics that were kept of them."""

    @property
    def mean(self) -> Array: ...

    @property
    def covariance(self) -> Array: ...


@dataclass
class Moments:
    """Mean and covariance of features [n, D] that come some at a time, in float64."""

    count: int = 0
    origin: Array | None = None  # near the mean, so that no digits are lost
    sums: Array | None = None
    products: Array | None = None

    def add(self, features: NDArray[np.floating]) -> None:
        """Take in features [n, D]. Raises ValueError for other shapes, or for what is not finite."""
        values = np.asarray(features, np.float64)
        wanted = "[n, D]" if self.origin is None else f"[n, {len(self.origin)}]"
        if values.ndim != 2 or (self.origin is not None and values.shape[1] != len(self.origin)):
            raise ValueError(f"features are {list(values.shape)}, expected {wanted}")
        if not np.isfinite(values).all():
            raise ValueError(
                "features are not finite numbers: look at the network, or at the videos that it was given"
            )
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
        """[D]. Raises ValueError without features."""
        if self.origin is None or self.sums is None:
            raise ValueError("there are no features: give videos")
        return np.asarray(self.origin + self.sums / self.count)

    @property
    def covariance(self) -> Array:
        """[D, D], unbiased. Raises ValueError unless there are two or more."""
        if self.count < 2 or self.sums is None or self.products is None:
            raise ValueError(f"there are features of {self.count} videos, expected two or more")
        return np.asarray((self.products - np.outer(self.sums, self.sums) / self.count) / (self.count - 1))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), the trace of the root by eigenvalues.

    C_a^(1/2) C_b C_a^(1/2) has those of C_a C_b and is symmetric, so that they come out real; what rounding made
    negative counts as 0. Raises ValueError for features of other widths, or of fewer than two videos.
    """
    if len(a.mean) != len(b.mean):
        raise ValueError(f"features have {len(a.mean)} and {len(b.mean)} numbers, expected as many: use one network")
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ b.covariance @ root).clip(0)).sum()
    apart = np.square(a.mean - b.mean).sum()
    return float(max(0.0, apart + np.trace(a.covariance) + np.trace(b.covariance) - 2 * shared))
