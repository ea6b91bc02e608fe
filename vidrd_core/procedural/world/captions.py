"""Captions of the drawn world: what there is and how it moves, never which instance."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product

import numpy as np

from vidrd_core.procedural.scenes import DIRECTIONS, pick
from vidrd_core.procedural.shapes import SHAPES
from vidrd_core.procedural.world.motion import MOTIONS
from vidrd_core.procedural.world.things import COLORS, FOLLOWED, GROUNDS, Instance, random_instance

# The first phrase of each motion is the canonical one.
PHRASES: dict[str, tuple[str, ...]] = {
    **{f"drift {way}": (f"drifting {way}", f"moving {way}", f"gliding {way}") for way in DIRECTIONS},
    **{f"follow {way}": (f"followed {way}", f"followed going {way}") for way in FOLLOWED},
    "bounce": ("bouncing", "bouncing around"),
    "orbit": ("orbiting", "circling"),
    "swing": ("swinging", "swinging from side to side"),
    "pulse": ("pulsing", "growing and shrinking"),
    "spin": ("spinning", "rotating"),
    "stay": ("standing still", "not moving"),
}
SENTENCE = "{article} {color} {shape} {motion} over {ground_article} {ground} ground"


@dataclass(frozen=True)
class Wanted:
    """What a caption says.

    Args:
        color: One of `COLORS`.
        shape: One of `SHAPES`.
        motion: One of `MOTIONS`.
        ground: One of `GROUNDS`.
    """

    color: str
    shape: str
    motion: str
    ground: str


def describe(instance: Instance) -> str:
    """The canonical caption: "a red star drifting right over a striped ground"."""
    return sentence(wanted_of(instance))


def caption(instance: Instance, rng: np.random.Generator) -> str:
    """A random caption, which says the same as the canonical one."""
    return sentence(wanted_of(instance), pick(rng, PHRASES[instance.motion.word]))


def wanted_of(instance: Instance) -> Wanted:
    """What captions say of an instance."""
    thing = instance.thing
    return Wanted(thing.color, thing.shape, instance.motion.word, instance.ground.pattern)


def sentence(wanted: Wanted, phrase: str | None = None) -> str:
    """The caption of what is wanted, with a phrase for its motion; the canonical one by default."""
    return SENTENCE.format(
        article="an" if wanted.color[0] in "aeiou" else "a",
        color=wanted.color,
        shape=wanted.shape,
        motion=phrase or PHRASES[wanted.motion][0],
        ground_article="a",
        ground=wanted.ground,
    )


def parse(text: str) -> Wanted | None:
    """What a caption says; None for a text that is no caption of this world."""
    phrases = {phrase: word for word, each in PHRASES.items() for phrase in each}
    shape = rf"an? ({'|'.join(COLORS)}) ({'|'.join(SHAPES)}) (.+) over an? ({'|'.join(GROUNDS)}) ground"
    found = re.fullmatch(shape, " ".join(text.lower().split()).rstrip("."))
    if not found or found[3] not in phrases:
        return None
    return Wanted(found[1], found[2], phrases[found[3]], found[4])


def evaluation_instances(count: int, seed: int) -> list[Instance]:
    """Instances that captions of an evaluation are taken from, with every motion equally often (to within one).

    Args:
        count: Number of instances; more of them begin with the same ones.
        seed: Any that is not that of a data set.

    Returns:
        The instances.
    """
    return [random_instance(np.random.default_rng((seed, i)), [MOTIONS[i % len(MOTIONS)]]) for i in range(count)]


def every_caption() -> list[Wanted]:
    """All that captions can say, in a fixed order."""
    return [Wanted(*each) for each in product(COLORS, SHAPES, MOTIONS, GROUNDS)]


VOCABULARY: tuple[str, ...] = tuple(
    sorted(
        {
            word
            for text in (
                *COLORS,
                *SHAPES,
                *GROUNDS,
                *(p for each in PHRASES.values() for p in each),
                "a an over ground",
            )
            for word in text.split()
        }
    )
)
