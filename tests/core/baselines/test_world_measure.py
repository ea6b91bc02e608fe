"""Figures of methods on models of the drawn world, on videos where the answer is known."""

import numpy as np
import pytest
from PIL import Image

from vidrd_core.baselines.base import LongVideo
from vidrd_core.baselines.world_measure import WorldMeasure
from vidrd_core.procedural import world
from vidrd_core.reuse import ReuseSettings

MEASURE = WorldMeasure()
FORWARD = ReuseSettings(2, order="forward")
FRAMES, CLIPS = 8, 3
LENGTH = FRAMES + (CLIPS - 1) * (FRAMES - 2)
MOTIONS = ("drift right", "orbit", "pulse")
COMMON = {"loop_2N": 0.1, "drift": 0.0, "dynamic": 0.02, "calls": 1.25, "memory": [1.0, 2.0]}


def instance(motion, seed=3):
    return world.random_instance(np.random.default_rng((5, seed)), [motion])


def record(motion, change=lambda video: None):
    each = instance(motion)
    video = world.render(each, LENGTH)
    change(video)
    return MEASURE.record(LongVideo(video, FORWARD), (world.describe(each), motion), FRAMES, CLIPS)


def another(video):
    """The second clip and all after it show another instance of the same caption."""
    each = instance("drift right")
    words = {"shape": each.thing.shape, "color": each.thing.color, "ground": each.ground.pattern}
    twin = world.random_instance(np.random.default_rng(1), ["drift right"], **words)
    video[FRAMES:] = world.render(twin, LENGTH - FRAMES)


def back(video):
    video[FRAMES:] = video[FRAMES:][::-1]


def test_the_world_itself_is_perfect():
    rows = [record(motion) for motion in MOTIONS]
    assert MEASURE.quality(rows) > 0.95
    row = MEASURE.summarize(rows)
    assert row["identity by clip"] == row["faithful by clip"] == [100, 100, 100]
    assert row["identity_kept"] == row["direction_kept"] == 100
    assert row["position_jump"][0] < 0.3
    assert row["moves"] > 60


@pytest.mark.parametrize(("change", "figure"), [(another, "identity_kept"), (back, "direction_kept")])
def test_a_fault_lowers_its_figure_and_the_score(change, figure):
    rows = [record("drift right", change)]
    assert MEASURE.summarize(rows)[figure] <= 50
    assert MEASURE.quality(rows) < MEASURE.quality([record("drift right")]) - 0.1
    assert MEASURE.summarize(rows)["position_jump"][0] > 0.5


def test_tables_have_a_row_for_each_method():
    rows = [record(motion) for motion in MOTIONS]
    row = {"method": "forward", "setting": "M=2", **MEASURE.summarize(rows), **COMMON}
    first, second = MEASURE.tables([row, {**row, "setting": ""}]).split("\n\n")
    lines = first.splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| forward: M=2 | 100 | 100 | 100 | ")
    assert lines[3].startswith("| forward | 100 |")
    assert "| forward | 100 / 100 | 100 / 100 | 100 / 100 |" in second


def test_contact_sheets_say_what_of_each_clip_is_right(tmp_path):
    video = world.render(instance("drift right"), LENGTH)
    another(video)
    made = LongVideo(video, FORWARD)
    text = world.describe(instance("drift right"))
    found = {"text": text, **MEASURE.record(made, (text, "drift right"), FRAMES, CLIPS)}
    MEASURE.draw(made, FRAMES, found, tmp_path / "new" / "sheet.png")
    with Image.open(tmp_path / "new" / "sheet.png") as picture:
        assert picture.width > 8 * 64
        assert picture.height > 3 * 64


def test_a_video_of_one_clip_has_no_seams():
    each = instance("drift right")
    made = LongVideo(world.render(each, FRAMES), FORWARD)
    found = MEASURE.record(made, (world.describe(each), "drift right"), FRAMES, 1)
    assert found["identity_kept"] == found["position_jump"] == found["seam_ratio"] == []
    assert MEASURE.summarize([found])["faithful by clip"] == [100]
