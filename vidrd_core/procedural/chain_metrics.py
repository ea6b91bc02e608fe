"""Metrics of a chain of procedural clips: what each clip shows, its seams, and how motion continues across them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, Literal, get_args

import numpy as np

from vidrd_core.metrics import seams
from vidrd_core.metrics.seams import Array, Video
from vidrd_core.procedural import DIRECTIONS, Scene, Sprite
from vidrd_core.procedural.motion_words import classify_motion
from vidrd_core.procedural.recognition import RecognizedScene, RecognizedSprite, compare, recognize
from vidrd_core.reuse import ReuseSettings

Record = dict[str, Any]
Turn = Literal["kept", "reversed", "turned", "still", "lost"]
TURNS: tuple[Turn, ...] = get_args(Turn)

WINDOW = 4  # frames on either side of a seam whose motion is compared
STILL = 0.5  # pixels per frame in a frame of 64 pixels: slower is standing still
MIN_COSINE = math.cos(math.radians(30))
MIN_SPEED = 1.0  # pixels per frame in a frame of 64
ALONG = 0.5  # least cosine of velocities with the same direction


def velocity(positions: Array) -> Array:
    """The median velocity of a track, which a single jump does not change.

    Args:
        positions: [F, 2] (x, y) in pixels, NaN where the sprite is not visible.

    Returns:
        [2] in pixels per frame; NaN if it is visible in no two successive frames.
    """
    moves = np.diff(positions, axis=0)
    seen = moves[~np.isnan(moves).any(1)]
    return np.median(seen, axis=0) if len(seen) else np.full(2, np.nan)


def track(scenes: Sequence[RecognizedScene], repeated: int = 0) -> Array:
    """The first sprite's positions in a video.

    Args:
        scenes: What was recognized in each clip.
        repeated: Leading frames of later clips that repeat the clip before and are skipped.

    Returns:
        [F, 2] (x, y) in pixels.
    """
    parts = [scene.sprites[0].positions for scene in scenes]
    return np.concatenate([parts[0], *(part[repeated:] for part in parts[1:])])


def turns(positions: Array, cuts: Sequence[int], window: int = WINDOW, still: float = STILL) -> list[Turn]:
    """Classify how the motion of a track continues at each seam, by the median velocities before and after it.

    Args:
        positions: [F, 2] (x, y) in pixels, NaN where the sprite is not visible.
        cuts: Seams: the index of the first frame of each later clip.
        window: Frames on either side that count, never beyond the two clips nor across the seam.
        still: Speed in pixels per frame below which the sprite stands still.

    Returns:
        For each seam "kept" for the same direction (cosine above 0.5), "reversed" for the opposite one (below -0.5),
        "turned" in between, "still" if either side stands still, "lost" if either is not visible.
    """
    found: list[Turn] = []
    for start, seam, end in zip([0, *cuts], cuts, [*cuts[1:], len(positions)], strict=False):
        before = velocity(positions[max(start, seam - window) : seam])
        after = velocity(positions[seam : min(end, seam + window)])
        found.append(_turn(before, after, still))
    return found


def _turn(before: Array, after: Array, still: float) -> Turn:
    """Classify how motion continues at a seam, by the velocities [2] before and after it."""
    speeds = float(np.linalg.norm(before)), float(np.linalg.norm(after))
    if np.isnan(speeds).any():
        return "lost"
    if min(speeds) < still or min(speeds) == 0:
        return "still"
    cosine = float(before @ after) / (speeds[0] * speeds[1])
    if cosine > ALONG:
        return "kept"
    return "reversed" if cosine < -ALONG else "turned"


def words_of(sprites: Sequence[Sprite | RecognizedSprite]) -> dict[str, str]:
    """Color, shape and motion of one sprite, or those of two joined by "and"."""
    return {key: " and ".join(getattr(each, key) for each in sprites) for key in ("color", "shape", "motion")}


def measure_chain(video: Video, scene: Scene, frames: int, clips: int, reuse: ReuseSettings) -> Record:
    """Recognize the clips of a video, and measure its seams and its motion.

    Args:
        video: uint8 [F, H, W, 3].
        scene: The scene that every clip should show.
        frames: Frames of a clip (N).
        clips: Number of clips.
        reuse: How clips overlap.

    Returns:
        A dictionary for JSON: `clips`, metrics of each seam, `turns`, `loop_period` in frames and `loopiness`.
    """
    repeated = reuse.repeated_frames
    starts = [clip * (frames - repeated) for clip in range(clips)]
    cuts = [start + repeated for start in starts[1:]]
    recognized = [recognize(video[start : start + frames], len(scene.sprites)) for start in starts]
    found = [
        {**words_of(each.sprites), "background": each.background, "right": asdict(compare(each, scene))}
        for each in recognized
    ]
    still = STILL * video.shape[2] / 64
    # The noise of shown frame g comes from that of frame g - 2N (mirror) or g - N (forward), whatever M is.
    period = frames if reuse.order == "forward" else 2 * frames
    loop = seams.loopiness(video, period, reach=min(seams.LOOP_REACH, max(1, period - 1))) if period > 1 else np.nan
    return {
        "clips": found,
        "seam_ratio": rounded(seams.seam_ratio(video, cuts)),
        "worst_step": rounded(seams.worst_step(video, cuts, reuse.prompt_frames + 1)),
        "mirror_score": rounded(seams.mirror_score(video, cuts)),
        "turns": turns(track(recognized, repeated), cuts, still=still),
        "loop_period": period,
        "loopiness": None if np.isnan(loop) else round(loop, 4),
    }


def rounded(values: Iterable[float]) -> list[float]:
    """Numbers with four decimals."""
    return [round(float(value), 4) for value in values]


def moves_in_direction(clips: Sequence[RecognizedSprite], word: str, height: int) -> list[bool] | None:
    """Whether the median velocity of each clip has the direction of a motion word; single jumps do not count.

    Args:
        clips: The same sprite in each clip.
        word: A motion word.
        height: Height of the frames in pixels.

    Returns:
        A value per clip; None if `word` is no direction.
    """
    if word not in DIRECTIONS:
        return None
    direction = np.array(DIRECTIONS[word], np.float64)
    direction /= np.linalg.norm(direction)
    found = []
    for clip in clips:
        step = velocity(clip.positions)
        speed = float(np.linalg.norm(step)) * 64 / height
        cosine = float(step @ direction) / max(float(np.linalg.norm(step)), 1e-9)
        found.append(bool(speed > MIN_SPEED and cosine > MIN_COSINE))
    return found


def motion_at_any_phase(clips: Sequence[RecognizedSprite], word: str, height: int) -> list[bool]:
    """Whether each clip shows the complete motion of a motion word, starting at any phase and wrapping around.

    A clip counts whose first frames are the end of the motion and whose last frames are its beginning. For "stay" the
    clip must match from every phase: a sprite that grows and starts over ends as large as it began.

    Args:
        clips: The same sprite in each clip.
        word: A motion word.
        height: Height of the frames in pixels.

    Returns:
        A value per clip.
    """
    every = all if word == "stay" else any

    def rolled(clip: RecognizedSprite, by: int) -> str:
        positions, radius, angle = (np.roll(x, by, axis=0) for x in (clip.positions, clip.radius, clip.angle))
        return classify_motion(positions * 64 / height, radius, angle, np.roll(clip.visible, by))

    return [every(rolled(clip, by) == word for by in range(len(clip.visible))) for clip in clips]
