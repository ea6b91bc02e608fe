"""A film's frames by number, wherever reading begins, are those of decoding it from its start."""

from __future__ import annotations

import gc
from pathlib import Path

import av
import numpy as np
import pytest

from vidrd_core.data.decoding import all_frames, facts_of, frames_at
from vidrd_core.video import read_video
from vidrd_core.video.film import film_of

from .films import encode, numbered, numbers_of

COUNT = 300
B_FRAMES = {"bf": "3", "x264-params": "b-adapt=0:scenecut=0"}
OPEN = {"x264-params": "open-gop=1:b-adapt=0:bframes=3:scenecut=0"}
HEVC_OPEN = "keyint={0}:min-keyint={0}:open-gop=1:bframes=4:b-adapt=0:scenecut=0:log-level=none"
HEVC_CLOSED = "keyint={0}:min-keyint={0}:open-gop=0:bframes=4:scenecut=0:log-level=none"
KINDS = {
    "single.mp4": ("libx264", {"g": "1"}),
    "short.mp4": ("libx264", {"g": "12", **B_FRAMES}),
    "long.mp4": ("libx264", {"g": "250", **B_FRAMES}),
    "open.mp4": ("libx264", {"g": "12", **OPEN}),
    "hevc_open.mp4": ("libx265", {"x265-params": HEVC_OPEN.format(12)}),
    "hevc_closed.mkv": ("libx265", {"x265-params": HEVC_CLOSED.format(12)}),
    "hevc_open.mkv": ("libx265", {"x265-params": HEVC_OPEN.format(50)}),
    "hevc_open.ts": ("libx265", {"x265-params": HEVC_OPEN.format(25)}),
    "hevc_long.ts": ("libx265", {"x265-params": HEVC_CLOSED.format(250)}),
    "open.mkv": ("libx264", {"g": "25", **OPEN}),
    "single.ts": ("libx264", {"g": "1"}),
    "short.ts": ("libx264", {"g": "12", **B_FRAMES}),
    "long.ts": ("libx264", {"g": "250", **B_FRAMES}),
    "open.ts": ("libx264", {"g": "25", **OPEN}),
    "refreshed.ts": ("libx264", {"g": "25", "x264-params": "intra-refresh=1:bframes=0"}),
    "refreshed.mkv": ("libx264", {"g": "25", "x264-params": "intra-refresh=1:bframes=0"}),
    "mpeg2.ts": ("mpeg2video", {"g": "12", "bf": "2"}),
    "mpeg2.mpg": ("mpeg2video", {"g": "12", "bf": "2"}),
    "vp8.webm": ("libvpx", {"g": "100", "auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "realtime"}),
    "vp9.webm": ("libvpx-vp9", {"g": "100", "deadline": "realtime", "cpu-used": "8"}),
    "mpeg4.avi": ("mpeg4", {"g": "12", "bf": "2"}),
    "h264.avi": ("libx264", {"g": "12", **B_FRAMES}),
    "mjpeg.avi": ("mjpeg", {}),
    "flash.flv": ("flv", {"g": "12"}),
    "windows.wmv": ("wmv2", {"g": "12"}),
}


@pytest.fixture(scope="module", params=list(KINDS))
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    codec, options = KINDS[request.param]
    path = tmp_path_factory.mktemp("films") / request.param
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    return encode(path, numbered(COUNT), codec, pix_fmt=pix_fmt, **options)


def test_a_clip_from_anywhere_is_what_decoding_from_the_start_gives(film: Path) -> None:
    with av.open(str(film)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert numbers_of(pictures) == list(range(COUNT)), "the reference"
    facts = facts_of(film)
    assert (facts.fps, facts.seconds) == (24, pytest.approx(COUNT / 24, abs=1e-3))
    for first in (0, 1, 11, 12, 13, 23, 24, 49, 50, 99, 100, 130, 187, 249, 250, 251, 295):
        wanted = [first, *range(first + 1, min(first + 4, COUNT))]
        clip = frames_at(film, [number / 24 for number in wanted])
        assert numbers_of(clip) == wanted
        errors = [np.abs(one.astype(int) - pictures[n]).max() for one, n in zip(clip, wanted, strict=True)]
        assert max(errors) <= 2
    assert numbers_of(frames_at(film, [3 / 24, 140 / 24, 140.2 / 24, 290 / 24])) == [3, 140, 140, 290]
    assert numbers_of(read_video(film, 5)[0]) == list(range(COUNT - 5, COUNT))
    times, frames = zip(*all_frames(film, (160, 64)), strict=True)
    assert times == pytest.approx(np.arange(COUNT) / 24, abs=1e-3)
    assert numbers_of(frames) == list(range(COUNT))


def test_frames_that_were_read_are_not_kept(tmp_path: Path) -> None:
    path = encode(tmp_path / "film.mp4", numbered(COUNT), g="50")
    gc.collect()
    gc.disable()
    try:
        assert sum(1 for _ in film_of(path).frames()) == COUNT
        kept = sum(isinstance(each, av.VideoFrame) for each in gc.get_objects())
    finally:
        gc.enable()
    assert kept < 10


def test_a_film_that_changes_is_read_again(tmp_path: Path) -> None:
    path = encode(tmp_path / "film.mp4", numbered(24))
    assert numbers_of(frames_at(path, [0.5])) == [12]
    encode(path, numbered(48, first=100))
    assert numbers_of(frames_at(path, [0.5, 1.5])) == [112, 136]
    assert facts_of(path).seconds == pytest.approx(2, abs=1e-3)


def test_recordings_that_begin_anywhere_or_are_joined(tmp_path: Path) -> None:
    path = encode(tmp_path / "film.ts", numbered(COUNT), g="25", **OPEN)
    data = path.read_bytes()
    middle = len(data) // 2 // 188 * 188
    for name, content in (("begun.ts", data[middle:]), ("odd.ts", data[middle + 77 :]), ("joined.ts", data + data)):
        (tmp_path / name).write_bytes(content)
        with av.open(str(tmp_path / name)) as container:
            numbers = numbers_of([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        assert len(numbers) > 100, "the reference"
        times, frames = zip(*all_frames(tmp_path / name, (160, 64)), strict=True)
        assert numbers_of(frames) == numbers
        assert times == pytest.approx(np.arange(len(numbers)) / 24, abs=1e-3)
        for first in (0, 5, len(numbers) // 2, len(numbers) // 2 - 2, len(numbers) - 3):
            assert numbers_of(frames_at(tmp_path / name, times[first : first + 3])) == numbers[first : first + 3]
        assert facts_of(tmp_path / name).seconds == pytest.approx(len(numbers) / 24, abs=1e-3)
