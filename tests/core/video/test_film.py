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
from vidrd_core.video.remux import stream_like

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
    "mpeg1.mpg": ("mpeg1video", {"g": "12"}),  # after a seek, FFmpeg gives frames the times of others
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


def busy(count: int, width: int = 96, height: int = 64) -> list[np.ndarray]:
    """Frames of which every part changes, so that no stale one can be taken for another."""
    y, x = np.mgrid[:height, :width]
    frames = []
    for i in range(count):
        frame = np.stack([x * 255 // (width - 1), y * 255 // (height - 1), x * 0 + 5 * i % 256], -1).astype(np.uint8)
        for bit in range(10):
            frame[: height // 4, bit * (width // 10) : (bit + 1) * (width // 10)] = 255 * (i >> bit & 1)
        left = 3 * i % (width - 12)
        frame[height // 2 : height // 2 + 12, left : left + 12] = [250, 30, 30]
        frames.append(frame)
    return frames


def every_third_frame_is_right(path: Path) -> None:
    with av.open(str(path)) as container:
        shown = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    film = film_of(path)
    wrong = [
        number
        for number in range(0, len(shown), 3)
        if np.abs(film.at([film.timeline.times[number]])[0] - shown[number]).max() > 2
    ]
    assert not wrong


REFRESHED = "intra-refresh=1:keyint={}"
REFRESHES = {
    "one.mp4": ("libx264", {"x264-params": REFRESHED.format(30)}),
    "one.mkv": ("libx264", {"x264-params": REFRESHED.format(30)}),
    "one.ts": ("libx264", {"x264-params": REFRESHED.format(30)}),
    "one.flv": ("libx264", {"x264-params": REFRESHED.format(30)}),
    "between.mp4": ("libx264", {"x264-params": REFRESHED.format("24:bframes=2")}),
    "between.mkv": ("libx264", {"x264-params": REFRESHED.format("24:bframes=2")}),
    "hevc.mkv": ("libx265", {"x265-params": REFRESHED.format("30:bframes=0:log-level=none")}),
    "hevc.ts": ("libx265", {"x265-params": REFRESHED.format("30:bframes=0:log-level=none")}),
}


@pytest.mark.parametrize("name", list(REFRESHES))
def test_pictures_that_are_refreshed_bit_by_bit(tmp_path: Path, name: str) -> None:
    codec, options = REFRESHES[name]
    extra = {"preset": "medium", "crf": "14"} if codec == "libx264" else {}
    every_third_frame_is_right(encode(tmp_path / name, busy(120), codec, fps=25, **options, **extra))


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("film.mp4", "mpeg4"), ("film.mp4", "libx264"), ("film.mkv", "libx265"), ("film.flv", "flv"),
        ("film.wmv", "wmv2"), ("film.mov", "qtrle"), ("film.webm", "libvpx-vp9"),
    ],
)  # fmt: skip
def test_an_index_may_call_every_frame_a_key_frame(tmp_path: Path, name: str, codec: str) -> None:
    options = {"x265-params": HEVC_CLOSED.format(30)} if codec == "libx265" else {"g": "30"}
    pix_fmt = "rgb24" if codec == "qtrle" else "yuv420p"
    source = encode(tmp_path / f"source_{name}", busy(60), codec, pix_fmt=pix_fmt, **options)
    with av.open(str(source)) as one, av.open(str(tmp_path / name), "w") as other:
        stream = stream_like(other, one.streams.video[0])
        for packet in one.demux(video=0):
            if packet.dts is not None:
                packet.stream, packet.is_keyframe = stream, True
                other.mux(packet)
    every_third_frame_is_right(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "codec", "options", "starts"),
    [
        ("open.mp4", "libx264", {"g": "12", **OPEN}, 5),
        ("open.mkv", "libx264", {"g": "12", **OPEN}, 5),
        ("open.ts", "libx264", {"g": "12", **OPEN}, 5),
        ("open.mkv", "libx265", {"x265-params": HEVC_OPEN.format(12)}, 5),
        ("open.ts", "libx265", {"x265-params": HEVC_OPEN.format(12)}, 5),
        ("short.flv", "libx264", {"g": "12"}, 5),
        ("refreshed.mp4", "libx264", {"x264-params": REFRESHED.format(12)}, 1),
        ("refreshed.ts", "libx264", {"x264-params": REFRESHED.format(12)}, 1),
    ],
)
def test_where_decoding_can_begin(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], starts: int
) -> None:
    timeline = film_of(encode(tmp_path / name, busy(60), codec, **options)).timeline
    assert len(timeline.keys) == pytest.approx(starts, abs=1 if starts > 1 else 0)
