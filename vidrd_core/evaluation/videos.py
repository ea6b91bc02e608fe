"""Videos to be measured: files of a folder, or what a model makes of prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vidrd_core.data.files import beside, read_table, walk
from vidrd_core.data.long_videos import SUFFIXES
from vidrd_core.io.digests import stamp
from vidrd_core.metrics.seams import Video
from vidrd_core.metrics.video_metrics import Joints
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural.prompt_alignment import faithfulness, scene_for
from vidrd_core.reuse import ReuseSettings
from vidrd_core.video import DEFAULT_FPS, read_video
from vidrd_core.video.reader import probe_video


@dataclass(frozen=True)
class Clips:
    """Clips of N frames, M of them prompt frames; later ones show their first `repeated` no more."""

    frames: int
    repeated: int = 0
    prompt_frames: int = 0

    def joints(self, length: int) -> Joints:
        return Joints.regular(length, self.frames, self.repeated, self.prompt_frames)


@dataclass(frozen=True)
class Shown:
    """A video uint8 [F, H, W, 3], its rate, what it should show, and where its clips meet.

    `more` are figures that only who made it can tell; `looked_at` are the frames that networks are given, the first
    ones unless told.
    """

    video: Video
    fps: float
    text: str
    joints: Joints
    more: Mapping[str, float] = field(default_factory=dict)
    looked_at: Video | None = None


@dataclass(frozen=True)
class Subject:
    """A video by name, not made or read yet; `show` does that, and raises ValueError for one that is damaged.

    `stamp` tells it from others that may have its name.
    """

    name: str
    show: Callable[[], Shown]
    stamp: str = ""


def from_folder(folder: Path, clips: Clips | None = None, table: Path | None = None) -> list[Subject]:
    """The videos under a folder, and folders of PNG frames there, in order of their names.

    What a video should show is said in `NAME.txt` beside it, in a table (see `data.files`), or by the video itself if
    `vidrd generate` made it, which also tells its clips; `clips` does for all others. Raises FileNotFoundError,
    NotADirectoryError, ValueError for a table that cannot be read, or a folder without videos.
    """
    folder = Path(folder)
    said: Mapping[str, str] = read_table(table) if table else {}
    found: dict[str, Path] = {}
    for path in walk(folder):
        if path.suffix.lower() in SUFFIXES:
            found[path.relative_to(folder).as_posix()] = path
        elif path.suffix.lower() == ".png":
            found[path.parent.relative_to(folder).as_posix()] = path.parent
    if not found:
        raise ValueError(f"there are no videos in {folder}: expected {', '.join(SUFFIXES)}, or folders of PNG frames")

    def subject(name: str, path: Path) -> Subject:
        text = said.get(name, said.get(path.name, "")) or beside(path)
        files = sorted(path.glob("*.png")) if path.is_dir() else [path]
        return Subject(name, lambda: _read(path, text, clips), stamp(files, text, clips))

    return [subject(name, path) for name, path in sorted(found.items())]


def _read(path: Path, text: str, clips: Clips | None) -> Shown:
    video, fps = read_video(path)
    made = _made_with(path)
    prompts = made.get("prompts") or [""]
    clips = clips or _clips_of(made)
    joints = clips.joints(len(video)) if clips else Joints()
    return Shown(video, fps, text or (prompts[0] if len(set(prompts)) == 1 else ""), joints)


def _made_with(path: Path) -> dict[str, Any]:
    """What `vidrd generate` wrote into a video; nothing for others."""
    if path.is_dir():
        return {}
    try:
        made = json.loads(probe_video(path).tags.get("comment", ""))
    except ValueError:
        return {}
    return made if isinstance(made, dict) and made.get("software") == "vidrd" else {}


def _clips_of(made: Mapping[str, Any]) -> Clips | None:
    if not made.get("frames"):
        return None
    reuse = ReuseSettings.from_metadata(made)
    return Clips(made["frames"], reuse.repeated_frames, reuse.prompt_frames)


@dataclass(frozen=True)
class Making:
    """How videos are made of prompts: `videos` of each, of `clips` clips."""

    clips: int = 1
    videos: int = 1
    reuse: ReuseSettings = field(default_factory=ReuseSettings)
    sample: Mapping[str, Any] | None = None  # of SampleSettings; the seed is that of the first video

    def __post_init__(self) -> None:
        for name in ("clips", "videos"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")


def from_model(model: VidRD, prompts: Sequence[str], making: Making) -> list[Subject]:
    """What a model makes of prompts; video k has the seed of the first and k.

    Raises ValueError without prompts, or for what the model cannot do; UnknownWordError for a word it does not know.
    """
    if not prompts:
        raise ValueError("there are no prompts: give one a line")
    model.stream(
        list(prompts), len(prompts), making.reuse, **(making.sample or {})
    )  # which checks all, makes nothing
    texts = [text for text in prompts for _ in range(making.videos)]
    sample = dict(making.sample or {})
    seed = int(sample.pop("seed", 0))

    def subject(number: int, text: str) -> Subject:
        return Subject(f"{number:06d}", lambda: _made(model, text, making, {**sample, "seed": seed + number}))

    return [subject(number, text) for number, text in enumerate(texts)]


def _made(model: VidRD, text: str, making: Making, sample: dict[str, Any]) -> Shown:
    clips = list(model.stream(text, making.clips, making.reuse, **sample))
    frames = clips[0].state.frames
    rule = Clips(frames, making.reuse.repeated_frames, making.reuse.prompt_frames)
    video = model.frames(clips)
    joints = rule.joints(len(video))
    told = faithfulness(video, scene_for(model, text), rule.frames, rule.repeated)
    if making.reuse.loop == "close" and joints.seams:  # the last clip shows fewer frames, and no seam is beyond it
        joints = replace(joints, seams=joints.seams[: making.clips - 1])
    return Shown(video, DEFAULT_FPS, text, joints, told)
