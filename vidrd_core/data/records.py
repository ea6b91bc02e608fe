"""Records of images and videos, which the stages of data preparation process, and why one is skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidrd_core.io.digests import file_digest, hashed

VIDEO, IMAGE, PSEUDO = "video", "image", "pseudo-video"


class UnfitError(ValueError):
    """A record is unusable; the message is the reason that the manifest gives."""


@dataclass(frozen=True, eq=False)
class Record:
    """An image, a video or a segment of one, with its caption; at the end of a stage with its frames.

    Args:
        source: The file.
        caption: What it shows; "" if that is not known.
        label: Name of its class; "" without one.
        kind: VIDEO, IMAGE or PSEUDO.
        start: Start of the segment in seconds.
        stop: End of the segment in seconds; None: the video's end.
        number: Its number among the clips of one segment.
        digest: SHA-256 of the file's bytes.
        origin: Identity of the record that a stage began with.
        stamp: The file's size in bytes and its modification time in nanoseconds.
        fps: Frames a second of `frames`; None for an image.
        frames: The clip, uint8 [F, H, W, 3].
        details: More facts, which the manifest has as well.
    """

    source: str
    caption: str = ""
    label: str = ""
    kind: str = VIDEO
    start: float = 0.0
    stop: float | None = None
    number: int = 0
    digest: str = ""
    origin: str = ""
    stamp: tuple[int, int] = (0, 0)
    fps: float | None = None
    frames: NDArray[np.uint8] | None = field(default=None, repr=False)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Digest of the file's bytes, caption, label and segment: the same wherever the file is."""
        return hashed(self.digest, self.caption, self.label, self.start, self.stop)

    @property
    def key(self) -> str:
        """A name for the clip, without a dot."""
        return f"{hashed(self.origin, self.kind, self.start, self.stop)[:16]}_{self.number:03d}"

    def rng(self, seed: int) -> np.random.Generator:
        """A random generator of its own, the same wherever and whenever the record is processed."""
        words = hashed(self.digest, self.start, self.stop, self.number)
        return np.random.default_rng((seed, int(words[:16], 16)))

    def with_details(self, **details: Any) -> Record:
        """The record with more facts."""
        return replace(self, details={**self.details, **details})


@dataclass(frozen=True)
class Skipped:
    """A record that was not used.

    Args:
        record: The record.
        reason: Why, as the end of a sentence that begins with its name.
    """

    record: Record
    reason: str


Step = Callable[[Record], Iterator[Record]]
"""Makes any number of records from one, depending on that one alone; UnfitError skips it."""


def apply_steps(record: Record, steps: tuple[Step, ...]) -> Iterator[Record | Skipped]:
    """The records that steps make from one, one step after the other, and what was skipped on the way."""
    if not steps:
        yield record
        return
    try:
        for each in steps[0](record):
            yield from apply_steps(each, steps[1:])
    except UnfitError as error:
        yield Skipped(record, str(error))
    except (ValueError, ArithmeticError, LookupError, MemoryError) as error:  # one bad record must not end the run
        yield Skipped(record, f"cannot be processed, {type(error).__name__}: {error}")


def with_digest(record: Record) -> Record:
    """The record with its file's digest and stamp. Raises UnfitError for a file that is empty or cannot be read."""
    path = Path(record.source)
    try:
        status = path.stat()
        if status.st_size == 0:
            raise UnfitError("is empty, 0 bytes")
        with path.open("rb") as file:
            digest = file_digest(file)
    except OSError as error:
        raise UnfitError(f"cannot be read: {error.strerror or error}") from error
    return replace(record, digest=digest, stamp=(status.st_size, status.st_mtime_ns))
