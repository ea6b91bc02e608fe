"""What `vidrd evaluate` and `vidrd ablate` have in common: networks, the run by several processes, pictures."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vidrd_core.cli.errors import InputError, input_checked, note, reason
from vidrd_core.cli.progress import busy
from vidrd_core.data.files import walk
from vidrd_core.evaluation.runner import Networks, Record, evaluate, read_records
from vidrd_core.evaluation.videos import VideoSource, from_folder
from vidrd_core.io import MissingPackageError
from vidrd_core.io.digests import SHORT, hashed, stamp
from vidrd_core.io.interrupt import Interrupt
from vidrd_core.io.partial import fitting
from vidrd_core.metrics.clip_features import CLIPFeatures
from vidrd_core.metrics.feature_extractors import load_classifier, load_feature_extractor
from vidrd_core.metrics.fvd import FeatureStatistics, feature_statistics
from vidrd_core.metrics.seams import Video
from vidrd_core.model import device_of
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural.benchmark import model_digest
from vidrd_core.video import contact_sheet

PAGE, SHEETS = "report.html", "sheets"


@dataclass(frozen=True)
class NetworkOptions:
    """The networks that the options name.

    Args:
        fvd: Network of FVD: i3d:FILE or script:FILE in TorchScript, videomae:FOLDER of transformers, or
            python:MODULE:NAME, which makes a torch module.
        reference: Real videos for FVD: a folder, or statistics: reference_*.safetensors, or an .npz (mu, sigma).
        classifier: C3D of UCF-101 in TorchScript, for the Inception Score.
        clip: CLIP, for CLIPSIM, consistency and identity.
        network_frames: How many frames of a video FVD and Inception Score use.
    """

    fvd: str | None = None
    reference: Path | None = None
    classifier: Path | None = None
    clip: Path | None = None
    network_frames: int | None = None

    def check(self) -> None:
        """Raise InputError for a feature extractor without a reference, or the other way round."""
        if self.fvd and not self.reference:
            raise InputError("--fvd needs --reference: a folder of real videos, or statistics of them")
        if self.reference and not self.fvd:
            raise InputError("--reference is for --fvd: name its network")

    def networks(self, frames: int, device: str) -> Networks:
        """Load the networks, which are given `frames` frames by default. Raises InputError."""
        with input_checked():
            return Networks(
                load_feature_extractor(self.fvd, device) if self.fvd else None,
                load_classifier(self.classifier, device) if self.classifier else None,
                CLIPFeatures(self.clip, device) if self.clip else None,
                frames if self.network_frames is None else self.network_frames,
            )

    def reference_statistics(self, networks: Networks, output: Path) -> FeatureStatistics | None:
        """Statistics of the reference: from a file, or computed from a folder and kept in `output` for later runs."""
        if networks.fvd is None or self.reference is None:
            return None
        if self.reference.is_file():
            return FeatureStatistics.load(self.reference)
        kept = output / f"reference_{stamp(walk(self.reference))}.safetensors"
        if kept.exists():
            found = FeatureStatistics.load(kept)
            if found.about.network == networks.fvd.name and found.about.frames == networks.frames:
                return found
        with busy(f"features of {self.reference}"):
            found = folder_statistics(self.reference, networks)
        found.save(kept)
        return found


def measure(
    sources: Sequence[VideoSource],
    output: Path,
    networks: Networks,
    about: dict[str, Any],
    pictured: Collection[str],
) -> bool:
    """Generate and measure the videos that have no record yet, as one of several processes.

    Args:
        sources: The videos.
        output: Folder of the records.
        networks: The networks.
        about: Settings that records are labeled with.
        pictured: Names of the videos that get a contact sheet.

    Returns:
        Whether all videos have records now.
    """
    process, processes = _environment("RANK", 0), process_count()
    done = 0

    def draw(source: VideoSource, record: Record, video: Video | None) -> None:
        if video is not None and source.name in pictured:
            draw_video(video, record, output / SHEETS)

    def report(source: VideoSource, record: Record, video: Video | None) -> None:
        nonlocal done
        done += 1
        reason_ = f": {record['reason']}" if "reason" in record else ""
        if reason_ or done % 10 == 0:
            note(f"{done} videos{f' by process {process}' if processes > 1 else ''}, {source.name}{reason_}")
        stop.check()

    try:
        with Interrupt() as stop, input_checked():
            shares = {"process": process, "processes": processes}
            evaluate(sources, output, networks, about, **shares, before_record=draw, on_record=report)
    except MissingPackageError as error:
        raise InputError(reason(error)) from error
    except KeyboardInterrupt:
        note(f"stopped; the same command resumes {output}")
        raise
    names = {source.name for source in sources}
    if missing := len(names) - len({record["name"] for record in read_records(output)} & names):
        note(f"{missing} videos are left to other processes; the last one to finish writes the result")
    return not missing


def about_model(model: VidRD, clips: int) -> dict[str, Any]:
    """What identifies a model's videos of a number of clips in the header of records."""
    about = {"model": model.name, "weights": model_digest(model), "loras": model.loras, "clips": clips}
    dtype = model.metadata()["dtype"]
    return about if dtype == "float32" else {**about, "dtype": dtype}  # older records name none: they are in float32


def process_device(device: str) -> str:
    """The device of this process: each of several processes that Accelerate or torchrun started has its own GPU."""
    kind = str(device_of(device))
    return f"cuda:{_environment('LOCAL_RANK', 0)}" if kind == "cuda" and process_count() > 1 else kind


def process_count() -> int:
    """How many processes Accelerate or torchrun started to share the videos."""
    return _environment("WORLD_SIZE", 1)


def _environment(name: str, default: int) -> int:
    """A number from an environment variable."""
    return int(os.environ.get(name, default))


def folder_statistics(folder: Path, networks: Networks) -> FeatureStatistics:
    """Statistics of the first frames of a folder's videos; a note on stderr names those that are left out."""
    assert networks.fvd is not None
    rates: set[float] = set()

    def first_frames() -> Iterator[Video]:
        for source in from_folder(folder):
            try:
                loaded = source.load()
            except ValueError as error:
                note(f"{source.name} is left out: {reason(error)}")
                continue
            if len(loaded.video) < networks.frames:
                note(f"{source.name} is left out: it has {len(loaded.video)} frames, expected {networks.frames}")
                continue
            rates.add(round(loaded.fps, 3))
            yield loaded.video[None, : networks.frames]
        if not rates:
            raise InputError(
                f"no video in {folder} has {networks.frames} frames: give others, or fewer by --network-frames"
            )

    found = feature_statistics(first_frames(), networks.fvd, networks.fvd.name, None)
    fps = rates.pop() if len(rates) == 1 else None
    return replace(found, about=replace(found.about, fps=fps))


def draw_video(video: Video, record: Record, folder: Path) -> None:
    """Draw the contact sheet of a video; of a long one at most about 64 frames."""
    folder.mkdir(parents=True, exist_ok=True)
    every = max(1, len(video) // 64)
    scale = max(1, 64 // min(video.shape[1:3]))
    seams = [seam for seam in record["seams"] if every == 1]
    contact_sheet([video], folder / sheet_name(record["name"]), every=every, scale=scale, seams=seams)


def sheet_name(name: str) -> str:
    """The file name of the contact sheet of a video of this name, which may contain folders."""
    flat = name.replace("/", "_")
    return fitting(flat if flat == name else f"{flat}-{hashed(name)[:SHORT]}", ".png")
