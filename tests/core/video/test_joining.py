"""Videos that are joined from pieces."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from vidrd_core.video import Piece, join_videos, read_video

from .helpers import KINDS, clip, write


def pieces_of(folder: Path, name: str, lengths: tuple[int, ...] = (8, 5, 6), **settings: object) -> list[Path]:
    paths = [folder / f"piece{k}{name[1:]}" for k in range(len(lengths))]
    shown = clip(sum(lengths), 32, 48)
    for path, part in zip(paths, np.split(shown, np.cumsum(lengths)[:-1]), strict=True):
        write(path, part, **settings)
    return paths


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("fps", [8, 30000 / 1001])
def test_joined_frames_equal_those_of_the_pieces(tmp_path: Path, name: str, fps: float) -> None:
    paths, target = pieces_of(tmp_path, name, fps=fps, scale=2), tmp_path / ("joined" + name[1:])
    kept = [8, 3, 6]
    join_videos([Piece(path, k) for path, k in zip(paths, kept, strict=True)], target, fps)
    frames, rate = read_video(target)
    expected = np.concatenate([read_video(path)[0][:k] for path, k in zip(paths, kept, strict=True)])
    assert np.array_equal(frames, expected)
    assert rate == pytest.approx(fps, rel=1e-3 if name != "v.gif" else 0.12)


@pytest.mark.parametrize("name", KINDS)
def test_a_video_grows_and_its_last_frames_can_be_replaced(tmp_path: Path, name: str) -> None:
    paths, target = pieces_of(tmp_path, name), tmp_path / ("joined" + name[1:])
    join_videos([Piece(paths[0], 8)], target, 8)
    assert len(read_video(target)[0]) == 8
    join_videos([Piece(paths[0], 6), Piece(paths[1], 5)], target, 8)
    frames = read_video(target)[0]
    assert np.array_equal(frames, np.concatenate([read_video(paths[0])[0][:6], read_video(paths[1])[0]]))
    assert [each for each in os.listdir(tmp_path) if "part" in each] == []


@pytest.mark.parametrize("name", ["v.MP4", "v.GIF", "v.WebP", "v.APNG"])
def test_suffixes_can_be_in_capitals(tmp_path: Path, name: str) -> None:
    paths, target = pieces_of(tmp_path, name), tmp_path / ("joined" + name[1:])
    join_videos([Piece(path, 5) for path in paths], target, 8, {"comment": "of all"})
    assert len(read_video(target)[0]) == 15
    assert b"of all" in target.read_bytes()


def test_frames_that_a_folder_already_has_are_not_copied_again(tmp_path: Path) -> None:
    paths, target = pieces_of(tmp_path, "v"), tmp_path / "joined"
    join_videos([Piece(paths[0], 8)], target, 8)
    before = {file.name: file.stat().st_ino for file in target.iterdir()}
    join_videos([Piece(paths[0], 6), Piece(paths[1], 5)], target, 8)
    after = {file.name: file.stat().st_ino for file in target.iterdir()}
    assert [name for name, inode in before.items() if after[name] != inode] == [
        "frame_000006.png",
        "frame_000007.png",
    ]
    join_videos([Piece(paths[0], 3)], target, 8)
    assert len(list(target.iterdir())) == 3


def test_a_joined_gif_is_complete_for_strict_readers(tmp_path: Path) -> None:
    """Browsers and Pillow stop at the first trailer and expect one header."""
    paths, target = pieces_of(tmp_path, "v.gif", fps=8, metadata={"prompt": "of a piece"}), tmp_path / "joined.gif"
    join_videos([Piece(path, k) for path, k in zip(paths, (8, 3, 6), strict=True)], target, 8, {"prompt": "of all"})
    with Image.open(target) as picture:
        frames = ImageSequence.Iterator(picture)
        seen = [(np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in frames]
        assert picture.info["loop"] == 0
    assert np.array_equal([frame for frame, _ in seen], read_video(target)[0])
    assert [duration for _, duration in seen] == [130, 120] * 8 + [130]
    data = target.read_bytes()
    assert (data.count(b"GIF89a"), data.count(b"of a piece"), data.count(b"of all")) == (1, 0, 1)


@pytest.mark.parametrize("name", ["v.mp4", "v.webm"])
def test_metadata_is_in_the_container(tmp_path: Path, name: str) -> None:
    paths, target = pieces_of(tmp_path, name), tmp_path / ("joined" + name[1:])
    join_videos([Piece(paths[0], 8)], target, 8, {"prompt": '{"1": 2}'})
    with av.open(str(target)) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    assert tags["prompt"] == '{"1": 2}'


def test_a_failed_join_leaves_the_target_unchanged(tmp_path: Path) -> None:
    paths, target = pieces_of(tmp_path, "v.mp4"), tmp_path / "joined.mp4"
    join_videos([Piece(paths[0], 8)], target, 8)
    write(tmp_path / "other.mp4", clip(4, 64, 64))
    before = target.read_bytes()
    with pytest.raises(ValueError, match=r"other\.mp4 does not match the files before it: \('h264', 64, 64\) after"):
        join_videos([Piece(paths[0], 8), Piece(tmp_path / "other.mp4", 4)], target, 8)
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4 does not exist any more: it held 4 frames"):
        join_videos([Piece(paths[0], 8), Piece(tmp_path / "gone.mp4", 4)], target, 8)
    assert target.read_bytes() == before
    assert [each for each in os.listdir(tmp_path) if "part" in each] == []


def test_a_failed_join_leaves_a_folder_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, target = pieces_of(tmp_path, "v"), tmp_path / "joined"
    copied = shutil.copy2

    def full(source: Path, part: Path) -> None:
        if source.name == "frame_000003.png":
            part.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        copied(source, part)

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(OSError, match=r"cannot write .*joined: the disk is full"):
        join_videos([Piece(paths[0], 8)], target, 8)
    assert not target.exists()
    join_videos([Piece(paths[0], 3)], target, 8)
    with pytest.raises(OSError, match="the disk is full"):
        join_videos([Piece(paths[0], 3), Piece(paths[1], 5)], target, 8)
    assert sorted(os.listdir(target)) == [f"frame_{k:06d}.png" for k in range(3)]


@pytest.mark.parametrize("refusals", [2, 9])
def test_joining_waits_for_a_file_that_is_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    """As on Windows, where an open file cannot be replaced."""
    paths, target = pieces_of(tmp_path, "v.mp4"), tmp_path / "joined.mp4"
    join_videos([Piece(paths[0], 8)], target, 8)
    replaced, left = os.replace, [refusals]

    def locked(part: Path, place: Path) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise PermissionError(errno.EACCES, "Access is denied")
        replaced(part, place)

    monkeypatch.setattr(os, "replace", locked)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    if refusals == 2:
        join_videos([Piece(paths[0], 8), Piece(paths[1], 5)], target, 8)
        assert len(read_video(target)[0]) == 13
    else:
        with pytest.raises(PermissionError, match=r"cannot write .*joined\.mp4"):
            join_videos([Piece(paths[0], 8), Piece(paths[1], 5)], target, 8)
        assert len(read_video(target)[0]) == 8


def test_a_folder_name_can_contain_a_dot(tmp_path: Path) -> None:
    (path, *_) = pieces_of(tmp_path, "v")
    join_videos([Piece(path, 8)], tmp_path / "v1.2_00001_", 8)
    assert len(os.listdir(tmp_path / "v1.2_00001_")) == 8
