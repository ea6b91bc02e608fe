"""Arrays on disk: made once, gone on with, refused."""

import errno
import os

import numpy as np
import pytest

from vidrd_core.training import array_cache as banks
from vidrd_core.training.array_cache import StaleBankError, bank

ENTRIES = np.arange(40, dtype=np.float32).reshape(10, 4)


def parts(first, until=10):
    return (ENTRIES[i : i + 2] for i in range(first, until, 2))


def made(folder, parts, **made_of):
    return bank(folder / "a.npy", ENTRIES.shape, np.float32, parts, {"of": "entries", **made_of})


def test_what_was_stopped_goes_on(tmp_path):
    def stopped(first):
        yield from parts(first, 6)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, stopped)
    asked = []
    found = made(tmp_path, lambda first: (asked.append(first), parts(first))[1])
    assert asked == [6]
    assert np.array_equal(found, ENTRIES)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == ["a.json", "a.npy"]
    made(tmp_path, lambda first: pytest.fail("it is there already"))


def test_what_was_begun_of_something_else_is_made_anew(tmp_path):
    def stopped(first):
        yield from parts(first, 6)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, stopped, seed=1)
    asked = []
    made(tmp_path, lambda first: (asked.append(first), parts(first))[1], seed=2)
    assert asked == [0]
    with pytest.raises(StaleBankError, match="delete it to have it made anew"):
        made(tmp_path, parts, seed=1)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_disk_without_room_is_told_before_anything_is_made(tmp_path, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(banks.os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"a takes 0.0 GiB: No space left on device"):
        made(tmp_path, lambda first: pytest.fail("there is no room"))
    assert [path.suffix for path in tmp_path.iterdir()] in ([], [".lock"])


def test_too_few_entries_are_told(tmp_path):
    with pytest.raises(ValueError, match="was to hold 10 clips, got 4"):
        made(tmp_path, lambda first: parts(first, 4))


def test_how_far_another_array_was_is_forgotten(tmp_path):
    def stopped(first):
        yield from parts(first, 6)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, stopped)
    (tmp_path / "a.partial").unlink()
    seen = []
    made(tmp_path, lambda first: (seen.append((first, (tmp_path / "a.begun").exists())), parts(first))[1])
    assert seen == [(0, False)]
