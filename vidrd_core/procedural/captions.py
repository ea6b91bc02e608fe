"""Captions of scenes: a canonical one, and random paraphrases."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import numpy as np

from vidrd_core.procedural.scenes import BACKGROUNDS, COLORS, Scene, Sprite, pick
from vidrd_core.procedural.shapes import SHAPES

ARTICLES = ("a", "an")
SIZE_WORDS: dict[str, tuple[str, ...]] = {"small": ("small", "tiny"), "medium": (), "large": ("large", "big")}
DEFAULT_BACKGROUND, DEFAULT_MOTION = "black", "stay"
PICTURE = "a picture of {}"
ON_BACKGROUND = ("on a {background} background", "over a {background} background")
JOINS: dict[str, tuple[str, ...]] = {
    "single": (),
    "stacked": ("{first} above {second}", "{first} and below it {second}"),
    "beside": (
        "{first} to the left of {second}",
        "{first} and {second}",
        "{first} and to its right {second}",
    ),
}


def _straight(*ways: str) -> tuple[str, ...]:
    """Phrases for straight motion."""
    verbs = ("moving", "moves", "going", "goes", "sliding", "slides")
    return tuple(f"{verb} {way}" for way, verb in product(ways, verbs))


# The first phrase of each motion is the canonical one, which `describe` uses.
MOTION_PHRASES: dict[str, tuple[str, ...]] = {
    **{side: _straight(side, f"to the {side}") for side in ("left", "right")},
    **{side: _straight(side, f"{side}wards") for side in ("up", "down")},
    **{
        f"{rise}-{side}": _straight(f"{rise} {side}", f"{rise} and to the {side}", f"diagonally {rise} {side}")
        for rise, side in product(("up", "down"), ("left", "right"))
    },
    "bounce": ("bouncing", "bounces"),
    "circle": ("orbiting", "orbits", "circling", "circling around", "going in a circle"),
    "grow": ("growing", "grows", "getting bigger", "gets bigger"),
    "shrink": ("shrinking", "shrinks", "getting smaller", "gets smaller"),
    "spin": ("spinning", "spins", "rotating", "rotates"),
    "stay": ("standing still", "stands still", "stays still", "not moving"),
}


def _noun(sprite: Sprite, size: str) -> str:
    """The article, the size word if there is one, the color and the shape."""
    words = [*([size] if size else []), sprite.color, sprite.shape]
    return " ".join([ARTICLES[words[0][0] in "aeiou"], *words])


def caption(scene: Scene, rng: np.random.Generator, still: bool = False) -> str:
    """Write a random caption of a scene.

    What a caption leaves out has its default, so that it determines the look of every frame: medium size, no motion,
    a black background. Only the size of a sprite that grows or shrinks is never named.

    Args:
        scene: The scene.
        rng: Decides on the words.
        still: The scene is a still image: the caption calls it a picture and leaves out motion.

    Returns:
        Words of `VOCABULARY`, separated by spaces.
    """
    parts = []
    for sprite in scene.sprites:
        sizes = () if sprite.motion in ("grow", "shrink") else SIZE_WORDS[sprite.size]
        noun = _noun(sprite, pick(rng, sizes) if sizes else "")
        silent = still or (sprite.motion == DEFAULT_MOTION and rng.random() < 0.5)
        parts.append(noun if silent else f"{noun} {pick(rng, MOTION_PHRASES[sprite.motion])}")
    text = parts[0]
    if len(parts) == 2:
        text = pick(rng, JOINS[scene.layout]).format(first=parts[0], second=parts[1])
    if scene.background != DEFAULT_BACKGROUND or rng.random() < 0.25:
        text = f"{text} {pick(rng, ON_BACKGROUND).format(background=scene.background)}"
    return PICTURE.format(text) if still else text


def describe(scene: Scene) -> str:
    """The canonical, complete caption: "a large red circle moving right on a black background"."""
    parts = []
    for sprite in scene.sprites:
        sizes = () if sprite.motion in ("grow", "shrink") else SIZE_WORDS[sprite.size]
        parts.append(f"{_noun(sprite, sizes[0] if sizes else '')} {MOTION_PHRASES[sprite.motion][0]}")
    text = JOINS[scene.layout][0].format(first=parts[0], second=parts[1]) if len(parts) == 2 else parts[0]
    return f"{text} {ON_BACKGROUND[0].format(background=scene.background)}"


def _words(groups: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """All words of phrases, sorted."""
    text = " ".join(phrase for group in groups for phrase in group)
    return tuple(sorted({word for word in text.split() if "{" not in word}))


VOCABULARY: tuple[str, ...] = _words(
    (
        SHAPES,
        COLORS,
        BACKGROUNDS,
        ON_BACKGROUND,
        (PICTURE,),
        ARTICLES,
        *SIZE_WORDS.values(),
        *JOINS.values(),
        *MOTION_PHRASES.values(),
    )
)
