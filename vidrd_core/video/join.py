"""Concatenate the videos that `open_video` wrote into one, without encoding them again."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidrd_core.io.partial import REPLACING, Part, sweep
from vidrd_core.video.animations import ANIMATIONS, join_animations
from vidrd_core.video.remux import append_comment, join_files
from vidrd_core.video.sinks import frame_rate, replacing, write_errors
from vidrd_core.video.sound import ENCODERS, Sound, SoundTrack
from vidrd_core.video.writer import suffix_of


@dataclass(frozen=True)
class Piece:
    """The first frames of a video that `open_video` wrote.

    Args:
        path: The file, or the folder of PNG frames.
        frames: How many of its first frames count; later ones are left out.
        sound: What sounds during them; None is silence. Only MP4 and WebM hold sound.
    """

    path: Path
    frames: int
    sound: Sound | None = None


def join_videos(pieces: Sequence[Piece], target: Path, fps: float, metadata: dict[str, str] | None = None) -> None:
    """Concatenate pieces into one video, which replaces an older one at `target`.

    A file appears complete or not at all. A folder of PNG frames keeps those that it has already, and the pieces'
    metadata.

    Args:
        pieces: Videos of the target's kind, written at the same fps and size.
        target: The file or folder to write.
        fps: Frames per second.
        metadata: Container tags, kept as `open_video` keeps them.

    Raises:
        FileNotFoundError: A piece does not exist any more.
        ValueError: The pieces differ in codec or size, their sound differs in rate or channels, or the target holds
            no sound.
        OSError: The target cannot be written.
    """
    for piece in pieces:
        if not piece.path.exists():
            raise FileNotFoundError(f"{piece.path} does not exist any more: it held {piece.frames} frames")
    sounds = [(piece.sound, piece.frames) for piece in pieces]
    track = SoundTrack(sounds, frame_rate(fps)) if any(sound for sound, _ in sounds) else None
    if track and target.suffix.lower() not in ENCODERS:
        raise ValueError(f"{target.name} holds no sound: write an MP4 or WebM, or leave the sound out")
    with write_errors(target):
        if pieces[0].path.is_dir():
            _join_folders(pieces, target)
        else:
            suffix_of(target)  # refuses unknown suffixes
            _join_files(pieces, target, fps, metadata or {}, track)


def _join_files(
    pieces: Sequence[Piece], target: Path, fps: float, metadata: dict[str, str], track: SoundTrack | None
) -> None:
    part, files = Part(target), [(piece.path, piece.frames) for piece in pieces]
    try:
        part.create()
        if target.suffix.lower() in ANIMATIONS:
            join_animations(files, part.path, frame_rate(fps), metadata)
        else:
            join_files(files, part.path, frame_rate(fps), metadata, track)
        if target.suffix.lower() == ".gif":
            append_comment(part.path, metadata)
        _replace(part.path, target)
    finally:
        part.remove()


def _replace(part: Path, target: Path) -> None:
    """Rename a file over another; retry while that one is being read, which Windows does not allow."""
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
    """Copy frames that the target lacks or has in another version; on an error remove those that were added."""
    is_new = not target.exists()
    target.mkdir(exist_ok=True)
    sweep(target)
    added, is_mixed = [], False
    try:
        with replacing(target):
            names = set()
            for count, source in enumerate(_frame_files(pieces)):
                place = target / f"frame_{count:06d}.png"
                names.add(place.name)
                if _is_copy(source, place):
                    continue
                if place.exists():
                    is_mixed = True
                else:
                    added.append(place)
                part = Part(place)
                try:
                    shutil.copy2(source, part.path)
                    _replace(part.path, place)
                finally:
                    part.remove()
            for surplus in set(target.glob("frame_*.png")):
                if surplus.name not in names:
                    surplus.unlink()
    except OSError:
        for place in added:
            place.unlink(missing_ok=True)
        if is_new:
            shutil.rmtree(target, ignore_errors=True)
        elif not is_mixed:
            (target / REPLACING).unlink(missing_ok=True)
        raise


def _frame_files(pieces: Sequence[Piece]) -> Iterator[Path]:
    """The PNG files of all pieces in order."""
    for piece in pieces:
        yield from sorted(piece.path.glob("frame_*.png"))[: piece.frames]


def _is_copy(source: Path, place: Path) -> bool:
    """Whether `place` is a copy of `source` already, by size and modification time, which copies keep."""
    if not place.exists():
        return False
    a, b = source.stat(), place.stat()
    return (a.st_size, a.st_mtime_ns // 10**6) == (b.st_size, b.st_mtime_ns // 10**6)
