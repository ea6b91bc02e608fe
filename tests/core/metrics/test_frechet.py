"""Frechet distances where the answer is known."""

import numpy as np
import pytest

from vidrd_core.metrics.frechet import Moments, frechet_distance


def moments(features, size=7):
    found = Moments()
    for start in range(0, len(features), size):
        found.add(features[start : start + size])
    return found


def with_moments(mean, covariance, count=64):
    """Features of exactly this mean and covariance."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((count, len(mean)))
    noise -= noise.mean(0)
    white = noise @ np.linalg.inv(np.linalg.cholesky(np.cov(noise.T))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_moments_of_batches_are_those_of_all_features():
    features = np.random.default_rng(1).standard_normal((50, 5)) + 1e6  # far from 0, where digits are lost
    found = moments(features)
    np.testing.assert_allclose(found.mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(features.T), atol=1e-8)


def test_the_distance_of_gaussians():
    # Covariances that commute: |m|^2 and the squared differences of the axes' deviations add up.
    a = with_moments(np.zeros(3), np.diag([1.0, 4.0, 9.0]))
    b = with_moments(np.array([1.0, 2.0, 2.0]), np.diag([4.0, 1.0, 9.0]))
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(9 + 1 + 1, rel=1e-9)
    assert frechet_distance(moments(b), moments(a)) == pytest.approx(11, rel=1e-9)
    assert frechet_distance(moments(a), moments(a)) == pytest.approx(0, abs=1e-9)


def test_covariances_that_do_not_commute():
    c, d = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 3.0]])
    product = c @ d  # of 2 x 2 matrices tr(sqrt(P))^2 = tr(P) + 2 sqrt(det P)
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = np.trace(c) + np.trace(d) - 2 * root
    a, b = with_moments(np.zeros(2), c), with_moments(np.zeros(2), d)
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(expected, rel=1e-9)


def test_fewer_features_than_dimensions():
    few = np.random.default_rng(2).standard_normal((4, 9))
    assert frechet_distance(moments(few), moments(few)) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(moments(few), moments(few + 1)) == pytest.approx(9, rel=1e-6)


def test_invalid_features_are_refused():
    found = moments(np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"features are \[3\], expected \[n, D\]"):
        Moments().add(np.zeros(3))
    with pytest.raises(ValueError, match=r"features are \[2, 5\], expected \[n, 4\]"):
        found.add(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="not finite"):
        found.add(np.full((1, 4), np.nan))
    with pytest.raises(ValueError, match="of 1 videos, expected two or more"):
        frechet_distance(moments(np.zeros((1, 4))), found)
    with pytest.raises(ValueError, match="there are no features"):
        frechet_distance(Moments(), found)
    with pytest.raises(ValueError, match="have 2 and 4 numbers"):
        frechet_distance(moments(np.eye(2)), found)
