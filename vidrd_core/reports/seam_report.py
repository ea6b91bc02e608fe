"""How the clips of one video meet, in figures and in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from vidrd_core.io import MissingPackageError
from vidrd_core.metrics import seams
from vidrd_core.metrics.appearance import drift
from vidrd_core.metrics.consistency import temporal_flickering
from vidrd_core.metrics.flow import Flow, farneback, flow_jump, is_dynamic
from vidrd_core.metrics.registry import METRICS
from vidrd_core.metrics.seams import Array, ClipBoundaries, Video
from vidrd_core.procedural.drawn import read_by_caption

T = TypeVar("T")

DUPLICATE, JUMP = 0.5, 2.0  # seam ratios below and above which a seam is visible
MIRRORED, REPEATED, TURNED = 0.5, -0.5, 90.0  # mirror scores, and degrees


@dataclass(frozen=True)
class SeamReport:
    """Figures at each seam [S] and of the video; NaN where there is nothing to measure.

    For the meaning of each see `vidrd_core.metrics`.

    Args:
        steps: Change of each step, [F - 1].
        boundaries: Where clips meet.
        ratios: Seam ratios, [S].
        worst: Worst steps, [S].
        mirrors: Mirror scores, [S].
        turns: Flow jumps in degrees, [S]; None without OpenCV.
        loops: Loopiness by period in frames.
        drifts: Change of each frame statistic from the first to the last clip.
        flicker: Temporal flickering.
        dynamic: Whether the video moves; None without OpenCV.
        read: Figures that a program reads from drawn clips (`procedural.drawn.read_by_caption`), each [S].
    """

    steps: Array
    boundaries: ClipBoundaries
    ratios: Array
    worst: Array
    mirrors: Array
    turns: Array | None
    loops: dict[int, float]
    drifts: dict[str, float]
    flicker: float
    dynamic: bool | None
    read: Mapping[str, Sequence[float | None]] = field(default_factory=dict)

    @property
    def seam_ratio(self) -> float:
        """The seam ratio that is farthest from 1; NaN without seams."""
        return max(self.ratios.tolist(), key=lambda ratio: abs(math.log2(max(ratio, 1e-6))), default=math.nan)

    @property
    def worst_step(self) -> float:
        """The largest worst step; NaN without seams."""
        return max(self.worst.tolist(), default=math.nan)

    @property
    def loopiness(self) -> float:
        """The largest loopiness of all periods; NaN without any."""
        return max((value for value in self.loops.values() if not math.isnan(value)), default=math.nan)

    def summary(self) -> str:
        """The main figures in one line; "" without seams."""
        names = ("seam_ratio", "worst_step", "loopiness")
        values = [(METRICS[name].label, getattr(self, name)) for name in names]
        parts = [f"{label} {value:.2f}" for label, value in values if not math.isnan(value)]
        if kept := self.read.get("identity_kept"):
            parts.append(f"{METRICS['identity_kept'].label} {sum(each or 0 for each in kept):.0f} of {len(kept)}")
        if errors := [each for each in self.read.get("position_error", ()) if each is not None]:
            parts.append(f"{METRICS['position_error'].label} {max(errors):.1f}")
        return ", ".join(parts)

    def seam_line(self, number: int) -> str:
        """The figures and the verdict of a seam, in one line."""
        parts = [f"ratio {self.ratios[number]:.2f}", f"{METRICS['worst_step'].label} {self.worst[number]:.2f}"]
        parts.append(f"mirror {self.mirrors[number]:+.2f}")
        if self.turns is not None and not math.isnan(self.turns[number]):
            parts.append(f"turns by {self.turns[number]:.0f} degrees")
        if (error := self._read("position_error", number)) is not None:
            parts.append(f"{METRICS['position_error'].label} {error:.1f}")
        return f"seam at frame {self.boundaries.seams[number]}: {', '.join(parts)}: {self.verdict(number)}"

    def verdict(self, number: int) -> str:
        """What is visible at a seam, in a few words."""
        visible = []
        if self.ratios[number] < DUPLICATE:
            visible.append("a duplicated frame")
        elif self.ratios[number] > JUMP:
            visible.append("a jump")
        elif self.worst[number] > JUMP:
            visible.append("a jump soon after")
        if self.mirrors[number] > MIRRORED:
            visible.append("the previous clip played backwards")
        elif self.mirrors[number] < REPEATED:
            visible.append("the previous clip repeated")
        elif self._read("direction_kept", number) == 0 or (
            self.turns is not None and self.turns[number] > TURNED and self._read("direction_kept", number) is None
        ):
            visible.append("motion changes direction")
        if self._read("identity_kept", number) == 0:
            visible.append("it shows another thing or ground than the first clip")
        return " and ".join(visible) or "nothing is visible"

    def _read(self, name: str, number: int) -> float | None:
        """A figure at a seam; None if it cannot be told."""
        return self.read[name][number] if name in self.read else None

    def lines(self) -> list[str]:
        """The complete report in lines."""
        found = [f"{len(self.steps) + 1} frames, {len(self.boundaries.seams) + 1} clips"]
        if self.dynamic is not None:
            found[0] += ", " + ("it moves" if self.dynamic else "it hardly moves: smooth seams mean little")
        found.append(
            f"mean change {np.mean(self.steps) if len(self.steps) else 0:.4f}, "
            f"{METRICS['temporal_flickering'].label} {self.flicker:.4f}"
        )
        found += [self.seam_line(number) for number in range(len(self.boundaries.seams))]
        found += [
            f"{METRICS['loopiness'].label} at {period} frames: {value:.2f}"
            for period, value in self.loops.items()
            if not math.isnan(value)
        ]
        if self.boundaries.seams:
            found.append(
                f"{METRICS['drift'].label} from first to last clip: "
                + ", ".join(f"{name} {value:+.3f}" for name, value in self.drifts.items())
            )
        if self.turns is None:
            found.append("motion is not measured without OpenCV: pip install opencv-python-headless")
        return found


def seam_report(video: Video, boundaries: ClipBoundaries, flow: Flow = farneback, caption: str = "") -> SeamReport:
    """Measure how the clips of a video meet.

    Args:
        video: uint8 [F, H, W, 3].
        boundaries: Where its clips meet.
        flow: Optical flow.
        caption: Its prompt; of drawn clips, more can be read by it.

    Returns:
        The report, with None for metrics of motion if OpenCV is not installed.

    Raises:
        ValueError: This is not a video, or a seam is outside it.
    """
    seams.check_video(video, boundaries.seams)
    moves = len(video) > 1
    return SeamReport(
        seams.frame_changes(video),
        boundaries,
        seams.seam_ratio(video, boundaries.seams),
        seams.worst_step(video, boundaries.seams, boundaries.window),
        seams.mirror_score(video, boundaries.seams),
        _if_installed(lambda: flow_jump(video, boundaries.seams, flow)),
        {
            period: seams.loopiness(video, period, reach=min(seams.LOOP_REACH, period - 1))
            for period in boundaries.periods
            if period > 1
        },
        {name: each.change for name, each in drift(video, boundaries.seams).items()},
        temporal_flickering(video),
        _if_installed(lambda: moves and is_dynamic(video, flow)),
        read_by_caption(video, caption, boundaries.seams),
    )


def _if_installed(measure: Callable[[], T]) -> T | None:
    """What `measure` returns; None if its optional package is missing."""
    try:
        return measure()
    except MissingPackageError:
        return None
