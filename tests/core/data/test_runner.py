"""Stages write shards: of new files only, wherever they run, whatever is wrong with the files."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from vidrd_core.data import runner as stages
from vidrd_core.data.captions import Sidecar
from vidrd_core.data.clip_sampling import ClipSettings
from vidrd_core.data.decoding import read_image
from vidrd_core.data.executors import InProcess, Processes, Ray
from vidrd_core.data.long_videos import LongVideos
from vidrd_core.data.manifests import DataError, manifests
from vidrd_core.data.pseudo_video import CameraSettings, pseudo_video
from vidrd_core.data.records import UnfitError
from vidrd_core.data.runner import Report, run
from vidrd_core.data.shards import Shards
from vidrd_core.data.stills import Stills

from .media import moving, write_still, write_video

CLIPS = ClipSettings(frames=4, size=32)


def stills(folder, **changes):
    return Stills(folder, Sidecar(), **{"clips": CLIPS, **changes})


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    for i in range(5):
        write_still(folder / f"{i}.png", seed=i, caption=f"picture {i}")
    return folder


def counts(report: Report) -> tuple[int, ...]:
    return report.found, report.known, report.made, report.skipped


def reasons(out: Path) -> dict[str, str]:
    lines = (line for _, _, found in manifests(out) for line in found if "reason" in line)
    return {Path(line["source"]).name: line["reason"] for line in lines}


def contents(out: Path) -> dict[str, bytes]:
    """What each clip of a folder of shards is, by its key."""
    shards = Shards(out)
    return {s.facts["key"]: s.caption.encode() + s.frames().tobytes() for s in shards.samples}


def test_stills_become_pseudo_videos_with_their_captions(pictures, tmp_path):
    assert counts(run(stills(pictures), tmp_path / "out")) == (5, 0, 5, 0)
    found = Shards(tmp_path / "out")
    assert [sample.caption for sample in found.samples] == [f"picture {i}" for i in range(5)]
    assert {sample.facts["kind"] for sample in found.samples} == {"pseudo-video"}
    for sample in found.samples:
        frames = sample.frames()
        assert frames.shape == (4, 32, 48, 3), "the picture's aspect ratio"
        assert (np.abs(np.diff(frames.astype(int), axis=0)).mean(axis=(1, 2, 3)) > 0.5).all(), "the camera moves"
    sample, still = found.samples[0], read_image(found.samples[0].facts["source"])
    record = stages._digested(next(stills(pictures).find()))
    expected = pseudo_video(still, CameraSettings(4, 48, 32), record.rng(0))
    assert np.abs(sample.frames().astype(int) - expected).mean() < 3, "but for the codec's loss"


def test_images_are_clips_of_one_frame(pictures, tmp_path):
    run(stills(pictures, motion=False), tmp_path / "out")
    samples = Shards(tmp_path / "out").samples
    assert {(s.facts["kind"], s.frames().shape) for s in samples} == {("image", (1, 32, 48, 3))}


def test_running_again_does_only_what_is_new(pictures, tmp_path):
    out = tmp_path / "out"
    run(stills(pictures), out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir() if path.suffix in (".tar", ".jsonl")}
    assert counts(run(stills(pictures), out)) == (5, 5, 0, 0)
    write_still(pictures / "new.png", seed=77, caption="a new one")
    (pictures / "1.png").rename(pictures / "renamed.png")  # the same bytes and caption under another name
    (pictures / "1.txt").rename(pictures / "renamed.txt")
    assert counts(run(stills(pictures), out)) == (6, 5, 1, 0)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(Shards(out)) == 6


def test_known_files_are_not_read_again(pictures, tmp_path, monkeypatch):
    run(stills(pictures), tmp_path / "out")
    monkeypatch.setattr(stages, "with_digest", lambda record: pytest.fail("read again"))
    assert counts(run(stills(pictures), tmp_path / "out")) == (5, 5, 0, 0)


def test_unusable_files_are_skipped_with_their_reason(pictures, tmp_path):
    (pictures / "zero.jpg").write_bytes(b"")
    (pictures / "damaged.png").write_bytes((pictures / "0.png").read_bytes()[:300])
    (pictures / "video.png").write_bytes(write_video(tmp_path / "v.mp4", moving()).read_bytes())
    (pictures / "notes.docx").write_bytes(b"notes")
    for name in ("zero", "damaged", "video"):
        (pictures / f"{name}.txt").write_text("a caption")
    write_still(pictures / "silent.png", seed=50)
    write_still(pictures / "dots.png", seed=51, caption="...")
    write_still(pictures / "tiny.png", 16, 16, seed=52, caption="a tiny one")
    write_still(pictures / "latin.png", seed=53)
    (pictures / "latin.txt").write_bytes("a café".encode("latin-1"))
    shutil.copy(pictures / "2.png", pictures / "twin.png")
    shutil.copy(pictures / "2.txt", pictures / "twin.txt")
    (pictures / ".hidden.png").write_bytes(b"x")
    assert counts(run(stills(pictures), tmp_path / "out")) == (14, 0, 5, 9)
    found = reasons(tmp_path / "out")
    expected = {
        "zero.jpg": "is empty, 0 bytes",
        "damaged.png": "is damaged or no image",
        "video.png": "is damaged or no image",
        "notes.docx": "is a .docx, expected an image",
        "silent.png": "has no caption",
        "dots.png": "has a caption without words",
        "latin.png": "has a caption that cannot be read: ",
        "tiny.png": "is 16 x 16 pixels, fewer than the clip's 32 x 32",
        "twin.png": "is the same as",
    }
    assert found.keys() == expected.keys()
    assert all(found[name].startswith(reason) for name, reason in expected.items()), found
    assert counts(run(stills(pictures), tmp_path / "out")) == (14, 14, 0, 0), "nor are they tried again"


def test_mended_files_are_used_and_skipped_ones_retried_only_on_request(pictures, tmp_path, monkeypatch):
    write_still(pictures / "silent.png", seed=50)
    (pictures / "damaged.png").write_bytes(b"x")
    (pictures / "damaged.txt").write_text("a caption")
    out = tmp_path / "out"
    assert counts(run(stills(pictures), out)) == (7, 0, 5, 2)
    (pictures / "silent.txt").write_text("it has one now")
    assert counts(run(stills(pictures), out)) == (7, 6, 1, 0)
    assert counts(run(stills(pictures), out, retry=True)) == (7, 6, 0, 1)
    assert sorted(s.caption for s in Shards(out).samples)[0] == "it has one now"


def test_a_killed_run_loses_at_most_the_shard_it_was_writing(pictures, tmp_path, monkeypatch):
    out, straight = tmp_path / "out", tmp_path / "straight"
    run(stills(pictures), straight, per_shard=2)

    class Killed(BaseException):
        pass

    whole, calls = stages.apply_steps, []

    def dying(record, steps):
        calls.append(record)
        if len(calls) == 4:
            raise Killed
        return whole(record, steps)

    with monkeypatch.context() as patched:
        patched.setattr(stages, "apply_steps", dying)
        with pytest.raises(Killed):
            run(stills(pictures), out, per_shard=2)
    assert [tar.name for tar, _, _ in manifests(out)] == ["shard_000000.tar"]
    (out / "shard_000009.tar.part-0123ab").write_bytes(b"of a process that was killed")
    report = run(stills(pictures), out, per_shard=2)
    assert counts(report) == (5, 2, 3, 0)
    assert contents(out) == contents(straight)
    assert not list(out.glob("*.part-*"))


def test_a_missing_shard_is_made_again(pictures, tmp_path):
    out = tmp_path / "out"
    run(stills(pictures), out, per_shard=2)
    before = contents(out)
    (out / "shard_000001.tar").unlink()
    with pytest.raises(DataError, match=r"shard_000001.tar is missing, and its manifest names 2 clips in it: put it"):
        Shards(out)
    assert counts(run(stills(pictures), out, per_shard=2)) == (5, 3, 2, 0)
    assert contents(out) == before


def test_a_damaged_shard_is_set_aside_and_made_again(pictures, tmp_path):
    out = tmp_path / "out"
    run(stills(pictures), out, per_shard=2)
    before, shard = contents(out), out / "shard_000001.tar"
    damaged = shard.read_bytes()[:600]
    shard.write_bytes(damaged)
    assert counts(run(stills(pictures), out, per_shard=2)) == (5, 3, 2, 0)
    assert contents(out) == before
    assert (out / "shard_000001.tar.damaged").read_bytes() == damaged
    assert counts(run(stills(pictures), out, per_shard=2)) == (5, 5, 0, 0)


def test_other_settings_need_another_folder(pictures, tmp_path):
    out = tmp_path / "out"
    run(stills(pictures), out)
    with pytest.raises(DataError, match=r"was made with clips.size 32 \(now 24\): use the same settings, or another"):
        run(stills(pictures, clips=ClipSettings(frames=4, size=24)), out)
    with pytest.raises(DataError, match=r"captioner.is 'Sidecar'|stage 'stills' \(now 'videos'\)"):
        run(LongVideos(pictures, Sidecar(), CLIPS), out)
    (out / "dataset.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset.json is damaged"):
        run(stills(pictures), out)


def test_a_folder_without_shards_takes_other_settings(pictures, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("vidrd_core.data.runner.process", lambda part: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(stills(pictures), out)
    other = stills(pictures, clips=ClipSettings(frames=4, size=24))
    assert counts(run(other, out)) == (5, 0, 5, 0)
    assert counts(run(other, out)) == (5, 5, 0, 0)


def test_two_runs_do_not_write_to_one_folder(pictures, tmp_path, monkeypatch):
    inner = []

    def progress(report, todo):
        if not inner:
            with pytest.raises(DataError, match="another run writes to"):
                run(stills(pictures), tmp_path / "out")
            inner.append(report)

    run(stills(pictures), tmp_path / "out", progress=progress)
    assert inner


def test_a_full_disk_leaves_no_partial_files(pictures, tmp_path, monkeypatch):
    from vidrd_core.data import shards

    put, calls = shards._put, []

    def full(*given):
        calls.append(given)
        if len(calls) > 7:
            raise OSError(28, "No space left on device")
        put(*given)

    with monkeypatch.context() as patched:
        patched.setattr(shards, "_put", full)
        with pytest.raises(OSError, match="the disk is full; free some space"):
            run(stills(pictures), tmp_path / "out", per_shard=2)
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.name.startswith("shard")) == [
        "shard_000000.jsonl", "shard_000000.tar",
    ]  # fmt: skip
    assert counts(run(stills(pictures), tmp_path / "out")) == (5, 2, 3, 0)


def test_one_bad_record_skips_no_other():
    from vidrd_core.data.records import Record, Skipped, apply_steps

    def three(record):
        yield from (Record(f"{record.source}{i}") for i in range(3))

    def no_second(record):
        if record.source.endswith("1"):
            raise UnfitError("is the second")
        yield record

    results = list(apply_steps(Record("a"), (three, no_second)))
    assert [(type(r).__name__, getattr(r, "source", "")) for r in results] == [
        ("Record", "a0"), ("Skipped", ""), ("Record", "a2"),
    ]  # fmt: skip
    assert isinstance(results[1], Skipped)
    assert results[1].reason == "is the second"


EXECUTORS = [
    pytest.param(Processes(2), id="processes"),
    pytest.param(Ray(workers=2), id="Ray", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_shards_are_the_same_wherever_they_are_made(pictures, tmp_path, executor, monkeypatch):
    if isinstance(executor, Ray):
        pytest.importorskip("ray", reason="Ray is not installed")
    # Workers are other processes, which find the package as this one does.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(stages.__file__).parents[2]), *_path()]))
    (pictures / "damaged.png").write_bytes(b"x")
    run(stills(pictures), tmp_path / "here", InProcess(), per_shard=2)
    report = run(stills(pictures), tmp_path / "there", executor, per_shard=2)
    assert counts(report) == (6, 0, 5, 1)
    names = sorted(path.name for path in (tmp_path / "here").glob("shard_*"))
    assert names == sorted(path.name for path in (tmp_path / "there").glob("shard_*"))
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes(), name


def _path():
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def test_shards_are_read_by_webdataset(pictures, tmp_path):
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    run(stills(pictures), tmp_path / "out")
    shard = tmp_path / "out" / "shard_000000.tar"
    samples = list(webdataset.WebDataset(str(shard), shardshuffle=False).decode())
    assert [sample["txt"] for sample in samples] == [f"picture {i}" for i in range(5)]
    assert all(sample["mp4"][4:8] == b"ftyp" for sample in samples)
    assert samples[0]["json"]["frames"] == 4


def test_a_damaged_shard_raises(pictures, tmp_path):
    out = tmp_path / "out"
    run(stills(pictures), out)
    sample = Shards(out).samples[0]
    data = bytearray(sample.shard.read_bytes())
    data[sample.offset : sample.offset + sample.length] = bytes(sample.length)
    sample.shard.write_bytes(data)
    with pytest.raises(DataError, match=r"\.mp4 in .*shard_000000.tar is damaged: .*: put it back"):
        sample.frames()
    sample.shard.write_bytes(data[:500])
    with pytest.raises(DataError, match=r"is cut off"):
        sample.frames()
    with pytest.raises(DataError, match=r"shard_000000.tar is damaged, and its manifest names 5 clips"):
        Shards(out)
    sample.shard.unlink()
    with pytest.raises(DataError, match="cannot be read: No such file"):
        sample.frames()
    (out / "shard_000000.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"shard_000000.jsonl is damaged"):
        Shards(out)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        Shards(tmp_path / "nowhere")
    assert json.loads((out / "dataset.json").read_text())["stage"] == "stills"


def test_digests_are_kept_by_a_run_that_was_stopped(pictures, tmp_path, monkeypatch):
    out, read = tmp_path / "out", []

    def dying(part):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stages, "process", dying)
        with pytest.raises(KeyboardInterrupt):
            run(stills(pictures), out)
    monkeypatch.setattr(stages, "with_digest", lambda record: read.append(record))
    assert counts(run(stills(pictures), out)) == (5, 0, 5, 0)
    assert not read
    assert not (out / stages.DIGESTS).exists()


def test_one_bad_image_does_not_end_the_run(pictures, tmp_path, monkeypatch):
    write_still(pictures / "strip.png", 40, 30000, caption="a long strip")
    write_still(pictures / "odd.png", seed=9, caption="odd")
    whole = stages.apply_steps

    def failing(record, steps):
        def fails(record):
            raise IndexError("list index out of range")

        return whole(record, (fails,) if record.caption == "odd" else steps)

    monkeypatch.setattr(stages, "apply_steps", failing)
    assert counts(run(stills(pictures), tmp_path / "out")) == (7, 0, 5, 2)
    why = reasons(tmp_path / "out")
    assert why["strip.png"] == "is 40 x 30000 pixels, and clips of it 32 x 24000, over 16384 a side"
    assert why["odd.png"] == "cannot be processed, IndexError: list index out of range"
