"""Long videos (as VideoLT's) -> captioned clips: segmented, what shows nothing dropped, then captioned (VidRD, 5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from vidrd_core.data.captions import Captioned, Captioner
from vidrd_core.data.clip_sampling import ClipSettings, Cut
from vidrd_core.data.files import Found, find_files
from vidrd_core.data.motion_filter import Lively, LivelySettings
from vidrd_core.data.records import Step
from vidrd_core.data.scene_detection import Segmented, SegmentSettings

SUFFIXES = (
    ".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".gif", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".ogv", ".3gp",
)  # fmt: skip


@dataclass(frozen=True)
class LongVideos:
    """A stage: a folder of videos -> captioned clips of their scenes."""

    name: ClassVar[str] = "videos"
    per_shard: ClassVar[int] = 16

    folder: Path
    captioner: Captioner
    clips: ClipSettings = field(default_factory=ClipSettings)
    segments: SegmentSettings = field(default_factory=SegmentSettings)
    lively: LivelySettings = field(default_factory=LivelySettings)
    table: Path | None = None  # of captions
    recaption: bool = False  # ask a model, too, where there is a caption
    steps: tuple[Step, ...] = field(init=False)

    def __post_init__(self) -> None:
        steps = (
            Segmented(self.segments),
            Lively(self.lively),
            Captioned(self.captioner, self.recaption),
            Cut(self.clips),
        )
        object.__setattr__(self, "steps", steps)

    def find(self) -> Iterator[Found]:
        """The videos, with what is said beside them."""
        return find_files(self.folder, SUFFIXES, "a video", self.table)
