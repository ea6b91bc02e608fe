"""All that can be measured of one video without weights, and with CLIP if there is one, as JSON has it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidrd_core.metrics import seams as on
from vidrd_core.metrics.appearance import drift
from vidrd_core.metrics.clip_features import Clip
from vidrd_core.metrics.consistency import clipsim, frame_consistency, subject_consistency, temporal_flickering
from vidrd_core.metrics.flow import Flow, farneback, flow_jump, is_dynamic, speeds
from vidrd_core.metrics.scene_cuts import scene_cuts
from vidrd_core.metrics.seams import Video, small_frames


@dataclass(frozen=True)
class Joints:
    """Where the clips of a video meet.

    seams    the first frame of each clip after the first
    window   steps from a seam on that `worst_step` looks at: M + 1
    periods  frames after which the video may come round: N and 2N
    """

    seams: tuple[int, ...] = ()
    window: int = 1
    periods: tuple[int, ...] = ()

    @classmethod
    def regular(cls, length: int, frames: int, repeated: int = 0, prompt_frames: int = 0) -> Joints:
        """Those of a video of `length` frames: clips of N = `frames`, of which later ones show `repeated` no more.

        Raises ValueError unless 0 <= repeated, prompt_frames < frames.
        """
        if frames < 1:
            raise ValueError(f"frames is {frames}, expected the 1 or more that a clip has")
        for name, value in (("repeated", repeated), ("prompt_frames", prompt_frames)):
            if not 0 <= value < frames:
                raise ValueError(f"{name} is {value}, expected 0 or more and less than the {frames} frames of a clip")
        seams = tuple(range(frames, length, frames - repeated))
        return cls(seams, prompt_frames + 1, (frames - repeated, frames, 2 * frames) if seams else ())


def measures(
    video: Video, joints: Joints = Joints(), text: str = "", clip: Clip | None = None, flow: Flow = farneback
) -> dict[str, Any]:
    """What a video uint8 [F, H, W, 3] shows; by seams where clips meet, None where there is nothing to measure.

    Consistency is of CLIP's features if there is one, else of small pictures. Raises ValueError for what is no video,
    MissingError where a package is missing.
    """
    steps, pace = on.steps(video), speeds(video, flow) if len(video) > 1 else np.zeros(0)
    features = clip.frames if clip else small_frames
    found: dict[str, Any] = {
        "frames": len(video),
        "dynamic": is_dynamic(video, flow) if len(video) > 1 else False,
        "speed": _mean(pace),
        "change": _mean(steps),
        "frame_consistency": _number(frame_consistency(video, features)),
        "subject_consistency": _number(subject_consistency(video, features)),
        "temporal_flickering": _number(temporal_flickering(video)),
        "scene_cuts": len(scene_cuts(video)),
        "seams": list(joints.seams),
    }
    if clip and text:
        found["clipsim"] = _number(clipsim(video, text, clip.frames, clip.texts))
    if not joints.seams:
        return found
    return {
        **found,
        "seam_ratio": _numbers(on.seam_ratio(video, joints.seams)),
        "worst_step": _numbers(on.worst_step(video, joints.seams, joints.window)),
        "flow_jump": _numbers(flow_jump(video, joints.seams, flow)),
        "mirror_score": _numbers(on.mirror_score(video, joints.seams)),
        "loopiness": {str(period): _loopiness(video, period) for period in sorted(set(joints.periods))},
        "drift": {
            name: {"slope": _number(each.slope), "change": _number(each.change)}
            for name, each in drift(video, joints.seams).items()
        },
    }


def _loopiness(video: Video, period: int) -> float | None:
    if period < 2:
        return None
    return _number(on.loopiness(video, period, reach=min(on.LOOP_REACH, period - 1)))


def _mean(values: Sequence[float] | np.ndarray) -> float | None:
    return _number(float(np.mean(values))) if len(values) else None


def _numbers(values: Iterable[float]) -> list[float | None]:
    return [_number(float(value)) for value in values]


def _number(value: float) -> float | None:
    """As JSON has it: no nan."""
    return round(value, 6) if math.isfinite(value) else None
