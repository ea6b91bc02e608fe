"""Measures long videos of models of the drawn world: identity, physics at the seams, faithfulness of each clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vidrd_core.baselines.base import LongVideo
from vidrd_core.baselines.measure import Measure, nearness_to_1, spread
from vidrd_core.baselines.tables import table
from vidrd_core.metrics import seams
from vidrd_core.metrics.flow import are_dynamic, speeds
from vidrd_core.procedural import world
from vidrd_core.procedural.chain_metrics import Record, rounded
from vidrd_core.procedural.drawn import World

NEAR = 1.2  # steps inside clips that the position at a seam may be off


class WorldMeasure(Measure):
    """See `Measure`."""

    pictured: ClassVar = {"straight": world.MOTIONS.index("drift right"), "orbit": world.MOTIONS.index("orbit")}

    def prompts(self, count: int, seed: int) -> list[tuple[str, Any]]:
        """See `Measure.prompts`: captions with each motion equally often."""
        instances = world.evaluation_instances(count, seed)
        return [(world.describe(each), each.motion.word) for each in instances]

    def record(self, made: LongVideo, prompt: tuple[str, Any], frames: int, clips: int) -> Record:
        """See `Measure.record`."""
        video, repeated = made.video, made.reuse.repeated_frames
        cuts = [frames + k * (frames - repeated) for k in range(clips - 1)]
        spans = [video[k * (frames - repeated) :][:frames] for k in range(clips)]
        means = [span.mean((0, 1, 2)) / 255 for span in spans]
        return {
            "motion": prompt[1],
            **{name: [] for name in ("identity_kept", "direction_kept", "position_error", "position_jump")},
            **World().figures(video, prompt[0], frames, repeated),
            "seam_ratio": rounded(seams.seam_ratio(video, cuts)),
            "worst_step": rounded(seams.worst_step(video, cuts, made.reuse.prompt_frames + 1)),
            "drift": round(float(np.abs(means[-1] - means[0]).max()), 5),
            "moves": are_dynamic(speeds(video)),
        }

    def draw(self, made: LongVideo, frames: int, record: Record, path: Path) -> None:
        """See `Measure.draw`: a row for each clip, with what of it is as it should be."""
        from vidrd_core.video import contact_sheet  # needs PyAV

        kept = record["identity_kept"]
        added = max(1, (len(made.video) - frames) // max(1, len(kept)))
        rows = np.split(made.video, range(frames, len(made.video), added))
        labels = [record["text"]]
        for number, same in enumerate(kept):
            error, way = record["position_error"][number], record["direction_kept"][number]
            labels.append(
                ("the same" if same else "another")
                + (f", {error:.0f} px off" if error is not None else "")
                + {0: ", turns", 1: ", goes on"}.get(way, "")
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(rows, path, labels)

    def quality(self, records: Sequence[Record]) -> float:
        """See `Measure.quality`: the mean of five shares and of how near to 1 the median worst step is.

        These are the shares of later clips with the first one's instance, of seams at which the direction is kept, of
        seams at which the position is off by at most `NEAR` steps, and of later clips that look and move as their
        caption says.
        """
        jumps = [jump <= NEAR for r in records for jump in r["position_jump"] if jump is not None]
        shares = [
            _share(records, "identity_kept"),
            _share(records, "direction_kept"),
            float(np.mean(jumps)) if jumps else 1.0,
            *(_share(records, name, first=1) for name in ("faithful_look", "faithful_motion")),
            nearness_to_1(records, "worst_step"),
        ]
        return float(np.mean(shares))

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """See `Measure.summarize`: shares in %, medians with quartiles."""
        clips = range(len(records[0]["faithful_look"]))
        whole = [[a * b for a, b in zip(r["faithful_look"], r["faithful_motion"], strict=True)] for r in records]
        return {
            "identity by clip": [100.0, *(_percent(r["identity_kept"][k] for r in records) for k in clips[:-1])],
            "faithful by clip": [_percent(row[k] for row in whole) for k in clips],
            "identity_kept": round(100 * _share(records, "identity_kept"), 1),
            "direction_kept": round(100 * _share(records, "direction_kept"), 1),
            "moves": _percent(r["moves"] for r in records),
            **{
                name: spread(records, name)
                for name in ("position_error", "position_jump", "seam_ratio", "worst_step")
            },
        }

    def tables(self, rows: Sequence[dict[str, Any]]) -> str:
        """See `Measure.tables`: the methods, then identity and faithfulness clip by clip."""
        columns = (
            "method, at its best setting", "identity kept", "in the last clip", "direction kept",
            "position error at the seam, in steps", "in pixels", "faithful, clip 1, last", "moves", "seam ratio",
            "worst step", "loop at 2N", "colour drift", "change", "calls", "MiB, 8 and 32 clips",
        )  # fmt: skip
        methods, clips = [], []
        for row in rows:
            jump, low, high = row["position_jump"]
            methods.append([
                f"{row['method']}: {row['setting']}".rstrip(": "), f"{row['identity_kept']:.0f}",
                f"{row['identity by clip'][-1]:.0f}", f"{row['direction_kept']:.0f}",
                f"{jump:.2f} ({low:.2f} to {high:.2f})", f"{row['position_error'][0]:.1f}",
                f"{row['faithful by clip'][0]:.0f}, {row['faithful by clip'][-1]:.0f}", f"{row['moves']:.0f}",
                f"{row['seam_ratio'][0]:.2f}", f"{row['worst_step'][0]:.2f}", f"{row['loop_2N']:.2f}",
                f"{row['drift']:.4f}", f"{row['dynamic']:.4f}", f"{row['calls']:.2f}",
                ", ".join(f"{mib:.0f}" for mib in row["memory"]),
            ])  # fmt: skip
            pairs = zip(row["identity by clip"], row["faithful by clip"], strict=True)
            clips.append([row["method"], *(f"{same:.0f} / {right:.0f}" for same, right in pairs)])
        numbers = map(str, range(1, len(clips[0])))
        return f"{table(columns, methods)}\n{table(('identity / faithful in clip', *numbers), clips)}"


def _share(records: Sequence[Record], name: str, first: int = 0) -> float:
    """The share of a figure's ones among its zeros and ones, from number `first` on; 1 where there is none."""
    values = [value for record in records for value in record[name][first:] if value is not None]
    return float(np.mean(values)) if values else 1.0


def _percent(values: Any) -> float:
    return round(100 * float(np.mean(list(values))), 1)
