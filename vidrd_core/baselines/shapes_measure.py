"""Measures long videos of models of moving shapes: colour, shape and motion of each clip, and its seams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vidrd_core.baselines.base import LongVideo
from vidrd_core.baselines.measure import Measure, nearness_to_1, spread
from vidrd_core.baselines.tables import table
from vidrd_core.procedural import Scene, describe, evaluation_scenes
from vidrd_core.procedural.benchmark_report import draw_chain
from vidrd_core.procedural.chain_metrics import (
    Record,
    measure_chain,
    motion_at_any_phase,
    moves_in_direction,
    words_of,
)
from vidrd_core.procedural.recognition import recognize


class ShapesMeasure(Measure):
    """See `Measure`."""

    pictured: ClassVar = {"straight": 0, "orbit": 9}

    def prompts(self, count: int, seed: int) -> list[tuple[str, Any]]:
        """See `Measure.prompts`: scenes of one shape, balanced."""
        return [(describe(scene), scene) for scene in evaluation_scenes(count, seed, 1)]

    def record(self, made: LongVideo, prompt: tuple[str, Any], frames: int, clips: int) -> Record:
        """See `Measure.record`."""
        video, scene = made.video, prompt[1]
        assert isinstance(scene, Scene)
        repeated = made.reuse.repeated_frames
        spans = [slice(k * (frames - repeated), k * (frames - repeated) + frames) for k in range(clips)]
        sprites = [recognize(video[span], len(scene.sprites)).sprites[0] for span in spans]
        motion = sprites, scene.sprites[0].motion, video.shape[1]
        means = [video[span].mean((0, 1, 2)) / 255 for span in spans]
        return {
            **words_of(scene.sprites), **measure_chain(video, scene, frames, clips, made.reuse),
            "as_told": moves_in_direction(*motion), "from_any_moment": motion_at_any_phase(*motion),
            "drift": round(float(np.abs(means[-1] - means[0]).max()), 5),
        }  # fmt: skip

    def draw(self, made: LongVideo, frames: int, record: Record, path: Path) -> None:
        """See `Measure.draw`."""
        draw_chain(made.video, frames, record, path)

    def quality(self, records: Sequence[Record]) -> float:
        """See `Measure.quality`: the mean of five shares.

        These are the shares of clips 2 to the last with the right color and shape, and with the right motion at any
        phase; the share of seams at which straight motion keeps its direction; and how near to 1 the median seam
        ratio and the median worst step are.
        """
        right = [clip["right"] for r in records for clip in r["clips"][1:]]
        turns = [turn for r in records if r["as_told"] is not None for turn in r["turns"]]
        shares = [
            np.mean([each["color"] and each["shape"] for each in right]),
            np.mean([matches for r in records for matches in r["from_any_moment"][1:]]),
            turns.count("kept") / len(turns) if turns else 1.0,
            *(nearness_to_1(records, name) for name in ("seam_ratio", "worst_step")),
        ]
        return float(np.mean(shares))

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """See `Measure.summarize`: shares in %, medians with quartiles, means."""
        straight = [r for r in records if r["as_told"] is not None]
        others = [r for r in records if r["as_told"] is None]

        def right(clip: int, *keys: str) -> float:
            return 100 * float(np.mean([all(r["clips"][clip]["right"][key] for key in keys) for r in records]))

        def by_clip(name: str, rows: Sequence[Record]) -> list[float]:
            return [round(100 * float(np.mean([r[name][k] for r in rows] or [0])), 1) for k in clips]

        clips = range(len(records[0]["clips"]))
        turns = [turn for r in straight for turn in r["turns"]]
        share = {turn: round(100 * turns.count(turn) / len(turns), 1) for turn in sorted(set(turns))}
        return {
            "color+shape by clip": [round(right(k, "color", "shape"), 1) for k in clips],
            "motion by clip": [round(right(k, "motion"), 1) for k in clips],
            "motion from any moment by clip": by_clip("from_any_moment", records),
            "direction by clip": by_clip("as_told", straight),
            "turns": share,
            **{name: spread(records, name) for name in ("seam_ratio", "worst_step")},
            "seam_ratio, straight": spread(straight, "seam_ratio"),
            "seam_ratio, others": spread(others, "seam_ratio"),
        }

    def tables(self, rows: Sequence[dict[str, Any]]) -> str:
        """See `Measure.tables`: the methods, then their prompt alignment clip by clip."""
        columns = (
            "method, at its best setting", "colour + shape, clip 1, last", "motion, from any moment on",
            "from its start on", "straight ones' direction", "direction kept", "seam ratio", "straight / others",
            "worst step", "loop at 2N", "colour drift", "dynamic", "calls", "MiB, 8 and 32 clips",
        )  # fmt: skip
        by_clip = (
            "color+shape by clip", "motion from any moment by clip", "motion by clip", "direction by clip",
        )  # fmt: skip
        methods, clips = [], []
        for row in rows:
            first_last = [f"{row[name][0]:.0f}, {row[name][-1]:.0f}" for name in by_clip]
            m, q, p = row["seam_ratio"]
            methods.append([
                f"{row['method']}: {row['setting']}", *first_last, f"{row['turns'].get('kept', 0):.0f}",
                f"{m:.2f} ({q:.2f} to {p:.2f})",
                f"{row['seam_ratio, straight'][0]:.2f} / {row['seam_ratio, others'][0]:.2f}",
                f"{row['worst_step'][0]:.2f}", f"{row['loop_2N']:.2f}", f"{row['drift']:.4f}",
                f"{row['dynamic']:.4f}", f"{row['calls']:.2f}", ", ".join(f"{mib:.0f}" for mib in row["memory"]),
            ])  # fmt: skip
            pairs = zip(row["color+shape by clip"], row["motion from any moment by clip"], strict=True)
            clips.append([row["method"], *(f"{each:.0f} / {motion:.0f}" for each, motion in pairs)])
        numbers = map(str, range(1, len(clips[0])))
        return f"{table(columns, methods)}\n{table(('colour + shape / motion in clip', *numbers), clips)}"
