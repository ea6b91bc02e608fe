"""Everything that reads films shows their pictures alike, as FFmpeg and players do, and counts what is decoded."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.filter import Graph

from vidrd_core.cli.footage import read_footage
from vidrd_core.cli.inspect import inspect
from vidrd_core.data.decoding import all_frames, facts_of, frames_at
from vidrd_core.data.records import UnfitError
from vidrd_core.evaluation.videos import from_folder
from vidrd_core.io.tables import VIDEO_SUFFIXES
from vidrd_core.video import read_video
from vidrd_core.video.reader import probe_video

from .films import encode, numbered, numbers_of

WIDTH, HEIGHT = 96, 64


def picture(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A smooth picture with strong colours and no symmetry."""
    y, x = np.mgrid[:height, :width] / [[[height]], [[width]]]
    red, green = 255 * x, 255 * (1 - y)
    blue = 255 * np.exp(-((x - 0.25) ** 2 + (y - 0.7) ** 2) * 20)
    return np.stack([red, green, blue], -1).round().astype(np.uint8)


def everything_that_reads(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The first frame of a film, as each part of the program has it; and what the others say of its size."""
    yield "read_video", read_video(path)[0][0]
    yield "read_footage", read_footage(path, 100, None, None)[0]
    yield "frames_at", frames_at(path, [0.0])[0]
    (source,) = from_folder(path.parent)
    yield "evaluate", source.load().video[0]
    facts, info, told = facts_of(path), probe_video(path), {fact.name: fact.text for fact in inspect(path)}
    size = facts.width, facts.height
    yield "all_frames", next(iter(all_frames(path, size)))[1]
    assert size == (info.width, info.height)
    assert told["size"] == f"{facts.width} x {facts.height} pixels"
    assert (int(told["frames"]), float(told["fps"])) == (info.frames, pytest.approx(info.fps, rel=1e-3))
    assert float(told["length"].split()[0]) == pytest.approx(info.seconds, abs=6e-3)
    assert (facts.seconds, facts.fps) == (info.seconds, info.fps)


def by_ffmpeg(path: Path, *filters: tuple[str, str]) -> np.ndarray:
    """The first frame as FFmpeg's filters make it."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = Graph()
        filters += (("scale", ""),) if "scale" not in dict(filters) else ()
        nodes = [graph.add_buffer(template=stream), *(graph.add(*each) for each in filters)]
        nodes += [graph.add("format", "pix_fmts=rgb24"), graph.add("buffersink")]
        for i in range(len(nodes) - 1):
            nodes[i].link_to(nodes[i + 1])
        graph.configure()
        graph.push(next(container.decode(stream)))
        return graph.pull().to_ndarray()  # type: ignore[union-attr]


def by_command(path: Path, size: tuple[int, int]) -> np.ndarray | None:
    """The first frame as the command `ffmpeg` writes it, if it is installed."""
    if shutil.which("ffmpeg") is None:
        return None
    scale = ["-vf", f"scale={size[0]}:{size[1]}"]
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        str(path),
        "-frames:v",
        "1",
        *scale,
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
    ]
    made = subprocess.run([*command, "-"], capture_output=True, check=True).stdout
    return np.frombuffer(made, np.uint8).reshape(size[1], size[0], 3)


def is_shown_as(path: Path, expected: np.ndarray, tolerance: int = 2) -> None:
    """Check all readers against a picture, and against the command `ffmpeg` if it is installed."""
    size = expected.shape[1::-1]
    references = [each for each in (expected, by_command(path, size)) if each is not None]
    for name, frame in everything_that_reads(path):
        for reference in references:
            assert frame.shape == reference.shape, name
            assert np.abs(frame.astype(int) - reference).max() <= tolerance, name


def with_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Marks an MP4 to be shown through a display matrix: x' = a x + c y, y' = b x + d y."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # a version 0 box: the matrix comes after 40 bytes
    struct.pack_into(">9i", data, at, a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


MATRICES: dict[str, tuple[tuple[int, int, int, int], list[tuple[str, str]]]] = {
    "upright": ((1, 0, 0, 1), []),
    "90": ((0, 1, -1, 0), [("transpose", "clock")]),
    "180": ((-1, 0, 0, -1), [("hflip", ""), ("vflip", "")]),
    "270": ((0, -1, 1, 0), [("transpose", "cclock")]),
    "mirrored": ((-1, 0, 0, 1), [("hflip", "")]),
    "flipped": ((1, 0, 0, -1), [("vflip", "")]),
    "transposed": ((0, 1, 1, 0), [("transpose", "cclock_flip")]),
    "transversed": ((0, -1, -1, 0), [("transpose", "clock_flip")]),
}


@pytest.mark.parametrize("name", list(MATRICES))
def test_pictures_are_upright(tmp_path: Path, name: str) -> None:
    matrix, filters = MATRICES[name]
    path = with_matrix(encode(tmp_path / "film.mp4", [picture()] * 3, crf="4"), *matrix)
    expected = by_ffmpeg(path, *filters)
    is_shown_as(path, expected)
    a, b, c, d = matrix
    for (x, y), colour in {(0, 0): (0, 255), (WIDTH - 1, 0): (255, 255), (WIDTH - 1, HEIGHT - 1): (255, 0)}.items():
        across, down = a * x + c * y, b * x + d * y
        across += (WIDTH - 1) * (a < 0) + (HEIGHT - 1) * (c < 0)
        down += (WIDTH - 1) * (b < 0) + (HEIGHT - 1) * (d < 0)
        assert np.abs(expected[down, across, :2].astype(int) - colour).max() < 30, "the reference follows the matrix"


@pytest.mark.parametrize("aspect", ["2/1", "4/3", "8/9", "0/1", "1000/1"])
@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.ts"])
def test_pixels_are_square(tmp_path: Path, name: str, aspect: str) -> None:
    def prepare(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)

    path = encode(tmp_path / name, [picture()] * 3, prepare=prepare, crf="4")
    ratio = float(Fraction(aspect)) if aspect not in ("0/1", "1000/1") else 1.0  # unknown, and absurd
    width = round(WIDTH * ratio)
    expected = by_ffmpeg(path, ("scale", f"w={width}:h={HEIGHT}:flags={'area' if ratio < 1 else 'bicubic'}"))
    is_shown_as(path, expected, tolerance=8)  # the command's own scaling is bicubic where it shrinks, too
    assert np.abs(read_video(path)[0][0].astype(int) - expected).max() <= 2
    assert np.abs(expected.astype(int) - picture(width)).mean() < 4


def tagged(
    path: Path, codec: str, pix_fmt: str, space: str, number: int, full: bool, source: np.ndarray, **options: str
) -> Path:
    """A film whose pixels and tags have a matrix and range."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=24)
        stream.height, stream.width, stream.pix_fmt, stream.options = *source.shape[:2], pix_fmt, options
        stream.codec_context.colorspace, stream.codec_context.color_range = number, 2 if full else 1
        graph = Graph()
        nodes = [
            graph.add_buffer(
                width=source.shape[1], height=source.shape[0], format="rgb24", time_base=Fraction(1, 24)
            ),
            graph.add("scale", f"out_color_matrix={space}:out_range={'full' if full else 'limited'}"),
            graph.add("format", f"pix_fmts={pix_fmt}"),
            graph.add("buffersink"),
        ]
        for i in range(3):
            nodes[i].link_to(nodes[i + 1])
        graph.configure()
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(source, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 24)
            graph.push(frame)
            container.mux(stream.encode(graph.pull()))  # type: ignore[arg-type]
        container.mux(stream.encode(None))
    return path


H264, H265 = {"crf": "2"}, {"x265-params": "crf=2:log-level=none"}


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("codec", "pix_fmt", "space", "number"),
    [
        ("libx264", "yuv420p", "bt709", 1),
        ("libx264", "yuv420p", "smpte170m", 6),
        ("libx264", "yuv420p", "bt470bg", 5),
        ("libx264", "yuv444p", "bt709", 1),
        ("libx264", "yuv444p", "bt2020", 9),
        ("libx264", "yuv422p10le", "bt709", 1),
        ("libx265", "yuv420p10le", "bt709", 1),
        ("libx265", "yuv420p10le", "bt2020", 9),
        ("libx265", "yuv444p12le", "smpte170m", 6),
    ],
)
def test_colours_are_those_that_the_file_means(
    tmp_path: Path, codec: str, pix_fmt: str, space: str, number: int, full: bool
) -> None:
    source = picture()
    path = tagged(
        tmp_path / "film.mp4", codec, pix_fmt, space, number, full, source, **(H264 if codec == "libx264" else H265)
    )
    for reader, frame in everything_that_reads(path):
        assert np.abs(frame.astype(int) - source).mean() < 3, reader
    reference = by_command(path, (WIDTH, HEIGHT))
    if reference is not None:
        assert np.abs(read_video(path)[0][0].astype(int) - reference).max() <= 3


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.webm", "film.ts"])
def test_frames_of_a_variable_rate_are_counted_as_decoded(tmp_path: Path, name: str) -> None:
    # 15 a second, at times of a clock of 30 and 600 a second, which the file says are its rate.
    ticks = [round(1000 * i / 15) + (33 if i % 7 == 3 else 0) for i in range(45)]
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    path = encode(tmp_path / name, numbered(45), codec, fps=600 if name.endswith("ts") else 30, ticks=ticks)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [frame.time for frame in container.decode(stream)]
        claimed = float(stream.average_rate or 0)
    facts, info = facts_of(path), probe_video(path)
    assert (info.frames, info.fps) == (45, pytest.approx(15, rel=5e-3)), claimed
    assert info.seconds == pytest.approx(3, abs=0.05)
    assert (facts.fps, facts.seconds) == (info.fps, info.seconds)
    frames, fps = read_video(path)
    assert (numbers_of(frames), fps) == (list(range(45)), info.fps)
    for i, time in enumerate(times):
        assert numbers_of(frames_at(path, [time - times[0]])) == [i]
    assert numbers_of(frames_at(path, [i / 15 for i in (0, 11, 44)])) == [0, 11, 44]


@pytest.mark.parametrize("name", ["film.mp4", "film.mov"])
@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "3", "g": "12"}])
def test_an_edit_list_leaves_frames_out(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    ticks = [100 * (i - 5) for i in range(20)]
    path = encode(
        tmp_path / name, numbered(20), fps=10, ticks=ticks, muxing={"avoid_negative_ts": "disabled"}, **options
    )
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 20
        shown = numbers_of([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert shown == list(range(5, 20))
    info = probe_video(path)
    assert (info.frames, info.fps, info.seconds) == (15, 10, pytest.approx(1.5, abs=1e-3))
    assert numbers_of(read_video(path)[0]) == shown
    assert numbers_of(read_video(path, 4)[0]) == shown[-4:]
    assert numbers_of(frames_at(path, [0, 0.7, 1.4])) == [5, 12, 19]
    assert {fact.name: fact.text for fact in inspect(path)}["length"] == "1.50 s"


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("film.mp4", "libx264"), ("film.mkv", "libx264"), ("film.webm", "libvpx-vp9"), ("film.ts", "libx264"),
        ("film.avi", "mpeg4"), ("film.gif", "gif"), ("film.mov", "mjpeg"), ("film.avif", "libsvtav1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("count", [1, 2, 12])
def test_films_of_few_frames_are_whole(tmp_path: Path, name: str, codec: str, count: int) -> None:
    pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    path = encode(tmp_path / name, numbered(count), codec, fps=10, pix_fmt=pix_fmt)
    frames, fps = read_video(path)
    unknown = {"film.avif": 1, "film.ts": 8} if count == 1 else {}  # the file does not say how long a frame stands
    assert (numbers_of(frames), fps) == (list(range(count)), unknown.get(name, 10))
    info = probe_video(path)
    assert (info.frames, info.seconds) == (count, pytest.approx(count / fps, abs=1e-3))
    assert numbers_of(frames_at(path, [i / fps for i in range(count)])) == list(range(count))
    assert numbers_of(read_video(path, 1)[0]) == [count - 1]


@pytest.mark.parametrize("name", ["film.avi", "film.mkv"])
def test_no_frame_is_early_for_frames_between_others(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, numbered(48), "mpeg4", bf="2", g="12")
    assert numbers_of(frames_at(path, [i / 24 for i in range(48)])) == list(range(48))
    assert facts_of(path).seconds == pytest.approx(2, abs=1e-3)


SUFFIX_CODECS = {
    ".mp4": "libx264", ".webm": "libvpx-vp9", ".mkv": "libx265", ".mov": "mpeg4", ".avi": "mpeg4", ".m4v": "libx264",
    ".gif": "gif", ".mpg": "mpeg2video", ".mpeg": "mpeg1video", ".ts": "mpeg2video", ".flv": "flv", ".wmv": "wmv2",
    ".ogv": "libvpx", ".3gp": "mpeg4", ".m2ts": "mpeg2video", ".mts": "libx264", ".vob": "mpeg2video",
    ".mxf": "mpeg2video", ".dv": "dvvideo", ".asf": "wmv2", ".qt": "mpeg4", ".f4v": "libx264", ".3g2": "mpeg4",
    ".m2t": "mpeg2video", ".m2v": "mpeg2video",
}  # fmt: skip


@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
def test_every_suffix_that_is_expected_is_read(tmp_path: Path, suffix: str) -> None:
    codec = SUFFIX_CODECS[suffix]
    kinds = {
        ".m4v": "mp4", ".ogv": "ogg", ".mpg": "mpeg", ".mpeg": "mpeg", ".mts": "mpegts", ".m2t": "mpegts",
        ".qt": "mov",
        ".dv": "rawvideo",  # FFmpeg's muxer of DV wants sound, too
    }  # fmt: skip
    path = encode(
        tmp_path / f"film{suffix}", numbered(30, *((720, 576) if suffix == ".dv" else (320, 128))), codec, fps=25,
        kind=kinds.get(suffix),
        pix_fmt="rgb8" if codec == "gif" else "yuv420p",
        muxing={"mpegts_m2ts_mode": "1"} if suffix == ".mts" else None,  # as of cameras
    )  # fmt: skip
    assert numbers_of([frame for _, frame in everything_that_reads(path)]) == [0] * 5
    (source,) = from_folder(tmp_path)
    video = source.load()
    assert (numbers_of(video.video), video.fps) == (list(range(30)), 25)
    assert numbers_of(read_footage(path, 3, None, None)) == [27, 28, 29]
    assert numbers_of(frames_at(path, [0.2, 0.8])) == [5, 20]


def hdr(path: Path, transfer: str, number: int, levels: np.ndarray) -> Path:
    """A 10-bit film of BT.2020 with a transfer function, made of sRGB levels by FFmpeg's scaler."""
    parameters = f"log-level=none:crf=2:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:range=limited"

    def prepare(stream: Any) -> None:
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = number, 9, 9, 1

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx265", rate=24)
        stream.height, stream.width, stream.pix_fmt = *levels.shape[:2], "yuv420p10le"
        stream.options = {"x265-params": parameters}
        prepare(stream)
        frame = av.VideoFrame.from_ndarray(levels, format="rgb24").reformat(
            format="yuv420p10le", dst_colorspace=9, dst_color_range=1
        )
        for i in range(3):
            frame.pts, frame.time_base = i, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def signal_of(light: np.ndarray, transfer: str) -> np.ndarray:
    """The signal, 0 to 1, of light in nits: BT.2100, tables 4 and 5 (a display of 1000 nits for HLG)."""
    if transfer == "smpte2084":
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = (light / 10000) ** m1
        return ((c1 + c2 * power) / (1 + c3 * power)) ** m2
    scene = (light / 1000) ** (1 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


@pytest.mark.parametrize(("transfer", "number", "word"), [("smpte2084", 16, "PQ"), ("arib-std-b67", 18, "HLG")])
def test_hdr_is_tone_mapped_or_refused(tmp_path: Path, transfer: str, number: int, word: str) -> None:
    light = np.repeat(np.repeat([0.0, 10, 50, 100, 203, 400, 1000], 16)[None], 32, axis=0)
    raw = (255 * signal_of(light, transfer)).round().astype(np.uint8)
    path = hdr(tmp_path / "film.mp4", transfer, number, np.stack([raw] * 3, -1))
    try:
        seen = read_video(path)[0][0]
    except ValueError as error:
        assert f"is HDR video ({word})" in str(error)  # noqa: PT017
        with pytest.raises(UnfitError, match=rf"is HDR video \({word}\)"):
            frames_at(path, [0.0])
        return
    for reader, frame in everything_that_reads(path):
        assert np.array_equal(frame, seen), reader
    gray = seen[16, 8::16].astype(int)
    assert np.ptp(gray, axis=-1).max() <= 6, "gray stays gray"
    gray = gray.mean(-1)
    assert np.diff(gray).min() > 4, "no highlight is lost"
    assert gray[0] < 3
    assert gray[-1] > 200
    sdr = 255 * (1.099 * (light[16, 8::16] / 203) ** 0.45 - 0.099)
    assert (np.abs(gray[1:3] - sdr[1:3]) < 25).all(), "dark light is as in SDR"
