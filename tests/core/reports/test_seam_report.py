"""Reports of seams where the answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from vidrd_core.io import MissingPackageError
from vidrd_core.metrics.seams import ClipBoundaries
from vidrd_core.procedural import world
from vidrd_core.reports.seam_figure import MIN_WIDTH, draw_seam_figure
from vidrd_core.reports.seam_report import seam_report

from ..metrics.test_seams import moving, ping_pong


def report(video, frames=8, prompt_frames=4):
    return seam_report(video, ClipBoundaries.regular(len(video), frames, 0, prompt_frames))


@pytest.mark.parametrize(
    ("video", "verdict"),
    [
        (ping_pong(2), "a duplicated frame and the previous clip played backwards"),
        (np.concatenate([moving(8), moving(8)]), "a jump and the previous clip repeated"),
        (moving(16, reach=0.5), "nothing is visible"),
    ],
)
def test_each_kind_of_seam_has_its_verdict(video, verdict):
    found = report(video)
    assert found.verdict(0) == verdict
    assert found.lines()[0] == "16 frames, 2 clips, it moves"
    assert any(line.startswith("seam at frame 8: ratio ") and line.endswith(verdict) for line in found.lines())


def test_the_worst_seam_and_the_strongest_loop_count():
    found = report(ping_pong(4))
    assert found.seam_ratio == found.ratios.min() < 0.1
    assert found.loopiness == found.loops[16] > 0.9
    assert found.loops[8] < 0.2
    whole = seam_report(moving(16), ClipBoundaries())
    assert np.isnan([whole.seam_ratio, whole.worst_step, whole.loopiness]).all()
    assert not [line for line in whole.lines() if "seam at" in line]


def test_still_videos_are_reported():
    assert "it hardly moves: smooth seams mean little" in report(moving(16)[:1].repeat(16, 0)).lines()[0]


def test_without_opencv_motion_is_left_out(monkeypatch):
    def missing(video):
        raise MissingPackageError("optical flow needs OpenCV")

    found = seam_report(ping_pong(2), ClipBoundaries.regular(16, 8), missing)
    assert found.turns is None
    assert found.dynamic is None
    assert found.lines()[-1] == "motion is not measured without OpenCV: pip install opencv-python-headless"
    assert found.verdict(0).endswith("the previous clip played backwards")


@pytest.mark.parametrize("video", [ping_pong(12), moving(16), moving(1), moving(16)[:, :20, :60]])
def test_the_figure_shows_the_most_visible_seams(video):
    found = report(video)
    picture = draw_seam_figure(video, found)
    assert picture.width >= MIN_WIDTH
    orange = (np.asarray(picture) == (240, 140, 40)).all(-1)
    assert orange.any() == (len(video) > 8)
    assert picture.height < 900


def drawn(frames=24, seed=4):
    instance = world.random_instance(np.random.default_rng(seed), ["drift right"])
    return world.render(instance, frames), world.describe(instance)


def test_of_drawn_clips_identity_and_position_are_told():
    video, caption = drawn()
    boundaries = ClipBoundaries.regular(24, 8)
    found = seam_report(video, boundaries, caption=caption)
    assert found.summary().endswith("identity kept 2 of 2, position error 0.0")
    assert "position error 0." in found.seam_line(0)
    assert found.verdict(0) == "nothing is visible"
    video[16:] = drawn(seed=5)[0][16:]
    found = seam_report(video, boundaries, caption=caption)
    assert "identity kept 1 of 2" in found.summary()
    assert found.verdict(1).endswith("it shows another thing or ground than the first clip")
    assert not seam_report(video, boundaries, caption="a cat").read
    assert not seam_report(video, boundaries).read


def test_what_is_drawn_outdoes_optical_flow():
    """Flow may take the pattern on a thing, or of the ground, for motion."""
    video, caption = drawn(frames=16)
    boundaries = ClipBoundaries.regular(16, 8)
    whole = seam_report(video, boundaries, caption=caption)
    assert replace(whole, turns=np.array([180.0])).verdict(0) == "nothing is visible"
    assert replace(whole, turns=np.array([180.0]), read={}).verdict(0) == "motion changes direction"
    turned = {**whole.read, "direction_kept": [0]}
    assert replace(whole, turns=np.array([0.0]), read=turned).verdict(0) == "motion changes direction"


@pytest.mark.parametrize("cut", [np.s_[:, :, :48], np.s_[:19], np.s_[:10]])
def test_drawn_clips_that_cannot_be_read_have_general_figures(cut):
    """Frames that are not square, clips of several lengths, clips that are too short."""
    video, caption = drawn()
    shown = video[cut]
    frames = 3 if len(shown) == 10 else 8
    found = seam_report(shown, ClipBoundaries.regular(len(shown), frames), caption=caption)
    assert not found.read
    assert "seam ratio" in found.summary()
