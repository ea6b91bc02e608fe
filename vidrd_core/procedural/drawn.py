"""The drawn clips that a small model was trained on: prompts, a reference, and what can be read from its frames."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from vidrd_core.metrics.seams import Video
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural import EVALUATION_SEED, describe, evaluation_scenes, render, world
from vidrd_core.procedural import VOCABULARY as SHAPES_VOCABULARY
from vidrd_core.procedural.caption_parsing import parse_caption
from vidrd_core.procedural.prompt_alignment import prompt_alignment
from vidrd_core.procedural.world.chains import LEAST, measure_chain

REFERENCE_SEED = 77
BALANCED = 56  # scenes: four of each motion, seven of each color
MOVES = 0.5  # pixels of 64 a frame: what moves less has no step that an error could be compared with


class DrawnClips(ABC):
    """A kind of drawn clips."""

    @abstractmethod
    def prompts(self, count: int) -> list[str]:
        """Balanced captions; more of them begin with the same ones, so that a run can be extended."""

    @abstractmethod
    def reference(self, count: int, frames: int, size: int) -> Iterator[Video]:
        """Clips uint8 [frames, size, size, 3] that no model was trained on."""

    @abstractmethod
    def is_caption(self, text: str) -> bool:
        """Whether a text is a caption of such clips."""

    @abstractmethod
    def figures(self, video: Video, text: str, frames: int, repeated: int = 0, first: int = 0) -> dict[str, Any]:
        """What can be read from a video of a model.

        Args:
            video: uint8 [F, H, W, 3].
            text: Its prompt.
            frames: Frames of a clip, N.
            repeated: Leading frames of later clips that are the last ones of the clip before.
            first: Index of the first clip of which the faithfulness counts.

        Returns:
            Figures by their names in `metrics.registry.METRICS`, for JSON; {} if the text is no caption, no clip is
            complete, or such clips and frames cannot be read.
        """


class Shapes(DrawnClips):
    """One or two shapes before an even ground (`vidrd_core.procedural`)."""

    def prompts(self, count: int) -> list[str]:
        """See `DrawnClips.prompts`."""
        blocks = range(-(-count // BALANCED))
        scenes = [scene for block in blocks for scene in evaluation_scenes(BALANCED, EVALUATION_SEED + block)]
        return [describe(scene) for scene in scenes[:count]]

    def reference(self, count: int, frames: int, size: int) -> Iterator[Video]:
        """See `DrawnClips.reference`."""
        return (render(scene, frames, size) for scene in evaluation_scenes(count, REFERENCE_SEED))

    def is_caption(self, text: str) -> bool:
        """See `DrawnClips.is_caption`."""
        return parse_caption(text) is not None

    def figures(self, video: Video, text: str, frames: int, repeated: int = 0, first: int = 0) -> dict[str, Any]:
        """See `DrawnClips.figures`."""
        return prompt_alignment(video, parse_caption(text), frames, repeated, first)


class World(DrawnClips):
    """Instances with a future (`vidrd_core.procedural.world`)."""

    def prompts(self, count: int) -> list[str]:
        """See `DrawnClips.prompts`."""
        return [world.describe(each) for each in world.evaluation_instances(count, EVALUATION_SEED)]

    def reference(self, count: int, frames: int, size: int) -> Iterator[Video]:
        """See `DrawnClips.reference`."""
        return (world.render(each, frames, size) for each in world.evaluation_instances(count, REFERENCE_SEED))

    def is_caption(self, text: str) -> bool:
        """See `DrawnClips.is_caption`."""
        return world.parse(text) is not None

    def figures(self, video: Video, text: str, frames: int, repeated: int = 0, first: int = 0) -> dict[str, Any]:
        """See `DrawnClips.figures`."""
        wanted, is_square = world.parse(text), video.shape[1] == video.shape[2]
        if wanted is None or not is_square or not LEAST <= frames <= len(video):
            return {}
        found = measure_chain(video, wanted, frames, repeated)
        shown, errors, moves = found.shown[first:], found.seam_error, found.step > MOVES
        figures: dict[str, Any] = {
            "faithful_look": [int(each.color and each.shape and each.ground) for each in shown],
            "faithful_motion": [int(each.motion) for each in shown],
        }
        if errors:
            figures["identity_kept"] = [int(each) for each in found.kept]
            figures["position_error"] = _numbers(errors)
            figures["position_jump"] = _numbers(error / found.step if moves else math.nan for error in errors)
            figures["direction_kept"] = _numbers(found.direction)
        return figures


_KINDS: dict[tuple[str, ...], DrawnClips] = {SHAPES_VOCABULARY: Shapes(), world.VOCABULARY: World()}


def read_by_caption(video: Video, caption: str, seams: Sequence[int]) -> dict[str, Any]:
    """What can be read from any video whose prompt is a caption of the drawn world.

    Args:
        video: uint8 [F, H, W, 3].
        caption: Its prompt.
        seams: Index of the first frame of each later clip.

    Returns:
        Figures as of `DrawnClips.figures`, one for each seam; {} for other prompts, frames that are not square, and
        clips that are too short or of several lengths.
    """
    lengths = {end - start for start, end in itertools.pairwise([*seams, len(video)])}
    if len(lengths) != 1 or seams[0] < max(lengths):
        return {}
    return World().figures(video, caption, seams[0], seams[0] - lengths.pop())


def drawn_clips_of(model: VidRD) -> DrawnClips | None:
    """The drawn clips that a model was trained on, told by the words that it knows; None for other models."""
    encoder = model.text_encoder
    return _KINDS.get(encoder.config.words) if isinstance(encoder, TextEncoder) else None


def _numbers(values: Iterable[float]) -> list[float | None]:
    return [round(float(value), 4) if np.isfinite(value) else None for value in values]
