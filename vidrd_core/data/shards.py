"""WebDataset shards with a manifest of JSON lines beside each, written whole or not at all, and read by number.

`shard_000003.tar` has KEY.mp4 (or KEY.jpg), KEY.txt (the caption) and KEY.json of each sample, as any reader of
WebDataset expects; `shard_000003.jsonl` says of each source what became of it, and where in the shard it lies.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidrd_core.data.codec import decode_clip, decode_image, encode_clip, encode_image
from vidrd_core.data.records import Record, Skipped

SETTINGS = "dataset.json"


class DataError(ValueError):
    """A data set is not what it should be."""


@dataclass(frozen=True)
class Sample:
    """A clip in a shard: where its bytes are, and its line in the manifest."""

    shard: Path
    offset: int
    length: int
    suffix: str
    caption: str
    facts: dict[str, Any]

    def frames(self) -> NDArray[np.uint8]:
        """uint8 [F, H, W, 3]. Raises DataError if the shard is gone or damaged."""
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.length)
        except OSError as error:
            raise DataError(f"{self.shard} cannot be read: {error.strerror}: {_MEND}") from error
        if len(data) < self.length:
            raise DataError(f"{self.shard} is cut off: {_MEND}")
        try:
            return decode_image(data) if self.suffix == "jpg" else decode_clip(data)
        except ValueError as error:
            raise DataError(f"{self.facts['key']}.{self.suffix} in {self.shard} {error}: {_MEND}") from error


_MEND = "put it back, or delete it with its .jsonl and run the same 'vidrd data' again"


def write_shard(folder: Path, number: int, results: Iterable[Record | Skipped], sources: list[str]) -> dict[str, int]:
    """Write what was made and what was not as shard `number`; both files appear only when they are whole.

    `sources` are the identities of the records that it was made of. Returns counts: made, skipped. Raises OSError.
    """
    tar, manifest = shard_files(folder, number)
    partial = [path.with_suffix(f"{path.suffix}.partial") for path in (tar, manifest)]
    lines: list[dict[str, Any]] = []
    try:
        with tarfile.open(partial[0], "w", format=tarfile.USTAR_FORMAT) as archive:
            for result in results:
                lines.append(_add(archive, result) if isinstance(result, Record) else _skip(result))
        _index(partial[0], lines)
        counts = {"made": sum("key" in line for line in lines), "skipped": sum("reason" in line for line in lines)}
        head = {"shard": tar.name, "bytes": partial[0].stat().st_size, **counts, "sources": sources}
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in (head, *lines))
        partial[1].write_text(text, encoding="utf-8")
        partial[0].replace(tar)
        partial[1].replace(manifest)  # last: a shard counts from when it has a manifest
    finally:
        for path in partial:
            path.unlink(missing_ok=True)
    return counts


def shard_files(folder: Path, number: int) -> tuple[Path, Path]:
    name = f"shard_{number:06d}"
    return folder / f"{name}.tar", folder / f"{name}.jsonl"


def _add(archive: tarfile.TarFile, record: Record) -> dict[str, Any]:
    assert record.frames is not None
    count, height, width = record.frames.shape[:3]
    facts = {
        "key": record.key, "source": record.source, "kind": record.kind, "caption": record.caption,
        "label": record.label, "start": record.start, "stop": record.stop, "frames": count, "fps": record.fps,
        "width": width, "height": height, "digest": record.digest, "stamp": record.stamp, "origin": record.origin,
        **record.details,
    }  # fmt: skip
    if record.fps is None:
        suffix, data = "jpg", encode_image(record.frames[0])
    else:
        suffix, data = "mp4", encode_clip(record.frames, record.fps)
    _put(archive, f"{record.key}.{suffix}", data)
    _put(archive, f"{record.key}.txt", record.caption.encode())
    _put(archive, f"{record.key}.json", json.dumps(facts, ensure_ascii=False).encode())
    return {**facts, "suffix": suffix}


def _put(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # without time, owner or host: the same data are the same bytes
    member.size, member.mode = len(data), 0o644
    archive.addfile(member, io.BytesIO(data))


def _skip(skipped: Skipped) -> dict[str, Any]:
    record = skipped.record
    line = {
        "source": record.source, "reason": skipped.reason, "digest": record.digest, "stamp": record.stamp,
        "origin": record.origin,
    }  # fmt: skip
    stretch = {"start": record.start, "stop": record.stop} if record.start or record.stop else {}
    return {**line, **stretch}


def _index(path: Path, lines: list[dict[str, Any]]) -> None:
    """Add to the lines where their clips are in a tar file."""
    with tarfile.open(path) as archive:
        places = {member.name: (member.offset_data, member.size) for member in archive}
    for line in lines:
        if "key" in line:
            line["offset"], line["length"] = places[f"{line['key']}.{line['suffix']}"]


def manifests(folder: Path) -> Iterator[tuple[Path, dict[str, Any], list[dict[str, Any]]]]:
    """Of each shard that is whole: its tar file, the manifest's head and its other lines. Raises DataError."""
    for path in sorted(folder.glob("shard_*.jsonl")):
        try:
            head, *lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
            yield path.with_suffix(".tar"), head, lines
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{path} is damaged: delete it with its .tar and run the same 'vidrd data' again"
            ) from error


def is_whole(shard: Path, head: dict[str, Any]) -> bool:
    """Whether a shard's tar file is as its manifest's head says; one without clips needs none."""
    return not head["made"] or (shard.is_file() and shard.stat().st_size == head["bytes"])


class Shards:
    """A data set of shards: its samples by number, in an order that never changes.

    Raises FileNotFoundError, DataError for a folder that holds none or lacks a shard.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder} with shards: make it by 'vidrd data'")
        self.samples: list[Sample] = []
        for shard, head, lines in manifests(self.folder):
            if not is_whole(shard, head):
                state = "is damaged" if shard.is_file() else "is missing"
                raise DataError(f"{shard} {state}, and its manifest names {head['made']} clips in it: {_MEND}")
            for line in lines:
                if "key" in line:
                    place = line["offset"], line["length"], line["suffix"], line["caption"]
                    self.samples.append(Sample(shard, *place, facts=line))
        if not self.samples:
            raise DataError(f"{folder} holds no clips: make them by 'vidrd data'")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> Sample:
        return self.samples[number]
