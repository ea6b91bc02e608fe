"""The evaluation of many videos by one or several processes, which a stopped run resumes, and its summary.

Each process appends to a file of its own, `records_0.jsonl` and so on: a header, then a line of JSON per video with
its metrics and features. However many processes run next time, no video that any of these files holds is generated or
measured again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidrd_core.evaluation.videos import VideoSource
from vidrd_core.io.jsonl import JsonLines, Record, check_header, read_lines, resume
from vidrd_core.io.locks import FolderLock
from vidrd_core.metrics.clip_features import CLIPFeatures
from vidrd_core.metrics.feature_extractors import FeatureExtractor
from vidrd_core.metrics.frechet import Array, Moments
from vidrd_core.metrics.fvd import FeatureSource, FeatureStatistics, frechet_video_distance
from vidrd_core.metrics.inception import SPLITS, inception_score
from vidrd_core.metrics.registry import measure_video
from vidrd_core.metrics.seams import Video

FORMAT = 1
NOT_FIGURES = ("name", "stamp", "text", "fps", "width", "height", "features", "seams")  # keys of a record
OnRecord = Callable[[VideoSource, Record, Video | None], None]


@dataclass(frozen=True)
class Networks:
    """The networks of an evaluation; the metrics that need none are always computed.

    Args:
        fvd: Feature extractor for FVD.
        classifier: Classifier for the Inception Score.
        clip: CLIP for CLIPSIM and consistency.
        frames: How many frames of a video `fvd` and `classifier` are given, 1 or more.
    """

    fvd: FeatureExtractor | None = None
    classifier: FeatureExtractor | None = None
    clip: CLIPFeatures | None = None
    frames: int = 16

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames is {self.frames}, expected 1 or more")

    def metadata(self) -> dict[str, Any]:
        """What records are labeled with: the networks' names and the number of frames."""
        named = {name: network.name for name in ("fvd", "classifier") if (network := getattr(self, name))}
        return {**named, "clip": self.clip.name if self.clip else "", "network_frames": self.frames}

    def features(self, video: Video) -> dict[str, str]:
        """The encoded features of a video by each network. Raises ValueError for a video that is too short."""
        kinds = {"fvd": self.fvd, "classes": self.classifier}
        if any(kinds.values()) and len(video) < self.frames:
            raise ValueError(f"it has {len(video)} frames, the networks are given {self.frames}: make it longer")
        return {
            name: encode_features(network(video[None, : self.frames])[0])
            for name, network in kinds.items()
            if network
        }


def evaluate(
    sources: Sequence[VideoSource],
    out: Path,
    networks: Networks = Networks(),
    about: dict[str, Any] | None = None,
    *,
    process: int = 0,
    processes: int = 1,
    before_record: OnRecord | None = None,
    on_record: OnRecord | None = None,
) -> None:
    """Measure this process's share of the videos that no file in `out` has a record of.

    A video that cannot be read leaves a record with the reason.

    Args:
        sources: The videos.
        out: Folder of the records.
        networks: What is measured besides the metrics that need no network.
        about: Settings that records are labeled with.
        process: Index of this process, from 0.
        processes: Number of processes.
        before_record: Called before a record is written, with the source, the record and the video (None if there is
            none), for what belongs to it: a video with a record is not measured again.
        on_record: Called with the source, the record and the video (None if there is none) of each record.

    Raises:
        ValueError: `out` holds records of other settings, or the record of another video with the same name, or
            another run measures into it.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"records_{process}.jsonl"
    lock = FolderLock(out, path.name)
    if not lock.acquire():
        raise ValueError(f"another run measures into {out}: wait for it, or choose another folder")
    with ExitStack() as held:
        held.callback(lock.release)
        header = json.loads(json.dumps({"format": FORMAT, **networks.metadata(), **(about or {})}))
        done = {record["name"]: record.get("stamp", "") for record in read_records(out, header)}
        for source in sources:
            if done.get(source.name, source.stamp) != source.stamp:
                raise ValueError(
                    f"{source.name}, its caption or its clips have changed since it was measured in {out}: choose "
                    f"another folder"
                )
        resume(path)
        file = held.enter_context(JsonLines(path, header))
        for source in sources[process::processes]:  # a fixed share, independent of the other processes
            if source.name in done:
                continue
            record, video = _measure(source, networks)
            if before_record:
                before_record(source, record, video)
            file.append(record)
            if on_record:
                on_record(source, record, video)


def _measure(source: VideoSource, networks: Networks) -> tuple[Record, Video | None]:
    """The record of a video, and the video if it could be read."""
    known = {"name": source.name, "stamp": source.stamp} if source.stamp else {"name": source.name}
    try:
        loaded = source.load()
        features = networks.features(loaded.video if loaded.network_video is None else loaded.network_video)
    except (ValueError, OSError) as error:
        return {**known, "reason": " ".join(str(error).split())}, None
    height, width = loaded.video.shape[1:3]
    about = {**known, "text": loaded.text, "fps": round(loaded.fps, 3), "width": width, "height": height}
    found = measure_video(loaded.video, loaded.boundaries, loaded.text, networks.clip)
    return {**about, **found, **loaded.extra, "features": features}, loaded.video


def read_records(out: Path, header: dict[str, Any] | None = None) -> Iterator[Record]:
    """Read the records in a folder.

    Args:
        out: The folder.
        header: The header that every file must have; None for any.

    Yields:
        The record of each video, without headers, file by file.

    Raises:
        ValueError: A file has another header.
    """
    for path in sorted(out.glob("records_*.jsonl")):
        lines = read_lines(path)
        found = next(lines, None)
        if found is None:
            continue
        if header is not None:
            check_header(path, header, found if isinstance(found, dict) else {})
        for number, line in enumerate(lines, 2):
            if not isinstance(line, dict) or not isinstance(line.get("name"), str):
                raise ValueError(
                    f"{path}, line {number} is no record of a video: remove it, or choose another folder"
                )
            yield line


def summarize(
    records: Iterable[Record], networks: Networks, reference: FeatureStatistics | None = None, splits: int = SPLITS
) -> dict[str, Any]:
    """Summarize each figure over the videos, with FVD and Inception Score where there are features.

    Args:
        records: Records, which are consumed one at a time and not kept. A figure that some lack, as those of an older
            version lack later metrics, is summarized over the records that have it.
        networks: The networks of the evaluation.
        reference: Statistics of reference videos, for FVD.
        splits: Number of splits of the Inception Score.

    Returns:
        A dictionary for JSON: `videos`, `skipped`, `measures`, and where there are any `fvd` and `inception_score`.
    """
    values: dict[str, list[float]] = {}
    moments, classes, rates = Moments(), list[Array](), set[float]()
    skipped, count = 0, 0
    for record in records:
        if "reason" in record:
            skipped += 1
            continue
        count += 1
        rates.add(record["fps"])
        for name, value in flatten(record):
            values.setdefault(name, []).append(value)
        if "fvd" in record["features"]:
            moments.add(decode_features(record["features"]["fvd"])[None])
        if "classes" in record["features"]:
            classes.append(decode_features(record["features"]["classes"]))
    found: dict[str, Any] = {
        "videos": count,
        "skipped": skipped,
        "measures": {name: distribution(each) for name, each in values.items()},
    }
    if networks.fvd and reference and moments.count > 1:
        fps = rates.pop() if len(rates) == 1 else None
        source = FeatureSource(networks.fvd.name, moments.count, networks.frames, fps)
        distance = frechet_video_distance(FeatureStatistics(moments.mean, moments.covariance, source), reference)
        found["fvd"] = {"value": distance.value, "of": vars(distance.of), "reference": vars(distance.reference)}
    if len(classes) >= splits:
        mean, deviation = inception_score(np.stack(classes), splits)
        found["inception_score"] = {"mean": mean, "std": deviation, "splits": splits, "videos": len(classes)}
    return found


def flatten(record: Record) -> Iterator[tuple[str, float]]:
    """Each number of a record with its name: those of a list one by one, nested ones as "drift brightness slope"."""
    for name, value in record.items():
        if name in NOT_FIGURES:
            continue
        if isinstance(value, list):
            yield from ((name, float(each)) for each in value if each is not None)
        elif isinstance(value, dict):
            yield from ((f"{name} {inner}", number) for inner, number in flatten(value))
        elif value is not None:
            yield name, float(value)


def distribution(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation, quartiles (`low`, `median`, `high`) and number (`of`) of values."""
    low, median, high = np.percentile(values, [25, 50, 75])
    found = {"mean": np.mean(values), "std": np.std(values), "low": low, "median": median, "high": high}
    return {**{name: round(float(value), 6) for name, value in found.items()}, "of": len(values)}


def encode_features(features: NDArray[np.floating]) -> str:
    """Features [D] as the base64 text of their float32 values."""
    return base64.b64encode(np.asarray(features, "<f4").tobytes()).decode()


def decode_features(text: str) -> Array:
    """The features [D], in float64, that `encode_features` encoded."""
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float64)
