"""Reading third-party, damaged and missing files."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from vidrd_core import video
from vidrd_core.video import read_video

from .helpers import clip, write


def test_reading_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such video"):
        read_video(tmp_path / "v.mp4")
    with pytest.raises(ValueError, match="no frames"):
        read_video(tmp_path)


def test_reading_other_kinds_of_files(tmp_path: Path) -> None:
    write(tmp_path / "v.mp4", clip(2))
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    contents = {
        "text.mp4": b"hello world\n" * 200,
        "empty.mp4": b"",
        "list.mp4": b"ffconcat version 1.0\nfile v.mp4\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is damaged, or no mp4, webm or gif video"):
            read_video(tmp_path / name)
    (tmp_path / "image.png").rename(tmp_path / "image.mp4")
    with pytest.raises(ValueError, match=r"image\.mp4 is a PNG picture, whatever its name: expected a film"):
        read_video(tmp_path / "image.mp4")


@pytest.mark.parametrize("name", ["v.mp4", "v.webm"])
def test_reading_a_file_cut_in_half(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, clip(40))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"is damaged after \d+ frames|is cut off at"):
        read_video(tmp_path / name)


def test_reading_a_damaged_png_folder(tmp_path: Path) -> None:
    write(tmp_path / "v", clip(3))
    second = tmp_path / "v" / "frame_000001.png"
    second.write_bytes(second.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"frame_000001\.png is damaged"):
        read_video(tmp_path / "v")
    Image.new("RGB", (8, 8)).save(second)
    with pytest.raises(ValueError, match=r"mixes frames of \(64, 64, 3\) and \(8, 8, 3\)"):
        read_video(tmp_path / "v")


def test_third_party_png_folders_are_read_by_number(tmp_path: Path) -> None:
    for number in (10, 9, 100):
        Image.new("L", (4, 4), number).save(tmp_path / f"shot-{number}.png")
    frames, fps = read_video(tmp_path)
    assert frames[:, 0, 0, 0].tolist() == [9, 10, 100]
    assert fps == video.DEFAULT_FPS
