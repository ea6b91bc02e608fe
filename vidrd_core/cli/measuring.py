"""What `vidrd evaluate` and `vidrd ablate` share: networks of the user's, the run itself, pictures and files."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vidrd_core.cli.errors import InputError, input_checked, note, reason
from vidrd_core.cli.progress import busy
from vidrd_core.data.files import walk
from vidrd_core.evaluation.runner import Networks, Record, evaluate, read
from vidrd_core.evaluation.videos import Subject, from_folder
from vidrd_core.io.digests import stamp
from vidrd_core.io.interrupt import Interrupt
from vidrd_core.metrics.clip_features import Clip
from vidrd_core.metrics.feature_extractors import classifier, network
from vidrd_core.metrics.flow import MissingError
from vidrd_core.metrics.fvd import Statistics, statistics
from vidrd_core.metrics.seams import Video
from vidrd_core.model import device_of
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural.benchmark_records import weights_of
from vidrd_core.video import contact_sheet

PAGE, SHEETS = "report.html", "sheets"


@dataclass(frozen=True)
class Asked:
    """The networks that a user names."""

    fvd: str | None
    reference: Path | None
    classifier: Path | None
    clip: Path | None
    network_frames: int | None

    def check(self) -> None:
        """Raises InputError for an FVD without its reference, or the other way round."""
        if self.fvd and not self.reference:
            raise InputError("--fvd needs --reference: a folder of real videos, or statistics of them")
        if self.reference and not self.fvd:
            raise InputError("--reference is for --fvd: name its network")

    def networks(self, frames: int, device: str) -> Networks:
        """Loaded; they are given `frames` frames unless told."""
        with input_checked():
            return Networks(
                network(self.fvd, device) if self.fvd else None,
                classifier(self.classifier, device) if self.classifier else None,
                Clip(self.clip, device) if self.clip else None,
                frames if self.network_frames is None else self.network_frames,
            )

    def statistics(self, networks: Networks, output: Path) -> Statistics | None:
        """Of real videos: from a file, or of a folder's videos, kept for the next time."""
        if networks.fvd is None or self.reference is None:
            return None
        if self.reference.is_file():
            return Statistics.load(self.reference)
        kept = output / f"reference_{stamp(walk(self.reference))}.safetensors"
        if kept.exists():
            found = Statistics.load(kept)
            if found.about.network == networks.fvd.name and found.about.frames == networks.frames:
                return found
        with busy(f"features of {self.reference}"):
            found = of_folder(self.reference, networks)
        found.save(kept)
        return found


def measure(
    subjects: Sequence[Subject],
    output: Path,
    networks: Networks,
    about: dict[str, Any],
    pictured: Collection[str],
) -> bool:
    """Make and measure what is not yet, by one of several processes; whether all is there."""
    process, processes = _told("RANK", 0), _told("WORLD_SIZE", 1)
    done = 0

    def told(subject: Subject, record: Record, video: Video | None) -> None:
        nonlocal done
        done += 1
        if video is not None and subject.name in pictured:
            draw(video, record, output / SHEETS)
        said = f": {record['reason']}" if "reason" in record else ""
        if said or done % 10 == 0:
            note(f"{done} videos{f' by process {process}' if processes > 1 else ''}, {subject.name}{said}")
        stop.check()

    try:
        with Interrupt() as stop, input_checked():
            evaluate(subjects, output, networks, about, process=process, processes=processes, on_record=told)
    except MissingError as error:
        raise InputError(reason(error)) from error
    except KeyboardInterrupt:
        note(f"stopped; the same command goes on with {output}")
        raise
    names = {subject.name for subject in subjects}
    if missing := len(names) - len({record["name"] for record in read(output)} & names):
        note(f"{missing} videos are left to other processes; the last one to end writes the result")
    return not missing


def about_model(model: VidRD, clips: int) -> dict[str, Any]:
    """What tells a model's videos of so many clips from another's."""
    return {"model": model.name, "weights": weights_of(model), "loras": model.loras, "clips": clips}


def own_device(device: str) -> str:
    """Of several processes, which Accelerate or torchrun started, each has a GPU of its own."""
    kind = str(device_of(device))
    return f"cuda:{_told('LOCAL_RANK', 0)}" if kind == "cuda" and _told("WORLD_SIZE", 1) > 1 else kind


def _told(name: str, otherwise: int) -> int:
    return int(os.environ.get(name, otherwise))


def of_folder(folder: Path, networks: Networks) -> Statistics:
    """Statistics of the first frames of a folder's videos; those that cannot be read, or are too short, are told."""
    assert networks.fvd is not None
    rates: set[float] = set()

    def firsts() -> Iterator[Video]:
        for subject in from_folder(folder):
            try:
                shown = subject.show()
            except ValueError as error:
                note(f"{subject.name} is left out: {reason(error)}")
                continue
            if len(shown.video) < networks.frames:
                note(f"{subject.name} is left out: it has {len(shown.video)} frames, expected {networks.frames}")
                continue
            rates.add(round(shown.fps, 3))
            yield shown.video[None, : networks.frames]
        if not rates:
            raise InputError(
                f"no video in {folder} has {networks.frames} frames: give others, or fewer by --network-frames"
            )

    found = statistics(firsts(), networks.fvd, networks.fvd.name, None)
    fps = rates.pop() if len(rates) == 1 else None
    return replace(found, about=replace(found.about, fps=fps))


def draw(video: Video, record: Record, folder: Path) -> None:
    """A picture of a video; of a long one, what fits on a screen."""
    folder.mkdir(parents=True, exist_ok=True)
    every = max(1, len(video) // 64)
    scale = max(1, 64 // min(video.shape[1:3]))
    seams = [seam for seam in record["seams"] if every == 1]
    contact_sheet([video], folder / sheet_name(record["name"]), every=every, scale=scale, seams=seams)


def sheet_name(name: str) -> str:
    """The picture of a video of this name; names of folders count."""
    return name.replace("/", "_") + ".png"
