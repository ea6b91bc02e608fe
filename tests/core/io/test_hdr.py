"""Pictures that say they are PQ or HLG are read as the same film is, whatever Pillow makes of them."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, features

from vidrd_core.cli.footage import read_footage
from vidrd_core.data.decoding import read_image
from vidrd_core.io import pictures
from vidrd_core.io.pictures import PictureError, read_picture
from vidrd_core.video import read_video
from vidrd_core.video.film import Film

PQ, HLG = 16, 18
pytestmark = pytest.mark.skipif(int(av.__version__.split(".")[0]) < 16, reason="this PyAV maps no tones")
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")


def levels() -> np.ndarray:
    picture = np.full((64, 96, 3), 148, np.uint8)
    picture[:32] = [190, 60, 60]
    picture[:, :24] = 110
    return picture


def avif(path: Path, transfer: int, count: int = 1) -> Path:
    with av.open(str(path), "w", format="avif") as container:
        stream: Any = container.add_stream("libsvtav1", rate=8)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p10le"
        stream.options = {"crf": "5"}
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = transfer, 9, 9, 1
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(levels(), format="rgb24").reformat(
                format="yuv420p10le", dst_colorspace=9, dst_color_range=1
            )
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def with_chunk(data: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk after its header."""
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return data[:33] + chunk + data[33:]


def png(path: Path, transfer: int, image: Image.Image | None = None, **options: Any) -> Path:
    file = BytesIO()
    (image or Image.fromarray(levels())).save(file, "PNG", **options)
    path.write_bytes(with_chunk(file.getvalue(), b"cICP", bytes([9, transfer, 0, 1])))
    return path


def by_pyav(path: Path) -> np.ndarray:
    """The first frame, its tones mapped by FFmpeg's scaler."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    graph = av.filter.Graph()
    nodes = [
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=1),  # type: ignore[arg-type]
        graph.add("scale", "out_transfer=bt709:out_primaries=bt709:intent=perceptual:flags=bicubic"),
        graph.add("format", "pix_fmts=rgb24"),
        graph.add("buffersink"),
    ]
    for i in range(3):
        nodes[i].link_to(nodes[i + 1])
    graph.configure()
    graph.push(frame)
    return graph.pull().to_ndarray()  # type: ignore[union-attr]


@needs_avif
@pytest.mark.parametrize("transfer", [PQ, pytest.param(HLG, marks=pytest.mark.slow)])
def test_an_avif_is_read_as_the_same_film(tmp_path: Path, transfer: int) -> None:
    path = avif(tmp_path / "picture.avif", transfer)
    seen = read_picture(path)
    assert np.abs(seen.astype(int) - by_pyav(path)).max() <= 1
    assert np.array_equal(seen, next(Film(path).frames()))
    assert np.array_equal(read_image(str(path)), seen)
    assert np.array_equal(read_picture(BytesIO(path.read_bytes())), seen)
    assert np.array_equal(read_footage(path, 1, None, None)[0], seen)
    with Image.open(path) as image:
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - seen).max() > 20, "Pillow takes it for SDR"
    sdr = avif(tmp_path / "sdr.avif", 14)
    with Image.open(sdr) as image:
        assert np.array_equal(read_picture(sdr), np.asarray(image.convert("RGB")))


@needs_avif
def test_an_animated_avif_is_a_film(tmp_path: Path) -> None:
    path = avif(tmp_path / "film.avif", PQ, 3)
    frames, _ = read_video(path)
    assert len(frames) == 3
    assert np.abs(frames[0].astype(int) - by_pyav(avif(tmp_path / "one.avif", PQ))).mean() < 1


@pytest.mark.parametrize("transfer", [PQ, pytest.param(HLG, marks=pytest.mark.slow)])
def test_a_png_is_tone_mapped(tmp_path: Path, transfer: int) -> None:
    path = png(tmp_path / "picture.png", transfer)
    seen = read_picture(path)
    assert np.abs(seen.astype(int) - by_pyav(path)).max() <= 1
    assert np.abs(seen.astype(int) - levels()).max() > 10
    assert np.array_equal(read_picture(png(tmp_path / "sdr.png", 13)), levels())
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    turned = png(tmp_path / "turned.png", transfer, exif=exif)
    assert np.array_equal(read_picture(turned), np.rot90(seen, -1))


@pytest.mark.slow
def test_a_transparent_png_lies_on_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.dstack([levels(), np.full((64, 96), 255, np.uint8)]))
    image.paste((90, 90, 90, 0), (40, 0, 96, 64))
    seen = read_picture(png(tmp_path / "picture.png", PQ, image))
    assert (seen[:, 40:] == 255).all()
    assert (seen[:, :24] < 250).all()


@needs_avif
def test_a_transparent_avif_lies_on_white(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "picture.avif"
    image = Image.fromarray(np.dstack([levels(), np.full((64, 96), 255, np.uint8)]))
    image.paste((90, 90, 90, 0), (40, 0, 96, 64))
    image.save(path, quality=100, subsampling="4:4:4")
    monkeypatch.setattr(pictures, "hdr_of", lambda source: "PQ")  # which Pillow does not write
    seen = read_picture(path)
    assert (seen[:, 44:] == 255).all()
    assert np.abs(seen[:, :36].astype(int) - levels()[:, :36]).max() < 12


def test_what_cannot_be_mapped_is_refused(tmp_path: Path) -> None:
    first = Image.fromarray(levels())
    path = png(tmp_path / "film.apng", PQ, first, save_all=True, append_images=[first.rotate(180)], duration=100)
    with pytest.raises(ValueError, match=r"film\.apng is HDR \(PQ\).*MP4"):
        read_video(path)
    heic = SimpleNamespace(info={"nclx_profile": {"transfer_characteristics": HLG}}, format="HEIF")
    with pytest.raises(PictureError, match=r"is HDR \(HLG\): tone-map it first"):
        pictures._hdr_of(heic, BytesIO())
