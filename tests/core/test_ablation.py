"""The ablation's points, videos and trends, where the answer is known."""

import numpy as np
import pytest

import vidrd_core
from vidrd_core import ReuseSettings
from vidrd_core.data.shapes import describe, evaluation_scenes
from vidrd_core.evaluation.ablation import Wanted, distinct, figures, point_name, subjects, sweeps, told, trend
from vidrd_core.evaluation.evaluate import Networks, evaluate, read
from vidrd_core.evaluation.subjects import Clips

from .test_seams import moving, ping_pong, scene

SAMPLE = {"steps": 3, "seed": 5}


def test_the_papers_sweeps():
    counts, alphas, betas = sweeps(8)
    assert (counts.letter, counts.values) == ("M", [0, 1, 2, 4, 6])
    assert {(point.alpha, point.beta) for point in counts.points} == {(4.0, 0.4)}
    assert {(point.prompt_frames, point.beta) for point in alphas.points} == {(4, 0.4)}
    assert {(point.prompt_frames, point.alpha) for point in betas.points} == {(4, 4.0)}
    assert len(distinct(sweeps(8))) == 5 + 6 + 6 - 2  # the paper's own point is in all three
    assert sweeps(16)[0].values == [0, 2, 4, 8, 12]


def test_videos_of_all_points_share_their_first_clip():
    model = vidrd_core.load("tiny")
    points = [ReuseSettings(prompt_frames=0), ReuseSettings(prompt_frames=6), ReuseSettings(order="forward")]
    made = subjects(model, [Wanted("a red circle moving right")] * 2, points, 2, SAMPLE)
    assert [each.name[:4] for each in made] == ["0000"] * 3 + ["0001"] * 3
    assert len({each.name for each in made}) == 6
    shown = [each.show() for each in made[3:]]
    for point, each in zip(points, shown, strict=True):
        expected = model.frames(model.stream("a red circle moving right", 2, point, steps=3, seed=6))
        np.testing.assert_array_equal(each.video, expected)
        (seam,) = each.joints.seams
        np.testing.assert_array_equal(each.looked_at, expected[seam - 4 : seam + 4])


def test_what_is_told_of_clips_after_the_first():
    shown = scene("right", reach=0.5)
    assert told(ping_pong(3), Clips(8), shown) == {"faithful_look": 1, "faithful_motion": 0.5}
    on = np.concatenate([moving(8), moving(8)])
    assert told(on, Clips(8), shown) == {"faithful_look": 1, "faithful_motion": 1}
    assert told(moving(8, color="white").repeat(2, 0), Clips(8), shown)["faithful_look"] == 0
    assert told(on, Clips(8), None) == {}


def test_figures_of_a_record():
    record = {"name": "a", "seam_ratio": [0.5, 2.0], "flow_jump": [None, 90.0], "loopiness": {"8": 0.1, "16": 0.7}}
    found = figures(record, 16)
    assert found == {"seam_ratio": 1.25, "flow_jump": 90, "seam_error": 1, "loopiness": 0.7}


def rows(*means, spread=1.0, count=100):
    rng = np.random.default_rng(0)
    return [dict(enumerate(mean + spread * rng.standard_normal(count))) for mean in means]


def test_trends():
    rising = trend([0, 1, 2, 4], rows(0, 1, 2, 3))
    assert (rising.way, rising.correlation) == (1, 1)
    assert rising.low < 3 < rising.high
    assert rising.high - rising.low == pytest.approx(2 * 1.96 * np.sqrt(2) / 10, rel=0.3)
    assert trend([0, 1, 2], rows(3, 2, 0)).way == -1
    assert trend([0, 1, 2], rows(0, 0.05, 0.01)).way == 0
    flat = trend([0, 1], rows(1, 1, spread=0))
    assert (flat.change, flat.way, flat.correlation) == (0, 0, 0)


def test_only_videos_of_both_ends_count():
    few = [{0: 1.0, 1: 2.0}, {5: 1.0, 0: 3.0, 1: 4.0}]
    assert trend([0, 1], few).change == 2
    with pytest.raises(ValueError, match="there are 1 videos of both ends, expected two or more"):
        trend([0, 1], [{0: 1.0}, {0: 2.0}])


def test_a_small_ablation_is_measured(tmp_path):
    model, scenes = vidrd_core.load("tiny"), evaluation_scenes(2, 1)
    points = [ReuseSettings(prompt_frames=0, alpha=0.0), ReuseSettings()]
    made = subjects(model, [Wanted(describe(each), each) for each in scenes], points, 2, {"steps": 6, "seed": 0})
    evaluate(made, tmp_path, Networks())
    found = {record["name"]: figures(record, 16) for record in read(tmp_path)}
    for number in range(2):
        without, papers = (found[f"{number:04d} {point_name(point)}"] for point in points)
        assert papers["seam_ratio"] < 0.5 < without["seam_ratio"]  # a frame that is nearly doubled, and a jump
        assert {"faithful_look", "faithful_motion"} < papers.keys()


def test_videos_without_a_seam_are_refused():
    with pytest.raises(ValueError, match="clips is 1, expected 2 or more: a video of one clip has no seam"):
        subjects(vidrd_core.load("tiny"), [Wanted("a red circle")], [ReuseSettings()], 1, SAMPLE)
