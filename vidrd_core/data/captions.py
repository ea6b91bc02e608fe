"""Captions of records: sidecar files, templates for a class label, or a vision-language model.

The paper captions long videos with MiniGPT-4 (section 5); here it is any model that the user names.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from string import Formatter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vidrd_core.data.clip_sampling import with_video_facts
from vidrd_core.data.decoding import frames_at, read_image
from vidrd_core.data.files import one_line
from vidrd_core.data.records import VIDEO, Record, UnfitError
from vidrd_core.io.tables import has_surrogates, printable

ImageArray = NDArray[np.uint8]
"""uint8 [H, W, 3]."""

LONGEST = 10_000  # characters of a caption
KEY_FRAME_SIDE = 768  # pixels of the longer side, at most: models scale images down further

DOES_NOT_SHAPE = {"shapes": False}  # metadata of settings that change no caption: where a model is, how it is called


class CaptionerError(RuntimeError):
    """The captioner itself fails, so that no record can be captioned: the run stops, to be resumed later."""


class Captioner(Protocol):
    """Writes captions. A frozen dataclass of settings, so that it can be sent to other processes."""

    @property
    def key_frames(self) -> int:
        """How many images it takes; 0 for none."""

    def __call__(self, record: Record, images: list[ImageArray]) -> str:
        """Write the caption of a record.

        Args:
            record: What is captioned.
            images: Its key frames, as many as `key_frames` at most.

        Returns:
            The caption as text; it may have line breaks, which `AddCaption` removes.

        Raises:
            UnfitError: It has no caption for this record.
            CaptionerError: It cannot caption any record.
        """


@dataclass(frozen=True)
class Sidecar:
    """The caption that a file has already, in a sidecar file or a table.

    Args:
        key_frames: None are needed.
    """

    key_frames: int = 0

    def __call__(self, record: Record, images: list[ImageArray]) -> str:
        """The record's caption. Raises UnfitError if it has none."""
        if not record.caption:
            raise UnfitError("has no caption: put it beside the file as NAME.txt, in a table, or name a captioner")
        return record.caption


@dataclass(frozen=True)
class Templates:
    """A class label in one of several sentences, always the same one for a file.

    Args:
        templates: Sentences with {label} in them.
        descriptions: Sentences of their own for some labels, as the paper wrote for UCF-101; capitals and spaces do
            not distinguish labels.
        seed: Seed of the choice of a sentence.
        key_frames: None are needed.

    Raises:
        ValueError: There is no template, or one without {label}.
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

    def __call__(self, record: Record, images: list[ImageArray]) -> str:
        """One of the sentences. Raises UnfitError for a record without a label."""
        if not record.label:
            raise UnfitError("has no label for the templates")
        described = {_spelling(label): sentences for label, sentences in self.descriptions}
        sentences = described.get(_spelling(record.label), self.templates)
        return sentences[record.rng(self.seed).integers(len(sentences))].format(label=record.label)


@dataclass(frozen=True)
class AddCaption:
    """A step that captions a record.

    Args:
        captioner: Writes the captions.
        recaption: Whether a captioner that takes images also replaces captions that exist.
    """

    captioner: Captioner
    recaption: bool = False

    def __call__(self, record: Record) -> Iterator[Record]:
        """The record with its caption. Raises UnfitError if there is none for it."""
        if record.caption and self.captioner.key_frames and not self.recaption:
            yield record
            return
        images = key_frames(record, self.captioner.key_frames) if self.captioner.key_frames else []
        caption = one_line(self.captioner(record, images))
        if len(caption) > LONGEST:
            raise UnfitError(f"has a caption of {len(caption)} characters, expected at most {LONGEST}")
        if not any(map(str.isalnum, caption)):
            raise UnfitError(f"has a caption without words, {caption!r}")
        if has_surrogates(caption):
            raise UnfitError(f"has a caption that is no UTF-8 text, {printable(caption)!r}")
        yield replace(record, caption=caption)


def key_frames(record: Record, count: int) -> list[ImageArray]:
    """Read `count` frames spread evenly over a segment of video; for an image, the image itself."""
    if record.kind != VIDEO:
        return [read_image(record.source)]
    record = with_video_facts(record)
    assert record.stop is not None
    width, height = record.details["source_size"]
    factor = min(1.0, KEY_FRAME_SIDE / max(width, height))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    room = record.stop - record.start
    return list(frames_at(record.source, [record.start + room * (i + 0.5) / count for i in range(count)], size))


def words_of(label: str) -> str:
    """A class's name as words: "ApplyEyeMakeup", "playing_guitar" -> "apply eye makeup", "playing guitar"."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", label.replace("_", " "))
    return one_line(unicodedata.normalize("NFC", apart)).lower()


def _spelling(label: str) -> str:
    """A label without what data sets do not agree on: HandStandPushups and handstand pushups are one."""
    return "".join(label.split()).casefold()
