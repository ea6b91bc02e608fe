"""The best setting of each method, and the summary of a method's videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vidrd_core.baselines.base import Candidate
from vidrd_core.procedural.chain_metrics import Record


def quality(records: Sequence[Record]) -> float:
    """The score that selects a method's best setting: the mean of five shares.

    These are the shares of clips 2 to the last with the right color and shape, and with the right motion at any
    phase; the share of seams at which straight motion keeps its direction; and how near to 1 the median seam ratio
    and the median worst step are.

    Args:
        records: The records of one method at one setting.

    Returns:
        0 to 1.
    """
    right = [clip["right"] for r in records for clip in r["clips"][1:]]
    turns = [turn for r in records if r["as_told"] is not None for turn in r["turns"]]
    near = [
        np.exp(-abs(np.log(max(np.median([x for r in records for x in r[name]]), 1e-3))))
        for name in ("seam_ratio", "worst_step")
    ]
    shares = [
        np.mean([each["color"] and each["shape"] for each in right]),
        np.mean([matches for r in records for matches in r["from_any_moment"][1:]]),
        turns.count("kept") / len(turns) if turns else 1.0,
        *near,
    ]
    return float(np.mean(shares))


def best_settings(tried: Sequence[Candidate], records: Sequence[Record]) -> list[int]:
    """Select each method's best candidate by `quality`.

    Args:
        tried: The candidates.
        records: Their records; those of the tuning stage count.

    Returns:
        An index into `tried` for each method, in the order in which methods first appear there.
    """
    best: dict[str, tuple[float, int]] = {}
    for number, candidate in enumerate(tried):
        score = quality(select(records, "tuning", candidate))
        if candidate.name not in best or score > best[candidate.name][0]:
            best[candidate.name] = (score, number)
    return [number for _, number in best.values()]


def summarize(candidate: Candidate, records: Sequence[Record]) -> dict[str, Any]:
    """A method's row of the comparison: shares in %, medians with quartiles, means."""
    straight = [r for r in records if r["as_told"] is not None]
    others = [r for r in records if r["as_told"] is None]

    def right(clip: int, *keys: str) -> float:
        return 100 * float(np.mean([all(r["clips"][clip]["right"][key] for key in keys) for r in records]))

    def spread(name: str, rows: Sequence[Record]) -> list[float]:
        values = [x for r in rows for x in r[name]] or [0.0]  # if there are no such motions
        return [round(float(x), 3) for x in np.percentile(values, [50, 25, 75])]

    def by_clip(name: str, rows: Sequence[Record]) -> list[float]:
        return [round(100 * float(np.mean([r[name][k] for r in rows] or [0])), 1) for k in clips]

    clips = range(len(records[0]["clips"]))
    turns = [turn for r in straight for turn in r["turns"]]
    share = {turn: round(100 * turns.count(turn) / len(turns), 1) for turn in sorted(set(turns))}
    mean = {name: round(float(np.mean([r[name] for r in records])), 4) for name in ("loop_2N", "drift", "dynamic")}
    return {
        "method": candidate.name,
        "setting": candidate.setting,
        "color+shape by clip": [round(right(k, "color", "shape"), 1) for k in clips],
        "motion by clip": [round(right(k, "motion"), 1) for k in clips],
        "motion from any moment by clip": by_clip("from_any_moment", records),
        "direction by clip": by_clip("as_told", straight),
        "turns": share,
        **{name: spread(name, records) for name in ("seam_ratio", "worst_step")},
        "seam_ratio, straight": spread("seam_ratio", straight),
        "seam_ratio, others": spread("seam_ratio", others),
        **mean,
        "calls": records[0]["calls"],
        "seconds a shown frame": round(float(np.median([r["seconds"] / r["frames"] for r in records])), 4),
    }


def select(records: Sequence[Record], stage: str, candidate: Candidate) -> list[Record]:
    """The records of a candidate in a stage."""
    return [
        r for r in records if (r["stage"], r["method"], r["setting"]) == (stage, candidate.name, candidate.setting)
    ]
