"""Two runs never share a folder of states, and a killed run does not block it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from vidrd_core.cli.errors import InputError
from vidrd_core.cli.states import StateFolder
from vidrd_core.io.locks import FolderLock
from vidrd_core.video import read_video

from .helpers import error_line

RUN = ("generate", "a red circle", "--clips", 2, "--steps", 1, "--state-dir", "states", "-o", "long.mp4")


@contextmanager
def held(folder):
    """A context in which another run has a folder."""
    lock = FolderLock(folder)
    assert lock.acquire()
    yield
    lock.release()


def test_a_second_run_in_a_folder_is_refused(vidrd, tmp_path):
    (tmp_path / "states").mkdir()
    message = "another run uses the states in states: wait for it, or name another --state-dir"
    with held(tmp_path / "states"):
        assert message in error_line(*vidrd(*RUN))
        assert message in error_line(*vidrd(*RUN, "--resume"))
        assert os.listdir(tmp_path / "states") == []
        assert not (tmp_path / "long.mp4").exists()
    assert vidrd(*RUN)[0] == 0
    more = ("--state-dir", "states", "-o", "more.mp4")
    assert vidrd("extend", "states/clip_0001.safetensors", "a red circle", *more)[0] == 0
    with held(tmp_path / "states"):
        assert message in error_line(*vidrd("extend", "states/clip_0002.safetensors", "a red circle", *more))


def test_a_folder_that_another_run_made_meanwhile_is_refused(tmp_path):
    with StateFolder(tmp_path / "new") as first, StateFolder(tmp_path / "new") as second:
        second.prepare()
        with pytest.raises(InputError, match="another run uses the states in"):
            first.prepare()
    with StateFolder(tmp_path / "other") as first:
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "clip_0000.safetensors").touch()
        with pytest.raises(InputError, match=r"another run has just used .*other: name another --state-dir"):
            first.prepare()


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_a_killed_run_does_not_block_its_folder(vidrd, folder, tmp_path):
    many = ["generate", "a red circle", "--clips", 400, "--steps", 1, "--state-dir", "states", "-o", "long.mp4"]
    command = [sys.executable, "-m", "vidrd_core.cli", *map(str, many), "--model", str(folder), "--scale", "1"]
    process = subprocess.Popen([*command, "--threads", "1"], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not (tmp_path / "states" / "clip_0001.safetensors").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    finished = len(list(Path("states").glob("clip_*.safetensors")))
    again = (*RUN[:3], finished + 1, *RUN[4:])
    assert vidrd(*again, "--resume")[0] == 0
    assert len(read_video("long.mp4")[0]) == 8 * (finished + 1)
