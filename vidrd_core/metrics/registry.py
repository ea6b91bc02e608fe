"""The registry of metrics: their names, meanings and directions, and how each is computed from a video.

Records, reports, the figures that `vidrd evaluate` prints and the table in `docs/measuring.md` are made from
`METRICS`. A new metric is a function in a module here and one entry below;
`python -m vidrd_core.reports.markdown` then updates the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vidrd_core.metrics.appearance import drift
from vidrd_core.metrics.consistency import clipsim, frame_consistency, subject_consistency, temporal_flickering
from vidrd_core.metrics.flow import Flow, are_dynamic, farneback, flow_jump, speeds
from vidrd_core.metrics.identity import subject_identity
from vidrd_core.metrics.scene_cuts import find_scene_cuts
from vidrd_core.metrics.seams import (
    LOOP_REACH,
    NO_SEAMS,
    Array,
    ClipBoundaries,
    Features,
    Video,
    frame_changes,
    loopiness,
    mirror_score,
    seam_ratio,
    thumbnail_features,
    worst_step,
)

if TYPE_CHECKING:
    from vidrd_core.metrics.clip_features import CLIPFeatures

Better = Literal["higher", "lower", "1", "0", "neither"]
Need = Literal["seams", "text", "CLIP"]
BETTER: dict[Better, str] = {"higher": "higher", "lower": "lower", "1": "near 1", "0": "near 0", "neither": ""}


@dataclass(frozen=True, eq=False)
class MetricInputs:
    """What metrics are computed from; what several of them use is computed once.

    Args:
        video: uint8 [F, H, W, 3].
        boundaries: Where its clips meet.
        text: Its prompt, "" if unknown.
        clip: A CLIP, if there is one.
        flow: Optical flow.
    """

    video: Video
    boundaries: ClipBoundaries = NO_SEAMS
    text: str = ""
    clip: CLIPFeatures | None = None
    flow: Flow = farneback

    @property
    def seams(self) -> Sequence[int]:
        """Index of the first frame of each later clip."""
        return self.boundaries.seams

    @property
    def features(self) -> Features:
        """CLIP's features of frames if there is a CLIP, else thumbnails."""
        return self.clip.frames if self.clip else thumbnail_features

    @cached_property
    def speeds(self) -> Array:
        """The speed of each step, [F - 1]; see `flow.speeds`."""
        return speeds(self.video, self.flow) if len(self.video) > 1 else np.zeros(0)

    def has(self, need: Need) -> bool:
        """Whether what a metric needs is there."""
        return bool({"seams": self.seams, "text": self.text, "CLIP": self.clip}[need])


@dataclass(frozen=True)
class Metric:
    """An entry of the registry.

    Args:
        name: Its key in records and reports.
        meaning: What it measures, in one sentence without a full stop.
        unit: Its unit or range.
        better: Which values are better: higher or lower ones, those near 1 or near 0, or neither by itself.
        compute: Its value for one video, for JSON: a number, a list of one number per seam, or named numbers.
            None for a metric that is computed elsewhere, from many videos or by the generator of the video.
        needs: The inputs that it requires; without them records lack it.
        package: The optional package that it imports, by its name on PyPI.
        printed: Whether `vidrd evaluate` prints its figures, too.
    """

    name: str
    meaning: str
    unit: str
    better: Better
    compute: Callable[[MetricInputs], Any] | None = None
    needs: tuple[Need, ...] = ()
    package: str = ""
    printed: bool = True

    @property
    def label(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")

    @property
    def sign(self) -> int:
        """1 if higher values are better, -1 if lower ones are, else 0."""
        return {"higher": 1, "lower": -1}.get(self.better, 0)


def _loopiness(inputs: MetricInputs) -> dict[str, float | None]:
    """Loopiness at each period of the video."""
    found: dict[str, float | None] = {}
    for period in sorted(set(inputs.boundaries.periods)):
        reach = min(LOOP_REACH, period - 1)
        found[str(period)] = _number(loopiness(inputs.video, period, reach=reach)) if period > 1 else None
    return found


def _drift(inputs: MetricInputs) -> dict[str, dict[str, float | None]]:
    """The drift of each statistic of the frames."""
    return {
        name: {"slope": _number(each.slope), "change": _number(each.change)}
        for name, each in drift(inputs.video, inputs.seams).items()
    }


_ENTRIES = (
    Metric(
        "dynamic",
        "whether the video moves, by VBench's rule: a quarter of its steps or more are faster than 6 pixels of 256; "
        "over many videos the share of those that move. Flow is Farneback's, VBench's RAFT's, so figures differ",
        "0 or 1",
        "neither",
        lambda given: are_dynamic(given.speeds) if len(given.video) > 1 else False,
        package="opencv-python-headless",
    ),
    Metric(
        "speed",
        "how fast the fastest 5 % of the pixels move",
        "256ths of the shorter side per step",
        "neither",
        lambda given: _mean(given.speeds),
        package="opencv-python-headless",
    ),
    Metric(
        "change",
        "mean absolute change from frame to frame",
        "0 to 1",
        "neither",
        lambda given: _mean(frame_changes(given.video)),
    ),
    Metric(
        "frame_consistency",
        "cosine similarity of neighboring frames' features; a still video has 1",
        "-1 to 1",
        "higher",
        lambda given: _number(frame_consistency(given.video, given.features)),
    ),
    Metric(
        "subject_consistency",
        "cosine similarity of each frame's features to those of the first and of the previous frame (VBench); a "
        "still video has 1",
        "0 to 1",
        "higher",
        lambda given: _number(subject_consistency(given.video, given.features)),
    ),
    Metric(
        "temporal_flickering",
        "1 minus the mean change; meaningful for static scenes only, as a still video has 1",
        "0 to 1",
        "higher",
        lambda given: _number(temporal_flickering(given.video)),
    ),
    Metric(
        "scene_cuts",
        "number of scene cuts inside a video, by PySceneDetect",
        "cuts",
        "lower",
        lambda given: len(find_scene_cuts(given.video)),
        package="scenedetect-headless",
    ),
    Metric(
        "faithful_look",
        "share of clips that show the color, shape and ground that their prompt names; models of drawn clips only",
        "0 to 1",
        "higher",
        needs=("text",),
    ),
    Metric(
        "faithful_motion",
        "share of clips that move as their prompt says, starting at any phase of the motion; models of drawn clips "
        "only",
        "0 to 1",
        "higher",
        needs=("text",),
    ),
    Metric(
        "identity_kept",
        "share of later clips that show the instance of the first: hue, size and pattern of the thing, the ground; "
        "models of the drawn world only",
        "0 to 1",
        "higher",
        needs=("seams", "text"),
    ),
    Metric(
        "direction_kept",
        "share of seams at which the thing, or the ground under it, goes on in its direction; models of the drawn "
        "world only",
        "0 to 1",
        "higher",
        needs=("seams", "text"),
    ),
    Metric(
        "position_error",
        "how far the thing is, in the first frame after a seam, from where the law of its motion puts it by the "
        "frames before; models of the drawn world only",
        "64ths of a frame's side",
        "lower",
        needs=("seams", "text"),
    ),
    Metric(
        "position_jump",
        "the position error over how far the thing moves from frame to frame inside clips; models of the drawn world "
        "only",
        "ratio, from 0",
        "lower",
        needs=("seams", "text"),
    ),
    Metric(
        "clipsim",
        "cosine similarity of CLIP's features of the frames and of the prompt (CLIPSIM)",
        "-1 to 1",
        "higher",
        lambda given: given.clip and _number(clipsim(given.video, given.text, given.clip.frames, given.clip.texts)),
        needs=("text", "CLIP"),
    ),
    Metric(
        "seam_ratio",
        "change across a seam over the median change inside clips: 1 is perfect, near 0 is a duplicated frame, more "
        "than 1 a jump",
        "ratio, from 0",
        "1",
        lambda given: _numbers(seam_ratio(given.video, given.seams)),
        needs=("seams",),
    ),
    Metric(
        "worst_step",
        "the largest of the M + 1 changes from a seam on over the same median: some videos jump a frame later",
        "ratio, from 0",
        "lower",
        lambda given: _numbers(worst_step(given.video, given.seams, given.boundaries.window)),
        needs=("seams",),
    ),
    Metric(
        "flow_jump",
        "angle by which the direction of motion changes at a seam: 0 continues, 180 reverses",
        "degrees, 0 to 180",
        "lower",
        lambda given: _numbers(flow_jump(given.video, given.seams, given.flow)),
        needs=("seams",),
        package="opencv-python-headless",
    ),
    Metric(
        "mirror_score",
        "whether a clip resembles the previous clip played backwards (towards 1) or that clip itself (towards -1)",
        "-1 to 1",
        "0",
        lambda given: _numbers(mirror_score(given.video, given.seams)),
        needs=("seams",),
    ),
    Metric(
        "loopiness",
        "how much more alike frames N or 2N apart are than the trend over lags: near 1 for a loop, 0 for none",
        "-2 to 2",
        "lower",
        _loopiness,
        needs=("seams",),
        printed=False,
    ),
    Metric(
        "drift",
        "drift of brightness, contrast, saturation and sharpness: slope per clip, and change from first to last clip",
        "that of each",
        "0",
        _drift,
        needs=("seams",),
        printed=False,
    ),
    Metric(
        "identity",
        "how far the appearance of the subject wanders, by CLIP's or random features: cosine distance of the later "
        "clips to the first one, their mean and that of the last clip (drift); without seams of eighths of the video",
        "0 to 2",
        "0",
        lambda given: {
            name: _number(each)
            for name, each in vars(
                subject_identity(given.video, given.seams, given.clip.frames if given.clip else None)
            ).items()
        },
    ),
    Metric(
        "fvd",
        "Frechet Video Distance: distance of the videos' features to those of reference videos",
        "squared features, from 0",
        "lower",
    ),
    Metric(
        "inception_score",
        "Inception Score: how sure a classifier is of each video, and how varied its classes are",
        "1 to the number of classes",
        "higher",
    ),
    Metric(
        "seam_error",
        "distance of the seam ratio from 1 as a power of two, in an ablation: 2 is four times too large or too small",
        "octaves, from 0",
        "lower",
        needs=("seams",),
    ),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ENTRIES}


def metric_of(figure: str) -> Metric | None:
    """The metric that a figure's name belongs to, as "drift brightness slope" to "drift"; None if there is none."""
    return METRICS.get(figure.split()[0])


def measure_video(
    video: Video,
    boundaries: ClipBoundaries = NO_SEAMS,
    text: str = "",
    clip: CLIPFeatures | None = None,
    flow: Flow = farneback,
) -> dict[str, Any]:
    """Compute all metrics of one video for which there are inputs.

    Args:
        video: uint8 [F, H, W, 3].
        boundaries: Where its clips meet; without seams there are no metrics of seams.
        text: Its prompt, for CLIPSIM.
        clip: A CLIP, for CLIPSIM and consistency; without, consistency is of thumbnails.
        flow: Optical flow.

    Returns:
        The number of frames, the seams, and each metric by name, for JSON; None where there is nothing to measure.

    Raises:
        ValueError: This is not a video, or a seam is outside it.
        MissingPackageError: An optional package is not installed.
    """
    inputs = MetricInputs(video, boundaries, text, clip, flow)
    here = [metric for metric in METRICS.values() if metric.compute and all(map(inputs.has, metric.needs))]
    found: dict[str, Any] = {"frames": len(video)}
    found |= {metric.name: metric.compute(inputs) for metric in here if metric.compute and not metric.needs}
    found["seams"] = list(boundaries.seams)
    return found | {metric.name: metric.compute(inputs) for metric in here if metric.compute and metric.needs}


def _mean(values: Sequence[float] | np.ndarray) -> float | None:
    """The mean for JSON; None without values."""
    return _number(float(np.mean(values))) if len(values) else None


def _numbers(values: Iterable[float]) -> list[float | None]:
    """Numbers for JSON; see `_number`."""
    return [_number(float(value)) for value in values]


def _number(value: float) -> float | None:
    """A number for JSON, with six decimals; None for NaN and infinity."""
    return round(value, 6) if math.isfinite(value) else None
