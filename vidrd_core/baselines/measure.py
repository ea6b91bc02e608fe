"""What is measured of long videos, by the drawn clips that their model was trained on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vidrd_core.baselines.base import Candidate, LongVideo
from vidrd_core.procedural.chain_metrics import Record


class Measure(ABC):
    """A way to measure long videos, by prompts whose videos can be read by program.

    Args:
        pictured: Index of a prompt by the name of the picture in the docs that shows its videos.
    """

    pictured: ClassVar[dict[str, int]]

    @abstractmethod
    def prompts(self, count: int, seed: int) -> list[tuple[str, Any]]:
        """Prompts, each with what its video should show."""

    @abstractmethod
    def record(self, made: LongVideo, prompt: tuple[str, Any], frames: int, clips: int) -> Record:
        """Measure a video of as many clips of N = `frames` frames; a dictionary for JSON."""

    @abstractmethod
    def draw(self, made: LongVideo, frames: int, record: Record, path: Path) -> None:
        """Draw a contact sheet of a video, with its record; the sheet's folder is made."""

    @abstractmethod
    def quality(self, records: Sequence[Record]) -> float:
        """The score, 0 to 1, that selects a method's best setting."""

    @abstractmethod
    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """A method's row of the comparison."""

    @abstractmethod
    def tables(self, rows: Sequence[dict[str, Any]]) -> str:
        """The rows in Markdown."""


def nearness_to_1(records: Sequence[Record], name: str) -> float:
    """How near to 1 the median of a figure at all seams is, 0 to 1; 1 without seams."""
    values = [x for r in records for x in r[name]] or [1.0]
    return float(np.exp(-abs(np.log(max(np.median(values), 1e-3)))))


def spread(records: Sequence[Record], name: str) -> list[float]:
    """The median and the quartiles of a figure at all seams; zeros where there is none."""
    values = [x for r in records for x in r[name] if x is not None] or [0.0]
    return [round(float(x), 3) for x in np.percentile(values, [50, 25, 75])]


def best_settings(
    tried: Sequence[Candidate], records: Sequence[Record], quality: Callable[[Sequence[Record]], float]
) -> list[int]:
    """Select each method's best candidate.

    Args:
        tried: The candidates.
        records: Their records; those of the tuning stage count.
        quality: Scores the records of one candidate.

    Returns:
        An index into `tried` for each method, in the order in which methods first appear there.
    """
    best: dict[str, tuple[float, int]] = {}
    for number, candidate in enumerate(tried):
        score = quality(select(records, "tuning", candidate))
        if candidate.name not in best or score > best[candidate.name][0]:
            best[candidate.name] = (score, number)
    return [number for _, number in best.values()]


def select(records: Sequence[Record], stage: str, candidate: Candidate) -> list[Record]:
    """The records of a candidate in a stage."""
    return [
        r for r in records if (r["stage"], r["method"], r["setting"]) == (stage, candidate.name, candidate.setting)
    ]
