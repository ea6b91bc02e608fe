"""Videos that are written and read back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vidrd_core.video import open_video, read_video

from .helpers import KINDS, clip, psnr, write


# Smooth frames measure the encoder; sharp coloured edges at scale 1 would measure half-resolution colour.
@pytest.mark.parametrize(
    ("name", "least"), [("v.mp4", 40), ("v.webm", 36), ("v.gif", 34), ("v.webp", 90), ("v.apng", 90)]
)
def test_round_trip_is_close(tmp_path: Path, name: str, least: float) -> None:
    frames = clip()
    write(tmp_path / name, frames, scale=4)
    back, fps = read_video(tmp_path / name)
    assert back.shape == (12, 256, 256, 3)
    assert back.dtype == np.uint8
    assert fps == 8
    assert psnr(back, frames.repeat(4, 1).repeat(4, 2)) > least


def test_a_png_folder_is_lossless_and_records_its_rate(tmp_path: Path) -> None:
    write(tmp_path / "frames", clip(), fps=12.5, metadata={"prompt": "a red disc, ein Würfel, 方"})
    back, fps = read_video(tmp_path / "frames")
    assert np.array_equal(back, clip())
    assert fps == 12.5
    assert sorted(os.listdir(tmp_path / "frames"))[::11] == ["frame_000000.png", "frame_000011.png"]
    with Image.open(tmp_path / "frames" / "frame_000000.png") as first:
        assert first.info["prompt"] == "a red disc, ein Würfel, 方"


@pytest.mark.parametrize("name", ["v.mp4", "v.webm"])
@pytest.mark.parametrize("colour", [(230, 30, 40), (30, 220, 60), (20, 40, 230), (0, 0, 0), (255, 255, 255)])
def test_uniform_colours_are_kept(tmp_path: Path, name: str, colour: tuple[int, int, int]) -> None:
    write(tmp_path / name, np.full((2, 16, 16, 3), colour, np.uint8))
    back, _ = read_video(tmp_path / name)
    assert np.abs(back.astype(int) - colour).max() <= 4


@pytest.mark.parametrize("fps", [7.5, 8, 30])
@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("name", ["v.mp4", "v.webm", "v.gif"])
def test_count_rate_and_duration(tmp_path: Path, name: str, count: int, fps: float) -> None:
    write(tmp_path / name, clip(count, 16, 16), fps=fps)
    back, rate = read_video(tmp_path / name)
    assert len(back) == count
    assert rate == pytest.approx(fps, rel=1e-3 if name != "v.gif" else 0.12)
    with av.open(str(tmp_path / name)) as container:
        assert container.duration is not None
        assert container.duration / 1e6 == pytest.approx(count / fps, abs=0.011)


def test_the_rate_of_a_gif_is_whole_if_rounding_explains_the_difference(tmp_path: Path) -> None:
    for fps in (8, 12, 16, 24, 30):
        write(tmp_path / "v.gif", clip(20, 16, 16), fps=fps)
        assert read_video(tmp_path / "v.gif")[1] == fps


def test_browsers_can_play_an_mp4(tmp_path: Path) -> None:
    write(tmp_path / "v.mp4", clip())
    boxes = (tmp_path / "v.mp4").read_bytes()
    assert boxes.index(b"moov") < boxes.index(b"mdat")
    assert b"moof" not in boxes
    with av.open(str(tmp_path / "v.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.frames == 12
        times = [frame.time for frame in container.decode(stream)]
    assert times == pytest.approx([i / 8 for i in range(12)])


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("v.mp4", (64, 48)),
        ("v.webm", (64, 48)),
        ("v.gif", (63, 47)),
        ("v.webp", (63, 47)),
        ("v.apng", (63, 47)),
        ("v", (63, 47)),
    ],
)
def test_odd_sizes_are_padded_only_where_needed(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    frames = clip(3, 63, 47)
    write(tmp_path / name, frames)
    back, _ = read_video(tmp_path / name)
    assert back.shape[1:3] == size
    assert psnr(back[:, :63, :47], frames) > 24


def test_scale_repeats_pixels(tmp_path: Path) -> None:
    write(tmp_path / "v", clip(2), scale=3)
    assert np.array_equal(read_video(tmp_path / "v")[0], clip(2).repeat(3, 1).repeat(3, 2))


@pytest.mark.parametrize("name", KINDS)
def test_several_writes_equal_one(tmp_path: Path, name: str) -> None:
    frames = clip()
    (tmp_path / "one").mkdir()
    write(tmp_path / "one" / name, frames)
    with open_video(tmp_path / name) as writer:
        writer.write(frames[:1])
        writer.write(torch.from_numpy(frames[1:8]))
        writer.write(frames[8:])
        assert writer.frames_written == 12
    assert np.array_equal(read_video(tmp_path / name)[0], read_video(tmp_path / "one" / name)[0])


@pytest.mark.parametrize("name", ["v.mp4", "v.webm"])
def test_metadata_is_in_the_container(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, clip(2), metadata={"comment": "made by hand", "prompt": '{"a": "Würfel"}'})
    with av.open(str(tmp_path / name)) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    assert tags["comment"] == "made by hand"
    assert tags["prompt"] == '{"a": "Würfel"}'


def test_gif_keeps_metadata_as_a_comment(tmp_path: Path) -> None:
    write(tmp_path / "v.gif", clip(3), metadata={"prompt": "p" * 600})
    assert len(read_video(tmp_path / "v.gif")[0]) == 3
    data = (tmp_path / "v.gif").read_bytes()
    block, text = data.rindex(b"!\xfe") + 2, b""
    while data[block]:
        text, block = text + data[block + 1 : block + 1 + data[block]], block + 1 + data[block]
    assert json.loads(text) == {"prompt": "p" * 600}
    assert data[block:] == b"\0;"


ONE_CORE = """
import os
import sys

os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})  # before FFmpeg counts cores
import numpy as np

from vidrd_core.video import open_video

with open_video(sys.argv[1]) as video:
    video.write(np.random.default_rng(0).integers(0, 256, (5, 320, 320, 3), dtype=np.uint8))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or os.cpu_count() == 1, reason="needs cores to choose from")
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_pictures_do_not_depend_on_the_number_of_cores(tmp_path: Path, suffix: str) -> None:
    subprocess.run([sys.executable, "-c", ONE_CORE, str(tmp_path / f"one{suffix}")], check=True)
    with open_video(tmp_path / f"all{suffix}") as video:
        video.write(np.random.default_rng(0).integers(0, 256, (5, 320, 320, 3), dtype=np.uint8))
    one, every = (read_video(tmp_path / f"{name}{suffix}")[0] for name in ("one", "all"))
    np.testing.assert_array_equal(one, every)
