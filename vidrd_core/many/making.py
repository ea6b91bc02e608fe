"""Sample a batch of videos and write their files."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import tee, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vidrd_core.io.background import InBackground
from vidrd_core.many.jobs import Batch, Job
from vidrd_core.pipeline import VidRD
from vidrd_core.prompt_schedule import PerClip, fade_of, settings_of_clip
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sample import Clip
from vidrd_core.sampling import DivergenceError
from vidrd_core.settings import SampleSettings
from vidrd_core.state import ClipState
from vidrd_core.video import VideoWriter, open_video

OnStep = Callable[[int, int], None]
Sampled = Clip | DivergenceError


@dataclass(frozen=True)
class Result:
    """What became of a video.

    Args:
        job: The video.
        frames: How many it has.
        seconds: The time that it took; those of a batch have equal shares of the batch's.
        error: Why there is no video, if there is none.
    """

    job: Job
    frames: int = 0
    seconds: float = 0.0
    error: Exception | None = None


def open_generated(
    model: str,
    prompts: Sequence[str],
    sample: SampleSettings,
    reuse: ReuseSettings,
    per_clip: PerClip,
    output: str | os.PathLike[str],
    fps: float,
    scale: int,
    keep_on: tuple[type[BaseException], ...] = (KeyboardInterrupt,),
) -> VideoWriter:
    """Open a video that records how it is made.

    Args:
        model: The model's name.
        prompts: The prompts.
        sample: Complete settings.
        reuse: What each clip reuses.
        per_clip: Values of single clips.
        output: Where it goes.
        fps: Frames a second.
        scale: The side of the square to which a pixel is enlarged.
        keep_on: As for `open_video`.

    Returns:
        A writer.

    Raises:
        ValueError: The name, the rate, the scale or the size is not valid.
        OSError: The path cannot be written.
    """
    made_with = {"prompts": list(prompts), "model": model, **sample.metadata(), **reuse.metadata()}
    made_with |= {"per_clip": per_clip} if per_clip else {}
    assert sample.width is not None
    assert sample.height is not None
    return open_video(
        output,
        fps,
        scale=scale,
        size=(sample.width, sample.height),
        metadata={"comment": json.dumps({"software": "vidrd", **made_with})},
        keep_on=keep_on,
    )


def make_batch(model: VidRD, folder: Path, batch: Batch, on_step: OnStep | None = None) -> list[Result]:
    """Make the videos of a batch, in constant memory: their clips are sampled together and written as they come.

    The batch is filled up to its size with copies: its tensors always have the same shapes, so that no video depends
    on which others there are.

    Args:
        model: The model.
        folder: Where the files go.
        batch: The videos.
        on_step: Called with the clip and the step that is done; it may raise KeyboardInterrupt.

    Returns:
        What became of each.

    Raises:
        OSError: A file cannot be written.
        RuntimeError: There is too little memory.
    """
    began, jobs = time.perf_counter(), batch.jobs
    failed: dict[int, DivergenceError] = {}
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                open_generated(
                    model.name,
                    job.prompts,
                    job.sample,
                    job.reuse,
                    job.per_clip,
                    f"{folder}/{job.file}",
                    job.fps,
                    job.scale,
                    keep_on=(),
                )
            )
            for job in jobs
        ]
        with InBackground[tuple[VideoWriter, NDArray[np.uint8]]](lambda due: due[0].write(due[1])) as write:
            for pieces in _decoded(model, batch, failed, on_step):
                for writer, frames in zip(writers, pieces, strict=True):
                    if frames is not None:
                        write((writer, frames))
        for place in failed:
            writers[place].discard()
    seconds = (time.perf_counter() - began) / len(jobs)
    return [
        Result(job, error=failed[place]) if place in failed else Result(job, writers[place].frames_written, seconds)
        for place, job in enumerate(jobs)
    ]


def frames_of_batch(model: VidRD, batch: Batch) -> list[NDArray[np.uint8] | DivergenceError]:
    """Make the videos of a batch and keep them in memory.

    Args:
        model: The model.
        batch: The videos, as for `make_batch`.

    Returns:
        Of each video the frames uint8 [F, H, W, 3], or why there are none.
    """
    failed: dict[int, DivergenceError] = {}
    parts: list[list[NDArray[np.uint8]]] = [[] for _ in batch.jobs]
    for pieces in _decoded(model, batch, failed):
        for part, frames in zip(parts, pieces, strict=True):
            if frames is not None:
                part.append(frames)
    return [failed[place] if place in failed else np.concatenate(part) for place, part in enumerate(parts)]


def _decoded(
    model: VidRD,
    batch: Batch,
    failed: dict[int, DivergenceError],
    on_step: OnStep | None = None,
) -> Iterator[tuple[NDArray[np.uint8] | None, ...]]:
    """The next frames of each video of a batch, None after its end, in constant memory; `failed` gets its errors."""
    sampled = tee(sample_batch(model, batch, on_step), len(batch.jobs))
    return zip_longest(*(_frames_of(model, clips, place, failed) for place, clips in enumerate(sampled)))


def _frames_of(
    model: VidRD, clips: Iterator[list[Sampled]], place: int, failed: dict[int, DivergenceError]
) -> Iterator[NDArray[np.uint8]]:
    """The frames of one video of a batch, until a clip of it fails."""
    try:
        yield from model.decode(_states(clips, place, failed))
    except DivergenceError as error:
        failed[place] = error


def _states(clips: Iterator[list[Sampled]], place: int, failed: dict[int, DivergenceError]) -> Iterator[ClipState]:
    """The states of one video of a batch, until a clip of it fails."""
    for batch in clips:
        clip = batch[place]
        if isinstance(clip, DivergenceError):
            failed[place] = clip
            return
        yield clip.state


def sample_batch(model: VidRD, batch: Batch, on_step: OnStep | None = None) -> Iterator[list[Sampled]]:
    """Sample videos of equal settings together, clip by clip.

    Args:
        model: The model.
        batch: The videos.
        on_step: Called with the clip and the step that is done.

    Yields:
        The next clip of each video; in place of one that came out with NaN or infinity, and of all that would follow,
        the error. It ends early if none is left.
    """
    found: dict[int, Sampled] = {}  # by place
    for index in range(batch.jobs[0].clips):
        going = {
            place: job
            for place, job in zip(batch.places, batch.jobs, strict=True)
            if not isinstance(found.get(place), DivergenceError)
        }
        if not going:
            return
        before = {place: each.state for place in going if isinstance(each := found.get(place), Clip)}
        found |= _sample_clip(model, index, going, before, batch.size, on_step)
        yield [found[place] for place in batch.places]


def _sample_clip(
    model: VidRD,
    index: int,
    jobs: Mapping[int, Job],
    before: Mapping[int, ClipState],
    size: int,
    on_step: OnStep | None,
) -> dict[int, Sampled]:
    """Sample clip `index` of each video, after the states before it; all by their places."""
    one = next(iter(jobs))
    first, filled = jobs[one], [place if place in jobs else one for place in range(size)]
    prompts = [jobs[place].prompt(index) for place in filled]
    seeds = [settings_of_clip(index, jobs[place].sample, first.reuse, first.per_clip)[0].seed for place in filled]
    sample, reuse = settings_of_clip(index, first.sample, first.reuse, first.per_clip)
    given: dict[str, Any] = {name: value for name, value in asdict(sample).items() if name != "seed"}

    def step(done: int, latents: Tensor) -> None:
        if on_step:
            on_step(index, done)

    try:
        if before:
            if reuse.loop != "none" and index == first.clips - 1:
                reuse = replace(reuse, loop="close")
            states, fade = [before[place] for place in filled], fade_of(first.prompts, index, first.travel)
            clips = model.extend_many(states, prompts, reuse, seeds=seeds, fade=fade, on_step=step, **given)
        else:
            clips = model.generate_many(prompts, seeds, reuse, on_step=step, **given)
    except DivergenceError as error:
        if len(jobs) == 1:
            return {one: error}
        # One of them has failed all: each by itself, at its place, comes out as it would have together.
        found: dict[int, Sampled] = {}
        for place, job in jobs.items():
            states_of_one = {place: before[place]} if before else {}
            found |= _sample_clip(model, index, {place: job}, states_of_one, size, on_step)
        return found
    return {place: clips[place] for place in jobs}
