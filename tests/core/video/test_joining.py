"""Videos put together from pieces."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest

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
def test_frames_are_those_of_the_pieces_bit_for_bit(tmp_path: Path, name: str, fps: float) -> None:
    paths, target = pieces_of(tmp_path, name, fps=fps, scale=2), tmp_path / ("joined" + name[1:])
    kept = [8, 3, 6]
    join_videos([Piece(path, k) for path, k in zip(paths, kept, strict=True)], target, fps)
    frames, rate = read_video(target)
    expected = np.concatenate([read_video(path)[0][:k] for path, k in zip(paths, kept, strict=True)])
    assert np.array_equal(frames, expected)
    assert rate == pytest.approx(fps, rel=1e-3 if name != "v.gif" else 0.12)


@pytest.mark.parametrize("name", KINDS)
def test_a_video_grows_and_its_last_frames_may_be_made_anew(tmp_path: Path, name: str) -> None:
    paths, target = pieces_of(tmp_path, name), tmp_path / ("joined" + name[1:])
    join_videos([Piece(paths[0], 8)], target, 8)
    assert len(read_video(target)[0]) == 8
    join_videos([Piece(paths[0], 6), Piece(paths[1], 5)], target, 8)
    frames = read_video(target)[0]
    assert np.array_equal(frames, np.concatenate([read_video(paths[0])[0][:6], read_video(paths[1])[0]]))
    assert [each for each in os.listdir(tmp_path) if "part" in each] == []


def test_frames_that_a_folder_has_are_not_copied_again(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("name", ["v.mp4", "v.webm"])
def test_metadata(tmp_path: Path, name: str) -> None:
    paths, target = pieces_of(tmp_path, name), tmp_path / ("joined" + name[1:])
    join_videos([Piece(paths[0], 8)], target, 8, {"prompt": '{"1": 2}'})
    with av.open(str(target)) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    assert tags["prompt"] == '{"1": 2}'


def test_what_cannot_be_joined_leaves_the_target(tmp_path: Path) -> None:
    paths, target = pieces_of(tmp_path, "v.mp4"), tmp_path / "joined.mp4"
    join_videos([Piece(paths[0], 8)], target, 8)
    write(tmp_path / "other.mp4", clip(4, 64, 64))
    before = target.read_bytes()
    with pytest.raises(
        ValueError, match=r"other\.mp4 does not go with the files before it: \('h264', 64, 64\) after"
    ):
        join_videos([Piece(paths[0], 8), Piece(tmp_path / "other.mp4", 4)], target, 8)
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4 any more: it held 4 frames of the video"):
        join_videos([Piece(paths[0], 8), Piece(tmp_path / "gone.mp4", 4)], target, 8)
    assert target.read_bytes() == before
    assert [each for each in os.listdir(tmp_path) if "part" in each] == []
