"""The parser of captions: from a caption of a procedural clip to the scene that it describes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from vidrd_core.procedural.captions import (
    ARTICLES,
    DEFAULT_BACKGROUND,
    DEFAULT_MOTION,
    JOINS,
    MOTION_PHRASES,
    ON_BACKGROUND,
    SIZE_WORDS,
)
from vidrd_core.procedural.scenes import BACKGROUNDS, COLORS, Scene, Sprite
from vidrd_core.procedural.shapes import SHAPES

_SIZES = {word: size for size, words in SIZE_WORDS.items() for word in words}
_MOTIONS = {phrase: motion for motion, phrases in MOTION_PHRASES.items() for phrase in phrases}


def parse_caption(text: str) -> Scene | None:
    """Parse a caption of `captions.caption` or `captions.describe`.

    Args:
        text: The caption; case, spaces and a full stop do not matter.

    Returns:
        The scene, with each sprite in the center, as captions do not contain positions; None for other sentences.
    """
    for pattern, layout in _patterns():
        if found := pattern.fullmatch(" ".join(text.lower().strip(" .").split())):
            words = found.groupdict()
            sprites = [_sprite(words, name) for name in ("first", "second") if words.get(f"{name}_shape")]
            return Scene(words["background"] or DEFAULT_BACKGROUND, tuple(sprites), layout)
    return None


def _sprite(words: dict[str, str | None], name: str) -> Sprite:
    """A sprite from the words of the first or second noun."""
    shape, color, size, motion = (words[f"{name}_{what}"] or "" for what in ("shape", "color", "size", "motion"))
    return Sprite(shape, color, _SIZES.get(size, "medium"), _MOTIONS.get(motion, DEFAULT_MOTION), 0.5, 0.5)


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """A pattern for each way to arrange sprites, with its layout."""
    ways = [("{first}", "single"), *((way, layout) for layout, joins in JOINS.items() for way in joins)]
    before, after = (_any(way.split("{background}")[i] for way in ON_BACKGROUND) for i in (0, 1))
    background = f"{before}(?P<background>{_any(BACKGROUNDS)}){after}"
    nouns = {name: _noun(name) for name in ("first", "second")}
    return [(re.compile(f"{way.format(**nouns)}(?: {background})?"), layout) for way, layout in ways]


def _noun(name: str) -> str:
    """A pattern for a sprite, with groups named after it."""
    kinds: dict[str, Iterable[str]] = {"size": _SIZES, "color": COLORS, "shape": SHAPES}
    size, color, shape = (f"(?P<{name}_{what}>{_any(words)})" for what, words in kinds.items())
    return f"{_any(ARTICLES)} (?:{size} )?{color} {shape}(?: (?P<{name}_motion>{_any(_MOTIONS)}))?"


def _any(words: Iterable[str]) -> str:
    """A pattern for any of the words, preferring the longest."""
    return f"(?:{'|'.join(sorted(words, key=len, reverse=True))})"
