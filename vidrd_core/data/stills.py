"""The stage that makes pseudo-videos of still images by zoom and pan (VidRD, section 5), or clips of one frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from vidrd_core.data.captions import AddCaption, Captioner
from vidrd_core.data.clip_sampling import ClipSettings
from vidrd_core.data.decoding import read_image
from vidrd_core.data.files import Found, find_files
from vidrd_core.data.pseudo_video import CameraSettings, pseudo_video
from vidrd_core.data.records import IMAGE, PSEUDO, Record, Step
from vidrd_core.io.pictures import PICTURE_SUFFIXES


@dataclass(frozen=True)
class Stills:
    """The stage `vidrd data stills`: a folder of captioned images to pseudo-videos, or to clips of one frame.

    Args:
        folder: The folder.
        captioner: Writes the captions.
        clips: Shape and number of the clips.
        camera: Zoom and pan; frames and size are those of `clips`.
        motion: Whether there is a camera; otherwise clips have one frame.
        table: A table of captions.
        recaption: Whether a model also captions images that have a caption.
    """

    name: ClassVar[str] = "stills"
    per_shard: ClassVar[int] = 256

    folder: Path
    captioner: Captioner
    clips: ClipSettings = field(default_factory=ClipSettings)
    camera: CameraSettings = field(default_factory=CameraSettings)
    motion: bool = True
    table: Path | None = None
    recaption: bool = False
    steps: tuple[Step, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self,
            "steps",
            (AddCaption(self.captioner, self.recaption), AnimateStill(self.clips, self.camera, self.motion)),
        )

    def find(self) -> Iterator[Found]:
        """The images, with their captions."""
        for found in find_files(self.folder, PICTURE_SUFFIXES, "an image", self.table):
            yield replace(found, kind=PSEUDO if self.motion else IMAGE) if isinstance(found, Record) else found


@dataclass(frozen=True)
class AnimateStill:
    """A step that makes clips, with their frames, of a still image.

    Args:
        clips: Shape and number of the clips.
        camera: Zoom and pan.
        motion: Whether there is a camera; otherwise the clip is one frame.
    """

    clips: ClipSettings
    camera: CameraSettings
    motion: bool

    def __call__(self, record: Record) -> Iterator[Record]:
        """A record for each clip. Raises UnfitError for an image that is damaged or too small."""
        still = read_image(record.source)
        height, width = still.shape[:2]
        scaled, (across, down) = self.clips.scaled_and_cropped(width, height)
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
