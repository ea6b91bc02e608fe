"""Locks on folders, as they are on Unix and where a file stands in for the folder."""

import os
import subprocess
import sys

import pytest

from vidrd_core.io import locks
from vidrd_core.io.locks import LOCK, FolderLock

HOLDS = """
import sys
from pathlib import Path
from vidrd_core.io import locks
if sys.argv[2] == "file":
    locks.fcntl = None
lock = locks.FolderLock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["folder", "file"])
def kind(request, monkeypatch):
    if request.param == "file":
        monkeypatch.setattr(locks, "fcntl", None)
    return request.param


def test_one_lock_at_a_time(tmp_path, kind):
    one, other = FolderLock(tmp_path), FolderLock(tmp_path)
    assert one.acquire()
    assert one.acquire()
    assert (one.is_held, other.is_held) == (True, False)
    assert not other.acquire()
    one.release()
    assert other.acquire()
    other.release()
    other.release()
    assert os.listdir(tmp_path) == ([LOCK] if kind == "file" else [])


def test_another_process_holds_it_until_it_is_killed(tmp_path, kind):
    command = [sys.executable, "-c", HOLDS, str(tmp_path), kind]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    lock = FolderLock(tmp_path)
    assert not lock.acquire()
    process.kill()
    process.communicate()
    assert lock.acquire()
    lock.release()


def test_a_disk_on_which_folders_cannot_be_locked_gets_a_file(tmp_path, monkeypatch):
    if locks.fcntl is None:
        pytest.skip("folders are never locked here")

    def flock(*_):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    # the file's lock is by the same call, so that it shows that it was asked
    with pytest.raises(OSError, match="Bad file descriptor"):
        FolderLock(tmp_path).acquire()
    assert os.listdir(tmp_path) == [LOCK]


def test_a_folder_that_is_not_there_has_no_lock(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        FolderLock(tmp_path / "nowhere").acquire()


def test_runs_that_share_a_folder_lock_their_own_files(tmp_path, kind):
    one, other, same = (
        FolderLock(tmp_path, name) for name in ("records_0.jsonl", "records_1.jsonl", "records_0.jsonl")
    )
    assert one.acquire()
    assert other.acquire()
    assert not same.acquire()
    one.release()
    assert same.acquire()
    same.release()
    other.release()
