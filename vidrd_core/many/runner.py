"""Run a list of videos: what is there stays, the others are made in batches and listed as they are finished."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from vidrd_core.many.jobs import Batch, Job, batches
from vidrd_core.many.making import OnStep, Result, make_batch
from vidrd_core.many.manifest import Manifest, ManifestError
from vidrd_core.pipeline import VidRD

LOCK = ".lock"
Results = Generator[list[Result], None, None]
OnBegin = Callable[[Batch], None]
OnPending = Callable[[Sequence[Job]], None]
OnResult = Callable[[Result], None]
CleanUp = Callable[[Sequence[Job]], None]


class Maker(Protocol):
    """Makes batches of videos."""

    def make(self, folder: Path, batches: Sequence[Batch], clean_up: CleanUp) -> Results:
        """Make batches.

        Args:
            folder: Where the files go.
            batches: The batches.
            clean_up: Removes what a killed process left of a batch.

        Returns:
            The results of each batch as they become ready, in any order.
        """


@dataclass(frozen=True)
class InProcess:
    """In this process, one batch after the other.

    Args:
        model: The model.
        on_begin: Called with each batch before it is made.
        on_step: Called with the clip and the step that is done; it may raise KeyboardInterrupt.
    """

    model: VidRD
    on_begin: OnBegin = lambda batch: None
    on_step: OnStep = lambda clip, step: None

    def make(self, folder: Path, batches: Sequence[Batch], clean_up: CleanUp) -> Results:
        """The results of each batch, in order; see `Maker`."""
        for batch in batches:
            self.on_begin(batch)
            yield make_batch(self.model, folder, batch, self.on_step)


@dataclass(frozen=True)
class Report:
    """What a run did.

    Args:
        made: Videos that it made.
        known: Those that were there.
        failed: Those that could not be made.
    """

    made: int
    known: int
    failed: list[Result]


def make_videos(
    jobs: Sequence[Job],
    folder: Path,
    model: dict[str, str],
    maker: Maker,
    size: int,
    *,
    where: Sequence[str] = (),
    on_pending: OnPending = lambda jobs: None,
    on_result: OnResult = lambda result: None,
) -> Report:
    """Make those videos of a list that a folder does not have yet.

    Args:
        jobs: The videos, whose settings have been checked.
        folder: The folder; it is created, but not those above it.
        model: The model, as `model_identity` describes it.
        maker: Where they are made.
        size: Videos of a batch, 1 or more.
        where: What messages call the place where each is asked for.
        on_pending: Called with the videos that are not there, before any is made.
        on_result: Called with what became of each video, once a finished one is listed.

    Returns:
        What was done.

    Raises:
        ManifestError: The folder holds videos of another list, or another run writes to it.
        OSError: Something cannot be written.
    """
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        held = lock.acquire(timeout=0)
    except Timeout as error:
        raise ManifestError(f"another run writes to {folder}: wait for it, or choose another folder") from error
    made, failed = 0, list[Result]()
    with held:
        manifest = Manifest(folder, model, size)
        pending = manifest.pending(jobs, where)
        on_pending(pending)
        with manifest:
            manifest.remove_leftovers(jobs)
            try:
                parts = batches(jobs, size, {job.number for job in pending})
                with closing(maker.make(folder, parts, manifest.remove_leftovers)) as found:
                    for result in chain.from_iterable(found):
                        if result.error:
                            failed.append(result)
                        else:
                            manifest.add(result)
                            made += 1
                        on_result(result)
            finally:
                manifest.remove_leftovers(pending)
    return Report(made, len(jobs) - len(pending), failed)
