"""The cache of arrays on disk: filled once, continued, refused."""

import errno
import os

import numpy as np
import pytest

from vidrd_core.training import array_cache
from vidrd_core.training.array_cache import StaleCacheError, cached_array

ENTRIES = np.arange(40, dtype=np.float32).reshape(10, 4)


def parts(first, until=10):
    return (ENTRIES[i : i + 2] for i in range(first, until, 2))


def cached(folder, parts, **source):
    return cached_array(folder / "a.npy", ENTRIES.shape, np.float32, parts, {"of": "entries", **source})


def test_filling_that_was_stopped_is_continued(tmp_path):
    def stopped(first):
        yield from parts(first, 6)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, stopped)
    asked = []
    found = cached(tmp_path, lambda first: (asked.append(first), parts(first))[1])
    assert asked == [6]
    assert np.array_equal(found, ENTRIES)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == ["a.json", "a.npy"]
    cached(tmp_path, lambda first: pytest.fail("it is there already"))


def test_an_array_begun_from_another_source_is_filled_from_the_start(tmp_path):
    def stopped(first):
        yield from parts(first, 6)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, stopped, seed=1)
    asked = []
    cached(tmp_path, lambda first: (asked.append(first), parts(first))[1], seed=2)
    assert asked == [0]
    with pytest.raises(StaleCacheError, match="delete it to have it made again"):
        cached(tmp_path, parts, seed=1)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_full_disk_raises_before_anything_is_computed(tmp_path, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(array_cache.os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"a takes 0.0 GiB: No space left on device"):
        cached(tmp_path, lambda first: pytest.fail("there is no space"))
    assert [path.suffix for path in tmp_path.iterdir()] in ([], [".lock"])


def test_too_few_entries_raise(tmp_path):
    with pytest.raises(ValueError, match="was to hold 10 entries, got 4"):
        cached(tmp_path, lambda first: parts(first, 4))


def test_the_progress_of_another_array_is_ignored(tmp_path):
    def stopped(first):
        yield from parts(first, 6)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, stopped)
    (tmp_path / "a.partial").unlink()
    seen = []
    cached(tmp_path, lambda first: (seen.append((first, (tmp_path / "a.begun").exists())), parts(first))[1])
    assert seen == [(0, False)]
