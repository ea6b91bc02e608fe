"""Runs a stage of data preparation: new records are processed in parts, each of which becomes a shard.

Parts do not depend on each other, so they run in any order, anywhere; a complete shard is never made again.
"""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from filelock import FileLock, Timeout

from vidrd_core.data.executors import Executor, InProcess, Processes, WorkerDiedError
from vidrd_core.data.files import Found
from vidrd_core.data.manifests import DataError, read_manifest
from vidrd_core.data.records import Record, Skipped, Step, UnfitError, apply_steps, with_digest
from vidrd_core.data.shards import SETTINGS, is_complete, shard_files, write_shard
from vidrd_core.io.atomic import write_json
from vidrd_core.io.configs import parse_json
from vidrd_core.io.digests import hashed
from vidrd_core.io.jsonl import JsonLines, resume
from vidrd_core.io.partial import sweep

FORMAT = 1
DIGESTED_AT_ONCE = 64  # files
DIGESTS = "digests.jsonl"
AT = ".at"

# `dataset.json` has classes and fields by the names that they had when it was first written.
_STORED_NAMES = {
    "MotionFilterSettings": "LivelySettings",
    "SceneSettings": "SegmentSettings",
    "motion_filter": "lively",
    "scenes": "segments",
}


class Stage(Protocol):
    """A stage of data preparation: a frozen dataclass of settings."""

    name: ClassVar[str]
    """The name of its command."""
    per_shard: ClassVar[int]
    """Found records for each shard, by default."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """What makes clips of a found record, one step after the other."""

    def find(self) -> Iterator[Found]:
        """The records that there are."""


@dataclass
class Report:
    """What a run has done so far.

    Args:
        found: Records found.
        known: Those done by earlier runs.
        made: Clips made.
        skipped: Records skipped.
        shards: Shards written.
        worked: New records done.
    """

    found: int = 0
    known: int = 0
    made: int = 0
    skipped: int = 0
    shards: int = 0
    worked: int = 0


@dataclass(frozen=True)
class Part:
    """The records of one shard.

    Args:
        folder: The shard's folder.
        number: The shard's number.
        steps: What is done with each record.
        found: The records.
        fatal: Why records are not worked on, by their place in `found`: a process died of them.
    """

    folder: Path
    number: int
    steps: tuple[Step, ...]
    found: tuple[Found, ...]
    fatal: dict[int, str] = field(default_factory=dict)

    @property
    def at(self) -> Path:
        """The file that has the place of the record which is worked on."""
        return shard_files(self.folder, self.number)[0].with_suffix(AT)

    def results(self) -> Iterator[Record | Skipped]:
        """Clips, and what was skipped."""
        for place, each in enumerate(self.found):
            if not isinstance(each, Record):
                yield each
                continue
            record = replace(each, origin=each.identity)
            if place in self.fatal:
                yield Skipped(record, self.fatal[place])
                continue
            self.at.write_text(str(place), encoding="utf-8")
            yield from apply_steps(record, self.steps)


def run(
    stage: Stage,
    out: Path,
    executor: Executor | None = None,
    *,
    retry: bool = False,
    progress: Callable[[Report, int], None] | None = None,
    per_shard: int | None = None,
) -> Report:
    """Run a stage into a folder of shards, for the records that its shards do not have yet.

    Args:
        stage: The stage.
        out: The folder; it is made if there is anything to do.
        executor: Where parts are processed; by default in this process.
        retry: Whether records that were skipped before are tried again.
        progress: Gets the report so far and how many records there are to do, 0 while that is not known.
        per_shard: Records for each shard; by default the stage's.

    Returns:
        The final counts, all 0 if the stage finds no records.

    Raises:
        OSError: A file cannot be read or written.
        DataError: The folder is of another stage or other settings, or another run writes to it.
    """
    executor, out = executor or InProcess(), Path(out)
    found = list(stage.find())  # before anything is written: it raises for a folder or table that cannot be read
    if not found:
        return Report()
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(f"another run writes to {out}: wait for it, or choose another folder") from error
    with held:
        _check_settings(stage, out)
        sweep(out)
        for left in out.glob(f"shard_*{AT}"):  # of a run that was killed
            left.unlink()
        return _run(stage, found, out, executor, retry, progress or (lambda report, todo: None), per_shard)


def _run(
    stage: Stage,
    found: list[Found],
    out: Path,
    executor: Executor,
    retry: bool,
    progress: Callable[[Report, int], None],
    per_shard: int | None,
) -> Report:
    existing = ExistingShards(out, retry)
    report, todo = Report(), list[Found]()
    hashing = InProcess() if executor == Processes() else executor
    for each in _with_digests(found, existing, hashing, lambda count: progress(Report(found=count), 0)):
        report.found += 1
        if not existing.is_new(each):
            report.known += 1
            continue
        todo.append(existing.unless_repeated(each))
        progress(report, 0)
    number = existing.next_number
    size = per_shard or stage.per_shard
    parts = [
        Part(out, number + i, stage.steps, tuple(todo[start : start + size]))
        for i, start in enumerate(range(0, len(todo), size))
    ]
    progress(report, len(todo))
    for counts in _worked(executor, parts):
        report.made += counts["made"]
        report.skipped += counts["skipped"]
        report.shards += 1
        report.worked += counts["found"]
        progress(report, len(todo))
    existing.digests_file.unlink(missing_ok=True)  # the manifests have all of it now
    return report


def _worked(executor: Executor, parts: Sequence[Part]) -> Iterator[dict[str, int]]:
    """What `process` returns for each part; a record of which a process dies is skipped, and the others are made."""
    waiting = {part.number: part for part in parts}
    while waiting:
        try:
            for counts in executor.map(process, list(waiting.values())):
                del waiting[counts["number"]]
                yield counts
        except WorkerDiedError:
            begun = [part for part in waiting.values() if part.at.exists()]
            if not begun:
                raise
            for part in begun:
                yield _worked_alone(part)
                del waiting[part.number]


def _worked_alone(part: Part) -> dict[str, int]:
    """What `process` returns for a part in whose process, or in one beside it, something died."""
    while True:
        try:
            (counts,) = Processes().map(process, [part])
            return counts
        except WorkerDiedError as error:
            place = int(part.at.read_text(encoding="utf-8")) if part.at.exists() else None
            if place is None or place in part.fatal:  # what died was not working on a record
                raise
            why = str(error.__cause__)
            reason = f"{why}: it crashes its decoder, or needs more memory than there is"
            part = replace(part, fatal={**part.fatal, place: reason})


def process(part: Part) -> dict[str, int]:
    """Write a part's shard; its "number", how many clips were "made", records "skipped" and "found"."""
    sources = [source_of(found) for found in part.found]
    part.at.unlink(missing_ok=True)
    try:
        counts = write_shard(part.folder, part.number, part.results(), sources)
    finally:
        part.at.unlink(missing_ok=True)
    return {**counts, "found": len(part.found), "number": part.number}


def source_of(found: Found) -> str:
    """What identifies a found record: its identity, or a digest of name and reason where it was skipped."""
    if isinstance(found, Record):
        return found.identity
    return hashed("skipped", found.record.source, found.record.stamp, found.reason)


class ExistingShards:
    """What the shards in a folder have already; damaged ones are set aside, to be made again.

    Args:
        out: The folder.
        retry: Whether skipped records are tried again; then only records with clips count as done.
    """

    def __init__(self, out: Path, retry: bool) -> None:
        self.sources: set[str] = set()
        self.digests: dict[tuple[str, int, int], str] = {}  # by file name, size and modification time
        self.digests_file = out / DIGESTS  # of files whose shard does not exist yet
        self.seen: dict[str, str] = {}  # file of each identity found in this run
        self.next_number = 0
        for path in sorted(out.glob("shard_*.jsonl")):
            if named := re.fullmatch(r"shard_(\d{6,12})", path.stem):
                self.next_number = max(self.next_number, int(named[1]) + 1)
            tar = path.with_suffix(".tar")
            try:
                head, lines = read_manifest(path)
            except DataError as error:
                _set_aside(path, str(error))
                _set_aside(tar)
                continue
            if not is_complete(tar, head):
                path.unlink()
                _set_aside(tar)
                continue
            useful = {line["origin"] for line in lines if "key" in line}
            self.sources.update(useful if retry else head["sources"])
            for line in lines:
                if line.get("digest") and "stamp" in line:
                    self.digests[(line["source"], *line["stamp"])] = line["digest"]
        with suppress(ValueError, TypeError, RecursionError):  # damaged: that costs time, as they are made again
            first, others = resume(self.digests_file)
            for source, size, changed, digest in [first, *others] if first else []:
                self.digests[str(source), int(size), int(changed)] = str(digest)

    def add_digests(self, block: Iterable[tuple[int, Found]]) -> None:
        """Write digests of files, which take long to make, to disk for a run that is stopped."""
        with JsonLines(self.digests_file) as file:
            for _, each in block:
                if isinstance(each, Record):
                    file.append([each.source, *each.stamp, each.digest])  # type: ignore[arg-type]

    def is_new(self, found: Found) -> bool:
        """Whether no shard has a record."""
        return source_of(found) not in self.sources

    def unless_repeated(self, found: Found) -> Found:
        """The record; skipped if the same one was found under another name."""
        if not isinstance(found, Record):
            return found
        if other := self.seen.get(found.identity):
            return Skipped(found, f"is the same as {other}")
        self.seen[found.identity] = found.source
        return found


def _set_aside(path: Path, why: str = "") -> None:
    """Rename a damaged file, as those that it was made of may be gone, and warn of it where that is new."""
    if path.exists():
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        if why:
            warnings.warn(f"{why}; it is {aside} now, and its clips are made again", stacklevel=2)


def _with_digests(
    found: Sequence[Found], existing: ExistingShards, executor: Executor, progress: Callable[[int], None]
) -> Iterator[Found]:
    """The records with the digests of their files, in order; files are read only if name, size or time are new.

    `progress` gets how many there are so far.
    """
    everything = list(found)
    unknown: list[tuple[int, Record]] = []
    for i, each in enumerate(everything):
        if not isinstance(each, Record):
            continue
        try:
            status = Path(each.source).stat()
            stamp = (status.st_size, status.st_mtime_ns)
        except OSError:
            stamp = (0, 0)
        if digest := existing.digests.get((each.source, *stamp)):
            everything[i] = replace(each, digest=digest, stamp=stamp)
        else:
            unknown.append((i, each))
    blocks = [unknown[i : i + DIGESTED_AT_ONCE] for i in range(0, len(unknown), DIGESTED_AT_ONCE)]
    count = len(everything) - len(unknown)
    for block in executor.map(_digest_block, blocks):
        existing.add_digests(block)
        count += len(block)
        progress(count)
        for i, each in block:
            everything[i] = each
    return iter(everything)


def _digest_block(block: list[tuple[int, Record]]) -> list[tuple[int, Found]]:
    return [(i, _digested(record)) for i, record in block]


def _digested(record: Record) -> Found:
    try:
        return with_digest(record)
    except UnfitError as error:
        return Skipped(record, str(error))


def settings_of(stage: Stage) -> dict[str, Any]:
    """The settings that change a stage's clips, as JSON-ready values."""
    values = {
        f.name: getattr(stage, f.name)
        for f in dataclasses.fields(stage)  # type: ignore[arg-type]
        if f.init and f.name not in ("folder", "table")
    }
    stored = {_STORED_NAMES.get(name, name): _plain(value) for name, value in values.items()}
    return dict(json.loads(json.dumps({"format": FORMAT, "stage": stage.name, **stored})))


def _plain(value: Any) -> Any:
    """A value as JSON has it; a dataclass by its class and the fields that change the result."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value).__name__
        fields = [f.name for f in dataclasses.fields(value) if f.metadata.get("shapes", True)]
        return {"is": _STORED_NAMES.get(kind, kind), **{name: _plain(getattr(value, name)) for name in fields}}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _check_settings(stage: Stage, out: Path) -> None:
    """Write a new folder's settings. Raises DataError if the folder was made with others."""
    path, now = out / SETTINGS, settings_of(stage)
    if not path.exists() or not any(out.glob("shard_*.jsonl")):  # of a run that failed before its first shard
        write_json(path, now)
        return
    try:
        before = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is damaged: delete {out}, or choose another folder") from error
    if changed := _nested_changes(now, before):
        raise DataError(f"{out} was made with {changed}: use the same settings, or another folder")


def _nested_changes(now: Any, before: Any, name: str = "") -> str:
    """What differs in nested settings, as text; "" if nothing does."""
    if isinstance(now, dict) and isinstance(before, dict):
        parts = [
            _nested_changes(now.get(key), before.get(key), f"{name}.{key}".strip("."))
            for key in sorted(now.keys() | before.keys())
        ]
        return ", ".join(filter(None, parts))
    return "" if now == before else f"{name} {before!r} (now {now!r})"
