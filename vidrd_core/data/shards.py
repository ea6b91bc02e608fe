"""WebDataset shards, each with a manifest of JSON lines beside it: written completely or not at all, read by index.

`shard_000003.tar` has KEY.mp4 (or KEY.jpg), KEY.txt (the caption) and KEY.json of each sample, as any reader of
WebDataset expects. `shard_000003.jsonl` records what became of each source, and each clip's place in the shard.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidrd_core.data.codec import decode_clip, decode_image, encode_clip, encode_image
from vidrd_core.data.manifests import DataError, manifests
from vidrd_core.data.records import Record, Skipped
from vidrd_core.io.atomic import atomic_file
from vidrd_core.io.background import InBackground

SETTINGS = "dataset.json"


@dataclass(frozen=True)
class Sample:
    """A clip in a shard.

    Args:
        shard: The tar file.
        offset: Where in it the clip's bytes begin.
        length: How many bytes it has.
        suffix: "mp4" or "jpg".
        caption: Its caption.
        facts: Its line in the manifest.
    """

    shard: Path
    offset: int
    length: int
    suffix: str
    caption: str
    facts: dict[str, Any]

    def frames(self) -> NDArray[np.uint8]:
        """The clip, uint8 [F, H, W, 3]. Raises DataError if the shard is missing or damaged."""
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.length)
        except OSError as error:
            raise DataError(f"{self.shard} cannot be read: {error.strerror}: {_REMEDY}") from error
        if len(data) < self.length:
            raise DataError(f"{self.shard} is cut off: {_REMEDY}")
        what = f"{self.facts['key']}.{self.suffix} in {self.shard}"
        shape = self.facts["frames"], self.facts["height"], self.facts["width"]
        try:
            return decode_image(data, shape) if self.suffix == "jpg" else decode_clip(data, shape)
        except ValueError as error:
            raise DataError(f"{what} {error}: {_REMEDY}") from error


_REMEDY = "put it back, or delete it with its .jsonl and run the same 'vidrd data' again"


def write_shard(folder: Path, number: int, results: Iterable[Record | Skipped], sources: list[str]) -> dict[str, int]:
    """Write a shard with its manifest; the two files appear only when they are complete.

    Args:
        folder: The folder, which must exist.
        number: The shard's number.
        results: Clips, and skipped records, which the manifest has as well.
        sources: Identities of the records that these were made from.

    Returns:
        How many clips were "made" and how many records "skipped".

    Raises:
        OSError: A file cannot be written.
    """
    tar, manifest = shard_files(folder, number)
    lines: list[dict[str, Any]] = []
    # The inner file is complete first: a shard counts from when it has a manifest.
    with atomic_file(manifest) as partial_manifest, atomic_file(tar) as partial_tar:
        with tarfile.open(partial_tar, "w", format=tarfile.USTAR_FORMAT) as archive:

            def add(result: Record | Skipped) -> None:
                lines.append(_add(archive, result) if isinstance(result, Record) else _skip(result))

            with InBackground(add) as later:  # clips are encoded while the next ones are read
                for result in results:
                    later(result)
        _locate(partial_tar, lines)
        counts = {"made": sum("key" in line for line in lines), "skipped": sum("reason" in line for line in lines)}
        head = {"shard": tar.name, "bytes": partial_tar.stat().st_size, **counts, "sources": sources}
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in (head, *lines))
        partial_manifest.write_text(text, encoding="utf-8")
    return counts


def shard_files(folder: Path, number: int) -> tuple[Path, Path]:
    """The tar file and the manifest of shard `number`."""
    name = f"shard_{number:06d}"
    return folder / f"{name}.tar", folder / f"{name}.jsonl"


def _add(archive: tarfile.TarFile, record: Record) -> dict[str, Any]:
    """Add a clip to an archive; its line of the manifest."""
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
    member = tarfile.TarInfo(name)  # without time, owner or host: the same data give the same bytes
    member.size, member.mode = len(data), 0o644
    archive.addfile(member, io.BytesIO(data))


def _skip(skipped: Skipped) -> dict[str, Any]:
    """The line of a skipped record in the manifest."""
    record = skipped.record
    line = {
        "source": record.source, "reason": skipped.reason, "digest": record.digest, "stamp": record.stamp,
        "origin": record.origin,
    }  # fmt: skip
    segment = {"start": record.start, "stop": record.stop} if record.start or record.stop else {}
    return {**line, **segment}


def _locate(path: Path, lines: list[dict[str, Any]]) -> None:
    """Add to the lines of the manifest where their clips are in the tar file."""
    with tarfile.open(path) as archive:
        places = {member.name: (member.offset_data, member.size) for member in archive}
    for line in lines:
        if "key" in line:
            line["offset"], line["length"] = places[f"{line['key']}.{line['suffix']}"]


def is_complete(shard: Path, head: dict[str, Any]) -> bool:
    """Whether a shard's tar file has the size in its manifest's head; a shard without clips needs no file."""
    return not head["made"] or (shard.is_file() and shard.stat().st_size == head["bytes"])


class Shards:
    """The clips in a folder of shards, by index, in an order that never changes.

    Args:
        folder: The folder.

    Raises:
        FileNotFoundError: There is no such folder.
        OSError: A manifest cannot be read.
        DataError: It has no clips, or a shard is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder} with shards: make it by 'vidrd data'")
        self.samples: list[Sample] = []
        for shard, head, lines in manifests(self.folder):
            if not is_complete(shard, head):
                state = "is damaged" if shard.is_file() else "is missing"
                raise DataError(f"{shard} {state}, and its manifest names {head['made']} clips in it: {_REMEDY}")
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
