"""The registry of metrics, and all metrics of videos whose answers are known."""

import json
import subprocess
import sys

import numpy as np
import pytest

from vidrd_core import metrics
from vidrd_core.metrics.registry import METRICS, measure_video, metric_of
from vidrd_core.metrics.seams import ClipBoundaries

from .test_seams import moving, noise, ping_pong, still

FOUR = ClipBoundaries.regular(32, 8, prompt_frames=4)


def test_seams_of_regular_clips():
    assert ClipBoundaries.regular(32, 8).seams == (8, 16, 24)
    forward = ClipBoundaries.regular(20, 8, repeated=4, prompt_frames=4)
    assert (forward.seams, forward.window, forward.periods) == ((8, 12, 16), 5, (4, 8, 16))
    assert ClipBoundaries.regular(8, 8).seams == ()
    with pytest.raises(ValueError, match="repeated is 8, expected 0 or more and less than the 8 frames"):
        ClipBoundaries.regular(32, 8, repeated=8)


def test_a_mirrored_video():
    found = measure_video(ping_pong(4), FOUR)
    assert all(ratio < 0.01 for ratio in found["seam_ratio"])
    assert all(turn > 165 for turn in found["flow_jump"])
    assert all(score > 0.5 for score in found["mirror_score"])
    assert found["loopiness"]["16"] > 0.5
    assert (found["dynamic"], found["scene_cuts"]) == (True, 0)
    assert all(abs(each["slope"]) < 1e-3 for each in found["drift"].values())


def test_a_video_with_a_cut_at_each_seam():
    looks = [("navy", "red"), ("gray", "white"), ("brown", "cyan"), ("navy", "yellow")]
    video = np.concatenate([moving(8, background=background, color=color) for background, color in looks])
    found = measure_video(video, FOUR)
    assert all(ratio > 5 for ratio in found["seam_ratio"])
    assert found["scene_cuts"] == 3


def test_a_still_video():
    found = measure_video(still(32), FOUR)
    assert found["seam_ratio"] == [1, 1, 1]
    assert found["flow_jump"] == [None] * 3
    assert (found["dynamic"], found["change"], found["frame_consistency"]) == (False, 0, 1)
    assert found["loopiness"] == {"8": 0, "16": 0}


def test_white_noise():
    found = measure_video(noise(32), FOUR)
    assert found["temporal_flickering"] == pytest.approx(2 / 3, abs=0.02)
    assert all(ratio == pytest.approx(1, abs=0.1) for ratio in found["seam_ratio"])
    assert all(abs(score) < 0.2 for score in found["mirror_score"])


def test_without_seams_there_are_no_metrics_of_seams():
    found = measure_video(moving(8))
    assert found["seams"] == []
    assert "seam_ratio" not in found
    assert measure_video(moving(1))["frame_consistency"] is None
    json.dumps([found, measure_video(ping_pong(2), ClipBoundaries.regular(16, 8))], allow_nan=False)


def test_every_figure_of_a_record_belongs_to_a_metric():
    found = measure_video(ping_pong(4), FOUR)
    assert set(found) - {"frames", "seams"} <= set(METRICS)
    assert metric_of("drift brightness slope") is METRICS["drift"]
    assert metric_of("frames") is None
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.meaning
        assert not metric.meaning.endswith(".")
        assert metric.unit


def test_metrics_are_left_out_without_what_they_need():
    text_only = {name for name, metric in METRICS.items() if "text" in metric.needs}
    assert not text_only & set(measure_video(moving(8), text="a red circle"))
    at_seams = {name for name, metric in METRICS.items() if metric.compute and metric.needs == ("seams",)}
    assert not at_seams & set(measure_video(moving(8)))
    assert at_seams <= set(measure_video(moving(16), ClipBoundaries((8,))))


def test_the_direction_has_a_sign():
    assert [METRICS[name].sign for name in ("inception_score", "fvd", "seam_ratio", "speed")] == [1, -1, 0, 0]


def test_the_package_exports_its_functions_and_imports_neither_torch_nor_opencv():
    for name in metrics.__all__:
        assert getattr(metrics, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = metrics.nothing
    heavy = "[name for name in ('torch', 'cv2', 'scenedetect', 'transformers', 'scipy') if name in sys.modules]"
    code = f"import sys, vidrd_core.metrics; assert vidrd_core.metrics.METRICS; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
