"""Whether what moves straight moves the way its caption says, whatever jumps lie between."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vidrd_core.data.readout import read_clip
from vidrd_core.data.shapes import DIRECTIONS, Scene
from vidrd_core.evaluation.motion import velocity
from vidrd_core.evaluation.seams import Video

LEAST_COSINE = math.cos(math.radians(30))
LEAST_PACE = 1.0  # px a frame in a frame of 64


def points_as_told(video: Video, spans: Sequence[slice], scene: Scene) -> list[bool] | None:
    """For each span of frames, whether the first sprite's usual step points as told; None if that is no direction."""
    word = scene.sprites[0].motion
    if word not in DIRECTIONS:
        return None
    told = np.array(DIRECTIONS[word], np.float64)
    told /= np.linalg.norm(told)
    found = []
    for span in spans:
        step = velocity(read_clip(video[span], len(scene.sprites)).sprites[0].positions)
        pace = float(np.linalg.norm(step)) * 64 / video.shape[2]
        along = float(step @ told) / max(float(np.linalg.norm(step)), 1e-9)
        found.append(bool(pace > LEAST_PACE and along > LEAST_COSINE))
    return found
