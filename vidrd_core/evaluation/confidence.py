"""The effect of a setting on a figure of videos, from its lowest to its highest value, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vidrd_core.metrics.frechet import Array, Gaussian, Moments, frechet_distance

Statistic = Callable[[Array], float]
"""One number of the values [n, ...] of n videos."""

Z = 1.96  # standard errors in a 95 % interval
MAX_GROUPS = 200  # of the jackknife


@dataclass(frozen=True)
class Trend:
    """The effect of a setting on a figure.

    Args:
        change: Figure at the highest value minus figure at the lowest.
        low: Lower end of the 95 % interval of `change`, over the videos.
        high: Upper end.
        correlation: Spearman's correlation of the figure with the setting, over the points.
    """

    change: float
    low: float
    high: float
    correlation: float

    @property
    def direction(self) -> int:
        """1 for a rise, -1 for a fall, 0 if the interval includes no change."""
        return 0 if self.low <= 0 <= self.high else int(np.sign(self.change))

    @property
    def errors(self) -> float:
        """By how many of its standard errors the figure changes."""
        error = (self.high - self.low) / (2 * Z)
        return abs(self.change) / error if error else float("inf") if self.change else 0.0


def paired_trend(values: Sequence[float], rows: Sequence[Mapping[int, float]]) -> Trend:
    """Estimate the effect of a setting on a figure that every video has, by differences of the same video.

    Args:
        values: The setting's values, rising.
        rows: For each of them the figure by number of the video.

    Returns:
        The mean difference between the highest and the lowest value, with the correlation of the means of all values.

    Raises:
        ValueError: Fewer than two videos have the figure at both the lowest and the highest value.
    """
    shared = sorted(set(rows[0]) & set(rows[-1]))
    differences = np.array([rows[-1][number] - rows[0][number] for number in shared])
    if len(differences) < 2:
        raise ValueError(f"there are {len(differences)} videos of both ends, expected two or more")
    change, error = float(differences.mean()), float(differences.std(ddof=1) / np.sqrt(len(differences)))
    means = [float(np.mean(list(row.values()))) for row in rows]
    return Trend(change, change - Z * error, change + Z * error, spearman(values, means))


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation, by SciPy; 0 where one side does not vary."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic) if min(np.ptp(a), np.ptp(b)) > 0 else 0.0


@dataclass(frozen=True)
class Interval:
    """A statistic of many videos.

    Args:
        value: The statistic.
        low: Lower end of its 95 % interval over the videos.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def jackknife_interval(values: Array, statistic: Statistic) -> Interval:
    """Estimate the 95 % interval of a statistic by the jackknife.

    Args:
        values: [n, ...], one entry per video.
        statistic: The statistic.

    Returns:
        The statistic of all videos, with an interval of 1.96 jackknife standard errors to either side.

    Raises:
        ValueError: There are fewer than two videos.
    """
    value, error = statistic(values), _standard_error(_leave_out(values, statistic))
    return Interval(value, value - Z * error, value + Z * error)


def statistic_trend(settings: Sequence[float], values: Sequence[Array], statistic: Statistic) -> Trend:
    """Estimate the effect of a setting on a statistic of all videos together, such as a Frechet distance.

    Args:
        settings: The setting's values, rising.
        values: For each of them values [n, ...] of the same n videos in the same order.
        statistic: The statistic.

    Returns:
        The statistic at the highest value minus that at the lowest, with its interval by the jackknife.

    Raises:
        ValueError: There are fewer than two videos, or different numbers at the two ends.
    """
    if len(values[0]) != len(values[-1]) or len(values[0]) < 2:
        raise ValueError(
            f"the ends have {len(values[0])} and {len(values[-1])} videos, expected the same two or more"
        )
    found = [statistic(each) for each in values]
    change = found[-1] - found[0]
    error = _standard_error(_leave_out(values[-1], statistic) - _leave_out(values[0], statistic))
    return Trend(change, change - Z * error, change + Z * error, spearman(settings, found))


def frechet_to(reference: Gaussian) -> Statistic:
    """The statistic "Frechet distance of features [n, D] to a reference"."""

    def distance(features: Array) -> float:
        moments = Moments()
        moments.add(features)
        return frechet_distance(moments, reference)

    return distance


def _leave_out(values: Array, statistic: Statistic) -> Array:
    """The statistic without each value, or without each of `MAX_GROUPS` groups of them: [g]."""
    if len(values) < 2:
        raise ValueError(f"there are {len(values)} videos, expected two or more")
    groups = np.array_split(np.arange(len(values)), min(len(values), MAX_GROUPS))
    return np.array([statistic(np.delete(values, group, 0)) for group in groups])


def _standard_error(left_out: Array) -> float:
    """The jackknife's standard error (Tukey, 1958).

    A bootstrap would bias Frechet distances upwards: repeated videos spread less.
    """
    return float(np.sqrt((len(left_out) - 1) * left_out.var()))
