"""What can be decoded of damaged files is used, at its times; clocks that jump, as of joined recordings, go on."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vidrd_core.data.clip_sampling import ClipSettings, SampleClips
from vidrd_core.data.decoding import all_frames, facts_of, frames_at
from vidrd_core.data.records import Record
from vidrd_core.data.scene_detection import SceneDetection, SceneSettings
from vidrd_core.video import read_video
from vidrd_core.video.film import Film, open_film
from vidrd_core.video.timeline import VideoError

from .films import encode, numbered, numbers_of

SIZE = (160, 64)
COUNT = 96
MPEG2 = {"g": "12", "bf": "2", "b": "2000000"}
ONE = {"threads": "1"}  # so that the same bytes are damaged everywhere
KINDS = {
    "mpeg2.ts": ("mpeg2video", MPEG2, {}),
    "h264.ts": ("libx264", {"g": "25"}, {}),
    "mpeg2.mpg": ("mpeg2video", MPEG2, {}),
    "killed.mp4": ("libx264", {"g": "25"}, {"movflags": "frag_keyframe+empty_moov"}),
    "flash.flv": ("libx264", {"g": "25"}, {}),
    "windows.wmv": ("wmv2", {"b": "1000000"}, {}),
    "mpeg4.avi": ("mpeg4", {"b": "1000000"}, {}),
    "vp9.webm": ("libvpx-vp9", {"deadline": "realtime"}, {}),
    "h264.mkv": ("libx264", {"g": "25"}, {}),
}
needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")


def grainy(count: int, first: int = 0) -> list[np.ndarray]:
    """Numbered frames with noise, so that each needs many bytes."""
    rng = np.random.default_rng(first)
    return [(frame + rng.integers(0, 30, frame.shape)).astype(np.uint8) for frame in numbered(count, first=first)]


def by_ffmpeg(path: Path) -> list[int]:
    """The numbers of the frames that ffmpeg decodes, corrupt ones included."""
    command = [
        "ffmpeg",
        "-v",
        "quiet",
        "-i",
        path,
        "-vsync",
        "passthrough",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    data = subprocess.run(command, capture_output=True).stdout
    return numbers_of(np.frombuffer(data, np.uint8).reshape(-1, *SIZE[::-1], 3))


def used(path: Path) -> tuple[np.ndarray, list[int]]:
    """The times and numbers of the frames that preparation of data uses."""
    times, frames = zip(*all_frames(path, SIZE), strict=True)
    assert (np.diff(times) > 0).all()
    return np.asarray(times), numbers_of(frames)


@needs_ffmpeg
@pytest.mark.parametrize("name", KINDS)
def test_what_there_is_of_a_truncated_film_is_used(tmp_path: Path, name: str) -> None:
    codec, options, muxing = KINDS[name]
    data = encode(tmp_path / name, grainy(COUNT), codec, muxing=muxing, **ONE, **options).read_bytes()
    path = tmp_path / f"cut_{name}"
    told = 0
    for share in (0.6, 0.7):
        path.write_bytes(data[: int(len(data) * share)])
        expected = by_ffmpeg(path)
        times, numbers = used(path)
        assert 40 < len(expected) < COUNT
        assert len(expected) - 1 <= len(numbers) <= len(expected), "a corrupt frame is left out"
        assert numbers[:-5] == expected[: len(numbers) - 5] == list(range(len(numbers) - 5))
        assert times[:-5] == pytest.approx(np.arange(len(numbers) - 5) / 24, abs=1e-3)
        assert numbers_of(frames_at(path, times[:-5:9])) == numbers[:-5:9]
        whole, scenes = (
            list(SceneDetection(SceneSettings(detector=kind))(Record(str(path))))  # type: ignore[arg-type]
            for kind in ("none", "content")
        )
        assert (whole[0].start, whole[-1].stop) == (scenes[0].start, scenes[-1].stop)
        assert whole[-1].stop == pytest.approx(len(expected) / 24, abs=0.13)
        assert len(list(SampleClips(ClipSettings(frames=8, fps=8, size=32))(whole[0]))) == 1
        damage = whole[0].details.get("damage", "")
        told += damage.startswith("is cut off at")
        if damage:
            with pytest.raises(ValueError, match=r"is (cut off|damaged)"):
                read_video(path)
    assert told or name == "h264.ts", "which may end between two frames"


def test_a_recording_may_end_in_the_index_of_a_fragment(tmp_path: Path) -> None:
    codec, options, muxing = KINDS["killed.mp4"]
    path = encode(tmp_path / "killed.mp4", grainy(COUNT), codec, muxing=muxing, **ONE, **options)
    data = path.read_bytes()
    second = data.index(b"moof", data.index(b"moof") + 1)
    for size in range(second, second + 300, 27):
        path.write_bytes(data[:size])
        _, numbers = used(path)
        assert numbers == list(range(25)), "the first fragment"


@pytest.mark.parametrize("name", ["mpeg2.ts", "mpeg4.avi", "flash.flv"])
def test_a_damaged_frame_costs_no_other(tmp_path: Path, name: str) -> None:
    codec, options, muxing = KINDS[name]
    path = encode(tmp_path / name, grainy(COUNT), codec, muxing=muxing, **ONE, **options)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = np.random.default_rng(0).bytes(300)
    path.write_bytes(data)
    times, numbers = used(path)
    assert len(numbers) >= COUNT - 2
    assert numbers[:36] == list(range(36))
    assert numbers[-20:] == list(range(COUNT - 20, COUNT)), "whole again from the next key frame on"
    assert times[-20:] == pytest.approx(np.arange(COUNT - 20, COUNT) / 24, abs=1e-3)
    assert numbers_of(frames_at(path, times[-20:])) == numbers[-20:]
    if name != "flash.flv":  # H.264 conceals damage, and may not say so
        assert facts_of(path).damage.startswith("is damaged at")


@pytest.mark.parametrize(("codec", "options"), [("libx264", {"g": "25", "bf": "3"}), ("mpeg2video", MPEG2)])
@pytest.mark.parametrize("second", [3, 5030, 6000])
def test_another_clock_is_no_pause(tmp_path: Path, codec: str, options: dict[str, str], second: int) -> None:
    parts = [
        encode(
            tmp_path / f"{begin}.ts", grainy(60, 100 * i), codec, muxing={"output_ts_offset": str(begin)}, **options
        ).read_bytes()
        for i, begin in enumerate((5000, second))
    ]
    (path := tmp_path / "joined.ts").write_bytes(b"".join(parts))
    times, numbers = used(path)
    assert numbers == [*range(60), *range(100, 160)]
    assert np.diff(times) == pytest.approx(np.full(119, 1 / 24), abs=1e-3)
    facts = facts_of(path)
    assert (facts.fps, facts.seconds) == (pytest.approx(24, abs=0.01), pytest.approx(5, abs=2e-3))
    assert numbers_of(frames_at(path, [0.5, 3.0, 4.5])) == [12, 112, 148]


@pytest.mark.parametrize(("codec", "options"), [("libx264", {"g": "25", "bf": "3"}), ("mpeg2video", MPEG2)])
def test_lost_packets_change_no_other_times(tmp_path: Path, codec: str, options: dict[str, str]) -> None:
    path = encode(tmp_path / "film.ts", grainy(240), codec, **ONE, **options)
    packets = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 188)
    repeated = 0
    for seed in range(3):
        kept = np.ones(len(packets), bool)
        for at in np.random.default_rng(seed).integers(50, len(packets) - 50, 3):
            kept[at : at + 40] = False
        path.write_bytes(packets[kept].tobytes())
        with av.open(str(path)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            stamps = np.array([frame.time for frame in container.decode(video=0) if not frame.is_corrupt])
        on_time = np.diff(np.maximum.accumulate(stamps), prepend=-1) > 0
        repeated += np.sum(~on_time)
        times, _ = used(path)
        assert times[on_time] == pytest.approx((stamps - stamps[0])[on_time], abs=1e-6)
        assert facts_of(path).seconds == pytest.approx(10, abs=2e-3)
    assert repeated, "decoders show a frame in place of lost ones, at a time that is past"


@pytest.mark.parametrize("kind", [av.error.PermissionError, av.error.FileNotFoundError])
def test_errors_that_ffmpeg_borrows_from_the_system_are_damage(tmp_path: Path, monkeypatch, kind) -> None:
    path = encode(tmp_path / "a.mp4", numbered(3))
    number = errno.EPERM if kind is av.error.PermissionError else errno.ENOENT

    def fail(*_: object, **__: object) -> None:
        raise kind(number, os.strerror(number), str(path))

    monkeypatch.setattr(av, "open", fail)
    with pytest.raises(VideoError, match="is damaged or no video"), open_film(path):
        pass
    path.unlink()
    with pytest.raises(FileNotFoundError), open_film(path):
        pass


@pytest.mark.parametrize("name", ["a.avi", "a.mp4", "a.mkv"])
def test_titles_that_are_no_utf8_keep_no_film_from_being_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "cafeXYZ"
        stream: Any = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in grainy(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(64, 48)))
        container.mux(stream.encode(None))
    before = list(Film(path).frames())
    data = path.read_bytes()
    assert b"cafeXYZ" in data
    path.write_bytes(data.replace(b"cafeXYZ", b"caf\xe9XYZ"))  # Latin-1, as old cameras and editors write it
    film = Film(path)
    assert film.facts.tags["title"] == "caf\N{REPLACEMENT CHARACTER}XYZ"
    assert len(before) == 4
    assert all((one == other).all() for one, other in zip(film.frames(), before, strict=True))
