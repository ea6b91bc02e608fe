"""What cannot be read is recorded with its reason, and all else is made."""

import json
import os
import re
import sys
from importlib import import_module
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from vidrd_core.data.captions import Sidecar
from vidrd_core.data.clip_sampling import ClipSettings
from vidrd_core.data.codec import decode_clip, encode_clip
from vidrd_core.data.executors import Processes
from vidrd_core.data.files import walk
from vidrd_core.data.manifests import DataError, manifests, read_manifest
from vidrd_core.data.runner import run
from vidrd_core.data.shards import Shards
from vidrd_core.data.stills import Stills
from vidrd_core.io.decoded import VideoError, decodable
from vidrd_core.video.film import film_stream

HEAD = "file_name,caption\n"


def stills(folder, table=None):
    return Stills(folder, Sidecar(), ClipSettings(frames=2, size=16), motion=False, table=table)


def picture(path, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def reasons(out):
    lines = [line for _, _, found in manifests(out) for line in found]
    return {os.path.basename(line["source"]): line["reason"] for line in lines if "reason" in line}


def captions(out):
    return sorted(sample.caption for sample in Shards(out).samples)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    picture(folder / "good.png")
    (folder / "good.txt").write_text("a good one")
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_names_that_are_no_utf8_are_recorded(folder, tmp_path):
    picture(os.fsencode(folder) + b"/bad\xff.png", 1)
    below = os.fsencode(folder) + b"/folder\xfe"
    os.mkdir(below)
    picture(below + b"/inside.png", 2)
    run(stills(folder), tmp_path / "out")
    assert captions(tmp_path / "out") == ["a good one"]
    assert reasons(tmp_path / "out") == {
        "bad\\udcff.png": "has a name that is no UTF-8: rename it",
        "folder\\udcfe": "is a folder whose name is no UTF-8: rename it",
    }
    assert run(stills(folder), tmp_path / "out").worked == 0  # and known


@pytest.mark.parametrize("length", [246, 251])
def test_a_name_that_leaves_no_room_for_that_of_a_sidecar_is_read(folder, tmp_path, length):
    picture(folder / f"{length * 'a'}.png", 1)
    (tmp_path / "table.csv").write_text(f"{HEAD}{length * 'a'}.png,a long one\n")
    report = run(stills(folder), tmp_path / "none")
    assert (report.made, report.skipped) == (1, 1)  # the long one has no caption
    assert captions(tmp_path / "none") == ["a good one"]
    run(stills(folder, tmp_path / "table.csv"), tmp_path / "out")
    assert captions(tmp_path / "out") == ["a good one", "a long one"]


@pytest.mark.skipif(not hasattr(os, "symlink") or sys.platform == "win32", reason="links need rights there")
def test_folders_that_link_to_themselves_end(folder, tmp_path):
    (folder / "below").mkdir()
    picture(folder / "below" / "other.png", 1)
    (folder / "below" / "other.txt").write_text("another one")
    (folder / "below" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "self").symlink_to(folder / "self")
    assert len(list(walk(folder))) == 5
    run(stills(folder), tmp_path / "out")
    assert captions(tmp_path / "out") == ["a good one", "another one"]
    found = reasons(tmp_path / "out")
    assert found["up"] == "is a link to a folder that it is in: remove it"
    assert "self" in found


@pytest.mark.parametrize(
    ("line", "number", "reason"),
    [
        (b"other.png,caf\xe9\n", 2, "is no UTF-8 text"),
        (b"other.png,a\0dog\n", 2, "has a null character"),
        (b"other.png," + b"x" * 200_000 + b"\n", 2, "it has a field of more than 131,072 characters"),
        (b"other.png,one,two\n", 2, "has 3 fields, expected 2"),
        (b"other.png,\n", 2, "its caption is empty"),
    ],
)
def test_a_line_of_a_table_that_cannot_be_read_is_recorded(folder, tmp_path, line, number, reason):
    picture(folder / "listed.png", 1)
    table = tmp_path / "table.csv"
    table.write_bytes(HEAD.encode() + line + b"listed.png,a listed one\n")
    run(stills(folder, table), tmp_path / "out")
    assert captions(tmp_path / "out") == ["a good one", "a listed one"]
    assert reason in reasons(tmp_path / "out")[f"table.csv, line {number}"]


@pytest.mark.parametrize(
    "line",
    [
        '{"file_name": "a.png", "caption": "\\ud800"}',
        '{"file_name": "a.png"}',
        '{"caption": "a"}',
        "{}",
        '{"file_name": "a',
        "7",
    ],
)
def test_json_lines_that_cannot_be_read_are_recorded(folder, tmp_path, line):
    picture(folder / "listed.png", 1)
    table = tmp_path / "table.jsonl"
    table.write_text(f'{line}\n{{"file_name": "listed.png", "caption": "a listed one"}}\n')
    run(stills(folder, table), tmp_path / "out")
    assert captions(tmp_path / "out") == ["a good one", "a listed one"]
    assert "table.jsonl, line 1" in reasons(tmp_path / "out")


def test_a_table_without_the_columns_is_refused(folder, tmp_path):
    table = tmp_path / "table.jsonl"
    table.write_text('{"picture": "good.png", "caption": "a good one"}\n' * 2)
    with pytest.raises(
        ValueError, match=r"table.jsonl, line 1: expected columns for a file \(file_name, .*, got picture"
    ):
        run(stills(folder, table), tmp_path / "out")


def changes(line, head):
    """Manifests with one wrong value each."""
    for name in ("caption", "offset", "length", "suffix", "frames", "width", "kind", "origin", "source"):
        yield head, {key: value for key, value in line.items() if key != name}
    for name, value in (
        ("frames", 0), ("width", -3), ("height", 2.5), ("width", 2**70), ("length", 10**12), ("offset", -1),
        ("offset", "1"), ("caption", "\ud800"), ("caption", None), ("suffix", "exe"), ("fps", float("nan")),
        ("key", "../../x"), ("stamp", 3), ("stamp", [{}, 1]), ("length", True), ("digest", []),
    ):  # fmt: skip
        yield head, {**line, name: value}
    for name, value in (("made", None), ("bytes", -1), ("bytes", "7"), ("sources", 3.0), ("sources", [[]])):
        yield {**head, name: value}, line
    yield {key: value for key, value in head.items() if key != "bytes"}, line
    yield [], line
    yield head, 7


def test_damaged_manifests_are_refused_and_set_aside(folder, tmp_path):
    out = tmp_path / "out"
    run(stills(folder), out)
    manifest = out / "shard_000000.jsonl"
    before = manifest.read_bytes()
    head, line = map(json.loads, before.splitlines())
    for number, changed in enumerate(changes(line, head)):
        manifest.write_text("".join(json.dumps(each) + "\n" for each in changed))
        with pytest.raises(DataError, match=r"shard_000000.jsonl is damaged"):
            Shards(out)
        if number % 6:
            continue
        with pytest.warns(UserWarning, match=r"is damaged .*; it is .*shard_000000.jsonl.damaged now"):
            assert run(stills(folder), out).made == 1
        assert captions(out) == ["a good one"]
        (remade,) = out.glob("shard_*.jsonl")
        assert read_manifest(remade)[1][0]["key"] == line["key"]
        assert (out / "shard_000000.tar.damaged").is_file()
        for path in out.glob("shard_*"):
            path.unlink()
        run(stills(folder), out)
    manifest.write_text("[" * 100_000)
    with pytest.raises(DataError, match="is damaged"):
        Shards(out)


def test_a_clip_that_is_not_of_its_manifests_size_is_refused(folder, tmp_path):
    run(stills(folder), tmp_path / "out")
    manifest = tmp_path / "out" / "shard_000000.jsonl"
    manifest.write_text(manifest.read_text().replace('"width": 16', '"width": 17'))
    with pytest.raises(DataError, match=r"is \(1, 16, 16\) frames, height and width, expected \(1, 16, 17\)"):
        Shards(tmp_path / "out").samples[0].frames()


DEADLY = """
import os
import re

def step(record):
    if "deadly" in record.source:
        os._exit(9)
    yield record
"""


@pytest.mark.parametrize("executor", [Processes(), Processes(2)], ids=["one process", "two processes"])
def test_a_file_that_ends_its_process_is_recorded(folder, tmp_path, monkeypatch, executor):
    (tmp_path / "deadly_steps.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(str(tmp_path))
    for number, name in enumerate(("a", "b_deadly", "c", "d_deadly", "e", "f")):
        picture(folder / f"{name}.png", number + 1)
        (folder / f"{name}.txt").write_text(name)
    stage = stills(folder)
    steps = (import_module("deadly_steps").step, *stage.steps)
    object.__setattr__(stage, "steps", steps)
    report = run(stage, tmp_path / "out", executor, per_shard=3)
    assert (report.made, report.skipped, report.shards) == (5, 2, 3)
    assert captions(tmp_path / "out") == ["a", "a good one", "c", "e", "f"]
    assert reasons(tmp_path / "out") == dict.fromkeys(
        ("b_deadly.png", "d_deadly.png"),
        "ends the process that reads it (exit code 9): it crashes its decoder, or needs more memory than there is",
    )
    assert not list((tmp_path / "out").glob("*.at"))
    assert run(stage, tmp_path / "out", executor, per_shard=3).worked == 0


def test_a_stream_without_a_decoder_is_refused_before_it_is_decoded():
    stream = SimpleNamespace(codec_context=None, disposition=0)
    assert film_stream(SimpleNamespace(streams=SimpleNamespace(video=[stream]))) is stream
    with pytest.raises(VideoError, match="in a coding for which this FFmpeg has no decoder"):
        decodable(stream)


def test_frames_that_are_far_too_large_are_refused_before_they_are_decoded():
    codec = SimpleNamespace(width=16384, height=16384)
    with pytest.raises(VideoError, match="has frames of 16384 x 16384: expected at most 67108864 pixels"):
        decodable(SimpleNamespace(codec_context=codec))


def test_shards_hold_what_they_are_written_with(tmp_path):
    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(2):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="is coded as mpeg4, expected h264"):
        decode_clip((tmp_path / "x.mp4").read_bytes(), (8, 64, 64))


@pytest.mark.parametrize("shape", [(2, 64, 64), (8, 64, 32), (12, 64, 64)])
def test_a_clip_is_decoded_no_further_than_its_manifest_says(shape):
    data = encode_clip(np.zeros((8, 64, 64, 3), np.uint8), 8)
    found = (3, 64, 64) if shape[0] == 2 else (8, 64, 64)
    with pytest.raises(ValueError, match=re.escape(f"is {found} frames, height and width, expected {shape}")):
        decode_clip(data, shape)
    assert decode_clip(data, (8, 64, 64)).shape == (8, 64, 64, 3)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows forbids some of these names")
def test_names_with_line_breaks_of_any_kind_are_written_and_read(folder, tmp_path):
    names = [f"a{letter}b" for letter in "\n\r\x0b\x0c\x1c\x85\u2028\u2029"]
    for number, name in enumerate(names):
        picture(folder / f"{name}.png", number + 10)
        (folder / f"{name}.txt").write_text(f"picture {number}")
    made = run(stills(folder), tmp_path / "out").made
    assert made >= len(names)
    assert len(Shards(tmp_path / "out")) == made
    assert run(stills(folder), tmp_path / "out").worked == 0
