"""How a video's clips meet, in figures and in words: for people who look at one video."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from vidrd_core.metrics import seams as on
from vidrd_core.metrics.appearance import drift
from vidrd_core.metrics.consistency import temporal_flickering
from vidrd_core.metrics.flow import Flow, MissingError, farneback, flow_jump, is_dynamic
from vidrd_core.metrics.seams import Array, Video
from vidrd_core.metrics.video_metrics import Joints

T = TypeVar("T")

DOUBLED, JUMP = 0.5, 2.0  # seam ratios below and above which a seam is seen
MIRRORED, AGAIN, TURNED = 0.5, -0.5, 90.0  # scores, and degrees


@dataclass(frozen=True)
class SeamReport:
    """Figures at each seam [S], and of the whole video; nan where there is nothing to measure.

    `turns` and `dynamic` are None without OpenCV. For the meaning of each see `seams`, `flow` and `appearance`.
    """

    steps: Array
    joints: Joints
    ratios: Array
    worst: Array
    mirrors: Array
    turns: Array | None
    loops: dict[int, float]
    drifts: dict[str, float]
    flicker: float
    dynamic: bool | None

    @property
    def seam_ratio(self) -> float:
        """Of the seam that is farthest from 1; nan without seams."""
        return max(self.ratios.tolist(), key=lambda ratio: abs(math.log2(max(ratio, 1e-6))), default=math.nan)

    @property
    def worst_step(self) -> float:
        return max(self.worst.tolist(), default=math.nan)

    @property
    def loopiness(self) -> float:
        """The largest of the periods'; nan without any."""
        return max((value for value in self.loops.values() if not math.isnan(value)), default=math.nan)

    def seam_line(self, number: int) -> str:
        """What a seam is like, in figures and words."""
        parts = [f"ratio {self.ratios[number]:.2f}", f"worst step {self.worst[number]:.2f}"]
        parts.append(f"mirror {self.mirrors[number]:+.2f}")
        if self.turns is not None and not math.isnan(self.turns[number]):
            parts.append(f"turns by {self.turns[number]:.0f} degrees")
        return f"seam at frame {self.joints.seams[number]}: {', '.join(parts)}: {self.verdict(number)}"

    def verdict(self, number: int) -> str:
        """In a few words."""
        said = []
        if self.ratios[number] < DOUBLED:
            said.append("a doubled frame")
        elif self.ratios[number] > JUMP:
            said.append("a jump")
        elif self.worst[number] > JUMP:
            said.append("a jump soon after")
        if self.mirrors[number] > MIRRORED:
            said.append("the clip before run backwards")
        elif self.mirrors[number] < AGAIN:
            said.append("the clip before once more")
        elif self.turns is not None and self.turns[number] > TURNED:
            said.append("motion turns")
        return " and ".join(said) or "nothing is seen"

    def lines(self) -> list[str]:
        """All of it, a line each."""
        found = [f"{len(self.steps) + 1} frames, {len(self.joints.seams) + 1} clips"]
        if self.dynamic is not None:
            found[0] += ", " + ("it moves" if self.dynamic else "it hardly moves: read smooth seams with care")
        found.append(
            f"mean change {np.mean(self.steps) if len(self.steps) else 0:.4f}, flicker score {self.flicker:.4f}"
        )
        found += [self.seam_line(number) for number in range(len(self.joints.seams))]
        found += [
            f"loopiness at {period} frames: {value:.2f}"
            for period, value in self.loops.items()
            if not math.isnan(value)
        ]
        if self.joints.seams:
            found.append(
                "from first to last clip: " + ", ".join(f"{name} {value:+.3f}" for name, value in self.drifts.items())
            )
        if self.turns is None:
            found.append("without OpenCV motion is not measured: pip install opencv-python-headless")
        return found


def seam_report(video: Video, joints: Joints, flow: Flow = farneback) -> SeamReport:
    """Measure a video uint8 [F, H, W, 3] whose clips meet at `joints`. Raises ValueError for what is no video."""
    on.check(video, joints.seams)
    moves = len(video) > 1
    return SeamReport(
        on.steps(video),
        joints,
        on.seam_ratio(video, joints.seams),
        on.worst_step(video, joints.seams, joints.window),
        on.mirror_score(video, joints.seams),
        _without(lambda: flow_jump(video, joints.seams, flow)),
        {
            period: on.loopiness(video, period, reach=min(on.LOOP_REACH, period - 1))
            for period in joints.periods
            if period > 1
        },
        {name: each.change for name, each in drift(video, joints.seams).items()},
        temporal_flickering(video),
        _without(lambda: moves and is_dynamic(video, flow)),
    )


def _without(measure: Callable[[], T]) -> T | None:
    try:
        return measure()
    except MissingError:
        return None
