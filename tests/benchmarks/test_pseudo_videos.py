"""The metrics and the report of the pseudo-video benchmark; its models are not trained here."""

import numpy as np
import pseudo_videos as script
import pytest

from vidrd_core.metrics.frechet import frechet_distance
from vidrd_core.procedural import evaluation_scenes, render


def clips(seed):
    return [render(scene, 8, 64) for scene in evaluation_scenes(56, seed)]


def test_a_changing_background_flickers():
    clip = clips(0)[0]
    assert script.background_flicker(clip) == 0
    flickering = clip.copy()
    flickering[::2, 0, 0] = np.minimum(flickering[::2, 0, 0].astype(int) + 20, 255)
    assert script.background_flicker(flickering) == pytest.approx(10)  # one of four corners


def test_clips_without_motion_are_farther_from_procedural_ones():
    drawn, others = script.moments(clips(0)), script.moments(clips(1))
    frozen = script.moments(np.repeat(clip[:1], 8, axis=0) for clip in clips(1))
    assert frechet_distance(drawn, drawn) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(drawn, frozen) > 2 * frechet_distance(drawn, others)


def test_the_report_pairs_runs_of_one_seed():
    rows = [{"way": way, "seed": seed, "all": value} for way, seed, value in
            [("without", 0, 80.0), ("with", 0, 84.0), ("without", 1, 70.0), ("with", 1, 72.0)]]  # fmt: skip
    text = script.report(rows)
    assert "| without pseudo-videos | 75.00 (70.00 to 80.00) |" in text
    assert "| with less without, by seed | 3.00 (2.00 to 4.00) |" in text
