"""Invalid paths, settings and frames, and full disks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from vidrd_core import video
from vidrd_core.video import open_video, read_video

from ...permissions import unwritable_folder
from .helpers import KINDS, clip


@pytest.mark.parametrize("name", ["v.avi", "v.png", "v.mp3"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"'\{name[1:]}' is not \.mp4, \.webm, \.gif, \.webp, \.apng or, .* a folder"
    ):
        open_video(tmp_path / name)


def test_png_is_the_name_of_a_still(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"an animated PNG ends in \.apng"):
        open_video(tmp_path / "v.png")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fps": 0}, "got 0"),
        ({"fps": float("nan")}, "got nan"),
        ({"fps": 60}, "at most 50 frames per second, got 60"),
        ({"scale": 0}, "got 0"),
        ({"scale": 1.5}, r"got 1\.5"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path: Path, settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_video(tmp_path / "v.gif", **settings)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_frames_of_another_shape_size_or_dtype_are_refused(tmp_path: Path) -> None:
    with open_video(tmp_path / "v.mp4") as writer:
        for frames, message in [
            (clip(1)[0], r"\[F, H, W, 3\] with at least one frame, got \[64, 64, 3\]"),
            (clip(1)[:0], r"got \[0, 64, 64, 3\]"),
            (clip(1)[..., :1], r"got \[1, 64, 64, 1\]"),
            (clip(1) / 255.0, "uint8 from 0 to 255, got float64"),
            (torch.zeros(1, 8, 8, 3, dtype=torch.bfloat16), "got torch.bfloat16"),
            (clip(1).tolist(), "got list"),
        ]:
            with pytest.raises(ValueError, match=message):
                writer.write(frames)  # type: ignore[arg-type]
        writer.write(clip(2))
        with pytest.raises(ValueError, match="first were 64 x 64 pixels, these are 48 x 32"):
            writer.write(clip(1, 32, 48))
        writer.write(clip(2))
    with pytest.raises(ValueError, match="is closed"):
        writer.write(clip(2))
    assert len(read_video(tmp_path / "v.mp4")[0]) == 4


@pytest.mark.parametrize("name", KINDS)
def test_a_missing_folder_is_reported_on_opening(tmp_path: Path, name: str) -> None:
    path = tmp_path / "missing" / name
    with pytest.raises(FileNotFoundError, match=r"cannot write .*missing.*: the folder does not exist"):
        open_video(path)


def test_a_folder_instead_of_a_file_and_the_reverse(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").mkdir()
    (tmp_path / "v").write_text("a file")
    with pytest.raises(IsADirectoryError, match="a folder of that name is there"):
        open_video(tmp_path / "v.mp4")
    with pytest.raises(NotADirectoryError, match="a file is where a folder should be"):
        open_video(tmp_path / "v")
    assert sorted(os.listdir(tmp_path)) == ["v", "v.mp4"]


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"holds other files \(thesis\.txt\)"):
        open_video(f"{tmp_path}/")
    assert os.listdir(tmp_path) == ["thesis.txt"]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_an_unwritable_folder_is_reported_on_opening() -> None:
    for name in KINDS:
        with (
            unwritable_folder() as folder,
            pytest.raises(PermissionError, match="no permission to write there; choose another"),
        ):
            open_video(folder / name)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 KiB, empty."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root on Linux can mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def write_noise(writer: video.VideoWriter, frames: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 96, 96, 3), dtype=np.uint8)
    while writer.frames_written < frames:
        writer.write(np.roll(noise, 7 * writer.frames_written, 1))


@pytest.mark.parametrize("name", KINDS)
def test_a_full_disk_is_reported(small_disk: Path, name: str) -> None:
    writer = open_video(small_disk / name)
    with (
        pytest.raises(OSError, match=r"cannot write .*: the disk is full; free some space") as caught,
        writer,
    ):
        write_noise(writer, float("inf"))
    assert caught.value.errno == errno.ENOSPC
    assert writer.frames_written > 3
    assert os.listdir(small_disk) == []


@pytest.mark.parametrize("name", KINDS)
def test_what_was_written_before_the_disk_was_full_can_be_kept(small_disk: Path, name: str) -> None:
    writer = open_video(small_disk / name, keep_on=(OSError,), metadata={"comment": "of some length" * 20})
    with pytest.raises(OSError, match="the disk is full"), writer:
        write_noise(writer, float("inf"))
    assert os.listdir(small_disk) == [name.rstrip("/")]
    assert not writer.is_whole
    frames, _ = read_video(small_disk / name)
    assert len(frames) == writer.frames_written > 3
    with open_video(small_disk.parent / f"whole_{name}") as whole:
        write_noise(whole, writer.frames_written)
    expected = read_video(small_disk.parent / f"whole_{name}")[0]
    np.testing.assert_array_equal(frames, expected)
    with pytest.raises(ValueError, match="is closed"):
        write_noise(writer, float("inf"))


def test_without_space_for_one_index_the_fragmented_file_is_kept(small_disk: Path) -> None:
    with open_video(small_disk / "v.mp4") as writer:
        while next(small_disk.iterdir()).stat().st_size < 120_000:
            write_noise(writer, writer.frames_written + 1)
    assert os.listdir(small_disk) == ["v.mp4"]
    frames, fps = read_video(small_disk / "v.mp4")
    assert (len(frames), fps) == (writer.frames_written, 8)


def test_a_video_that_cannot_be_renamed_is_kept(tmp_path: Path) -> None:
    writer = open_video(tmp_path / "v.mp4")
    writer.write(clip(3))
    (tmp_path / "v.mp4").mkdir()
    with pytest.raises(OSError, match=r"could not finish .*v\.mp4.* What was written is in .*unfinished-") as caught:
        writer.close()
    assert len(read_video(str(caught.value).rsplit("is in ", 1)[1])[0]) == 3
