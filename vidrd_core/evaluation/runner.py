"""Measuring many videos: by several processes, gone on with where it was stopped, and what comes of it.

Each process appends to a file of its own, `records_0.jsonl`, ...: a line of JSON for each video, with its features.
Whatever their number is next time, what any of these files holds is not made or measured again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidrd_core.evaluation.videos import Subject
from vidrd_core.io.configs import changes
from vidrd_core.metrics.clip_features import Clip
from vidrd_core.metrics.feature_extractors import Network
from vidrd_core.metrics.frechet import Array, Moments
from vidrd_core.metrics.fvd import About, Statistics, fvd
from vidrd_core.metrics.inception import SPLITS, inception_score
from vidrd_core.metrics.seams import Video
from vidrd_core.metrics.video_metrics import measures

FORMAT = 1
Record = dict[str, Any]
OnRecord = Callable[[Subject, Record, Video | None], None]


@dataclass(frozen=True)
class Networks:
    """What is asked of each video beside what needs no weights; `frames` are how many of its first go to networks."""

    fvd: Network | None = None
    classifier: Network | None = None
    clip: Clip | None = None
    frames: int = 16

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames is {self.frames}, expected 1 or more")

    def told(self) -> dict[str, Any]:
        """What tells their figures from others'."""
        named = {name: network.name for name in ("fvd", "classifier") if (network := getattr(self, name))}
        return {**named, "clip": self.clip.name if self.clip else "", "network_frames": self.frames}

    def features(self, video: Video) -> dict[str, str]:
        """The features of a video by each network. Raises ValueError for one that is too short."""
        kinds = {"fvd": self.fvd, "classes": self.classifier}
        if any(kinds.values()) and len(video) < self.frames:
            raise ValueError(f"it has {len(video)} frames, the networks are given {self.frames}: make it longer")
        return {name: packed(network(video[None, : self.frames])[0]) for name, network in kinds.items() if network}


def evaluate(
    subjects: Sequence[Subject],
    out: Path,
    networks: Networks = Networks(),
    about: dict[str, Any] | None = None,
    *,
    process: int = 0,
    processes: int = 1,
    on_record: OnRecord | None = None,
) -> None:
    """Measure this process's share of the subjects that no file in `out` has a record of.

    `about` tells what is measured; records of something else there raise ValueError, and so does a subject that is
    another now than its record is of. A video that cannot be read leaves a record with the reason. `on_record` is
    told each record, with the video if there is one.
    """
    out.mkdir(parents=True, exist_ok=True)
    header = json.loads(json.dumps({"format": FORMAT, **networks.told(), **(about or {})}))
    done = {record["name"]: record.get("stamp", "") for record in read(out, header)}
    for subject in subjects:
        if done.get(subject.name, subject.stamp) != subject.stamp:
            raise ValueError(
                f"{subject.name}, or what is told of it, is another than was measured in {out}: choose another folder"
            )
    path = out / f"records_{process}.jsonl"
    _begin(path, header)
    with path.open("a", encoding="utf-8", newline="\n") as file:
        for subject in subjects[process::processes]:  # whatever others have done meanwhile
            if subject.name in done:
                continue
            record, video = _measured(subject, networks)
            file.write(json.dumps(record, allow_nan=False) + "\n")
            file.flush()
            if on_record:
                on_record(subject, record, video)


def _measured(subject: Subject, networks: Networks) -> tuple[Record, Video | None]:
    known = {"name": subject.name, "stamp": subject.stamp} if subject.stamp else {"name": subject.name}
    try:
        shown = subject.show()
        features = networks.features(shown.video if shown.looked_at is None else shown.looked_at)
    except (ValueError, OSError) as error:
        return {**known, "reason": " ".join(str(error).split())}, None
    height, width = shown.video.shape[1:3]
    about = {**known, "text": shown.text, "fps": round(shown.fps, 3), "width": width, "height": height}
    found = measures(shown.video, shown.joints, shown.text, networks.clip)
    return {**about, **found, **shown.more, "features": features}, shown.video


def read(out: Path, header: dict[str, Any] | None = None) -> Iterator[Record]:
    """The records in a folder, file by file. Raises ValueError unless all are of this header; any, if it is None."""
    for path in sorted(out.glob("records_*.jsonl")):
        with path.open(encoding="utf-8") as file:
            first = file.readline()
            if not first.endswith("\n"):
                continue
            found = json.loads(first)
            if header is not None and (now := changes(header, found) or _other(header, found)):
                raise ValueError(f"{path} holds records of other settings, now {now}: choose another folder")
            yield from (json.loads(line) for line in file if line.endswith("\n"))


def _other(header: dict[str, Any], found: dict[str, Any]) -> str:
    return ", ".join(sorted(set(header) ^ set(found)))


def _begin(path: Path, header: dict[str, Any]) -> None:
    """A file with its header; half a last line, of a run that was killed, is cut off."""
    text = path.read_bytes() if path.exists() else b""
    whole = text[: text.rfind(b"\n") + 1]
    if whole:
        with path.open("rb+") as file:
            file.truncate(len(whole))
    else:
        path.write_bytes(json.dumps(header).encode() + b"\n")


def summary(
    records: Iterable[Record], networks: Networks, reference: Statistics | None = None, splits: int = SPLITS
) -> dict[str, Any]:
    """What many records come to: each measure's mean, spread and quartiles; FVD and Inception Score if there are any.

    FVD is against `reference`. Records come one at a time and are not kept.
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
        for name, value in flat(record):
            values.setdefault(name, []).append(value)
        if "fvd" in record["features"]:
            moments.add(unpacked(record["features"]["fvd"])[None])
        if "classes" in record["features"]:
            classes.append(unpacked(record["features"]["classes"]))
    found: dict[str, Any] = {
        "videos": count,
        "skipped": skipped,
        "measures": {n: spread(v) for n, v in values.items()},
    }
    if networks.fvd and reference and moments.count > 1:
        fps = rates.pop() if len(rates) == 1 else None
        own = Statistics(
            moments.mean, moments.covariance, About(networks.fvd.name, moments.count, networks.frames, fps)
        )
        distance = fvd(own, reference)
        found["fvd"] = {"value": distance.value, "of": vars(distance.of), "reference": vars(distance.reference)}
    if len(classes) >= splits:
        mean, deviation = inception_score(np.stack(classes), splits)
        found["inception_score"] = {"mean": mean, "std": deviation, "splits": splits, "videos": len(classes)}
    return found


def flat(record: Record) -> Iterator[tuple[str, float]]:
    """Each number of a record by name; those at seams each, those of drift and loops as `drift brightness slope`."""
    for name, value in record.items():
        if name in ("name", "stamp", "text", "fps", "width", "height", "features", "seams"):
            continue
        if isinstance(value, list):
            yield from ((name, float(each)) for each in value if each is not None)
        elif isinstance(value, dict):
            yield from ((f"{name} {inner}", number) for inner, number in flat(value))
        elif value is not None:
            yield name, float(value)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation, quartiles and number."""
    low, median, high = np.percentile(values, [25, 50, 75])
    found = {"mean": np.mean(values), "std": np.std(values), "low": low, "median": median, "high": high}
    return {**{name: round(float(value), 6) for name, value in found.items()}, "of": len(values)}


def packed(features: NDArray[np.floating]) -> str:
    """Features [D] as text, in float32."""
    return base64.b64encode(np.asarray(features, "<f4").tobytes()).decode()


def unpacked(text: str) -> Array:
    """The features of a text."""
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float64)
