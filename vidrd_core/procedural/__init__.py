"""Procedural captioned clips: one or two colored sprites that move on a plain background, with exact ground truth.

A scene is independent of resolution: positions and lengths are fractions of the frame, and time runs from 0 (first
frame) to 1 (last frame). In pixels the center of the top left pixel is (0.5, 0.5), x points right and y down, so a
growing angle turns clockwise. The middle of each path is near the center of the frame, or of its half with two
sprites, so that a caption nearly determines all positions.
"""

from vidrd_core.procedural.captions import VOCABULARY, caption, describe
from vidrd_core.procedural.rendering import ShapesClip, SpriteTruth, coverage, render, sample_clip, trajectory
from vidrd_core.procedural.scenes import (
    BACKGROUNDS,
    COLORS,
    DIRECTIONS,
    EVALUATION_SEED,
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
    "EVALUATION_SEED",
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
