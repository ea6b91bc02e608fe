"""Animated WebP and APNG, as Pillow and FFmpeg read them."""

from __future__ import annotations

import os
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from vidrd_core.cli.footage import read_footage
from vidrd_core.cli.inspect import inspect
from vidrd_core.data.decoding import facts_of
from vidrd_core.data.records import UnfitError
from vidrd_core.evaluation.videos import from_folder
from vidrd_core.video import Piece, join_videos, open_video, read_video
from vidrd_core.video.reader import probe_video

from .colours import SIZES, check_patches, gradient, patches
from .films import numbered, numbers_of
from .helpers import clip, write
from .test_times import RATES

NAMES = ["v.webp", "v.apng"]
METADATA = {"prompt": '{"1": "a red disc"}', "workflow": "{}", "comment": "ein Würfel, 方", "x": ""}


def seen(path: Path) -> tuple[np.ndarray, list[float]]:
    """The frames and their durations in seconds, by Pillow."""
    frames, durations = [], []
    with Image.open(path) as image:
        assert image.info["loop"] == 0  # without end
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            image.load()
            frames.append(np.asarray(image.convert("RGB")))
            durations.append(image.info["duration"] / 1000)
    return np.stack(frames), durations


@pytest.mark.parametrize("size", [(64, 64), (63, 47), (1, 1)])
@pytest.mark.parametrize("frames", [1, 2, 12])
@pytest.mark.parametrize("name", NAMES)
def test_small_frames_are_kept_exactly(tmp_path: Path, name: str, frames: int, size: tuple[int, int]) -> None:
    write(tmp_path / name, clip(frames, *size))
    assert np.array_equal(seen(tmp_path / name)[0], clip(frames, *size))
    assert np.array_equal(read_video(tmp_path / name)[0], clip(frames, *size))


@pytest.mark.parametrize("size", SIZES)
def test_large_frames_of_an_apng_are_kept_exactly_and_those_of_a_webp_closely(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    for picture in (patches(*size), gradient(*size)):
        for name in NAMES:
            write(tmp_path / name, picture[None])
        assert np.array_equal(seen(tmp_path / "v.apng")[0][0], picture)
        assert np.abs(seen(tmp_path / "v.webp")[0][0].astype(int) - picture).mean() < 1.5
    write(tmp_path / "v.webp", patches(*size)[None])
    check_patches(seen(tmp_path / "v.webp")[0][0])


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
def test_ffmpeg_decodes_an_apng_to_the_same_frames(tmp_path: Path) -> None:
    write(tmp_path / "v.apng", clip(9, 31, 45))
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "v.apng"), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    assert np.array_equal(np.frombuffer(raw, np.uint8).reshape(9, 31, 45, 3), clip(9, 31, 45))


@pytest.mark.parametrize(
    ("fps", "meant"),
    [*RATES, (59.94, Fraction(60000, 1001)), (90, Fraction(90)), (0.01, Fraction(1, 100))],
)
@pytest.mark.parametrize("name", NAMES)
def test_durations_are_exact_and_do_not_drift(tmp_path: Path, name: str, fps: float, meant: Fraction) -> None:
    with open_video(tmp_path / name, fps) as video:
        for level in range(200):
            video.write(np.full((1, 4, 4, 3), level, np.uint8))
    durations = seen(tmp_path / name)[1]
    ends = np.cumsum(durations) - np.arange(1, 201) / float(meant)
    assert len(durations) == 200
    assert np.abs(ends).max() < (1e-9 if name == "v.apng" else 0.000501)
    assert min(durations) > 0.01  # which browsers take for 0.1
    assert read_video(tmp_path / name, last=1)[1] == pytest.approx(float(meant), rel=1e-9)
    assert probe_video(tmp_path / name).fps == pytest.approx(float(meant), rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_pieces_are_joined_without_encoding_again(tmp_path: Path, name: str) -> None:
    paths = [tmp_path / f"{k}{name}" for k in range(3)]
    for path, frames in zip(paths, np.split(clip(30, 300, 299), [10, 18]), strict=True):
        write(path, frames, fps=23.976, metadata={"prompt": "of a piece"})
    pieces = [Piece(path, count) for path, count in zip(paths, (7, 8, 12), strict=True)]
    join_videos(pieces, tmp_path / name, 23.976, {"prompt": "of all"})
    frames, durations = seen(tmp_path / name)
    assert np.array_equal(frames, np.concatenate([seen(piece.path)[0][: piece.frames] for piece in pieces]))
    assert np.abs(np.cumsum(durations) - np.arange(1, 28) * 1001 / 24000).max() < 0.000501
    assert probe_video(tmp_path / name).tags == {"prompt": "of all"}
    data = (tmp_path / name).read_bytes()
    assert (data.count(b"of a piece"), data.count(b"of all")) == (0, 1)


@pytest.mark.parametrize("name", NAMES)
def test_pieces_of_another_size_or_program_are_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, clip(4))
    write(tmp_path / f"large{name}", clip(4, 80, 64))
    changed = clip(4)
    changed[..., 2] = 60  # the rest of this background stays
    images = [Image.fromarray(frame) for frame in changed]
    images[0].save(
        tmp_path / f"other{name}", "WEBP" if name == "v.webp" else "PNG", save_all=True, append_images=images[1:]
    )
    for other, message in (("large", r"its frames are \(64, 80\)"), ("other", "its frames hold only what changes")):
        with pytest.raises(ValueError, match=rf"{other}{name} does not match the files before it: {message}"):
            join_videos(
                [Piece(tmp_path / name, 4), Piece(tmp_path / (other + name), 4)], tmp_path / f"joined{name}", 8
            )
    assert sorted(os.listdir(tmp_path)) == sorted([name, f"large{name}", f"other{name}"])


@pytest.mark.parametrize("name", NAMES)
def test_metadata_is_read_by_others_and_by_us(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, clip(2), metadata=METADATA)
    with Image.open(tmp_path / name) as image:
        if name == "v.apng":
            assert image.text == METADATA
        else:  # Model and Make, as ComfyUI's own nodes write them and its page reads them
            assert image.getexif()[0x0110] == 'prompt:{"1": "a red disc"}'
            assert image.getexif()[0x010F] == "workflow:{}"
    assert probe_video(tmp_path / name).tags == METADATA


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_and_other_kinds(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, clip(20))
    whole = (tmp_path / name).read_bytes()
    for content in (whole[: len(whole) // 2], b"hello world", b"", clip(1).tobytes()):
        (tmp_path / name).write_bytes(content)
        for read in (read_video, probe_video):
            with pytest.raises(ValueError, match=r"is damaged"):
                read(tmp_path / name)
    Image.new("RGB", (5, 4), (9, 8, 7)).save(tmp_path / name, "WEBP" if name == "v.webp" else "PNG", lossless=True)
    frames, fps = read_video(tmp_path / name)
    assert (frames.shape, frames[0, 0, 0].tolist(), fps) == ((1, 4, 5, 3), [9, 8, 7], 8)


def test_rates_and_sizes_that_cannot_be_shown_are_refused(tmp_path: Path) -> None:
    for name in NAMES:
        with pytest.raises(ValueError, match="at most 90 frames per second, got 100"):
            open_video(tmp_path / name, 100)
    with pytest.raises(ValueError, match="webp frames are at most 16383 pixels wide and high, these are 16384 x 8"):
        open_video(tmp_path / "v.webp", size=(16384, 8))
    with pytest.raises(ValueError, match="these are 16384 x 1"), open_video(tmp_path / "v.webp") as video:
        video.write(np.zeros((1, 1, 16384, 3), np.uint8))
    assert os.listdir(tmp_path) == []


def test_files_of_pillow_are_read_with_their_rate(tmp_path: Path) -> None:
    images = [Image.fromarray(frame) for frame in clip(9)]
    for name, kind in (("v.webp", "WEBP"), ("v.apng", "PNG")):
        options = {"save_all": True, "append_images": images[1:], "duration": [40] * 8 + [2000], "lossless": True}
        images[0].save(tmp_path / name, kind, **options)
        frames, fps = read_video(tmp_path / name)
        assert np.array_equal(frames, clip(9))
        assert fps == 25


@pytest.mark.parametrize("name", ["clear.webp", "clear.apng"])
def test_transparency_is_laid_on_white_as_in_pictures(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGBA", (8, 8), (200, 0, 0, alpha)) for alpha in (255, 0, 51)]
    kind = {"format": "PNG"} if name.endswith("apng") else {"lossless": True, "exact": True}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=100, disposal=1, **kind)
    found, fps = read_video(tmp_path / name)
    assert fps == 10
    assert found[:, 0, 0].tolist() == [[200, 0, 0], [255, 255, 255], [244, 204, 204]]


@pytest.mark.parametrize("name", ["v.webp", "v.apng", "v.png", "v.avif", "v.gif"])
def test_every_command_takes_an_animated_picture_for_a_video(tmp_path: Path, name: str) -> None:
    if name == "v.avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    first, *others = [Image.fromarray(frame) for frame in numbered(12)]
    path = tmp_path / name
    saving = {"format": "PNG"} if name == "v.apng" else {"lossless": True} if name == "v.webp" else {}
    first.save(path, save_all=True, append_images=others, duration=100, **saving)
    with Image.open(path) as image:
        assert image.n_frames == 12, "the reference"
    for suffix in (".png", ".webp"):
        first.save(tmp_path / f"still{suffix}")
        assert numbers_of(read_footage(tmp_path / f"still{suffix}", 8, None, None)) == [0]
    (tmp_path / "still.png").unlink()
    assert numbers_of(read_footage(path, 8, None, None)) == list(range(4, 12))
    frames, fps = read_video(path)
    assert (numbers_of(frames), fps) == (list(range(12)), 10)
    assert {fact.name: fact.text for fact in inspect(path)}["frames"] == "12"
    (source,) = from_folder(tmp_path)
    assert source.name == name
    assert numbers_of(source.load().video) == list(range(12))


SAVED = {"WEBP": {"lossless": True}, "PNG": {}, "GIF": {}, "AVIF": {"quality": 100}}


@pytest.mark.parametrize("kind", list(SAVED))
@pytest.mark.parametrize("suffix", [".gif", ".webp", ".apng", ".png", ".avif"])
def test_the_name_may_be_that_of_another_kind(tmp_path: Path, kind: str, suffix: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / f"v{suffix}"
    first, *others = [Image.fromarray(frame) for frame in numbered(5, 160, 64)]
    first.save(path, kind, save_all=True, append_images=others, duration=100, **SAVED[kind])
    frames, fps = read_video(path)
    assert (numbers_of(frames), fps) == ([0, 1, 2, 3, 4], 10)
    info = probe_video(path)
    assert (info.kind, info.frames) == ({"PNG": "apng"}.get(kind, kind.lower()), 5)
    told = {fact.name: fact.text for fact in inspect(path)}
    assert (told["kind"], told["frames"]) == (f"video ({info.kind}, {info.codec})", "5")
    assert numbers_of(read_footage(path, 2, None, None)) == [3, 4]
    (source,) = from_folder(tmp_path)
    assert numbers_of(source.load().video) == [0, 1, 2, 3, 4]
    if kind in ("WEBP", "PNG"):
        with pytest.raises(UnfitError, match=f"is a {kind} picture, whatever its name"):
            facts_of(path)
    else:
        assert facts_of(path).seconds == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "GIF", "AVIF"])
@pytest.mark.parametrize(
    ("delays", "shown"),
    [(0, [100] * 4), (10, [100] * 4), (20, [20] * 4), ([0, 70, 10, 70], [100, 70, 100, 70])],
)
def test_a_delay_of_10_ms_or_less_is_one_of_100(
    tmp_path: Path, kind: str, delays: int | list[int], shown: list[int]
) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    if kind == "AVIF" and delays == 0:
        pytest.skip("AVIF has no such delay")
    path = tmp_path / f"v.{kind.lower()}"
    first, *others = [Image.fromarray(frame) for frame in numbered(4, 160, 64)]
    first.save(path, kind, save_all=True, append_images=others, duration=delays, **SAVED[kind])
    frames, fps = read_video(path)
    info = probe_video(path)
    assert numbers_of(frames) == [0, 1, 2, 3]
    assert (info.fps, info.seconds) == (fps, pytest.approx(sum(shown) / 1000))
    assert fps == pytest.approx(3000 / sum(shown[:3]), rel=0.02)
