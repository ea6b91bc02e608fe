"""Long Video makes only what changed again, under each of the host's caches and after a restart."""

import importlib
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from .conftest import BUILT_IN
from .graphs import chain, executor, frames_of
from .test_long_video import PROMPTS
from .test_long_video import long_video as long_video_of

# 0.3.64's DEPENDENCY_AWARE (its --cache-none) runs no node that expands: ensure_subcache_for ends in a KeyError.
CACHES = {
    "classic": ("CLASSIC", {}),
    "lru": ("LRU", {"lru": 5}),
    "none": ("NONE", {}),
    "ram pressure": ("RAM_PRESSURE", {"ram": 4, "ram_inactive": 1e6}),
}
SIX = [*PROMPTS, "a white ring bouncing", "a yellow star spinning", "a red square growing"]


def long_video(prompts, prefix="kept", **changes):
    return long_video_of(prompts, prefix=f"of_kept/{prefix}", **changes)


@pytest.fixture(params=CACHES)
def caching(request, host, pack):
    """A function that starts an executor with one kind of cache."""
    kind, sizes = CACHES[request.param]
    if kind not in importlib.import_module("execution").CacheType.__members__:
        pytest.skip(f"this host has no cache {kind}")
    return lambda: executor(host, pack, kind, **sizes)


def changed(number, text="a green ring moving left"):
    return [text if k == number - 1 else prompt for k, prompt in enumerate(SIX)]


def size_of(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def restart(host):
    """As ComfyUI begins: its temporary folder is emptied."""
    shutil.rmtree(host.folder_paths.get_temp_directory(), ignore_errors=True)


def test_only_what_changed_is_made_again(caching, runs, host):
    execute = caching()
    assert runs(execute, long_video(SIX)) == (6, 6)
    assert runs(execute, long_video(changed(3))) == (4, 4)
    assert runs(execute, long_video(changed(3))) == (0, 0)
    assert runs(execute, long_video(changed(3, "a white star growing"))) == (4, 4)
    assert runs(execute, long_video(SIX, seed_per_clip=",,,,9")) == (2, 2)
    assert runs(execute, chain(1)) == (1, 0)  # another workflow
    assert runs(execute, long_video(SIX, seed_per_clip=",,,,9")) == (0, 0)
    restart(host)
    assert runs(caching(), long_video(SIX, seed_per_clip=",,,,10")) == (2, 2)
    restart(host)
    assert runs(caching(), long_video(SIX, fps=9.0)) == (0, 6)


def test_a_video_of_kept_clips_is_that_of_new_ones(kept, runs, host, pack, output):
    for kind in ("mp4", "png"):
        first = runs(executor(host, pack, "CLASSIC"), long_video(SIX[:3], prefix=f"new_{kind}", format=kind))
        again = runs(executor(host, pack, "CLASSIC"), long_video(SIX[:3], prefix=f"old_{kind}", format=kind))
        assert (first, again) == ((3 if kind == "mp4" else 0, 3), (0, 0))
        names = [f"{when}_{kind}/v_00001_{'.mp4' if kind == 'mp4' else ''}" for when in ("new", "old")]
        assert np.array_equal(*[frames_of(output / "of_kept" / name) for name in names])
    # A kept state is the state: the clip after it is the same.
    there, kept.folder = kept.folder, kept.folder.with_name("elsewhere")
    runs(executor(host, pack, "CLASSIC"), long_video(SIX[:4], prefix="straight"))
    kept.folder = there
    assert runs(executor(host, pack, "CLASSIC"), long_video(SIX[:4], prefix="on")) == (1, 1)
    assert np.array_equal(*[frames_of(output / "of_kept" / name / "v_00001_.mp4") for name in ("straight", "on")])


def test_a_model_file_that_changed_makes_all_again(kept, runs, host, pack):
    source = importlib.import_module("vidrd_core.loading").built_in_models()["tiny"] / "unet.safetensors"
    target = Path(host.folder_paths.get_folder_paths("diffusion_models")[0]) / "kept_test.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
    graph = long_video(SIX[:2])
    graph["model"]["inputs"]["file"] = target.name
    try:
        assert runs(executor(host, pack, "CLASSIC"), graph) == (2, 2)
        assert runs(executor(host, pack, "CLASSIC"), graph) == (0, 0)
        os.utime(target, (1, 1))
        assert runs(executor(host, pack, "CLASSIC"), graph) == (2, 2)
        graph["model"]["inputs"]["file"] = BUILT_IN
        assert runs(executor(host, pack, "CLASSIC"), graph) == (2, 2)
    finally:
        target.unlink()


def test_a_node_that_asks_to_run_each_time_is_heeded(caching, runs, host, monkeypatch):
    """Through IS_CHANGED, as nodes that read a camera or a folder do; what depends on it is not kept."""
    asked = []

    class Empty:
        RETURN_TYPES, FUNCTION, CATEGORY = ("LATENT",), "make", "test"

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"latent": ("LATENT",), "file": ("STRING",)}}

        @classmethod
        def IS_CHANGED(cls, latent=None, file=""):
            asked.append(file)
            return float("nan") if file == "always" else file

        def make(self, latent, file):
            return (latent,)

    monkeypatch.setitem(host.nodes.NODE_CLASS_MAPPINGS, "Empty", Empty)

    def graph(file):
        between = {"class_type": "Empty", "inputs": {"latent": ["empty", 0], "file": file}}
        return {**long_video(SIX[:2], latent=["between", 0]), "between": between}

    assert [runs(caching(), graph("always")) for _ in range(2)] == [(2, 2), (2, 2)]
    assert [runs(caching(), graph("one")) for _ in range(2)] == [(2, 2), (0, 0)]
    assert asked


def test_a_node_that_a_loop_has_replaced_is_not_told_by_its_old_inputs(kept):
    class Graph:
        def __init__(self, **overrides):
            self.node_overrides = overrides

        def get_node(self, name):
            return {"class_type": "VAEDecode", "inputs": {}, "is_changed": False}

    assert kept.module._fingerprint(Graph(), "a", "id")
    assert kept.module._fingerprint(Graph(a={}), "a", "id") is None


def test_what_is_kept_is_bounded_and_the_least_recently_used_go_first(kept, runs, host, pack, monkeypatch):
    runs(executor(host, pack, "CLASSIC"), long_video(SIX[:2]))
    size = size_of(kept.folder)
    abandoned = kept.folder / "partial-of-a-killed-run"
    abandoned.mkdir()
    os.utime(abandoned, (1, 1))
    entries = {entry.name for entry in kept.folder.iterdir()}
    for entry in kept.folder.iterdir():
        os.utime(entry, (time.time() - 60, time.time() - 60) if entry != abandoned else (1, 1))
    monkeypatch.setenv("VIDRD_KEEP_GB", str(1.5 * size / 1e9))
    runs(executor(host, pack, "CLASSIC"), long_video(["a blue ring spinning", "a green star growing"]))
    left = {entry.name for entry in kept.folder.iterdir()}
    assert size_of(kept.folder) <= 1.5 * size
    assert len(left - entries) == 4, "the newest are there"
    assert abandoned.name not in left
    monkeypatch.setenv("VIDRD_KEEP_GB", "0")
    assert runs(executor(host, pack, "CLASSIC"), long_video(SIX[:2])) == (2, 2)


def test_a_damaged_entry_is_made_again_and_a_full_disk_stops_nothing(kept, runs, host, pack, monkeypatch, caplog):
    graph = long_video(SIX[:2])
    runs(executor(host, pack, "CLASSIC"), graph)
    for path in kept.folder.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-10])
    assert runs(executor(host, pack, "CLASSIC"), graph) == (2, 2)
    assert "cannot be read and is made again" in caplog.text
    assert runs(executor(host, pack, "CLASSIC"), graph) == (0, 0)
    for path in kept.folder.rglob("piece.mp4"):
        cut = path.read_bytes()[:-10]
        path.unlink()  # which may be linked
        path.write_bytes(cut)
    assert runs(executor(host, pack, "CLASSIC"), graph) == (0, 2)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept.module.tempfile, "mkdtemp", full)
    assert runs(executor(host, pack, "CLASSIC"), long_video(changed(1)[:2])) == (2, 2)
    assert "could not be kept" in caplog.text


@pytest.mark.parametrize("kind", ["mp4", "png"])
def test_a_piece_of_other_bytes_is_encoded_again(kept, runs, host, pack, output, kind):
    graph = long_video(SIX[:2], prefix=f"zeros_{kind}", format=kind)
    runs(executor(host, pack, "CLASSIC"), graph)
    (first,) = (output / "of_kept" / f"zeros_{kind}").iterdir()
    expected = frames_of(first)
    for piece in kept.folder.glob("*/piece*"):
        for file in [piece] if piece.is_file() else piece.iterdir():
            file.write_bytes(bytes(file.stat().st_size))
    restart(host)
    assert runs(executor(host, pack, "CLASSIC"), graph) == (0, 2)
    second = max((output / "of_kept" / f"zeros_{kind}").iterdir())
    assert second != first
    assert np.array_equal(frames_of(second), expected)


def test_the_node_says_what_was_kept(kept, runs, host, pack, page):
    graph = long_video(SIX[:2])
    runs(executor(host, pack, "CLASSIC"), graph)
    page.texts.clear()
    runs(executor(host, pack, "CLASSIC"), graph)
    assert [text for _, text in page.texts if "kept" in text] == [
        f"clip {k} of 2: kept from an earlier run" for k in (1, 2)
    ]
    assert not any("step" in text for _, text in page.texts)


def test_thumbnails_are_kept_too(kept, runs, host, pack, page):
    def thumbnails():
        page.sent.clear()
        runs(executor(host, pack, "CLASSIC"), long_video(SIX[:2]))
        names = [data["thumbnail"] for _, data in page.sent if "thumbnail" in data]
        return [(Path(host.folder_paths.get_temp_directory()) / name).read_bytes() for name in names]

    first = thumbnails()
    restart(host)
    assert (kept.clips, len(set(first))) == (2, 2)
    assert thumbnails() == first
    assert kept.clips == 0


def test_cleared_pieces_are_fetched_from_what_is_kept(kept, runs, host, pack, output, monkeypatch):
    for kind in ("mp4", "png"):
        execute = executor(host, pack, "CLASSIC")
        runs(execute, long_video(SIX[:3], prefix=f"cleared_{kind}", format=kind))
        restart(host)
        other = [*SIX[:2], f"a {'green' if kind == 'mp4' else 'white'} ring moving left"]
        assert runs(execute, long_video(other, prefix=f"cleared_{kind}", format=kind)) == (1, 1)
        with monkeypatch.context() as patch:
            patch.setenv("VIDRD_KEEP_GB", "0")
            runs(executor(host, pack, "CLASSIC"), long_video(other, prefix=f"whole_{kind}", format=kind))
        ending = ".mp4" if kind == "mp4" else ""
        names = [f"cleared_{kind}/v_00002_{ending}", f"whole_{kind}/v_00001_{ending}"]
        assert np.array_equal(*[frames_of(output / "of_kept" / name) for name in names])
    # Without what is kept, the message says what to do.
    shutil.rmtree(kept.folder)
    restart(host)
    _, errors, _ = execute(long_video(other, prefix=f"cleared_{kind}", format=kind, fps=9.0))
    assert errors == []  # the latents are there, of which all is written again
    restart(host)
    _, errors, _ = execute(long_video(changed(3)[:3], prefix=f"cleared_{kind}", format=kind))
    assert "change the clip's seed" in errors[0]["exception_message"]
    assert runs(execute, long_video(changed(3)[:3], prefix=f"cleared_{kind}", format=kind, seed=4)) == (3, 3)


def test_how_a_video_is_written_changes_no_clip_of_one_that_goes_on_from_it(kept, runs, host, pack):
    def graph(first_prompt=SIX[0], **first):
        made = long_video([first_prompt], prefix="first", **first)
        second = long_video(SIX[1:3], prefix="second", state=["long", 1])["long"]
        return {**made, "second": second}

    execute = executor(host, pack, "CLASSIC")
    assert runs(execute, graph()) == (3, 3)
    assert runs(execute, graph(fps=9.0)) == (0, 1)
    assert runs(execute, graph(filename_prefix="of_kept/other/v", format="png")) == (0, 1)
    restart(host)
    assert runs(executor(host, pack, "CLASSIC"), graph(filename_prefix="of_kept/third/v", scale=1)) == (0, 1)
    assert runs(executor(host, pack, "CLASSIC"), graph(seed=4)) == (3, 3)
