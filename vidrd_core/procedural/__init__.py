"""Procedural captioned clips: one or two coloured sprites on a plain background, with their exact truth.

A scene is free of resolution: places and lengths are fractions of the frame, time runs from 0 (first frame)
to 1 (last frame). In pixels the centre of the top left pixel is (0.5, 0.5), x points right and y down, so a
growing angle turns clockwise. The middle of each way is near that of the frame, or of its half with two sprites: a
caption nearly settles all places.
"""

from vidrd_core.procedural.captions import VOCABULARY, caption, describe
from vidrd_core.procedural.clips import ShapesClip, sample_clip
from vidrd_core.procedural.rendering import SpriteTruth, coverage, render, trajectory
from vidrd_core.procedural.scenes import (
    BACKGROUNDS,
    COLORS,
    DIRECTIONS,
    GROWTH,
    MOTIONS,
    SIZES,
    SLACK,
    SPIN_SLACK,
    SPINNING_SHAPES,
    Scene,
    Sprite,
    evaluation_scenes,
    random_scene,
    random_still,
)
from vidrd_core.procedural.shapes import SHAPES, Array, signed_distance

__all__ = [
    "BACKGROUNDS",
    "COLORS",
    "DIRECTIONS",
    "GROWTH",
    "MOTIONS",
    "SHAPES",
    "SIZES",
    "SLACK",
    "SPINNING_SHAPES",
    "SPIN_SLACK",
    "VOCABULARY",
    "Array",
    "Scene",
    "ShapesClip",
    "Sprite",
    "SpriteTruth",
    "caption",
    "coverage",
    "describe",
    "evaluation_scenes",
    "random_scene",
    "random_still",
    "render",
    "sample_clip",
    "signed_distance",
    "trajectory",
]
