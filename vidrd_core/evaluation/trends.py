"""What a setting does to figures of videos: from its lowest value to its highest, with how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vidrd_core.evaluation.frechet import Array, Gaussian, Moments, frechet_distance

Statistic = Callable[[Array], float]
"""One number of many videos' values [n, ...]."""

Z = 1.96  # standard errors: 95 %
DRAWS = 200  # of the bootstrap


@dataclass(frozen=True)
class Trend:
    """What a setting does to a figure: `change` from its lowest value to its highest, with a 95 % interval over the
    videos, and Spearman's correlation of the points' figures with the setting."""

    change: float
    low: float
    high: float
    correlation: float

    @property
    def way(self) -> int:
        """1 it rises, -1 it falls, 0 neither for certain."""
        return 0 if self.low <= 0 <= self.high else int(np.sign(self.change))


def trend(values: Sequence[float], rows: Sequence[Mapping[int, float]]) -> Trend:
    """Of a setting's values, rising, and each point's figures by number of the video.

    Raises ValueError unless two videos or more have figures at both ends.
    """
    shared = sorted(set(rows[0]) & set(rows[-1]))
    apart = np.array([rows[-1][number] - rows[0][number] for number in shared])
    if len(apart) < 2:
        raise ValueError(f"there are {len(apart)} videos of both ends, expected two or more")
    change, error = float(apart.mean()), float(apart.std(ddof=1) / np.sqrt(len(apart)))
    means = [float(np.mean(list(row.values()))) for row in rows]
    return Trend(change, change - Z * error, change + Z * error, spearman(values, means))


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation, by SciPy; 0 where one of them does not vary."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic) if min(np.ptp(a), np.ptp(b)) > 0 else 0.0


@dataclass(frozen=True)
class Interval:
    """What a statistic of many videos is, and the middle 95 % of what other draws of as many give (bootstrap).

    Of a distance, draws lie a little above the value: videos that are drawn twice spread less.
    """

    value: float
    low: float
    high: float


def interval(values: Array, statistic: Statistic, seed: int = 0) -> Interval:
    """Of values [n, ...]."""
    low, high = np.percentile(_drawn(values, statistic, seed), [2.5, 97.5])
    return Interval(statistic(values), float(low), float(high))


def of_statistic(settings: Sequence[float], values: Sequence[Array], statistic: Statistic, seed: int = 0) -> Trend:
    """What a setting that rises does to a statistic of each point's values [n, ...], of the same videos in one order.

    The interval is of draws of videos, the same at both ends, about the change itself. Raises ValueError for fewer
    than two videos, or other numbers of them.
    """
    if len(values[0]) != len(values[-1]) or len(values[0]) < 2:
        raise ValueError(
            f"the ends have {len(values[0])} and {len(values[-1])} videos, expected the same two or more"
        )
    found = [statistic(each) for each in values]
    change = found[-1] - found[0]
    apart = np.subtract(*(_drawn(each, statistic, seed) for each in (values[-1], values[0])))
    low, high = np.percentile(apart, [2.5, 97.5]) - apart.mean() + change
    return Trend(change, float(low), float(high), spearman(settings, found))


def frechet_to(reference: Gaussian) -> Statistic:
    """The Frechet distance of features [n, D] to a reference."""

    def distance(features: Array) -> float:
        moments = Moments()
        moments.add(features)
        return frechet_distance(moments, reference)

    return distance


def _drawn(values: Array, statistic: Statistic, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return np.array([statistic(values[rng.integers(len(values), size=len(values))]) for _ in range(DRAWS)])
