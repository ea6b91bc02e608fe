"""What stages of data preparation take and give: records of pictures and videos, and why one cannot be used."""

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
    """A record cannot be used; the message is the reason that its manifest gives."""


@dataclass(frozen=True, eq=False)
class Record:
    """A picture, a video or a stretch of one, with its caption; at the end of a stage with its frames."""

    source: str  # the file
    caption: str = ""
    label: str = ""  # of a class
    kind: str = VIDEO
    start: float = 0.0  # seconds
    stop: float | None = None  # seconds; the video's end
    number: int = 0  # of those made from the same stretch
    digest: str = ""  # of the file's bytes, SHA-256
    origin: str = ""  # the identity of the record that a stage began with
    stamp: tuple[int, int] = (0, 0)  # its size in bytes and when it was last changed, in nanoseconds
    fps: float | None = None
    frames: NDArray[np.uint8] | None = field(default=None, repr=False)  # [F, H, W, 3]
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """What the record is, wherever its file lies: of the bytes, the stretch and what is said of it."""
        return hashed(self.digest, self.caption, self.label, self.start, self.stop)

    @property
    def key(self) -> str:
        """A name for what was made of it, without a dot."""
        return f"{hashed(self.origin, self.kind, self.start, self.stop)[:16]}_{self.number:03d}"

    def rng(self, seed: int) -> np.random.Generator:
        """A generator of its own, the same wherever and whenever the record is worked on."""
        words = hashed(self.digest, self.start, self.stop, self.number)
        return np.random.default_rng((seed, int(words[:16], 16)))

    def with_details(self, **details: Any) -> Record:
        return replace(self, details={**self.details, **details})


@dataclass(frozen=True)
class Skipped:
    """A record that was not used, and why."""

    record: Record
    reason: str


Step = Callable[[Record], Iterator[Record]]
"""Pure: of one record any number of records; UnfitError gives up the record, and no other."""


def made(record: Record, steps: tuple[Step, ...]) -> Iterator[Record | Skipped]:
    """What comes of a record by steps one after the other, and what was given up on the way."""
    if not steps:
        yield record
        return
    try:
        for each in steps[0](record):
            yield from made(each, steps[1:])
    except UnfitError as error:
        yield Skipped(record, str(error))
    except (ValueError, ArithmeticError, LookupError, MemoryError) as error:  # no record ends the others' run
        yield Skipped(record, f"cannot be worked on, {type(error).__name__}: {error}")


def identified(record: Record) -> Record:
    """The record with its file's digest. Raises UnfitError for a file that is empty or cannot be read."""
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
