"""Videos to make, and the batches in which they are sampled."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from vidrd_core.io.partial import NAME_BYTES
from vidrd_core.pipeline import VidRD
from vidrd_core.prompt_schedule import PerClip, fade_of
from vidrd_core.reuse import ReuseSettings
from vidrd_core.settings import SampleSettings
from vidrd_core.video import DEFAULT_FPS
from vidrd_core.video.sinks import SUFFIXES

LARGEST_BATCH = 8  # by default
SMALL = 8 * 64 * 64  # frames x width x height of a clip of which so many are sampled together
FORMATS = (*(suffix[1:] for suffix in SUFFIXES), "png")
NAME = re.compile(r"[^\s.\x00-\x1f/\\:*?\"<>|][^\x00-\x1f/\\:*?\"<>|]*(?<![\s.])")
# What Windows keeps for devices, with any suffix.
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Job:
    """A video to make, whose settings have all been checked.

    Args:
        number: Its place in the list, from 0.
        file: The name of its file, or of its folder of PNG frames, with a "/" at its end.
        prompts: A prompt for each clip; the last one repeats.
        sample: How clips are sampled, without fields that are None.
        reuse: What each clip reuses of the previous one.
        clips: How many there are, 1 or more.
        travel: Clips over which a new prompt fades in, or OVER_FRAMES.
        per_clip: Values of single clips.
        fps: Frames a second.
        scale: The side of the square to which a pixel is enlarged.
        lengths: How many rows of tokens the text encoder makes of each prompt.
    """

    number: int
    file: str
    prompts: list[str]
    sample: SampleSettings
    reuse: ReuseSettings = field(default_factory=ReuseSettings)
    clips: int = 1
    travel: int = 0
    per_clip: PerClip = field(default_factory=dict)
    fps: float = DEFAULT_FPS
    scale: int = 1
    lengths: tuple[int, ...] = (1,)

    def prompt(self, clip: int) -> str:
        """The prompt of a clip."""
        return self.prompts[min(clip, len(self.prompts) - 1)]

    @property
    def fades(self) -> bool:
        """Whether a prompt fades into another one: such a video is sampled alone."""
        return any(fade_of(self.prompts, clip, self.travel) for clip in range(self.clips))

    def settings(self) -> dict[str, Any]:
        """All but the prompts and the seed, as values for JSON."""
        return json.loads(
            json.dumps(
                {
                    "clips": self.clips,
                    **{name: value for name, value in self.sample.metadata().items() if name != "seed"},
                    **self.reuse.metadata(),
                    "travel": self.travel,
                    "per_clip": {name: list(values) for name, values in self.per_clip.items()},
                    "fps": self.fps,
                    "scale": self.scale,
                }
            )
        )


@dataclass(frozen=True)
class Batch:
    """Videos that are sampled together: their settings are equal but for prompts and seeds.

    Args:
        jobs: The videos.
        places: The place of each in the batch, from 0.
        size: How many places there are; copies fill those that are free.
    """

    jobs: list[Job]
    places: list[int]
    size: int


def batches(jobs: Sequence[Job], size: int, wanted: Collection[int] | None = None) -> list[Batch]:
    """Sort videos into batches.

    A video's place follows from all videos of the list, so that it is the same wherever a run was stopped: matrices
    of some sizes have other last bits in other rows.

    Args:
        jobs: All videos of the list.
        size: The size of a batch, 1 or more; a video whose prompts fade is in one of size 1.
        wanted: The numbers of the videos to make; None for all.

    Returns:
        The batches that have any of these, with these alone, by the first video of each.
    """

    def kind(job: Job) -> str:
        own = job.number if job.fades else None
        lengths = [job.lengths[min(clip, len(job.lengths) - 1)] for clip in range(min(job.clips, len(job.prompts)))]
        while len(lengths) > 1 and lengths[-1] == lengths[-2]:
            lengths.pop()  # the last one repeats
        return json.dumps([job.settings(), lengths, own], sort_keys=True)

    equal: dict[str, list[Job]] = {}
    for job in jobs:
        equal.setdefault(kind(job), []).append(job)
    found = []
    for group in equal.values():
        own = 1 if group[0].fades else size
        for start in range(0, len(group), own):
            part = [
                (job, place)
                for place, job in enumerate(group[start : start + own])
                if wanted is None or job.number in wanted
            ]
            if part:
                found.append(Batch([job for job, _ in part], [place for _, place in part], own))
    return sorted(found, key=lambda batch: batch.jobs[0].number)


def default_batch(jobs: Sequence[Job], on_gpu: bool) -> int:
    """How many videos are sampled together if nothing else is asked for.

    Args:
        jobs: The videos.
        on_gpu: Whether a GPU samples them.

    Returns:
        On a CPU 1, since more gain little there. On a GPU 8 of clips as large as the built-in model's, and fewer of
        larger ones, in proportion.
    """
    if not (on_gpu and jobs):
        return 1
    largest = max((job.sample.frames or 1) * (job.sample.width or 1) * (job.sample.height or 1) for job in jobs)
    return max(1, min(LARGEST_BATCH, LARGEST_BATCH * SMALL // largest))


def check_model(model: VidRD, job: Job) -> tuple[int, ...]:
    """Check that a model can make a video, without sampling.

    Args:
        model: The model.
        job: The video.

    Returns:
        How many rows of tokens the text encoder makes of each prompt.

    Raises:
        ValueError: It cannot, or a setting is not valid.
        UnknownWordError: The text encoder does not know a word.
    """
    given: dict[str, Any] = {"travel": job.travel, "per_clip": job.per_clip, **vars(job.sample)}
    model.stream(job.prompts, job.clips, job.reuse, **given)  # samples nothing until it is iterated over
    return tuple(len(model.text_encoder.rows(prompt)) for prompt in job.prompts)


def file_of(name: str, kind: str, number: int) -> str:
    """The name of a video's file.

    Args:
        name: What it is to be called, with or without a suffix; "" for its number.
        kind: One of `FORMATS`, for a name without a suffix of those.
        number: Its number.

    Returns:
        Such as "000003.mp4"; a folder of PNG frames has a "/" at its end.

    Raises:
        ValueError: It cannot be the name of a file everywhere, or the format is not known.
    """
    if kind not in FORMATS:
        raise ValueError(f"format is {kind!r}, expected one of {', '.join(FORMATS)}")
    name = name or f"{number:06d}"
    if not NAME.fullmatch(name) or DEVICES.fullmatch(name):
        raise ValueError(
            f"name is {name[:100]!r}, expected one that a file can have everywhere: none of "
            f'/ \\ : * ? " < > |, no point at its begin or end, and no device of Windows such as CON'
        )
    file = name if name.lower().endswith(SUFFIXES) else f"{name}/" if kind == "png" else f"{name}.{kind}"
    if (size := len(os.fsencode(file.rstrip("/")))) > NAME_BYTES:
        raise ValueError(
            f"name is {name[:100]!r} ..., whose file would have a name of {size} bytes: at most {NAME_BYTES}"
        )
    return file
