"""The stage that makes captioned clips of long videos: scene detection, motion filter, captions (VidRD, 5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from vidrd_core.data.captions import AddCaption, Captioner
from vidrd_core.data.clip_sampling import ClipSettings, SampleClips
from vidrd_core.data.files import Found, find_files
from vidrd_core.data.motion_filter import MotionFilter, MotionFilterSettings
from vidrd_core.data.records import Step
from vidrd_core.data.scene_detection import SceneDetection, SceneSettings
from vidrd_core.io.tables import VIDEO_SUFFIXES


@dataclass(frozen=True)
class LongVideos:
    """The stage `vidrd data videos`: a folder of long videos, as VideoLT's, to captioned clips of their scenes.

    Args:
        folder: The folder.
        captioner: Writes the captions.
        clips: Shape and choice of the clips.
        scenes: How videos are split into scenes.
        motion_filter: Which scenes are dropped.
        table: A table of captions.
        recaption: Whether a model also captions videos that have a caption.
    """

    name: ClassVar[str] = "videos"
    per_shard: ClassVar[int] = 16

    folder: Path
    captioner: Captioner
    clips: ClipSettings = field(default_factory=ClipSettings)
    scenes: SceneSettings = field(default_factory=SceneSettings)
    motion_filter: MotionFilterSettings = field(default_factory=MotionFilterSettings)
    table: Path | None = None
    recaption: bool = False
    steps: tuple[Step, ...] = field(init=False)

    def __post_init__(self) -> None:
        steps = (
            SceneDetection(self.scenes),
            MotionFilter(self.motion_filter),
            AddCaption(self.captioner, self.recaption),
            SampleClips(self.clips),
        )
        object.__setattr__(self, "steps", steps)

    def find(self) -> Iterator[Found]:
        """The videos, with their captions."""
        return find_files(self.folder, VIDEO_SUFFIXES, "a video", self.table)
