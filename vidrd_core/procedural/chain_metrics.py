"""What a chain of clips shows: whether a sprite's movement goes on across the seams, and all measures at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, Literal, get_args

import numpy as np

from vidrd_core.metrics import seams
from vidrd_core.metrics.seams import Array, Video
from vidrd_core.procedural import DIRECTIONS, Scene, Sprite
from vidrd_core.procedural.motion_words import motion_word
from vidrd_core.procedural.recognition import Reading, SpriteReading, read_clip, score
from vidrd_core.reuse import ReuseSettings

Record = dict[str, Any]
Turn = Literal["kept", "reversed", "turned", "still", "lost"]
TURNS: tuple[Turn, ...] = get_args(Turn)

WINDOW = 4  # frames to either side of a seam whose movement is compared
STILL = 0.5  # px/frame in a frame of 64 pixels: slower than this is standing still
LEAST_COSINE = math.cos(math.radians(30))
LEAST_PACE = 1.0  # px a frame in a frame of 64
ALONG = 0.5  # least cosine of velocities that point the same way


def velocity(positions: Array) -> Array:
    """The usual velocity [2] in px/frame of a track [F, 2] (x, y, nan where unseen); nan if no step of it was seen.

    The median step, which one jump does not change.
    """
    moves = np.diff(positions, axis=0)
    seen = moves[~np.isnan(moves).any(1)]
    return np.median(seen, axis=0) if len(seen) else np.full(2, np.nan)


def track(readings: Sequence[Reading], repeated: int = 0) -> Array:
    """The first sprite's positions in a video, [F, 2], from the readings of its clips.

    The first `repeated` frames of every later clip were shown already by the one before and are left out.
    """
    parts = [reading.sprites[0].positions for reading in readings]
    return np.concatenate([parts[0], *(part[repeated:] for part in parts[1:])])


def turns(positions: Array, cuts: Sequence[int], window: int = WINDOW, still: float = STILL) -> list[Turn]:
    """What a track [F, 2] does at each seam: the usual velocities of the frames before and after are compared.

    "kept" if they point the same way (cosine above 0.5), "reversed" if opposite ways (below -0.5), "turned" in
    between; "still" if either is slower than `still` px/frame, "lost" if the sprite was not seen to move or rest.
    `window` frames count on either side, but none from beyond the clips that meet there, nor the step across.
    `cuts` are the seams: the first frame of each later clip.
    """
    found: list[Turn] = []
    for start, seam, end in zip([0, *cuts], cuts, [*cuts[1:], len(positions)], strict=False):
        before = velocity(positions[max(start, seam - window) : seam])
        after = velocity(positions[seam : min(end, seam + window)])
        found.append(_turn(before, after, still))
    return found


def _turn(before: Array, after: Array, still: float) -> Turn:
    speeds = float(np.linalg.norm(before)), float(np.linalg.norm(after))
    if np.isnan(speeds).any():
        return "lost"
    if min(speeds) < still or min(speeds) == 0:
        return "still"
    cosine = float(before @ after) / (speeds[0] * speeds[1])
    if cosine > ALONG:
        return "kept"
    return "reversed" if cosine < -ALONG else "turned"


def words_of(sprites: Sequence[Sprite | SpriteReading]) -> dict[str, str]:
    """Colour, shape and motion of one sprite, or those of two joined by "and"."""
    return {key: " and ".join(getattr(each, key) for each in sprites) for key in ("color", "shape", "motion")}


def measure(video: Video, scene: Scene, frames: int, clips: int, reuse: ReuseSettings) -> Record:
    """Reads out a video of `clips` clips of N = `frames` frames each, and measures its seams and its motion."""
    repeated = reuse.repeated_frames
    starts = [clip * (frames - repeated) for clip in range(clips)]
    cuts = [start + repeated for start in starts[1:]]
    readings = [read_clip(video[start : start + frames], len(scene.sprites)) for start in starts]
    found = [
        {**words_of(reading.sprites), "background": reading.background, "right": asdict(score(reading, scene))}
        for reading in readings
    ]
    still = STILL * video.shape[2] / 64
    # The noise of shown frame g is made from that of frame g - 2N (mirror) or g - N (forward), whatever M is.
    period = frames if reuse.order == "forward" else 2 * frames
    loop = seams.loopiness(video, period, reach=min(seams.LOOP_REACH, max(1, period - 1))) if period > 1 else np.nan
    return {
        "clips": found,
        "seam_ratio": rounded(seams.seam_ratio(video, cuts)),
        "worst_step": rounded(seams.worst_step(video, cuts, reuse.prompt_frames + 1)),
        "mirror_score": rounded(seams.mirror_score(video, cuts)),
        "turns": turns(track(readings, repeated), cuts, still=still),
        "loop_period": period,
        "loopiness": None if np.isnan(loop) else round(loop, 4),
    }


def rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), 4) for value in values]


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
