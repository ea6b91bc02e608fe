"""A video that grows by pieces: put together from those that `open_video` wrote, with nothing encoded anew."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidrd_core.video.frames import reasons_given
from vidrd_core.video.gif import append_comment
from vidrd_core.video.packets import join_files
from vidrd_core.video.sinks import part_of, rate_of
from vidrd_core.video.writer import suffix_of


@dataclass(frozen=True)
class Piece:
    """The first `frames` of a video that `open_video` wrote; what comes after them does not count."""

    path: Path
    frames: int


def join_videos(pieces: Sequence[Piece], target: Path, fps: float, metadata: dict[str, str] | None = None) -> None:
    """Put pieces one after the other in one video at `target`, in place of what is there.

    The pieces are of the target's kind and were written at the same fps and size. A file appears whole or not at
    all; a folder of PNG frames keeps those that it has already, and its pieces' metadata.
    Raises FileNotFoundError for a piece that is gone, ValueError for one of another size, OSError where the target
    cannot be written.
    """
    for piece in pieces:
        if not piece.path.exists():
            raise FileNotFoundError(f"there is no {piece.path} any more: it held {piece.frames} frames of the video")
    with reasons_given(target):
        if pieces[0].path.is_dir():
            _join_folders(pieces, target)
        else:
            suffix_of(target)  # refuses names of no kind
            _join_files(pieces, target, fps, metadata or {})


def _join_files(pieces: Sequence[Piece], target: Path, fps: float, metadata: dict[str, str]) -> None:
    part = part_of(target)
    try:
        join_files([(piece.path, piece.frames) for piece in pieces], part, rate_of(fps), metadata)
        if target.suffix == ".gif":
            append_comment(part, metadata)
        _put_in_place(part, target)
    finally:
        part.unlink(missing_ok=True)


def _put_in_place(part: Path, target: Path) -> None:
    """Rename a file onto another; where that is being read, which Windows does not allow, wait a while first."""
    for wait in (0.1, 0.2, 0.4, 0.8, 1.6):
        try:
            os.replace(part, target)
            return
        except PermissionError:
            if not target.exists():
                raise
            time.sleep(wait)
    os.replace(part, target)


def _join_folders(pieces: Sequence[Piece], target: Path) -> None:
    is_new = not target.exists()
    target.mkdir(exist_ok=True)
    names, added = set(), []
    try:
        for count, source in enumerate(_pngs(pieces)):
            place = target / f"frame_{count:06d}.png"
            names.add(place.name)
            if _same(source, place):
                continue
            if not place.exists():
                added.append(place)
            part = part_of(place)
            try:
                shutil.copy2(source, part)
                _put_in_place(part, place)
            finally:
                part.unlink(missing_ok=True)
    except OSError:
        for place in added:
            place.unlink(missing_ok=True)
        if is_new:
            target.rmdir()
        raise
    for surplus in set(target.glob("frame_*.png")):
        if surplus.name not in names:
            surplus.unlink()


def _pngs(pieces: Sequence[Piece]) -> Iterator[Path]:
    for piece in pieces:
        yield from sorted(piece.path.glob("frame_*.png"))[: piece.frames]


def _same(source: Path, place: Path) -> bool:
    """Whether a copy was made of it, which bears its time."""
    if not place.exists():
        return False
    a, b = source.stat(), place.stat()
    return (a.st_size, a.st_mtime_ns // 10**6) == (b.st_size, b.st_mtime_ns // 10**6)
