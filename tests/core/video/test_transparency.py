"""What is transparent lies on white in every kind of film and animated picture, as in stills."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, features

from vidrd_core.cli.footage import read_footage
from vidrd_core.data.decoding import frames_at
from vidrd_core.evaluation.videos import from_folder
from vidrd_core.video import read_video
from vidrd_core.video.reader import probe_video

from .films import numbered, numbers_of

COUNT, SIDE = 6, 48
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")


def clear_pictures(ground: tuple[int, int, int] = (0, 0, 0)) -> list[Image.Image]:
    """A red square, and a half clear green one, that move over a clear ground of a colour that nobody sees."""
    pictures = []
    for i in range(COUNT):
        picture = Image.new("RGBA", (SIDE, SIDE), (*ground, 0))
        picture.paste((255, 0, 0, 255), (4 * i, 4, 4 * i + 16, 20))
        picture.paste((0, 160, 0, 128), (4 * i, 24, 4 * i + 16, 40))
        pictures.append(picture)
    return pictures


def on_white(picture: Image.Image) -> np.ndarray:
    return np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))


def with_alpha(path: Path, codec: str, pix_fmt: str, pictures: list[Image.Image], **options: str) -> Path:
    """Write a film of pictures with alpha by PyAV."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=8)
        stream.width = stream.height = SIDE
        stream.pix_fmt, stream.options = pix_fmt, options
        if codec.startswith("libvpx"):
            stream.metadata["alpha_mode"] = "1"
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgba").reformat(format=pix_fmt)
            frame.pts, frame.time_base = i, Fraction(1, 8)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "options"),
    [
        ("prores.mov", "prores_ks", "yuva444p10le", {"profile": "4"}),
        ("animation.mov", "qtrle", "argb", {}),
        ("png.mov", "png", "rgba", {}),
        ("ffv1.mkv", "ffv1", "yuva444p", {}),
        ("film.webm", "libvpx-vp9", "yuva420p", {"crf": "4", "b": "0"}),
        ("film.webm", "libvpx", "yuva420p", {"b": "4000000", "auto-alt-ref": "0"}),
    ],
)
def test_films_lie_on_white(tmp_path: Path, name: str, codec: str, pix_fmt: str, options: dict[str, str]) -> None:
    # VP8 and VP9 have half as many colours as pixels, which would blur into the clear ground: it is white for them.
    pictures = clear_pictures((255, 255, 255) if codec.startswith("libvpx") else (0, 0, 255))
    path = with_alpha(tmp_path / name, codec, pix_fmt, pictures, **options)
    frames, _ = read_video(path)
    assert len(frames) == COUNT
    inside = (slice(None), slice(0, 40))
    for i, picture in enumerate(pictures):
        wanted = on_white(picture).astype(int)
        assert np.abs(frames[i] - wanted)[44:].max() <= 1, "the ground"
        assert np.abs(frames[i] - wanted)[inside].mean() < (6 if codec.startswith("libvpx") else 2)
        assert np.abs(frames[i][10:14, 4 * i + 4 : 4 * i + 12] - [[[255, 0, 0]]]).max() <= 8
        assert np.abs(frames[i][30:34, 4 * i + 4 : 4 * i + 12] - wanted[31, 4 * i + 8]).max() <= 8
    assert np.abs(frames_at(path, [0.375])[0].astype(int) - frames[3]).max() <= 1
    assert np.abs(read_footage(path, 1, None, None)[0].astype(int) - frames[-1]).max() <= 1
    small = frames_at(path, [0.0], (SIDE // 2, SIDE // 2))[0].astype(int)
    exact = on_white(pictures[0]).reshape(SIDE // 2, 2, SIDE // 2, 2, 3).mean((1, 3))
    assert np.abs(small - exact).mean() < 3, "scaled after it is laid on white"


def test_pixels_of_avi_have_a_fourth_byte_without_a_meaning(tmp_path: Path) -> None:
    pictures = [Image.fromarray(np.dstack([each, np.zeros_like(each[..., 0])])) for each in numbered(3, 160, 64)]
    with av.open(str(tmp_path / "film.avi"), "w") as container:
        stream: Any = container.add_stream("rawvideo", rate=8)
        stream.width, stream.height, stream.pix_fmt = 160, 64, "bgra"
        for picture in pictures:
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgba").reformat(format="bgra"))
            )
        container.mux(stream.encode(None))
    assert numbers_of(read_video(tmp_path / "film.avi")[0]) == [0, 1, 2]


@needs_avif
def test_animated_avif_lies_on_white(tmp_path: Path) -> None:
    first, *others = clear_pictures()
    path = tmp_path / "film.avif"
    first.save(path, save_all=True, append_images=others, duration=[100, 100, 200, 100, 100, 100], quality=100)
    frames, _ = read_video(path)
    info = probe_video(path)
    assert (len(frames), info.kind, info.frames) == (COUNT, "avif", COUNT)
    assert info.seconds == pytest.approx(0.7)
    for frame, picture in zip(frames, [first, *others], strict=True):
        assert np.abs(frame - on_white(picture).astype(int)).mean() < 2
        assert frame[-1, -1].tolist() == [255, 255, 255]
    assert np.array_equal(read_footage(path, 2, None, None), frames[-2:])
    (source,) = from_folder(tmp_path)
    assert np.array_equal(source.load().video, frames)
