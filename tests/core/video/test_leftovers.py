"""What killed runs leave is removed by the next one, never that of a running one, and nothing is half replaced."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidrd_core import video
from vidrd_core.io import partial
from vidrd_core.io.partial import REPLACING, Part, exchange, sweep
from vidrd_core.io.pictures import save_picture
from vidrd_core.video import Piece, join_videos, open_video, read_video

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files that are open cannot be removed there")

KINDS = ("a.mp4", "b.webm", "c.gif", "d.webp", "e.apng", "frames/")
WRITE = """
import sys
import numpy as np
from vidrd_core.video import open_video
for name in sys.argv[1:]:
    writer = open_video(name)
    writer.write(np.full((4, 32, 32, 3), 90, np.uint8))
    globals()[name] = writer
print("written", flush=True)
input()
"""


def clip(level: int, count: int = 5) -> np.ndarray:
    return np.full((count, 32, 32, 3), level, np.uint8)


def write(path: Path, frames: np.ndarray) -> None:
    with open_video(path) as writer:
        writer.write(frames)


def running(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A process that has come to the point at which it waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(video.__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"written"
    return process


def killed(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if ".part-" in path.name)


def test_the_next_video_removes_what_killed_runs_left_and_leaves_running_ones_alone(tmp_path: Path) -> None:
    killed(running(WRITE, *(f"{tmp_path}/{name}" for name in KINDS)))
    assert len(parts(tmp_path)) == len(KINDS)
    other = running(WRITE, *(f"{tmp_path}/{name}" for name in KINDS))
    kept = parts(tmp_path)
    assert len(kept) == len(KINDS)  # its own alone
    write(tmp_path / "another.mp4", clip(10))
    assert parts(tmp_path) == kept
    killed(other)
    write(tmp_path / "another.mp4", clip(20))
    assert parts(tmp_path) == []
    assert sorted(os.listdir(tmp_path)) == ["another.mp4"]


def test_what_could_not_be_finished_is_no_leftover(tmp_path: Path) -> None:
    writer = open_video(tmp_path / "v.mp4")
    writer.write(clip(50))
    (tmp_path / "v.mp4").mkdir()
    with pytest.raises(OSError, match=r"What was written is in .*v\.unfinished-[0-9a-f]{6}\.mp4"):
        writer.close()
    write(tmp_path / "another.mp4", clip(10))
    (kept,) = tmp_path.glob("v.unfinished-*.mp4")
    assert len(read_video(kept)[0]) == 5


def test_a_part_that_was_swept_before_it_was_locked_is_made_again(tmp_path: Path, monkeypatch) -> None:
    locked, swept = partial._locked, []

    def sweeping(path: Path, wait: bool = False) -> int:
        if wait and not swept:
            swept.append(path)
            sweep(tmp_path)
        return locked(path, wait)

    monkeypatch.setattr(partial, "_locked", sweeping)
    part = Part(tmp_path / "v.mp4")
    part.create()
    assert part.path.exists()
    sweep(tmp_path)
    assert part.path.exists()
    part.release()
    sweep(tmp_path)
    assert not part.path.exists()


def test_a_folder_of_frames_is_replaced_in_one_step(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path / "v", clip(10, 9))
    (tmp_path / "v").chmod(0o750)
    seen = []

    def watched(one: Path, other: Path) -> bool:
        before = {name for name in os.listdir(other) if name.endswith(".png")}
        done = exchange(one, other)
        seen.append((len(before), len(os.listdir(other)), len(os.listdir(one)), done))
        return done

    monkeypatch.setattr("vidrd_core.video.sinks.exchange", watched)
    write(tmp_path / "v", clip(200, 4))
    if not seen[0][3]:
        pytest.skip("this disk cannot exchange folders")
    assert seen == [(9, 4, 9, True)]
    assert (tmp_path / "v").stat().st_mode & 0o777 == 0o750
    assert read_video(tmp_path / "v")[0].mean() == 200
    assert os.listdir(tmp_path) == ["v"]


def test_a_folder_that_has_to_stay_is_refused_while_its_frames_are_of_two_videos(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path / "v", clip(10, 9))
    inode = (tmp_path / "v").stat().st_ino
    monkeypatch.chdir(tmp_path / "v")
    write(tmp_path / "v", clip(100, 4))
    assert (tmp_path / "v").stat().st_ino == inode
    assert read_video(tmp_path / "v")[0].mean() == 100
    with monkeypatch.context() as patched:
        patched.setattr("shutil.move", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "v", clip(200, 6))
    with pytest.raises(ValueError, match="was being replaced when its run ended, so that its frames are of two"):
        read_video(tmp_path / "v")
    write(tmp_path / "v", clip(200, 6))
    assert read_video(tmp_path / "v")[0].mean() == 200
    assert not (tmp_path / "v" / REPLACING).exists()


def test_joined_folders_are_marked_while_they_change(tmp_path: Path, monkeypatch) -> None:
    for name, level in (("a", 10), ("b", 20)):
        write(tmp_path / name, clip(level, 3))
    pieces = [Piece(tmp_path / name, 3) for name in ("a", "b")]
    join_videos(pieces, tmp_path / "long", 8)
    assert len(read_video(tmp_path / "long")[0]) == 6
    write(tmp_path / "a", clip(99, 3))
    with monkeypatch.context() as patched:
        copied, copy2 = [], video.join.shutil.copy2

        def failing(source: Path, target: Path) -> None:
            copied.append(source)
            if len(copied) == 2:
                raise OSError(28, "No space left on device")
            copy2(source, target)

        patched.setattr("vidrd_core.video.join.shutil.copy2", failing)
        with pytest.raises(OSError, match="the disk is full"):
            join_videos(pieces, tmp_path / "long", 8)
    with pytest.raises(ValueError, match="its frames are of two videos"):
        read_video(tmp_path / "long")
    join_videos(pieces, tmp_path / "long", 8)
    assert read_video(tmp_path / "long")[0][:, 0, 0, 0].tolist() == [99] * 3 + [20] * 3


def test_a_picture_has_its_name_when_it_is_complete(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "sheet.png"
    save_picture(Image.new("RGB", (8, 8), "red"), path)
    before = path.read_bytes()

    def dying(image: Image.Image, target: Path, kind: str, **options: object) -> None:
        Path(target).write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", dying)
    with pytest.raises(KeyboardInterrupt):
        save_picture(Image.new("RGB", (8, 8), "blue"), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["sheet.png"]
