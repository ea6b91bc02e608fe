"""What a caption of procedural clips tells of, as a scene: captions read backwards."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from vidrd_core.procedural.captions import (
    ARTICLES,
    JOINS,
    MOTION_PHRASES,
    ON_BACKGROUND,
    SIZE_WORDS,
    UNSAID_BACKGROUND,
    UNSAID_MOTION,
)
from vidrd_core.procedural.scenes import BACKGROUNDS, COLORS, Scene, Sprite
from vidrd_core.procedural.shapes import SHAPES

_SIZES = {word: size for size, words in SIZE_WORDS.items() for word in words}
_MOTIONS = {phrase: motion for motion, phrases in MOTION_PHRASES.items() for phrase in phrases}


def scene_of(text: str) -> Scene | None:
    """The scene that a caption says, as `captions.caption` and `captions.describe` put it; None for other sentences.

    Each sprite is in the middle, for a caption does not say where it is.
    """
    for pattern, layout in _patterns():
        if found := pattern.fullmatch(" ".join(text.lower().strip(" .").split())):
            said = found.groupdict()
            sprites = [_sprite(said, name) for name in ("first", "second") if said.get(f"{name}_shape")]
            return Scene(said["background"] or UNSAID_BACKGROUND, tuple(sprites), layout)
    return None


def _sprite(said: dict[str, str | None], name: str) -> Sprite:
    shape, color, size, motion = (said[f"{name}_{what}"] or "" for what in ("shape", "color", "size", "motion"))
    return Sprite(shape, color, _SIZES.get(size, "medium"), _MOTIONS.get(motion, UNSAID_MOTION), 0.5, 0.5)


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    ways = [("{first}", "single"), *((way, layout) for layout, joins in JOINS.items() for way in joins)]
    before, after = (_any(way.split("{background}")[i] for way in ON_BACKGROUND) for i in (0, 1))
    background = f"{before}(?P<background>{_any(BACKGROUNDS)}){after}"
    nouns = {name: _noun(name) for name in ("first", "second")}
    return [(re.compile(f"{way.format(**nouns)}(?: {background})?"), layout) for way, layout in ways]


def _noun(name: str) -> str:
    kinds: dict[str, Iterable[str]] = {"size": _SIZES, "color": COLORS, "shape": SHAPES}
    size, color, shape = (f"(?P<{name}_{what}>{_any(words)})" for what, words in kinds.items())
    return f"{_any(ARTICLES)} (?:{size} )?{color} {shape}(?: (?P<{name}_motion>{_any(_MOTIONS)}))?"


def _any(words: Iterable[str]) -> str:
    """Any of them, the longest that fits."""
    return f"(?:{'|'.join(sorted(words, key=len, reverse=True))})"
