"""Names of partial files, which fit where the final name does."""

import os

import numpy as np
import pytest

from vidrd_core.io import safetensors
from vidrd_core.io.atomic import atomic_file, atomic_folder, write_text
from vidrd_core.io.partial import NAME_BYTES, fitting
from vidrd_core.video import open_video, read_video


def test_a_name_with_room_is_kept():
    assert fitting("long.safetensors", ".partial") == "long.safetensors.partial"


@pytest.mark.parametrize("letter", ["a", "é", "長"])
def test_a_name_without_room_is_cut_and_stays_distinct(letter):
    count = NAME_BYTES // len(letter.encode())
    one, other = (fitting(letter * (count - 1) + last, ".partial") for last in "bc")
    assert one != other
    for name in (one, other):
        assert name.startswith(letter * 50)
        assert name.endswith(".partial")
        assert len(os.fsencode(name)) <= NAME_BYTES


@pytest.mark.skipif(os.name != "posix", reason="Windows limits whole paths")
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".webp", ".apng", "/"])
def test_videos_of_the_longest_name_are_written(tmp_path, suffix):
    name = "n" * (NAME_BYTES - len(suffix.rstrip("/")))
    for count in (2, 3):  # the second one replaces the first
        with open_video(f"{tmp_path}/{name}{suffix}") as video:
            video.write(np.zeros((count, 16, 16, 3), np.uint8))
        assert os.listdir(tmp_path) == [name + suffix.rstrip("/")]
    assert len(read_video(tmp_path / (name + suffix.rstrip("/")))[0]) == 3


@pytest.mark.skipif(os.name != "posix", reason="Windows limits whole paths")
def test_files_and_folders_of_the_longest_name_are_written(tmp_path):
    name = "n" * NAME_BYTES
    write_text(tmp_path / name, "one")
    write_text(tmp_path / name, "two")
    assert (tmp_path / name).read_text() == "two"
    (tmp_path / name).unlink()
    safetensors.write(tmp_path / name, {}, "a kind")
    (tmp_path / name).unlink()
    with atomic_folder(tmp_path / name) as staging:
        (staging / "file").touch()
        assert staging.parent == tmp_path
    assert os.listdir(tmp_path) == []


def test_two_that_write_one_file_at_once_do_not_mix(tmp_path):
    path = tmp_path / "file"
    with atomic_file(path) as slow:
        slow.write_text("sl")
        write_text(path, "quick")
        assert path.read_text() == "quick"
        with slow.open("a") as file:
            file.write("ow")
    assert path.read_text() == "slow"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", ["text", "tensors", "folder"])
def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path, monkeypatch, kind):
    def killed(_tensors, file, _metadata):
        (file.parent / ".tmp0a1b").touch()  # as safetensors writes
        os._exit(1)

    if not (process := os.fork()):
        monkeypatch.setattr(safetensors, "save_file", killed)
        if kind == "tensors":
            safetensors.write(tmp_path / "killed", {}, "a kind")
        with (atomic_file if kind == "text" else atomic_folder)(tmp_path / "killed"):
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 1
    assert len(os.listdir(tmp_path)) == 1
    write_text(tmp_path / "other", "")
    assert os.listdir(tmp_path) == ["other"]
