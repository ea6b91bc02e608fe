"""Captions of records: what lies beside a file, templates for a class, or a vision-language model's words.

The paper captions long videos with MiniGPT-4 (section 5); here the model is whatever the user names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from string import Formatter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vidrd_core.data.clip_sampling import measured
from vidrd_core.data.decoding import frames_at
from vidrd_core.data.files import tidy
from vidrd_core.data.records import VIDEO, Record, UnfitError

Picture = NDArray[np.uint8]  # [H, W, 3]
KEY_FRAME_SIDE = 768  # pixels of the longer side, at most: what models look at is smaller still


DOES_NOT_SHAPE = {"shapes": False}  # metadata of settings that change no caption: where a model is, how it is asked


class CaptionerError(RuntimeError):
    """The captioner itself fails, so that no record can be captioned: the run stops, and goes on when mended."""


class Captioner(Protocol):
    """Says what a record shows. It is a frozen dataclass of settings, so that it can be sent to other processes."""

    @property
    def key_frames(self) -> int:
        """How many pictures it wants to see; 0 for none."""

    def __call__(self, record: Record, pictures: list[Picture]) -> str:
        """A caption. Raises UnfitError for a record that it cannot caption, CaptionerError if it is out of order."""


@dataclass(frozen=True)
class Sidecar:
    """What is said beside the file, or in a table."""

    key_frames: int = 0

    def __call__(self, record: Record, pictures: list[Picture]) -> str:
        if not record.caption:
            raise UnfitError("has no caption: put it beside the file as NAME.txt, in a table, or name a captioner")
        return record.caption


@dataclass(frozen=True)
class Templates:
    """A class label put into one of several sentences, always the same one for a file.

    `descriptions` has sentences of their own for some classes, as the paper wrote for UCF-101. Raises ValueError for
    a template without {label}.
    """

    templates: tuple[str, ...] = ("a video of {label}", "a person is {label}", "someone {label}")
    descriptions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    seed: int = 0
    key_frames: int = 0

    def __post_init__(self) -> None:
        for template in self.templates:
            try:
                names = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
            except ValueError as error:
                raise ValueError(f"the template {template!r} has an unmatched brace: write {{label}} once") from error
            if names != {"label"}:
                raise ValueError(f"the template {template!r} must have {{label}} in it, and no other braces")
        if not self.templates:
            raise ValueError("there are no templates: give one at least, with {label} in it")

    def __call__(self, record: Record, pictures: list[Picture]) -> str:
        if not record.label:
            raise UnfitError("has no label for the templates")
        sentences = dict(self.descriptions).get(record.label, self.templates)
        return sentences[record.rng(self.seed).integers(len(sentences))].format(label=record.label)


@dataclass(frozen=True)
class Captioned:
    """A step: the record with its caption. Raises UnfitError for what the captioner has no words for.

    A captioner that looks at pictures is asked where nothing is said yet, or if `anew` always.
    """

    captioner: Captioner
    anew: bool = False

    def __call__(self, record: Record) -> Iterator[Record]:
        if record.caption and self.captioner.key_frames and not self.anew:
            yield record
            return
        pictures = key_frames(record, self.captioner.key_frames) if self.captioner.key_frames else []
        caption = tidy(self.captioner(record, pictures))
        if not any(map(str.isalnum, caption)):
            raise UnfitError(f"has a caption without words, {caption!r}")
        yield replace(record, caption=caption)


def key_frames(record: Record, count: int) -> list[Picture]:
    """Pictures spread over a stretch of video, or the picture itself."""
    if record.kind != VIDEO:
        from vidrd_core.data.decoding import read_still

        return [read_still(record.source)]
    record = measured(record)
    assert record.stop is not None
    width, height = record.details["source_size"]
    factor = min(1.0, KEY_FRAME_SIDE / max(width, height))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    room = record.stop - record.start
    return list(frames_at(record.source, [record.start + room * (i + 0.5) / count for i in range(count)], size))


def words_of(label: str) -> str:
    """A class's name as words: "ApplyEyeMakeup", "playing_guitar" -> "apply eye makeup", "playing guitar"."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", label.replace("_", " "))
    return tidy(apart).lower()
