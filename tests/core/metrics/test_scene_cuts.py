"""Scene cuts where they are known."""

import numpy as np

from vidrd_core.metrics.scene_cuts import find_scene_cuts

from .test_seams import moving, ping_pong, still


def test_cuts_are_where_scenes_begin():
    scenes = [moving(8), moving(10, color="white", background="gray"), moving(6, background="brown")]
    assert find_scene_cuts(np.concatenate(scenes)) == [8, 18]


def test_moving_and_still_videos_have_no_cuts():
    for video in (still(), moving(24, reach=0.6), ping_pong(4), still(1)):
        assert find_scene_cuts(video) == []


def test_a_lower_threshold_finds_more():
    video = np.concatenate([still(6), (still(6) // 2 + 30)])
    assert len(find_scene_cuts(video, threshold=5.0)) == 1
    assert find_scene_cuts(video, threshold=90.0) == []
