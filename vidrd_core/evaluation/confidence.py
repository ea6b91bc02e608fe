"""What a setting does to figures of videos: from its lowest value to its highest, with how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vidrd_core.metrics.frechet import Array, Gaussian, Moments, frechet_distance

Statistic = Callable[[Array], float]
"""One number of many videos' values [n, ...]."""

Z = 1.96  # standard errors: 95 %
GROUPS = 200  # of the jackknife, at most


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
    """What a statistic of many videos is, with a 95 % interval over them."""

    value: float
    low: float
    high: float


def interval(values: Array, statistic: Statistic) -> Interval:
    """Of values [n, ...]. Raises ValueError for fewer than two."""
    value, error = statistic(values), _error(_without(values, statistic))
    return Interval(value, value - Z * error, value + Z * error)


def of_statistic(settings: Sequence[float], values: Sequence[Array], statistic: Statistic) -> Trend:
    """What a setting that rises does to a statistic of each point's values [n, ...], of the same videos in one order.

    Raises ValueError for fewer than two videos, or other numbers of them.
    """
    if len(values[0]) != len(values[-1]) or len(values[0]) < 2:
        raise ValueError(
            f"the ends have {len(values[0])} and {len(values[-1])} videos, expected the same two or more"
        )
    found = [statistic(each) for each in values]
    change = found[-1] - found[0]
    error = _error(_without(values[-1], statistic) - _without(values[0], statistic))
    return Trend(change, change - Z * error, change + Z * error, spearman(settings, found))


def frechet_to(reference: Gaussian) -> Statistic:
    """The Frechet distance of features [n, D] to a reference."""

    def distance(features: Array) -> float:
        moments = Moments()
        moments.add(features)
        return frechet_distance(moments, reference)

    return distance


def _without(values: Array, statistic: Statistic) -> Array:
    """The statistic without each of the values, or of as many groups as there may be: [g]."""
    if len(values) < 2:
        raise ValueError(f"there are {len(values)} videos, expected two or more")
    groups = np.array_split(np.arange(len(values)), min(len(values), GROUPS))
    return np.array([statistic(np.delete(values, group, 0)) for group in groups])


def _error(without: Array) -> float:
    """The standard error by the jackknife (Tukey, 1958). Draws with repetition (bootstrap) would make every Frechet
    distance larger, for videos that are drawn twice spread less."""
    return float(np.sqrt((len(without) - 1) * without.var()))
