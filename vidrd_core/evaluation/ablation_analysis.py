"""The analysis of an ablation's records: figures of each point, the effect of each setting, and the paper's claim.

The paper claims of M, alpha and beta alike: the more is reused, the better FVD and Inception Score, and the more the
video loops. Here the claim is tested against the metrics of quality that were measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from vidrd_core.evaluation.ablation import Sweep, point_name
from vidrd_core.evaluation.confidence import Statistic, Trend, jackknife_interval, paired_trend, statistic_trend
from vidrd_core.evaluation.runner import Record, decode_features, flatten
from vidrd_core.metrics.frechet import Array
from vidrd_core.metrics.registry import METRICS

QUALITY = ("fvd", "inception_score", "clipsim", "faithful_look", "faithful_motion")
"""The metrics that the paper's claim is tested against."""
CONTINUITY = ("identity_kept", "direction_kept", "position_error", "position_jump")
SMOOTHNESS = ("seam_error", "worst_step", "flow_jump", "frame_consistency", "subject_consistency")
LOOPING = ("loopiness", "mirror_score")
MOTION = ("dynamic", "speed", "change")
CLEAR = 5  # standard errors by which a figure moves for certain, among so many figures
FIGURES = (*QUALITY, *CONTINUITY, *SMOOTHNESS, *LOOPING, *MOTION)


@dataclass
class PointResults:
    """The results of a point's videos.

    Args:
        figures: Figures by name, by number of the video.
        features: Features [D] by number of the video, by kind.
    """

    figures: dict[int, dict[str, float]] = field(default_factory=dict)
    features: dict[str, dict[int, Array]] = field(default_factory=dict)


def group_by_point(records: Iterable[Record], period: int) -> dict[str, PointResults]:
    """Group the records of videos by their point.

    Args:
        records: Records of `ablation.ablation_videos`.
        period: Lag in frames at which loopiness is taken.

    Returns:
        Results by the name of the point, without the videos that were skipped.
    """
    found: dict[str, PointResults] = {}
    for record in records:
        if "reason" in record:
            continue
        number, _, point = record["name"].partition(" ")
        results = found.setdefault(point, PointResults())
        results.figures[int(number)] = video_figures(record, period)
        for kind, text in record["features"].items():
            results.features.setdefault(kind, {})[int(number)] = decode_features(text)
    return found


def video_figures(record: Record, period: int) -> dict[str, float]:
    """Reduce the record of a video to one number per figure.

    Args:
        record: The video's record.
        period: Lag in frames at which loopiness is taken.

    Returns:
        Means over the seams, `loopiness` at the period, and `seam_error`, the mean `|log2(ratio)|` over the seams.
    """
    values: dict[str, list[float]] = {}
    for name, value in flatten(record):
        values.setdefault(name, []).append(value)
    found = {name: float(np.mean(each)) for name, each in values.items() if not name.startswith("loopiness")}
    if ratios := values.get("seam_ratio"):
        found["seam_error"] = float(np.mean(np.abs(np.log2(ratios))))
    if loop := values.get(f"loopiness {period}"):
        found["loopiness"] = loop[0]
    return found


def analyze(
    sweeps: Sequence[Sweep], results: Mapping[str, PointResults], statistics: Mapping[str, tuple[str, Statistic]]
) -> list[dict[str, Any]]:
    """Compute the figures, trends and verdict of each sweep.

    Args:
        sweeps: The sweeps.
        results: The results of each point, by name.
        statistics: Figures of all of a point's features together, such as FVD: by name the kind of features and the
            statistic.

    Returns:
        For each sweep a dictionary for JSON: `setting`, `values`, `fixed`, `videos` (their number at each value),
        `figures` (value, low and high at each value, by name), `trends` by name, and `statement`.

    Raises:
        ValueError: There are no videos of a point.
    """
    return [_analyze_sweep(each, results, statistics) for each in sweeps]


def _analyze_sweep(
    sweep: Sweep, results: Mapping[str, PointResults], statistics: Mapping[str, tuple[str, Statistic]]
) -> dict[str, Any]:
    """Compute the figures, trends and verdict of one sweep."""
    names = [point_name(point) for point in sweep.points]
    if missing := [name for name in names if name not in results]:
        raise ValueError(f"there are no videos of {missing[0]}")
    points = [results[name] for name in names]
    figures: dict[str, list[dict[str, float]]] = {}
    trends: dict[str, Trend] = {}
    for name, (kind, statistic) in statistics.items():
        numbers = sorted(set.intersection(*(set(point.features.get(kind, {})) for point in points)))
        features = [np.stack([point.features[kind][number] for number in numbers]) for point in points]
        figures[name] = [asdict(jackknife_interval(each, statistic)) for each in features]
        trends[name] = statistic_trend(sweep.values, features, statistic)
    for name in FIGURES:
        rows = [{n: row[name] for n, row in point.figures.items() if name in row} for point in points]
        if not all(len(row) > 1 for row in rows):
            continue
        figures[name] = [
            asdict(jackknife_interval(np.array(list(row.values())), lambda values: float(np.mean(values))))
            for row in rows
        ]
        trends[name] = paired_trend(sweep.values, rows)
    return {
        "setting": sweep.symbol,
        "values": sweep.values,
        "fixed": sweep.fixed,
        "videos": [len(point.figures) for point in points],
        "figures": figures,
        "trends": {name: {**asdict(each), "way": each.direction} for name, each in trends.items()},
        "statement": statement(sweep, figures, trends),
    }


def statement(sweep: Sweep, figures: Mapping[str, Sequence[Mapping[str, float]]], trends: Mapping[str, Trend]) -> str:
    """Report whether a higher value of a setting has the effect that the paper claims.

    Args:
        sweep: The sweep.
        figures: Each figure at each value, as `analyze` returns them.
        trends: The trend of each figure.

    Returns:
        Sentences: the verdict, how each figure changes from the first to the last value, and what moves for certain.
    """
    effects = {name: each.direction * _sign(name) for name, each in trends.items()}
    better, worse = ([name for name in QUALITY if effects.get(name) == sign] for sign in (1, -1))
    confirmed = (bool(better) and not worse) + (effects.get("loopiness", 0) > 0)
    verdict = ("is not seen", "is seen in part", "is seen")[confirmed]
    parts = [
        f"{sweep.symbol} from {sweep.values[0]:g} to {sweep.values[-1]:g} ({sweep.fixed}): the paper's trend, the "
        f"more is reused the better the metrics and the more looping, {verdict}."
    ]
    groups = {
        "Metrics": QUALITY,
        "Continuity": CONTINUITY,
        "Smoothness": SMOOTHNESS,
        "Looping": LOOPING,
        "Motion": MOTION,
    }
    for title, names in groups.items():
        if changes := [_change(name, figures[name], trends[name]) for name in names if name in trends]:
            parts.append(f"{title}: {'; '.join(changes)}.")
    clear = [f"{name} by {each.errors:.0f}" for name, each in trends.items() if each.errors > CLEAR]
    parts.append(f"Moved by more than {CLEAR} standard errors: {', '.join(clear) or 'none'}.")
    return " ".join(parts)


def _sign(name: str) -> int:
    """1 if a rise is reported as "better" or "more", -1 if as "worse"."""
    return 1 if name in (*LOOPING, *MOTION) else METRICS[name].sign


def _change(name: str, points: Sequence[Mapping[str, float]], trend: Trend) -> str:
    """Describe the change of a figure, as in "worst_step 2.1 to 1.0, better"."""
    first, last = (points[i]["value"] for i in (0, -1))
    less, more = ("less", "more") if name in (*LOOPING, *MOTION) else ("worse", "better")
    effect = {1: more, -1: less, 0: "no change for certain"}[trend.direction * _sign(name)]
    return f"{name} {first:.3g} to {last:.3g}, {effect}"
