"""Stills -> pseudo-videos by a camera that zooms and pans (VidRD, section 5), or -> images, clips of one frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from vidrd_core.data.captions import Captioned, Captioner
from vidrd_core.data.clip_sampling import ClipSettings
from vidrd_core.data.decoding import read_still
from vidrd_core.data.files import Found, find_files
from vidrd_core.data.pseudo_video import CameraSettings, pseudo_video
from vidrd_core.data.records import IMAGE, PSEUDO, Record, Step

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jfif")


@dataclass(frozen=True)
class Stills:
    """A stage: a folder of captioned pictures -> pseudo-videos, or images."""

    name: ClassVar[str] = "stills"
    per_shard: ClassVar[int] = 256

    folder: Path
    captioner: Captioner
    clips: ClipSettings = field(default_factory=ClipSettings)
    camera: CameraSettings = field(default_factory=CameraSettings)  # its frames and size are those of `clips`
    motion: bool = True  # False: images
    table: Path | None = None  # of captions
    recaption: bool = False  # ask a model, too, where there is a caption
    steps: tuple[Step, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "steps", (Captioned(self.captioner, self.recaption), Shown(self.clips, self.camera, self.motion))
        )

    def find(self) -> Iterator[Found]:
        """The pictures, with their captions."""
        for found in find_files(self.folder, SUFFIXES, "a picture", self.table):
            yield replace(found, kind=PSEUDO if self.motion else IMAGE) if isinstance(found, Record) else found


@dataclass(frozen=True)
class Shown:
    """A step: a picture -> clips of it, with frames."""

    clips: ClipSettings
    camera: CameraSettings
    motion: bool

    def __call__(self, record: Record) -> Iterator[Record]:
        still = read_still(record.source)
        height, width = still.shape[:2]
        scaled, (across, down) = self.clips.sides(width, height)
        details = {**record.details, "source_size": (width, height)}
        if not self.motion:
            left, top = (scaled[0] - across) // 2, (scaled[1] - down) // 2
            small = Image.fromarray(still).resize(scaled, Image.Resampling.LANCZOS)
            frame = np.asarray(small.crop((left, top, left + across, top + down)))
            yield replace(record, frames=frame[None], fps=None, details=details)
            return
        camera = replace(self.camera, frames=self.clips.frames, width=across, height=down)
        for number in range(self.clips.clips):
            numbered = replace(record, number=number)
            frames = pseudo_video(still, camera, numbered.rng(self.clips.seed))
            yield replace(numbered, frames=frames, fps=self.clips.fps or 8.0, details=details)
