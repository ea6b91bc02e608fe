"""Alignment of procedural clips with their prompts, recognized from the frames without a network.

For other videos use `vidrd_core.metrics.clipsim` with a CLIP.
"""

from __future__ import annotations

from itertools import count, takewhile

import numpy as np

from vidrd_core.metrics.seams import Video
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural import VOCABULARY, Scene
from vidrd_core.procedural.caption_parsing import parse_caption
from vidrd_core.procedural.chain_metrics import motion_at_any_phase
from vidrd_core.procedural.recognition import match_sprites, recognize


def scene_for_prompt(model: VidRD, text: str) -> Scene | None:
    """The scene that a model of procedural clips should show for a prompt.

    Args:
        model: Any model.
        text: The prompt.

    Returns:
        None for models with another vocabulary, and for prompts that are no caption of a scene.
    """
    encoder = model.text_encoder
    return parse_caption(text) if isinstance(encoder, TextEncoder) and encoder.config.words == VOCABULARY else None


def prompt_alignment(
    video: Video, scene: Scene | None, frames: int, repeated: int = 0, first: int = 0
) -> dict[str, float]:
    """The shares of a video's clips that show the scene's color and shape, and its motion.

    A motion may start at any phase, because a clip that continues another does not begin where the caption does.

    Args:
        video: uint8 [F, H, W, 3].
        scene: The scene that it should show; None for unknown.
        frames: Frames of a clip (N).
        repeated: Leading frames of later clips that are the last ones of the clip before.
        first: Index of the first clip that counts.

    Returns:
        `faithful_look` and `faithful_motion`, 0 to 1; {} without a scene, or without a complete clip.
    """
    if scene is None:
        return {}
    stride = frames - repeated
    starts = takewhile(lambda start: start + frames <= len(video), count(first * stride, stride))
    looks, motions = [], []
    for start in starts:
        pairs = match_sprites(recognize(video[start : start + frames], len(scene.sprites)), scene)
        looks.append(all((found.color, found.shape) == (sprite.color, sprite.shape) for found, sprite in pairs))
        motions.append(all(motion_at_any_phase([found], sprite.motion, video.shape[1])[0] for found, sprite in pairs))
    return {"faithful_look": float(np.mean(looks)), "faithful_motion": float(np.mean(motions))} if looks else {}
