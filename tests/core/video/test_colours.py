"""The colours that other programs show of what the writer wrote."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from vidrd_core.video import Piece, join_videos, open_video
from vidrd_core.video.pictures import YuvConverter

from .colours import SIZES, check_gradient, check_patches, gradient, patches
from .helpers import write

needs_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")),
    reason="the commands ffmpeg and ffprobe are not installed",
)
MATRICES = {1: "ITU709", 5: "ITU601", 6: "ITU601"}  # by the number of the tag
TAGS = {
    "color_range": "tv",
    "color_space": "smpte170m",
    "color_transfer": "iec61966-2-1",
    "color_primaries": "bt709",
    "chroma_location": "center",
}


def by_pyav(path: Path) -> np.ndarray:
    """The first frame, converted by the matrix and range that its tags name."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return frame.reformat(
            format="rgb24",
            src_colorspace=MATRICES[int(frame.colorspace)],
            dst_colorspace="DEFAULT",
            src_color_range=int(frame.color_range),
            dst_color_range=2,
        ).to_ndarray()


def by_ffmpeg(path: Path, *options: str) -> np.ndarray:
    """The first frame as the command ffmpeg decodes it to RGB."""
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        shape = codec.height, codec.width, 3
    command = ["ffmpeg", "-v", "error", "-i", str(path), *options, "-frames:v", "1"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    return np.frombuffer(raw.stdout, np.uint8).reshape(shape)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["v.mp4", "v.webm"])
def test_pyav_shows_the_colours(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    write(tmp_path / name, patches(*size)[None].repeat(2, 0))
    check_patches(by_pyav(tmp_path / name))
    write(tmp_path / name, gradient(*size)[None].repeat(2, 0))
    check_gradient(by_pyav(tmp_path / name))


@needs_ffmpeg
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["v.mp4", "v.webm"])
def test_the_command_ffmpeg_shows_the_colours(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    write(tmp_path / name, patches(*size)[None].repeat(2, 0))
    check_patches(by_ffmpeg(tmp_path / name))
    write(tmp_path / name, gradient(*size)[None].repeat(2, 0))
    check_gradient(by_ffmpeg(tmp_path / name))


@needs_ffmpeg
@pytest.mark.parametrize("name", ["v.mp4", "v.webm"])
def test_a_colour_managed_conversion_to_srgb_changes_nothing(tmp_path: Path, name: str) -> None:
    """The frames are sRGB; a file that says it has the curve of BT.709 is shown up to 13 levels off by zimg."""
    filters = subprocess.run(
        ["ffmpeg", "-hide_banner", "-filters"], capture_output=True, text=True, check=True
    ).stdout
    if " zscale " not in filters:
        pytest.skip("this ffmpeg is built without zimg")
    write(tmp_path / name, patches(64, 64)[None].repeat(2, 0))
    to_srgb = "zscale=primaries=709:transfer=iec61966-2-1:matrix=gbr:range=full,format=gbrp"
    check_patches(by_ffmpeg(tmp_path / name, "-vf", to_srgb))


@needs_ffmpeg
@pytest.mark.parametrize("size", [(64, 64), (720, 1280), (33, 47)])
@pytest.mark.parametrize("name", ["v.mp4", "v.webm"])
def test_the_tags_are_in_written_and_joined_files(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    write(tmp_path / name, np.zeros((3, *size, 3), np.uint8))
    join_videos([Piece(tmp_path / name, 3), Piece(tmp_path / name, 2)], tmp_path / f"joined{name}", 8)
    for path in (tmp_path / name, tmp_path / f"joined{name}"):
        command = ["ffprobe", "-v", "error", "-of", "default=nw=1", "-show_entries", f"stream={','.join(TAGS)}"]
        told = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True).stdout
        assert dict(line.split("=") for line in told.split()) == TAGS


def test_an_mp4_holds_the_tags_where_players_look_that_read_no_h264(tmp_path: Path) -> None:
    write(tmp_path / "v.mp4", np.zeros((2, 64, 64, 3), np.uint8))
    data = (tmp_path / "v.mp4").read_bytes()
    found = data[data.index(b"colrnclx") + 8 :][:7]
    assert [int.from_bytes(found[i : i + 2], "big") for i in (0, 2, 4)] == [1, 13, 6]  # primaries, transfer, matrix
    assert found[6] == 0  # limited range


@pytest.mark.parametrize("size", [(16, 32), (15, 31)])
def test_chroma_is_the_mean_of_four_pixels_which_is_what_its_location_says(size: tuple[int, int]) -> None:
    """Against BT.601 (Rec. ITU-R BT.601-7, section 2.5), of the padded frame, to a rounding."""
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    planes = YuvConverter(*size)(frame).to_ndarray().astype(float)
    padded = np.pad(frame, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), mode="edge") / 255
    luma = padded @ [0.299, 0.587, 0.114]
    assert np.abs(planes[:16] - (16 + 219 * luma)).max() < 0.55
    for plane, colour, span in ((planes[16:20], padded[..., 2], 1.772), (planes[20:], padded[..., 0], 1.402)):
        mean = (128 + 224 * (colour - luma) / span).reshape(8, 2, 16, 2).mean((1, 3))
        assert np.abs(plane.reshape(8, 16) - mean).max() < 0.55


def test_frames_of_a_grey_picture_stay_grey(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(64, 0).repeat(3, 2)
    with open_video(tmp_path / "v.mp4") as video:
        video.write(ramp[None])
    shown = by_pyav(tmp_path / "v.mp4").astype(int)
    assert np.ptp(shown, axis=-1).max() <= 1
    assert np.abs(shown - ramp).max() <= 3
