"""Videos as rows of a contact sheet that grows clip by clip, each with its seams' figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from PIL import Image

from vidrd_core.metrics.seams import Video
from vidrd_core.metrics.video_metrics import Joints
from vidrd_core.reports.seam_report import SeamReport, seam_report
from vidrd_core.video import contact_sheet

GAP = 6  # pixels between rows


@dataclass(frozen=True, eq=False)
class Row:
    """A video by name: its clips, each uint8 [F, H, W, 3], of one size."""

    label: str
    clips: tuple[Video, ...]

    def __post_init__(self) -> None:
        sizes = list(dict.fromkeys(clip.shape[1:3] for clip in self.clips))
        if len(sizes) > 1:
            (down, across), (other_down, other_across) = sizes[:2]
            raise ValueError(
                f"clips of one row are {across} x {down} and {other_across} x {other_down} pixels, expected one size"
            )

    @property
    def joints(self) -> Joints:
        """Where its clips meet; it may come round after one clip or two."""
        lengths = [len(clip) for clip in self.clips]
        seams = tuple(np.cumsum(lengths)[:-1].tolist())
        periods = tuple(sorted({lengths[-1], 2 * lengths[-1], lengths[0]})) if seams else ()
        return Joints(seams, min(lengths) // 2 + 1, periods)

    @property
    def video(self) -> Video:
        return np.concatenate(self.clips)

    @cached_property  # rows go from clip to clip: none is measured twice
    def report(self) -> SeamReport:
        return seam_report(self.video, self.joints)

    def said(self) -> str:
        """The label, and what is measured if there are seams."""
        if len(self.clips) < 2:
            return self.label
        found = self.report
        parts = [f"seam ratio {found.seam_ratio:.2f}", f"worst step {found.worst_step:.2f}"]
        if not math.isnan(found.loopiness):
            parts.append(f"loopiness {found.loopiness:.2f}")
        return f"{self.label}: {', '.join(parts)}" if self.label else ", ".join(parts)


def added(rows: Sequence[Row], label: str, clip: Video, same: bool) -> tuple[Row, ...]:
    """The rows with a clip more: in a row of its own, or if `same` at the end of the last one. Raises ValueError."""
    if not same:
        return (*rows, Row(label, (clip,)))
    if not rows:
        raise ValueError("there is no row to go on: the first clip begins one")
    *others, last = rows
    return (*others, replace(last, clips=(*last.clips, clip)))


def sheet(rows: Sequence[Row], height: int) -> Image.Image:
    """Draw rows of frames `height` pixels high, bars where clips meet. Raises ValueError without rows."""
    if not rows:
        raise ValueError("there are no rows: give some clips")
    drawn = [
        contact_sheet([_sized(row.video, height)], labels=[row.said() or " "], seams=row.joints.seams) for row in rows
    ]
    width = max(picture.width for picture in drawn)
    whole = Image.new("RGB", (width, sum(picture.height + GAP for picture in drawn) - GAP), drawn[0].getpixel((0, 0)))
    top = 0
    for picture in drawn:
        whole.paste(picture, (0, top))
        top += picture.height + GAP
    return whole


def _sized(video: Video, height: int) -> Video:
    """Frames of a height, their aspect ratio kept; small ones stay sharp."""
    if video.shape[1] == height:
        return video
    size = max(1, round(height * video.shape[2] / video.shape[1])), height
    by = Image.Resampling.NEAREST if height > video.shape[1] else Image.Resampling.BILINEAR
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, by)) for frame in video])
