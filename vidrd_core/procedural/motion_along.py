"""Whether clips move as their caption says where a whole motion need not begin with the clip."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vidrd_core.procedural import DIRECTIONS
from vidrd_core.procedural.chain_metrics import velocity
from vidrd_core.procedural.motion_words import motion_word
from vidrd_core.procedural.recognition import SpriteReading

LEAST_COSINE = math.cos(math.radians(30))
LEAST_PACE = 1.0  # px a frame in a frame of 64


def points_as_told(clips: Sequence[SpriteReading], word: str, height: int) -> list[bool] | None:
    """For each clip, whether its usual step points as told, whatever jumps; None if `word` is no direction.

    The clips are of frames `height` pixels high.
    """
    if word not in DIRECTIONS:
        return None
    told = np.array(DIRECTIONS[word], np.float64)
    told /= np.linalg.norm(told)
    found = []
    for clip in clips:
        step = velocity(clip.positions)
        pace = float(np.linalg.norm(step)) * 64 / height
        along = float(step @ told) / max(float(np.linalg.norm(step)), 1e-9)
        found.append(bool(pace > LEAST_PACE and along > LEAST_COSINE))
    return found


def from_any_moment(clips: Sequence[SpriteReading], word: str, height: int) -> list[bool]:
    """For each clip, whether it is the whole motion that `word` says, begun at any moment and gone round.

    So a clip counts whose first frames are the end of the motion, and whose last ones its beginning. What stays must
    do so from every moment: what grows and begins anew is as large at the end as it was.
    """
    every = all if word == "stay" else any

    def rolled(clip: SpriteReading, by: int) -> str:
        positions, radius, angle = (np.roll(x, by, axis=0) for x in (clip.positions, clip.radius, clip.angle))
        return motion_word(positions * 64 / height, radius, angle, np.roll(clip.visible, by))

    return [every(rolled(clip, by) == word for by in range(len(clip.visible))) for clip in clips]
