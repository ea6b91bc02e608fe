"""A contact sheet that grows clip by clip: videos as rows of frames, each with the figures of its seams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from PIL import Image

from vidrd_core.metrics.seams import ClipBoundaries, Video
from vidrd_core.reports.seam_report import SeamReport, seam_report
from vidrd_core.video import contact_sheet

GAP = 6  # pixels between rows
LARGEST = 2**27  # pixels of a sheet: as an IMAGE of ComfyUI they take 1.6 GB


@dataclass(frozen=True, eq=False)
class SheetRow:
    """A row of a contact sheet.

    Args:
        label: What is written above it.
        clips: Its clips, each uint8 [F, H, W, 3], all of one frame size.
        caption: The prompt, by which more can be read from drawn clips.

    Raises:
        ValueError: The clips differ in frame size.
    """

    label: str
    clips: tuple[Video, ...]
    caption: str = ""

    def __post_init__(self) -> None:
        sizes = list(dict.fromkeys(clip.shape[1:3] for clip in self.clips))
        if len(sizes) > 1:
            (height, width), (other_height, other_width) = sizes[:2]
            raise ValueError(
                f"clips of one row are {width} x {height} and {other_width} x {other_height} pixels, "
                f"expected one size"
            )

    @property
    def boundaries(self) -> ClipBoundaries:
        """Where its clips meet; loops are expected after one clip or two."""
        lengths = [len(clip) for clip in self.clips]
        seams = tuple(np.cumsum(lengths)[:-1].tolist())
        periods = tuple(sorted({lengths[-1], 2 * lengths[-1], lengths[0]})) if seams else ()
        return ClipBoundaries(seams, min(lengths) // 2 + 1, periods)

    @property
    def video(self) -> Video:
        """All its frames, uint8 [F, H, W, 3]."""
        return np.concatenate(self.clips)

    @cached_property  # rows are passed on from clip to clip: none is measured twice
    def report(self) -> SeamReport:
        """The seam report of its video."""
        return seam_report(self.video, self.boundaries, caption=self.caption)

    def summary(self) -> str:
        """The label, followed by the main figures if there are seams."""
        if len(self.clips) < 2:
            return self.label
        return f"{self.label}: {self.report.summary()}" if self.label else self.report.summary()


def add_clip(
    rows: Sequence[SheetRow], label: str, clip: Video, same_row: bool, caption: str = ""
) -> tuple[SheetRow, ...]:
    """Add a clip to the rows of a contact sheet.

    Args:
        rows: The rows so far.
        label: Label of a new row.
        clip: uint8 [F, H, W, 3].
        same_row: Append the clip to the last row, which keeps its label and caption, instead of beginning a new one.
        caption: Prompt of a new row.

    Returns:
        New rows; those given stay as they are.

    Raises:
        ValueError: There is no row to append to, or the clip differs in frame size.
    """
    if not same_row:
        return (*rows, SheetRow(label, (clip,), caption))
    if not rows:
        raise ValueError("there is no row to append to: the first clip begins one")
    *others, last = rows
    return (*others, replace(last, clips=(*last.clips, clip)))


def draw_sheet(rows: Sequence[SheetRow], height: int) -> Image.Image:
    """Draw rows of frames with bars where clips meet.

    Args:
        rows: One or more rows.
        height: Height of a frame in pixels.

    Returns:
        An RGB picture of all rows, each with its label and its main figures.

    Raises:
        ValueError: There are no rows, or the sheet would be too large.
    """
    if not rows:
        raise ValueError("there are no rows: give some clips")
    pixels = sum(len(clip) * height * _width(clip, height) for row in rows for clip in row.clips)
    if pixels > LARGEST:
        raise ValueError(
            f"the sheet would have {pixels / 1e6:.0f} million pixels, expected {LARGEST / 1e6:.0f} at most: give a "
            f"smaller height than {height}, or fewer frames"
        )
    drawn = [
        contact_sheet([_resize(row.video, height)], labels=[row.summary() or " "], seams=row.boundaries.seams)
        for row in rows
    ]
    width = max(picture.width for picture in drawn)
    whole = Image.new("RGB", (width, sum(picture.height + GAP for picture in drawn) - GAP), drawn[0].getpixel((0, 0)))
    top = 0
    for picture in drawn:
        whole.paste(picture, (0, top))
        top += picture.height + GAP
    return whole


def _resize(video: Video, height: int) -> Video:
    """Frames resized to a height with their aspect ratio, small ones without blur."""
    if video.shape[1] == height:
        return video
    size = _width(video, height), height
    filter_ = Image.Resampling.NEAREST if height > video.shape[1] else Image.Resampling.BILINEAR
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, filter_)) for frame in video])


def _width(video: Video, height: int) -> int:
    """The width of a video's frames at a height."""
    return max(1, round(height * video.shape[2] / video.shape[1]))
