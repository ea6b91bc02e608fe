"""What remains after an interrupt, an error, a kill, and of an older video."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from vidrd_core import video
from vidrd_core.video import open_video, read_video
from vidrd_core.video.sinks import AnimationSink, FileSink, FolderSink

from .helpers import KINDS, clip, write, write_then_raise


@pytest.fixture(params=KINDS)
def older(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """An older video of two white frames, alone in its folder."""
    path = tmp_path / str(request.param)
    write(path, np.full((2, 16, 16, 3), 255, np.uint8))
    return path


def is_unchanged(path: Path) -> bool:
    """Whether the older video is there and nothing else."""
    return os.listdir(path.parent) == [path.name] and read_video(path)[0].shape == (2, 16, 16, 3)


def test_the_final_name_is_taken_on_close(older: Path) -> None:
    writer = open_video(older)
    writer.write(clip())
    assert read_video(older)[0].shape == (2, 16, 16, 3)
    writer.close()
    writer.close()
    assert read_video(older)[0].shape == (12, 64, 64, 3)
    assert os.listdir(older.parent) == [older.name]


def test_an_exception_leaves_the_older_video(older: Path) -> None:
    with pytest.raises(RuntimeError):
        write_then_raise(RuntimeError, older)
    assert is_unchanged(older)


def test_no_frames_leave_the_older_video(older: Path) -> None:
    with open_video(older):
        pass
    assert is_unchanged(older)


def test_no_frames_leave_no_file(tmp_path: Path) -> None:
    for name in KINDS:
        open_video(tmp_path / name).close()
    assert os.listdir(tmp_path) == []


def test_an_interrupt_keeps_the_frames(older: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_then_raise(KeyboardInterrupt, older)
    assert len(read_video(older)[0]) == 5
    assert os.listdir(older.parent) == [older.name]


def test_keep_on_can_name_other_exceptions(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        write_then_raise(RuntimeError, tmp_path / "v.mp4", keep_on=(RuntimeError,))
    assert len(read_video(tmp_path / "v.mp4")[0]) == 5


@pytest.mark.parametrize("name", KINDS)
def test_an_interrupt_inside_write_or_close_falls_between_frames(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {"v.webp": AnimationSink, "v.apng": AnimationSink, "v": FolderSink}
    sink = others.get(name, FileSink)
    add, finish = sink.add, sink.finish

    def interrupted_add(self: FileSink, frame: np.ndarray) -> None:
        if self.count == 3:
            signal.raise_signal(signal.SIGINT)
        add(self, frame)  # type: ignore[arg-type]

    def interrupted_finish(self: FileSink) -> None:
        signal.raise_signal(signal.SIGINT)
        finish(self)  # type: ignore[arg-type]

    monkeypatch.setattr(sink, "add", interrupted_add)
    monkeypatch.setattr(sink, "finish", interrupted_finish)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), open_video(tmp_path / name) as writer:
        writer.write(clip())
    assert writer.frames_written == len(read_video(tmp_path / name)[0]) == 4
    assert os.listdir(tmp_path) == [name]
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_killed_process_leaves_a_partial_file_that_plays(tmp_path: Path) -> None:
    script = f"""
import numpy as np
from vidrd_core.video import open_video
for name in {KINDS}:
    writer = open_video(r"{tmp_path}/" + name)
    for i in range(20):
        writer.write(np.full((1, 64, 64, 3), 10 * i, np.uint8))
    globals()[name] = writer
print("written", flush=True)
input()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(video.__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"written"
    process.kill()
    process.communicate()
    left = sorted(tmp_path.iterdir())
    assert len(left) == len(KINDS)
    for path in left:
        assert ".part-" in path.name
        frames, fps = read_video(path)
        assert len(frames) >= 19
        assert fps == 8
        assert abs(int(frames[18].mean()) - 180) <= 3


def test_a_shorter_folder_leaves_no_old_frames(tmp_path: Path) -> None:
    write(tmp_path / "v", clip(9))
    write(tmp_path / "v", clip(4))
    assert len(os.listdir(tmp_path / "v")) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_an_existing_folder_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v").chmod(0o2775)
    before = (tmp_path / "v").stat()
    monkeypatch.chdir(tmp_path / "v")
    write(tmp_path / "v", clip(3))
    after = Path(".").stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert sorted(os.listdir(".")) == [f"frame_{number:06d}.png" for number in range(3)]
    assert os.listdir(tmp_path) == ["v"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_a_link_is_kept(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "v.mp4").symlink_to(tmp_path / "disk" / "real.mp4")
    write(tmp_path / "v.mp4", clip(2))
    assert (tmp_path / "v.mp4").is_symlink()
    assert os.listdir(tmp_path / "disk") == ["real.mp4"]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to measure memory")
@pytest.mark.parametrize("name", ["v.mp4", "v.webm", "v.gif", "v.webp", "v.apng"])
def test_memory_does_not_grow_with_the_length(tmp_path: Path, name: str) -> None:
    def resident() -> float:
        with suppress(AttributeError, OSError):  # glibc: what earlier tests freed would hide growth
            ctypes.CDLL(None).malloc_trim(0)
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    frame = np.zeros((1, 96, 96, 3), np.uint8)
    with open_video(tmp_path / name) as writer:
        for i in range(600):
            frame[:, i % 96] = i % 251
            writer.write(frame)
            if i == 59:
                before = resident()
        grown = resident() - before
    assert grown < 6, f"540 more frames took {grown:.0f} MiB (their pixels: 14 MiB)"
