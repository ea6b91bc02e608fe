"""A whole film that a package carries (Big Buck Bunny, 10 minutes, in moviepy's source archive; CC BY 3.0)."""

import shutil
import subprocess
import zipfile

import av
import numpy as np
import pytest

from vidrd_core.cli import main
from vidrd_core.data.decoding import frames_at
from vidrd_core.data.shards import Shards
from vidrd_core.video.film import film_of

pytestmark = pytest.mark.real
ARCHIVE = "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip"
SIZE = (64, 36)


@pytest.fixture(scope="session")
def film(carried):
    """The film's file."""
    folder = carried("moviepy==2.2.1", source=True)
    path = folder / "moviepy_10_minutes" / "resources" / "bbb.mp4"
    if not path.exists():
        with zipfile.ZipFile(folder / ARCHIVE) as archive:
            archive.extract(path.relative_to(folder).as_posix(), folder)
    return path


def test_no_frame_is_lost_or_moved(film):
    """Frames that were sought equal those of a plain decode from the start, by PyAV alone."""
    reader = film_of(film)
    count = len(reader.timeline.times)
    assert (count, reader.timeline.fps) == (14315, 24)
    chosen = np.sort(np.random.default_rng(0).choice(count, 40, replace=False))
    expected = {}
    with av.open(str(film)) as container:
        container.streams.video[0].thread_type = "AUTO"
        number = -1
        for number, frame in enumerate(container.decode(video=0)):
            if number in chosen:
                expected[number] = frame.reformat(*SIZE, "gray").to_ndarray()[:, : SIZE[0]].astype(int)
    assert number + 1 == count
    for number in chosen:
        (found,) = frames_at(str(film), [number / 24], SIZE)
        grey = found @ [0.299, 0.587, 0.114]
        assert np.abs(grey - expected[number]).mean() < 8, number
        others = [np.abs(grey - each).mean() for other, each in expected.items() if other != number]
        assert np.abs(grey - expected[number]).mean() < min(others), number


def test_ffmpeg_shows_the_same_pictures(film, tmp_path):
    if shutil.which("ffmpeg") is None:
        pytest.skip("there is no ffmpeg")
    numbers = [0, 1000, 7001, 14314]
    picked = "+".join(f"eq(n,{number})" for number in numbers)
    command = ["ffmpeg", "-v", "error", "-i", film, "-vf", f"select='{picked}'", "-vsync", "0", "-pix_fmt", "rgb24"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-"], capture_output=True, check=True).stdout
    theirs = np.frombuffer(raw, np.uint8).reshape(4, 720, 1280, 3).astype(int)
    ours = [frames_at(str(film), [number / 24], None)[0] for number in numbers]
    for mine, expected in zip(ours, theirs, strict=True):
        assert np.abs(mine - expected).max() <= 3


def test_the_film_becomes_clips(film, tmp_path, capsys):
    (tmp_path / "films").mkdir()
    shutil.copy(film, tmp_path / "films" / "bbb.mp4")
    (tmp_path / "films" / "bbb.txt").write_text("an animated film of a rabbit in a meadow")
    command = ["data", "videos", tmp_path / "films", "-o", tmp_path / "shards", "--size", "64", "--frames", "8"]
    assert main([*map(str, command), "--choice", "all", "--clips", "4"]) == 0
    clips = Shards(tmp_path / "shards").samples
    assert len(clips) > 100
    assert {clip.caption for clip in clips} == {"an animated film of a rabbit in a meadow"}
    ends = max(clip.facts["stop"] for clip in clips)
    assert ends > 590, "the last scenes are there"
