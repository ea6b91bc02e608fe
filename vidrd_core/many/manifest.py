"""The list of a folder's videos: a line of JSON for each, written as they are finished, in order at the end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vidrd_core.io.atomic import write_text
from vidrd_core.io.jsonl import JsonLines, Record, resume
from vidrd_core.io.partial import PART, sweep
from vidrd_core.many.jobs import Job
from vidrd_core.many.making import Result
from vidrd_core.model import Model

NAME = "manifest.jsonl"
SAME = ("file", "prompts", "model", "seed", "settings")  # keys by which a video is known again


class ManifestError(ValueError):
    """A folder holds videos of another list or of other settings."""


class Manifest:
    """The manifest of a folder, from which a stopped run is resumed.

    Args:
        folder: The folder, which exists.
        model: The model, as `model_identity` describes it.
        batch: The size of a batch, which is recorded.

    Attributes:
        records: The record of each finished video, by its number.

    Raises:
        OSError: The manifest cannot be read.
        ManifestError: It holds something else.
    """

    def __init__(self, folder: Path, model: dict[str, str], batch: int) -> None:
        self.folder, self.path, self.model, self.batch = folder, folder / NAME, model, batch
        self.is_new = not self.path.exists()
        try:
            first, others = resume(self.path)
            lines = [first, *others] if first else []
            self.records: dict[int, Record] = {int(record["number"]): record for record in lines}
        except (ValueError, KeyError, TypeError) as error:
            raise ManifestError(
                f"{self.path} is not a list of videos ({error}): remove it, or choose another folder"
            ) from error

    def pending(self, jobs: Sequence[Job], where: Sequence[str] = ()) -> list[Job]:
        """Find the videos that are not there yet.

        Args:
            jobs: All videos.
            where: What messages call the place where each is asked for.

        Returns:
            Those without a record, and those whose file is gone.

        Raises:
            ManifestError: The manifest has videos that this list does not have, or has otherwise; or a file of theirs
                is there which it does not list.
        """
        wanted = {job.number: job for job in jobs}
        if others := sorted(set(self.records) - set(wanted)):
            raise ManifestError(
                f"{self.path} has {len(self.records)} videos and this list has {len(jobs)}, without number "
                f"{others[0]}: give the list with which the folder was begun, with new lines at its end, or another "
                f"folder"
            )
        for job in jobs:
            place = f" ({where[job.number]})" if where else ""
            if (record := self.records.get(job.number)) and (differing := _difference(self.describe(job), record)):
                raise ManifestError(
                    f"video {job.number}{place} was made with {differing}: repeat what it was made with, add new "
                    f"lines at the end of the list, or choose another folder"
                )
            if self.is_new and (self.folder / job.file).exists():
                raise ManifestError(
                    f"{self.folder / job.file} is there already, and there is no {NAME} that lists it: remove it, or "
                    f"choose another folder"
                )
        return [job for job in jobs if job.number not in self.records or not (self.folder / job.file).exists()]

    def describe(self, job: Job) -> Record:
        """What a video's record says before it is made."""
        return {
            "number": job.number,
            "file": job.file,
            "prompts": job.prompts,
            "seed": job.sample.seed,
            "settings": job.settings(),
            "model": self.model,
        }

    def remove_leftovers(self, jobs: Iterable[Job]) -> None:
        """Remove what a killed process left of these videos, and of the manifest."""
        files = {job.file.rstrip("/") for job in jobs}
        for path in self.folder.iterdir():
            match = PART.fullmatch(path.name)
            if match and match["stem"] + (match["suffix"] or "") in files:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        sweep(self.folder)

    def __enter__(self) -> Manifest:
        self._lines = JsonLines(self.path)
        self._lines.__enter__()
        return self

    def add(self, result: Result) -> None:
        """Record a finished video."""
        record = {
            **self.describe(result.job),
            "batch": 1 if result.job.fades else self.batch,
            "frames": result.frames,
            "seconds": round(result.seconds, 3),
        }
        self._lines.append(record)
        self.records[result.job.number] = record

    def __exit__(self, *of_error: Any) -> None:
        self._lines.__exit__(None, None, None)
        ordered = (json.dumps(self.records[number], allow_nan=False) + "\n" for number in sorted(self.records))
        write_text(self.path, "".join(ordered))


def model_identity(model: Model) -> dict[str, str]:
    """What a record says of the model: its name, the signatures of its parts, its type, and its LoRAs."""
    return {"name": model.name, "signature": model.signature, **model.metadata()}


def dtype_of(folder: Path) -> str | None:
    """The type in which a folder's videos were computed; None if its manifest does not say."""
    try:
        first, _ = resume(folder / NAME)
        return first["model"]["dtype"] if first else None
    except (OSError, ValueError, KeyError, TypeError):  # told when the manifest is read
        return None


def _difference(now: Record, before: Record) -> str:
    """The first thing with which a video was made otherwise, with both values; "" if all is equal."""
    for name in SAME:
        one, other = before.get(name), now[name]
        if isinstance(one, dict) and isinstance(other, dict):
            keys = [key for key in (*other, *one) if key != "name" and one.get(key) != other.get(key)]
            if keys:
                what = f"a model with another {keys[0]}" if name == "model" else keys[0].replace("_", "-")
                return f"{what} {one.get(keys[0])!r}, and this run has {other.get(keys[0])!r}"
        elif one != other:
            return f"{name} {one!r}, and this run has {other!r}"
    return ""
