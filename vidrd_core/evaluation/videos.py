"""Videos to evaluate: files in a folder, or videos that a model generates from prompts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from vidrd_core.data.files import Refused, caption_of, read_table, walk, warn_of_absent
from vidrd_core.io.configs import parse_json
from vidrd_core.io.digests import stamp
from vidrd_core.io.isolated import CrashError, reading
from vidrd_core.io.tables import VIDEO_SUFFIXES
from vidrd_core.many.jobs import Job, batches
from vidrd_core.many.making import frames_of_batch
from vidrd_core.metrics.seams import ClipBoundaries, Video
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural.drawn import drawn_clips_of
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sampling import DivergenceError
from vidrd_core.settings import SampleSettings
from vidrd_core.video import DEFAULT_FPS, read_video
from vidrd_core.video.animation_reader import frame_count
from vidrd_core.video.reader import probe_video


@dataclass(frozen=True)
class ClipLayout:
    """How the clips of a video overlap.

    Args:
        frames: Frames of a clip (N).
        repeated: Leading frames of later clips that repeat the clip before and are not shown.
        prompt_frames: Prompt frames of later clips (M).
    """

    frames: int
    repeated: int = 0
    prompt_frames: int = 0

    def __repr__(self) -> str:
        """The text that stamps of records have contained since 0.1.0."""
        return f"Clips(frames={self.frames}, repeated={self.repeated}, prompt_frames={self.prompt_frames})"

    def boundaries(self, length: int) -> ClipBoundaries:
        """Where clips meet in a video of `length` frames. Raises ValueError for a layout that is out of range."""
        return ClipBoundaries.regular(length, self.frames, self.repeated, self.prompt_frames)


@dataclass(frozen=True)
class LoadedVideo:
    """A video and what is known about it.

    Args:
        video: uint8 [F, H, W, 3].
        fps: Frame rate.
        text: Its prompt, "" if unknown.
        boundaries: Where its clips meet.
        extra: Metrics that only the generator of the video can compute, by name.
        network_video: The frames [F', H, W, 3] that networks are given, if not the first ones.
    """

    video: Video
    fps: float
    text: str
    boundaries: ClipBoundaries
    extra: Mapping[str, float] = field(default_factory=dict)
    network_video: Video | None = None


@dataclass(frozen=True)
class VideoSource:
    """A video by name that is not read or generated yet.

    Args:
        name: Its name in records.
        load: Reads or generates it; raises ValueError or OSError for a damaged file.
        stamp: Identifies its content and settings among videos of the same name.
    """

    name: str
    load: Callable[[], LoadedVideo]
    stamp: str = ""


def from_folder(folder: Path, layout: ClipLayout | None = None, table: Path | None = None) -> list[VideoSource]:
    """Find the videos under a folder, animated pictures among them, and its folders of PNG frames.

    A video's prompt comes from a table, else from `NAME.txt` beside it, else from the video itself if `vidrd
    generate` made it, which records the layout of its clips as well.

    Args:
        folder: The folder, which is searched with its subfolders.
        layout: The layout of the clips of all videos, instead of the one that a video records.
        table: A file of captions; see `data.files.read_table`.

    Returns:
        A source for each video, named by its path in the folder and sorted by name. Of a video whose name or text
        cannot be read, and of a folder that cannot be, `load` raises an error that says so.

    Raises:
        FileNotFoundError: There is no such folder.
        NotADirectoryError: It is a file.
        ValueError: The table cannot be read, or there are no videos.
    """
    folder = Path(folder)
    captions: Mapping[str, str] = read_table(table) if table else {}
    found: dict[str, Path] = {}
    refused = Refused()
    for path in walk(folder, refused):
        if path.suffix.lower() in (*VIDEO_SUFFIXES, ".apng") or frame_count(path) > 1:
            found[path.relative_to(folder).as_posix()] = path
        elif path.suffix.lower() == ".png":
            found[path.parent.relative_to(folder).as_posix()] = path.parent
    if not found:
        expected = ", ".join(VIDEO_SUFFIXES)
        raise ValueError(
            f"there are no videos in {folder}: expected {expected}, animated .webp, .apng, .png or .avif, or folders "
            f"of PNG frames"
        )
    if table:
        warn_of_absent(table, captions, found, folder)

    def source(name: str, path: Path) -> VideoSource:
        try:
            text = caption_of(path, name, captions)
        except ValueError as error:
            return _unreadable(name, f"{path} {error}")
        files = sorted(path.glob("*.png")) if path.is_dir() else [path]
        return VideoSource(name, lambda: _read(path, text, layout), stamp(files, text, layout))

    unreadable = [
        _unreadable(os.path.relpath(each.record.source, folder), f"{each.record.source} {each.reason}")
        for each in refused.records
    ]
    return [*(source(name, path) for name, path in sorted(found.items())), *unreadable]


def _unreadable(name: str, reason: str) -> VideoSource:
    """A source that is recorded as skipped."""

    def load() -> LoadedVideo:
        raise ValueError(reason)

    return VideoSource(name, load, stamp((), reason))


def _read(path: Path, text: str, layout: ClipLayout | None) -> LoadedVideo:
    """Read a file, with the prompt and layout that it records where none is given."""
    try:
        (video, fps), metadata = reading(read_video, path), reading(_vidrd_metadata, path)
    except CrashError as error:
        raise ValueError(f"{path} {error}") from error
    prompts = metadata.get("prompts") or [""]
    layout = layout or _layout_of(metadata)
    boundaries = layout.boundaries(len(video)) if layout else ClipBoundaries()
    return LoadedVideo(video, fps, text or (prompts[0] if len(set(prompts)) == 1 else ""), boundaries)


def _vidrd_metadata(path: Path) -> dict[str, Any]:
    """What `vidrd generate` recorded in a video; {} for other files."""
    if path.is_dir():
        return {}
    try:
        metadata = parse_json(probe_video(path).tags.get("comment", ""))
    except ValueError:  # none of ours
        return {}
    return metadata if isinstance(metadata, dict) and metadata.get("software") == "vidrd" else {}


def _layout_of(metadata: Mapping[str, Any]) -> ClipLayout | None:
    """The layout that a video's metadata implies; None if they do not say."""
    if not metadata.get("frames"):
        return None
    reuse = ReuseSettings.from_metadata(metadata)
    return ClipLayout(metadata["frames"], reuse.repeated_frames, reuse.prompt_frames)


@dataclass(frozen=True)
class GenerationSettings:
    """How videos are generated from prompts.

    Args:
        clips: Clips of a video.
        videos_per_prompt: Videos of each prompt.
        reuse: What a clip reuses from the one before.
        sample: Settings of `SampleSettings` by name; the seed is that of the first video.
        batch: Videos that are sampled together; their last bits depend on its size.
    """

    clips: int = 1
    videos_per_prompt: int = 1
    reuse: ReuseSettings = field(default_factory=ReuseSettings)
    sample: Mapping[str, Any] | None = None
    batch: int = 1

    def __post_init__(self) -> None:
        for name in ("clips", "videos_per_prompt", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")


def from_model(
    model: VidRD, prompts: Sequence[str], settings: GenerationSettings, processes: int = 1
) -> list[VideoSource]:
    """Prepare videos that a model generates from prompts; video k has the seed of the first plus k.

    Args:
        model: The model.
        prompts: One or more.
        settings: How they are generated.
        processes: How many processes share the videos in turn (`runner.evaluate`).

    Returns:
        `videos_per_prompt` sources for each prompt in turn, named by their number ("000000"); each generates its
        video when it is loaded, with those that this process will load next.

    Raises:
        ValueError: There are no prompts, or the model does not support the settings.
        UnknownWordError: The model does not know a word of a prompt.
    """
    if not prompts:
        raise ValueError("there are no prompts: give one a line")
    sample = dict(settings.sample or {})
    model.stream(list(prompts), len(prompts), settings.reuse, **sample)  # checks everything, generates nothing
    first = model.complete(SampleSettings(**sample))
    reuse = replace(settings.reuse, loop="keep") if settings.reuse.loop == "close" else settings.reuse
    lengths = {text: (len(model.text_encoder.rows(text)),) for text in prompts}
    texts = [text for text in prompts for _ in range(settings.videos_per_prompt)]
    jobs = [
        Job(
            number, "", [text], replace(first, seed=first.seed + number), reuse, settings.clips, lengths=lengths[text]
        )
        for number, text in enumerate(texts)
    ]
    generated = _Generated(model, jobs, settings.batch, processes)
    return [VideoSource(f"{job.number:06d}", partial(generated.load, job)) for job in jobs]


class _Generated:
    """Videos that a model generates in batches, of which those that are not asked for yet wait.

    Args:
        model: The model.
        jobs: The videos, each at its number.
        batch: Videos that are sampled together.
        processes: How many processes share the videos in turn.
    """

    def __init__(self, model: VidRD, jobs: Sequence[Job], batch: int, processes: int) -> None:
        self.model, self.jobs, self.batch, self.processes = model, jobs, batch, processes
        self.waiting: dict[int, Video | DivergenceError] = {}

    def load(self, job: Job) -> LoadedVideo:
        """Generate a video, with what can be read from its frames for a model of drawn clips."""
        if job.number not in self.waiting:
            mine = self.jobs[job.number % self.processes :: self.processes]
            start = job.number // self.processes // self.batch * self.batch  # so that each video has a place for good
            part = mine[start : start + self.batch]
            wanted = {each.number for each in part if each.number >= job.number}
            batch = next(each for each in batches(part, self.batch, wanted) if job in each.jobs)
            made = frames_of_batch(self.model, batch)
            self.waiting |= {each.number: video for each, video in zip(batch.jobs, made, strict=True)}
        video = self.waiting.pop(job.number)
        if isinstance(video, DivergenceError):
            raise video
        assert job.sample.frames is not None
        layout = ClipLayout(job.sample.frames, job.reuse.repeated_frames, job.reuse.prompt_frames)
        boundaries = layout.boundaries(len(video))
        text = job.prompts[0]
        drawn = drawn_clips_of(self.model)
        figures = drawn.figures(video, text, layout.frames, layout.repeated) if drawn else {}
        if job.reuse.loop != "none" and boundaries.seams:  # the last clip shows fewer frames, and has no later seam
            boundaries = replace(boundaries, seams=boundaries.seams[: job.clips - 1])
        return LoadedVideo(video, DEFAULT_FPS, text, boundaries, figures)
