"""When each frame is shown, and the rate that files tell."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vidrd_core.video import Piece, join_videos, open_video, read_video
from vidrd_core.video.film import film_of
from vidrd_core.video.sinks import frame_rate
from vidrd_core.video.timeline import Timeline, VideoError

RATES = [  # as people give them, and what is meant
    (24000 / 1001, Fraction(24000, 1001)),
    (23.976, Fraction(24000, 1001)),
    (29.97, Fraction(30000, 1001)),
    (12.5, Fraction(25, 2)),
    (8, Fraction(8)),
    (1 / 3, Fraction(1, 3)),
]
FAST = [(59.94, Fraction(60000, 1001)), (119.88, Fraction(120000, 1001))]
FRAMES = 900
PRECISION = {"v.mp4": Fraction(0), "v.webm": Fraction(1, 2000), "v.gif": Fraction(1, 200)}  # seconds


def write_long(path: Path, fps: float, frames: int = FRAMES) -> None:
    """Write a video of flat frames that change."""
    with open_video(path, fps) as video:
        for level in range(frames):
            video.write(np.full((1, 16, 16, 3), level % 251, np.uint8))


def times(path: Path) -> tuple[list[Fraction], Fraction]:
    """When each frame is shown, and the length, in seconds, from the decoded frames and the container."""
    with av.open(str(path)) as container:
        shown = [frame.pts * frame.time_base for frame in container.decode(video=0)]
        return shown, Fraction(container.duration or 0, av.time_base)


@pytest.mark.parametrize(("given", "meant"), [*RATES, *FAST])
@pytest.mark.parametrize("name", PRECISION)
def test_frames_are_shown_at_their_time(tmp_path: Path, name: str, given: float, meant: Fraction) -> None:
    if name == "v.gif" and given > 50:
        pytest.skip("a GIF is slower")
    write_long(tmp_path / name, given)
    shown, length = times(tmp_path / name)
    assert len(shown) == FRAMES
    assert max(abs(time - k / meant) for k, time in enumerate(shown)) <= PRECISION[name]
    assert abs(length - FRAMES / meant) <= 2 * PRECISION[name] + Fraction(1, 1000)
    assert read_video(tmp_path / name, last=1)[1] == pytest.approx(
        float(meant), rel=1e-6 if name != "v.gif" else 2e-3
    )


@pytest.mark.skipif(not shutil.which("ffprobe"), reason="ffprobe is not installed")
@pytest.mark.parametrize(("given", "meant"), [*RATES, *FAST])
@pytest.mark.parametrize("name", ["v.mp4", "v.webm"])
def test_ffprobe_tells_the_rate(tmp_path: Path, name: str, given: float, meant: Fraction) -> None:
    """FFmpeg's reader of WebM knows no denominator above 30000, and guesses the `r_frame_rate` of slow ones."""
    write_long(tmp_path / name, given, 60)
    command = ["ffprobe", "-v", "error", "-of", "default=nw=1:nk=1", "-show_entries"]
    told = [
        Fraction(subprocess.check_output([*command, f"stream={entry}", str(tmp_path / name)], text=True).strip())
        for entry in ("avg_frame_rate", "r_frame_rate")
    ]
    if name == "v.mp4":
        assert told == [meant, meant]
    else:
        assert float(told[0]) == pytest.approx(float(meant), rel=1e-6)
        assert meant < 1 or float(told[1]) == pytest.approx(float(meant), rel=1e-6)


def test_joined_clips_keep_the_times(tmp_path: Path) -> None:
    for name, precision in PRECISION.items():
        write_long(tmp_path / name, 23.976, 40)
        join_videos([Piece(tmp_path / name, 33)] * 5, tmp_path / f"joined{name}", 23.976)
        shown, _ = times(tmp_path / f"joined{name}")
        assert len(shown) == 165
        assert max(abs(time - k * Fraction(1001, 24000)) for k, time in enumerate(shown)) <= precision


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (59.94, "60000/1001"),
        (14.985, "15000/1001"),
        (23.98, "1199/50"),
        (24.975, "25000/1001"),
        (25, "25"),
        (0.5, "1/2"),
    ],
)
def test_decimals_of_ntsc_rates_and_no_others_are_rounded(given: float, meant: str) -> None:
    assert frame_rate(given) == Fraction(meant)


def test_times_that_no_film_has_are_damage(tmp_path):
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1_000_000, options={"bf": "0"})
        stream.width, stream.height, stream.time_base = 64, 48, Fraction(1, 1_000_000)
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 1_000_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match=r"is damaged: it says that it lasts 3e-06 s at 1e\+06 fps"):
        film_of(path).timeline  # noqa: B018
    with pytest.raises(VideoError, match="it says that it lasts 2e\\+09 s"):
        Timeline(np.zeros(1), 2e9, 5e-10, None, np.zeros(0, np.int64))
