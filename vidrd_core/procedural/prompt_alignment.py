"""Prompt faithfulness of procedural clips, read off their frames by program. Of other videos `consistency.clipsim`
tells, by a CLIP of the user's.
"""

from __future__ import annotations

from itertools import count, takewhile

import numpy as np

from vidrd_core.metrics.seams import Video
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural import VOCABULARY, Scene
from vidrd_core.procedural.caption_parsing import scene_of
from vidrd_core.procedural.chain_metrics import from_any_moment
from vidrd_core.procedural.recognition import matched, read_clip


def scene_for(model: VidRD, text: str) -> Scene | None:
    """The scene that a model of procedural clips should show; None for other models, and other sentences."""
    encoder = model.text_encoder
    return scene_of(text) if isinstance(encoder, TextEncoder) and encoder.config.words == VOCABULARY else None


def faithfulness(
    video: Video, scene: Scene | None, frames: int, repeated: int = 0, first: int = 0
) -> dict[str, float]:
    """Of the clips of a video, from one on: the share whose colour and shape are the scene's, and whose motion is.

    A clip is of N = `frames`, of which the first `repeated` are the last of the clip before. A motion may begin at
    any moment of the clip and go round, for a clip that goes on from another does not begin where the caption does.
    """
    if scene is None:
        return {}
    pace = frames - repeated
    starts = takewhile(lambda start: start + frames <= len(video), count(first * pace, pace))
    looks, motions = [], []
    for start in starts:
        pairs = matched(read_clip(video[start : start + frames], len(scene.sprites)), scene)
        looks.append(all((read.color, read.shape) == (told.color, told.shape) for read, told in pairs))
        motions.append(all(from_any_moment([read], told.motion, video.shape[1])[0] for read, told in pairs))
    return {"faithful_look": float(np.mean(looks)), "faithful_motion": float(np.mean(motions))} if looks else {}
