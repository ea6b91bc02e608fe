"""What of a file is the film, and how long it is: its pictures decide, not the container, the sound or a cover."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from vidrd_core.cli.errors import InputError
from vidrd_core.cli.inspect import inspect
from vidrd_core.data.clip_sampling import ClipSettings, SampleClips
from vidrd_core.data.decoding import facts_of, frames_at
from vidrd_core.data.records import Record, UnfitError
from vidrd_core.data.scene_detection import SceneDetection, SceneSettings
from vidrd_core.video import read_video
from vidrd_core.video.reader import probe_video

from .films import encode, numbered, numbers_of

LENGTH = {".avi": 0.05}  # FFmpeg's muxer begins with a pause where there is sound; others are exact
SOUND = {".mp4": "aac", ".mkv": "aac", ".webm": "libopus", ".ts": "aac", ".avi": "mp3", ".flv": "aac", ".mov": "aac"}
CODECS = {".webm": "libvpx-vp9", ".avi": "mpeg4", ".flv": "flv"}


def sound(codec: str, seconds: float) -> Callable[[Any], Callable[[], None]]:
    """A track of sound beside the pictures."""

    def add(container: Any) -> Callable[[], None]:
        stream = container.add_stream(codec, rate=48000)

        def finish() -> None:
            size = stream.codec_context.frame_size or 960
            for start in range(0, round(seconds * 48000), size):
                frame = av.AudioFrame("fltp" if codec != "libopus" else "flt", "stereo", size)
                for plane in frame.planes:
                    plane.update(bytes(plane.buffer_size))
                frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))

        return finish

    return add


@pytest.mark.parametrize("suffix", list(SOUND))
@pytest.mark.parametrize("seconds", [5.0, 0.5])
def test_sound_does_not_change_the_length(tmp_path: Path, suffix: str, seconds: float) -> None:
    path = encode(
        tmp_path / f"film{suffix}", numbered(48), CODECS.get(suffix, "libx264"),
        also=sound(SOUND[suffix], seconds),
    )  # fmt: skip
    facts = facts_of(path)
    assert (facts.fps, facts.seconds) == (24, pytest.approx(2, abs=LENGTH.get(suffix, 2e-3)))
    assert numbers_of(frames_at(path, [0, 1, facts.seconds])) == [0, 24 - (suffix == ".avi"), 47]
    with pytest.raises(UnfitError, match=r"ends or is damaged before 2\.50 s"):
        frames_at(path, [0, 2.5])
    frames, fps = read_video(path)
    assert (numbers_of(frames), fps) == (list(range(48)), 24)
    info = probe_video(path)
    assert (info.frames, info.fps, info.seconds) == (48, 24, facts.seconds)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".ts"])
def test_pictures_may_begin_after_the_sound(tmp_path: Path, suffix: str) -> None:
    ticks = [1500 + round(i * 1000 / 24) for i in range(48)]
    path = encode(
        tmp_path / f"film{suffix}", numbered(48), CODECS.get(suffix, "libx264"), ticks=ticks,
        also=sound(SOUND[suffix], 3.0),
    )  # fmt: skip
    assert facts_of(path).seconds == pytest.approx(2, abs=2e-3)
    assert numbers_of(frames_at(path, [0, 1, 47 / 24])) == [0, 24, 47]
    (record,) = SceneDetection(SceneSettings(detector="none"))(Record(str(path)))
    assert (record.start, record.stop) == (0, pytest.approx(2, abs=2e-3))


@pytest.mark.parametrize("second", [(320, 128), (80, 64)])
def test_all_frames_have_the_size_of_the_first(tmp_path: Path, second: tuple[int, int]) -> None:
    parts = [
        encode(tmp_path / f"{i}.ts", numbered(24, *size, first=100 * i)).read_bytes()
        for i, size in enumerate(((160, 64), second))
    ]
    (path := tmp_path / "film.ts").write_bytes(b"".join(parts))
    with av.open(str(path)) as container:
        sizes = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert sizes == [(160, 64)] * 24 + [second] * 24, "the reference"
    numbers = [*range(24), *range(100, 124)]
    video = read_video(path)[0]
    assert video.shape == (48, 64, 160, 3)
    assert numbers_of(video) == numbers
    assert numbers_of(read_video(path, 30)[0]) == numbers[-30:]
    clip = frames_at(path, [0, 0.5, 1.0, 1.5])
    assert (clip.shape, numbers_of(clip)) == ((4, 64, 160, 3), [0, 12, 100, 112])
    assert (facts_of(path).width, facts_of(path).height) == (160, 64)


def scenes(count: int) -> list[np.ndarray]:
    """Scenes of 24 frames each, of one picture each that moves."""
    rng = np.random.default_rng(3)
    pictures = [np.kron(rng.integers(0, 256, (8, 20, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(count)]
    return [np.roll(picture, 2 * i, 1) for picture in pictures for i in range(24)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("detector", ["adaptive", "none"])
def test_no_scene_is_lost(tmp_path: Path, suffix: str, count: int, detector: str) -> None:
    path = encode(
        tmp_path / f"film{suffix}", scenes(count), CODECS.get(suffix, "libx264"), also=sound(SOUND[suffix], 9.0),
        b="2000000",
    )  # fmt: skip
    found = list(SceneDetection(SceneSettings(detector=detector))(Record(str(path))))  # type: ignore[arg-type]
    edges = np.arange(count + 1) if detector == "adaptive" else [0, count]
    assert [record.start for record in found] == pytest.approx(edges[:-1], abs=LENGTH.get(suffix, 2e-3))
    assert [record.stop for record in found] == pytest.approx(edges[1:], abs=LENGTH.get(suffix, 2e-3))
    sample = SampleClips(ClipSettings(frames=8, fps=8, size=32))
    assert all(len(list(sample(record))) == 1 for record in found)


def patched(path: Path, marker: bytes, offset: int, value: bytes) -> Path:
    """The file with other bytes after a marker."""
    data = bytearray(path.read_bytes())
    at = data.index(marker) + len(marker) + offset
    data[at : at + len(value)] = value
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("claimed", [0.3, 30.0])
def test_a_length_that_the_container_claims_does_not_count(tmp_path: Path, claimed: float) -> None:
    webm = encode(tmp_path / "film.webm", numbered(48), "libvpx-vp9")
    patched(webm, b"\x44\x89\x88", 0, struct.pack(">d", claimed * 1000))  # Duration, of Matroska
    mp4 = encode(tmp_path / "film.mp4", numbered(48))
    patched(mp4, b"mvhd", 16, struct.pack(">I", round(claimed * 1000)))
    avi = encode(tmp_path / "film.avi", numbered(48), "mpeg4")
    patched(avi, b"avih", 4 + 16, struct.pack("<I", round(claimed * 24)))
    patched(avi, b"strh", 4 + 32, struct.pack("<I", round(claimed * 24)))
    for path in (webm, mp4, avi):
        assert facts_of(path).seconds == pytest.approx(2, abs=2e-3)
        assert numbers_of(frames_at(path, [0, 47 / 24])) == [0, 47]
        assert numbers_of(read_video(path)[0]) == list(range(48))
        info = probe_video(path)
        assert (info.frames, info.fps, info.seconds) == (48, 24, pytest.approx(2, abs=2e-3))


@pytest.mark.parametrize("name", ["film.gif", "film.mp4", "film.mov", "film.mkv", "film.webm", "film.ts"])
def test_a_last_frame_may_stand_long(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".gif":
        first, *others = [Image.fromarray(frame) for frame in numbered(10)]
        first.save(path, save_all=True, append_images=others, duration=[100] * 9 + [2000])
    else:
        codec = CODECS.get(path.suffix, "libx264")
        encode(path, numbered(10), codec, fps=10, ticks=range(0, 1000, 100), last=2000, bf="0")
    frames, fps = read_video(path)
    assert (numbers_of(frames), fps) == (list(range(10)), 10)
    info = probe_video(path)
    if path.suffix in (".gif", ".mp4", ".mov"):  # the others do not say how long a frame stands
        assert (info.frames, info.seconds) == (10, pytest.approx(2.9, abs=1e-3))
        assert {fact.name: fact.text for fact in inspect(path)}["length"] == "2.90 s"
        assert numbers_of(frames_at(path, [0.5, 0.9, 2.8])) == [5, 9, 9]


@pytest.mark.parametrize("name", ["film.mkv", "film.webm", "film.avi", "film.mp4"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_file_that_is_cut_off_is_told(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    codec = CODECS.get(path.suffix, "libx264")
    encode(path, scenes(4), codec, muxing={"movflags": "faststart"} if path.suffix == ".mp4" else None, g="12")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    for last in (None, 4):
        with pytest.raises(
            ValueError, match=r"film\.\w+ is (damaged after \d+ frames|cut off at \d\.\d+ s|damaged, or)"
        ):
            read_video(path, last)


def cover(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(file, "JPEG")
    return file.getvalue()


def with_pictures(path: Path, dispositions: list[tuple[int, int, int]], covers: int = 0) -> Path:
    """A file whose picture streams have these widths, first numbers and dispositions; `covers` come before them."""
    with av.open(str(path), "w") as container:
        for _ in range(covers):
            if path.suffix == ".mkv":
                container.add_attachment("cover.jpg", "image/jpeg", cover(320))
                continue
            stream = container.add_stream("mjpeg", rate=1)
            stream.width = stream.height = 320
            stream.pix_fmt = "yuvj420p"
            stream.disposition = av.stream.Disposition.attached_pic
        films = []
        for width, first, disposition in dispositions:
            stream = container.add_stream("libx264", rate=24)
            stream.width, stream.height, stream.pix_fmt = width, 64, "yuv420p"
            stream.disposition = av.stream.Disposition(disposition)
            films.append((stream, numbered(24, width, first=first)))
        for stream in container.streams.video[: -len(films) or None]:
            packet = av.Packet(cover(320))
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 1)
            packet.is_keyframe = True
            container.mux(packet)
        for stream, frames in films:
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize(
    ("streams", "covers", "first"),
    [
        ([(160, 100, 0)], 1, 100),
        ([(160, 100, 1)], 2, 100),
        ([(320, 0, 0), (160, 100, 1)], 0, 100),
        ([(160, 0, 1), (320, 100, 1)], 1, 100),
        ([(160, 100, 1), (160, 0, 1)], 1, 100),
    ],
)
def test_the_film_is_the_default_or_best_stream_and_never_a_cover(
    tmp_path: Path, suffix: str, streams: list[tuple[int, int, int]], covers: int, first: int
) -> None:
    path = with_pictures(tmp_path / f"film{suffix}", streams, covers)
    with av.open(str(path)) as container:
        written = [(s.width, s.disposition) for s in container.streams.video]
    numbers = list(range(first, first + 24))
    assert numbers_of(read_video(path)[0]) == numbers, written
    assert numbers_of(frames_at(path, [0, 12 / 24])) == [numbers[0], numbers[12]]
    assert probe_video(path).frames == 24
    assert facts_of(path).seconds == pytest.approx(1, abs=2e-3)


def test_without_a_default_the_largest_stream_is_the_film(tmp_path: Path) -> None:
    path = with_pictures(tmp_path / "film.mkv", [(160, 0, 0), (320, 100, 0)])
    assert numbers_of(read_video(path)[0]) == list(range(100, 124))
    with av.open(str(path), "w") as container:  # a picture that is not marked as one
        for codec, side, pix_fmt in (("mjpeg", 480, "yuvj420p"), ("libx264", 160, "yuv420p")):
            stream: Any = container.add_stream(codec, rate=24)
            stream.width, stream.height, stream.pix_fmt = side, 64, pix_fmt
            stream.disposition = av.stream.Disposition(0)
        still, film = container.streams.video
        container.mux(still.encode(av.VideoFrame.from_ndarray(numbered(1, 480)[0], format="rgb24")))
        for frame in numbered(24, first=100):
            container.mux(film.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(film.encode(None))
    assert numbers_of(read_video(path)[0]) == list(range(100, 124))


def test_a_file_with_a_cover_alone_is_no_film(tmp_path: Path) -> None:
    path = with_pictures(tmp_path / "song.mp4", [], covers=1)
    with pytest.raises(ValueError, match=r"song\.mp4 has no video in it, only a cover picture"):
        read_video(path)
    with pytest.raises(UnfitError, match="has no video in it, only a cover picture"):
        facts_of(path)
    with pytest.raises(ValueError, match=r"song\.mp4 has no video in it, only a cover picture$"):
        probe_video(path)
    with pytest.raises(InputError, match=r"song\.mp4 has no video in it, only a cover picture$"):
        list(inspect(path))


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264", "libx265"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_transport_stream_may_be_short(tmp_path: Path, codec: str, count: int) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = encode(tmp_path / "film.ts", numbered(count), codec, **options)
    with av.open(str(path), format="mpegts") as container:  # as which FFmpeg does not always know it
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert numbers_of(expected) == list(range(count))
    assert np.abs(read_video(path)[0].astype(int) - expected).max() <= 2
    assert np.abs(frames_at(path, [0.0])[0].astype(int) - expected[0]).max() <= 2
    assert (probe_video(path).kind, facts_of(path).damage) == ("mpegts", "")
