"""Running a stage: what is new among its records is worked on in parts, each of which becomes one shard.

A part knows nothing of the others, so they run in any order, anywhere; a shard that is whole is never made again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from filelock import FileLock, Timeout

from vidrd_core.data.executors import Executor, Here
from vidrd_core.data.files import Found
from vidrd_core.data.records import Record, Skipped, Step, UnfitError, identified, made
from vidrd_core.data.shards import SETTINGS, DataError, is_whole, manifests, write_shard
from vidrd_core.io.atomic import write_json
from vidrd_core.io.digests import hashed

FORMAT = 1
IDENTIFIED_AT_ONCE = 64  # files
DIGESTS = "digests.jsonl"


class Stage(Protocol):
    """A frozen dataclass of settings: what to look for, and the steps from a record found to clips."""

    name: ClassVar[str]
    per_shard: ClassVar[int]  # records found, for one shard

    @property
    def steps(self) -> tuple[Step, ...]: ...

    def find(self) -> Iterator[Found]: ...


@dataclass
class Report:
    """What a run did."""

    found: int = 0
    known: int = 0  # done by earlier runs
    made: int = 0
    skipped: int = 0
    shards: int = 0
    worked: int = 0  # of the new records


@dataclass(frozen=True)
class Part:
    """Some records of a stage, and the shard that becomes of them."""

    folder: Path
    number: int
    steps: tuple[Step, ...]
    found: tuple[Found, ...]

    def results(self) -> Iterator[Record | Skipped]:
        for each in self.found:
            if isinstance(each, Record):
                yield from made(replace(each, origin=each.identity), self.steps)
            else:
                yield each


def run(
    stage: Stage,
    out: Path,
    executor: Executor | None = None,
    *,
    retry: bool = False,
    progress: Callable[[Report, int], None] | None = None,
    per_shard: int | None = None,
) -> Report:
    """Run a stage into a folder of shards; only what the shards there do not hold yet. Returns what was done.

    `retry` works anew on what nothing could be made of. `progress` is told the report so far and how
    many records there are to do. Raises OSError, DataError for a folder of another stage or other settings.
    """
    executor, out = executor or Here(), Path(out)
    found = list(stage.find())  # before anything is written: what is wrong with the folder or a table is told here
    if not found:
        return Report()
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(f"another run writes to {out}: wait for it, or choose another folder") from error
    with lock:
        _check_settings(stage, out)
        for partial in out.glob("*.partial"):  # of a run that was killed
            partial.unlink()
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
    known = Known(out, retry)
    report, todo = Report(), list[Found]()
    identified = _with_digests(found, known, executor, lambda count: progress(Report(found=count), 0))
    for each in identified:
        report.found += 1
        if not known.add(each):
            report.known += 1
            continue
        todo.append(known.unless_repeated(each))
        progress(report, 0)
    number = known.next_number
    size = per_shard or stage.per_shard
    parts = [
        Part(out, number + i, stage.steps, tuple(todo[start : start + size]))
        for i, start in enumerate(range(0, len(todo), size))
    ]
    progress(report, len(todo))
    for counts in executor.map(work, parts):
        report.made += counts["made"]
        report.skipped += counts["skipped"]
        report.shards += 1
        report.worked += counts["found"]
        progress(report, len(todo))
    known.noted.unlink(missing_ok=True)  # the manifests have all of it now
    return report


def work(part: Part) -> dict[str, int]:
    """Make a part's shard; counts of made, skipped and records found."""
    sources = [source_of(found) for found in part.found]
    counts = write_shard(part.folder, part.number, part.results(), sources)
    return {**counts, "found": len(part.found)}


def source_of(found: Found) -> str:
    """What tells a record found from others: its identity, or for one skipped at once its name and reason."""
    if isinstance(found, Record):
        return found.identity
    return hashed("skipped", found.record.source, found.record.stamp, found.reason)


class Known:
    """What the shards in a folder hold already."""

    def __init__(self, out: Path, retry: bool) -> None:
        self.sources: set[str] = set()
        self.digests: dict[tuple[str, int, int], str] = {}  # by name, size and time
        self.noted = out / DIGESTS  # of files whose shard is not there yet
        self.seen: dict[str, str] = {}  # sources of this run by identity
        self.next_number = 0
        for tar, head, lines in manifests(out):
            self.next_number = max(self.next_number, int(tar.stem.split("_")[1]) + 1)
            if not is_whole(tar, head):  # it is made anew
                tar.with_suffix(".jsonl").unlink()
                if tar.exists():
                    tar.replace(tar.with_suffix(".tar.damaged"))  # what it was made of may be gone
                continue
            useful = {line["origin"] for line in lines if "key" in line}
            self.sources.update(useful if retry else head["sources"])
            for line in lines:
                if line.get("digest"):
                    self.digests[(line["source"], *line["stamp"])] = line["digest"]
        if self.noted.exists():
            for text in self.noted.read_text(encoding="utf-8").splitlines():
                with suppress(ValueError):  # of a line that was cut short
                    source, size, changed, digest = json.loads(text)
                    self.digests[source, size, changed] = digest

    def note(self, block: Iterable[tuple[int, Found]]) -> None:
        """Keep the digests of files, which take long to read, for a run that is stopped."""
        lines = [
            json.dumps([each.source, *each.stamp, each.digest]) + "\n"
            for _, each in block
            if isinstance(each, Record)
        ]
        with self.noted.open("a", encoding="utf-8") as file:
            file.writelines(lines)

    def add(self, found: Found) -> bool:
        """Whether a record is new."""
        return source_of(found) not in self.sources

    def unless_repeated(self, found: Found) -> Found:
        """The record, or why it is skipped: the same was found under another name."""
        if not isinstance(found, Record):
            return found
        if other := self.seen.get(found.identity):
            return Skipped(found, f"is the same as {other}")
        self.seen[found.identity] = found.source
        return found


def _with_digests(
    found: Sequence[Found], known: Known, executor: Executor, progress: Callable[[int], None]
) -> Iterator[Found]:
    """The same with the digests of their files, in order; read only where name, size or time are new.

    `progress` is told how many there are so far.
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
        if digest := known.digests.get((each.source, *stamp)):
            everything[i] = replace(each, digest=digest, stamp=stamp)
        else:
            unknown.append((i, each))
    blocks = [unknown[i : i + IDENTIFIED_AT_ONCE] for i in range(0, len(unknown), IDENTIFIED_AT_ONCE)]
    count = len(everything) - len(unknown)
    for block in executor.map(_identify, blocks):
        known.note(block)
        count += len(block)
        progress(count)
        for i, each in block:
            everything[i] = each
    return iter(everything)


def _identify(block: list[tuple[int, Record]]) -> list[tuple[int, Found]]:
    return [(i, _identified(record)) for i, record in block]


def _identified(record: Record) -> Found:
    try:
        return identified(record)
    except UnfitError as error:
        return Skipped(record, str(error))


def settings_of(stage: Stage) -> dict[str, Any]:
    """What shapes a stage's clips, as JSON has it."""
    values = {
        f.name: getattr(stage, f.name)
        for f in dataclasses.fields(stage)  # type: ignore[arg-type]
        if f.init and f.name not in ("folder", "table")
    }
    told = {"format": FORMAT, "stage": stage.name, **{name: _plain(value) for name, value in values.items()}}
    return dict(json.loads(json.dumps(told)))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            "is": type(value).__name__,
            **{
                f.name: _plain(getattr(value, f.name))
                for f in dataclasses.fields(value)
                if f.metadata.get("shapes", True)
            },
        }
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _check_settings(stage: Stage, out: Path) -> None:
    path, now = out / SETTINGS, settings_of(stage)
    if not path.exists() or not any(manifests(out)):  # of a run that failed before its first shard
        write_json(path, now)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is damaged: delete {out}, or choose another folder") from error
    if changed := _changes(now, before):
        raise DataError(f"{out} was made with {changed}: use the same settings, or another folder")


def _changes(now: Any, before: Any, name: str = "") -> str:
    if isinstance(now, dict) and isinstance(before, dict):
        parts = [
            _changes(now.get(key), before.get(key), f"{name}.{key}".strip("."))
            for key in sorted(now.keys() | before.keys())
        ]
        return ", ".join(filter(None, parts))
    return "" if now == before else f"{name} {before!r} (now {now!r})"
