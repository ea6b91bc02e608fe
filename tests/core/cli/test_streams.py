"""Output streams that end before the command does: what is made is kept, and the exit code says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidrd_core.cli.streams import LastingStream
from vidrd_core.video import read_video

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX descriptors")
CLIPS = 3


def command(folder, *more):
    given = [
        "generate",
        "a red circle",
        "--model",
        str(folder),
        "--clips",
        CLIPS,
        "--steps",
        2,
        "-o",
        "long.mp4",
        *more,
    ]
    return [sys.executable, "-m", "vidrd_core.cli", *map(str, given)]


def kept():
    return len(read_video("long.mp4")[0])


@posix
def test_a_reader_that_leaves_stderr_costs_no_frame(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    process = subprocess.Popen(command(folder), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert "clip 1 of 3" in process.stderr.readline()
    process.stderr.close()
    out = process.stdout.read()
    process.stdout.close()
    assert process.wait(60) == 0
    assert kept() == 8 * CLIPS
    assert "3 clips" in out


@posix
@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_descriptors_that_are_closed_from_the_start_cost_nothing(closed, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def close() -> None:
        for number in closed:
            os.close(number)

    done = subprocess.run(command(folder), preexec_fn=close, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert kept() == 8 * CLIPS
    assert "clip 1" not in done.stdout, "progress is not for stdout"
    assert os.listdir() == ["long.mp4"]


@posix
def test_a_terminal_that_closes_keeps_the_finished_clips(folder, tmp_path, monkeypatch):
    import pty

    monkeypatch.chdir(tmp_path)
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        command(folder, "--clips", 500), stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    seen = b""
    while b"steps of clip 3" not in seen:
        seen += os.read(main, 4096)
    os.close(main)  # a session without a controlling terminal gets no SIGHUP: output alone fails
    process.terminate()
    assert process.wait(60) == 128 + 15
    assert kept() >= 16
    assert os.listdir() == ["long.mp4"]


@posix
def test_other_errors_of_a_stream_stay_errors():
    with open("/dev/full", "w") as full:
        stream = LastingStream(full)
        stream.write("x")
        with pytest.raises(OSError, match="No space left"):
            stream.flush()
        with pytest.raises(OSError, match="No space left"):
            full.close()


def test_a_closed_stream_is_dropped(tmp_path):
    file = open(tmp_path / "log", "w")  # noqa: SIM115
    stream = LastingStream(file)
    assert stream.write("one") == 3
    file.close()
    assert stream.write("two") == 3
    stream.flush()
    assert Path(tmp_path / "log").read_text() == "one"


@posix
def test_a_result_that_cannot_be_printed_is_an_error(folder):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "vidrd_core.cli", "info", str(folder), "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_progress_that_no_disk_takes_costs_no_frame(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open("/dev/full", "w") as full:
        done = subprocess.run(command(folder), stdout=subprocess.PIPE, stderr=full, text=True, timeout=60)
    assert done.returncode == 0
    assert kept() == 8 * CLIPS
