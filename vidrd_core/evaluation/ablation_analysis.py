"""What an ablation's records come to: each point's figures, what each setting does to them, and the paper's claim.

The paper says of M, alpha and beta alike: the more is reused, the better the metrics, FVD and Inception Score, and
the more the video loops. Here the claim is held against Frechet distance, Inception Score and prompt faithfulness, as
far as they were measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from vidrd_core.evaluation.ablation import Sweep, point_name
from vidrd_core.evaluation.confidence import Statistic, Trend, interval, of_statistic, trend
from vidrd_core.evaluation.runner import Record, flat, unpacked
from vidrd_core.metrics.frechet import Array

METRICS = {"fvd": -1, "inception_score": 1, "clipsim": 1, "faithful_look": 1, "faithful_motion": 1}
"""What the paper's claim is held against, and which way is better."""
SMOOTHNESS = {"seam_error": -1, "worst_step": -1, "flow_jump": -1, "frame_consistency": 1, "subject_consistency": 1}
LOOPS = {"loopiness": 1, "mirror_score": 1}
MOTION = {"dynamic": 1, "speed": 1, "change": 1}
SHOWN = {**METRICS, **SMOOTHNESS, **LOOPS, **MOTION}


@dataclass
class Measured:
    """A point's videos: figures and features of each, by its number."""

    figures: dict[int, dict[str, float]] = field(default_factory=dict)
    features: dict[str, dict[int, Array]] = field(default_factory=dict)


def gathered(records: Iterable[Record], period: int) -> dict[str, Measured]:
    """Records by the names of their points; loopiness is that of `period` frames. What was skipped is left out."""
    found: dict[str, Measured] = {}
    for record in records:
        if "reason" in record:
            continue
        number, _, point = record["name"].partition(" ")
        measured = found.setdefault(point, Measured())
        measured.figures[int(number)] = figures(record, period)
        for kind, text in record["features"].items():
            measured.features.setdefault(kind, {})[int(number)] = unpacked(text)
    return found


def figures(record: Record, period: int) -> dict[str, float]:
    """A video's figures, one number each: means over its seams, loopiness at `period`, how far seams are from 1."""
    values: dict[str, list[float]] = {}
    for name, value in flat(record):
        values.setdefault(name, []).append(value)
    found = {name: float(np.mean(each)) for name, each in values.items() if not name.startswith("loopiness")}
    if ratios := values.get("seam_ratio"):
        found["seam_error"] = float(np.mean(np.abs(np.log2(ratios))))
    if loop := values.get(f"loopiness {period}"):
        found["loopiness"] = loop[0]
    return found


def findings(
    sweeps: Sequence[Sweep], measured: Mapping[str, Measured], statistics: Mapping[str, tuple[str, Statistic]]
) -> list[dict[str, Any]]:
    """Of each sweep its points' figures and the trends, as JSON has them, and whether the paper's claim is seen.

    `statistics` are of all of a point's features at once: by name, the kind of features and what is made of them.
    Raises ValueError for points without videos.
    """
    return [_of_sweep(each, measured, statistics) for each in sweeps]


def _of_sweep(
    sweep: Sweep, measured: Mapping[str, Measured], statistics: Mapping[str, tuple[str, Statistic]]
) -> dict[str, Any]:
    names = [point_name(point) for point in sweep.points]
    if missing := [name for name in names if name not in measured]:
        raise ValueError(f"there are no videos of {missing[0]}")
    points = [measured[name] for name in names]
    shown: dict[str, list[dict[str, float]]] = {}
    trends: dict[str, Trend] = {}
    for name, (kind, statistic) in statistics.items():
        numbers = sorted(set.intersection(*(set(point.features.get(kind, {})) for point in points)))
        features = [np.stack([point.features[kind][number] for number in numbers]) for point in points]
        shown[name] = [asdict(interval(each, statistic)) for each in features]
        trends[name] = of_statistic(sweep.values, features, statistic)
    for name in SHOWN:
        rows = [{n: row[name] for n, row in point.figures.items() if name in row} for point in points]
        if not all(len(row) > 1 for row in rows):
            continue
        shown[name] = [asdict(interval(np.array(list(row.values())), mean)) for row in rows]
        trends[name] = trend(sweep.values, rows)
    return {
        "setting": sweep.letter,
        "values": sweep.values,
        "fixed": sweep.fixed,
        "videos": [len(point.figures) for point in points],
        "figures": shown,
        "trends": {name: {**asdict(each), "way": each.way} for name, each in trends.items()},
        "statement": statement(sweep, shown, trends),
    }


def mean(values: Array) -> float:
    return float(np.mean(values))


def statement(sweep: Sweep, shown: Mapping[str, Sequence[Mapping[str, float]]], trends: Mapping[str, Trend]) -> str:
    """Whether more of a setting does what the paper says, in sentences."""
    ways = {name: each.way * SHOWN[name] for name, each in trends.items()}
    better, worse = ([name for name in METRICS if ways.get(name) == way] for way in (1, -1))
    loops = ways.get("loopiness", 0)
    seen = (bool(better) and not worse) + (loops > 0)
    verdict = ("is not seen", "is seen in part", "is seen")[seen]
    parts = [
        f"{sweep.letter} from {sweep.values[0]:g} to {sweep.values[-1]:g} ({sweep.fixed}): the paper's trend, the "
        f"more is reused the better the metrics and the more looping, {verdict}."
    ]
    kinds = {
        "Metrics": METRICS, "Smoothness": SMOOTHNESS, "Looping": LOOPS, "Motion": MOTION
    }  # fmt: skip
    for title, names in kinds.items():
        told = [_change(name, shown[name], trends[name]) for name in names if name in trends]
        if told:
            parts.append(f"{title}: {'; '.join(told)}.")
    return " ".join(parts)


def _change(name: str, points: Sequence[Mapping[str, float]], found: Trend) -> str:
    """As in "worst_step 2.1 to 1.0, better"."""
    first, last = (points[i]["value"] for i in (0, -1))
    way = found.way * SHOWN[name]
    words = {**dict.fromkeys(LOOPS, ("less", "more")), **dict.fromkeys(MOTION, ("less", "more"))}
    less, more = words.get(name, ("worse", "better"))
    said = {1: more, -1: less, 0: "no change for certain"}[way]
    return f"{name} {first:.3g} to {last:.3g}, {said}"
