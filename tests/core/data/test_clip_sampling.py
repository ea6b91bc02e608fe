"""Which clips are sampled from a video, and how large they are."""

import numpy as np
import pytest

from vidrd_core.data.clip_sampling import ClipSettings, SampleClips
from vidrd_core.data.records import Record, UnfitError

from .media import numbered, write_video


@pytest.mark.parametrize(
    ("settings", "size", "scaled", "clip"),
    [
        ({"size": 64}, (640, 360), (114, 64), (112, 64)),  # the aspect ratio, in eights
        ({"size": 64}, (360, 640), (64, 114), (64, 112)),
        ({"size": 64, "height": 64}, (640, 360), (114, 64), (64, 64)),
        ({"size": 128, "height": 64}, (640, 360), (128, 72), (128, 64)),
        ({"size": 64}, (64, 64), (64, 64), (64, 64)),
        ({"size": 64, "enlarge": True}, (32, 32), (64, 64), (64, 64)),
    ],
)
def test_clips_keep_the_aspect_ratio_or_are_cropped_to_a_size(settings, size, scaled, clip):
    assert ClipSettings(**settings).scaled_and_cropped(*size) == (scaled, clip)


def test_an_image_with_too_few_pixels_is_unfit():
    with pytest.raises(UnfitError, match="is 48 x 64 pixels, fewer than the clip's 64 x 80: make smaller clips, or"):
        ClipSettings(size=64).scaled_and_cropped(48, 64)


@pytest.mark.parametrize(
    ("settings", "begins"),
    [
        ({}, [4.5]),
        ({"choice": "spread", "clips": 3}, [1.5, 4.5, 7.5]),
        ({"choice": "spread", "clips": 99}, [0.45 * (2 * i + 1) for i in range(10)]),
        ({"choice": "all"}, [float(i) for i in range(10)]),
    ],
)
def test_where_clips_begin(settings, begins):
    record = Record("a.mp4", start=20, stop=30)
    assert ClipSettings(frames=8, fps=8, **settings).start_times(record, 8) == pytest.approx([20 + b for b in begins])


def test_random_clips_are_the_same_every_time_and_differ_by_seed():
    record = Record("a.mp4", stop=30, digest="x")
    several = ClipSettings(choice="random", clips=5)
    begins = several.start_times(record, 8)
    assert begins == several.start_times(record, 8)
    assert len(set(begins)) == 5
    assert all(0 <= begin <= 29 for begin in begins)
    assert begins != ClipSettings(choice="random", clips=5, seed=1).start_times(record, 8)


def test_a_segment_as_long_as_a_clip_is_enough_and_a_shorter_one_is_not():
    assert ClipSettings().start_times(Record("a", stop=1.0), 8) == [0]
    with pytest.raises(UnfitError, match=r"is 0.75 s long, too short for 8 frames at 8 a second \(1.00 s\)"):
        ClipSettings().start_times(Record("a", stop=0.75), 8)


def test_frames_of_a_clip_are_at_its_rate(tmp_path):
    path = str(write_video(tmp_path / "a.mp4", numbered(48)))
    (clip,) = SampleClips(ClipSettings(frames=4, fps=6, size=32))(Record(path, start=0.5, stop=2.0))
    levels = ((clip.frames.mean(axis=(1, 2, 3)) - 20) / 4).round().astype(int)
    assert np.diff(levels).tolist() == [4, 4, 4], "every fourth of 24 a second"
    assert levels[0] == pytest.approx(12 + (1.5 - 4 / 6) / 2 * 24, abs=1)
    assert (clip.fps, clip.frames.shape) == (6, (4, 32, 32, 3))
    (own,) = SampleClips(ClipSettings(frames=4, fps=0, size=32))(Record(path))
    assert own.fps == pytest.approx(24, rel=1e-3)
    with pytest.raises(UnfitError, match="has 24 frames a second, fewer than the clip's 60"):
        list(SampleClips(ClipSettings(fps=60, size=32))(Record(path)))
    with pytest.raises(UnfitError, match=r"is 2.00 s long, and the segment begins at 7.00 s"):
        list(SampleClips(ClipSettings(size=32))(Record(path, start=7, stop=9)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": 0}, "frames is 0, expected 1 to 4096"),
        ({"size": 60}, "size is 60, expected a multiple of 8"),
        ({"height": 4}, "height is 4, expected a multiple of 8"),
        ({"fps": -1}, "fps is -1, expected 0"),
        ({"choice": "best"}, "choice is 'best', expected one of middle, random"),
        ({"seed": -1}, "seed is -1, expected 0 or more"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ClipSettings(**settings)


def test_the_middle_is_one_clip():
    with pytest.raises(
        ValueError, match="clips is 2 and choice middle, which is one clip: use spread, random or all"
    ):
        SampleClips(ClipSettings(clips=2))
