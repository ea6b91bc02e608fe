"""The ablation's points and videos."""

from dataclasses import replace

import numpy as np
import pytest

from vidrd_core import ReuseSettings
from vidrd_core.evaluation.ablation import (
    ablation_videos,
    paper_sweeps,
    point_name,
    prompt_frame_counts,
    sweep,
    unique_points,
)
from vidrd_core.evaluation.ablation_analysis import group_by_point
from vidrd_core.evaluation.runner import Networks, evaluate, read_records
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural import VOCABULARY, describe, evaluation_scenes
from vidrd_core.sampling import DiffusionConfig

from ...conftest import TEXT, UNET, VAE, randomise

SAMPLE = {"steps": 3, "seed": 5}


@pytest.fixture(scope="module")
def small():
    """A small random model of procedural clips' captions."""
    text = randomise(TextEncoder(replace(TEXT, words=VOCABULARY, max_length=16)))
    made = VidRD(
        randomise(UNet3D(UNET)), randomise(TemporalVAE(VAE)), text, DiffusionConfig(prediction="v", frames=8, size=32)
    )
    for part in (made.unet, made.vae, made.text_encoder):
        part.requires_grad_(False)
    return made


def test_the_papers_sweeps():
    by_count, by_alpha, by_beta = paper_sweeps(8)
    assert (by_count.symbol, by_count.values) == ("M", [0, 1, 2, 4, 6])
    assert {(point.alpha, point.beta) for point in by_count.points} == {(4.0, 0.4)}
    assert {(point.prompt_frames, point.beta) for point in by_alpha.points} == {(4, 0.4)}
    assert {(point.prompt_frames, point.alpha) for point in by_beta.points} == {(4, 4.0)}
    assert [each.fixed for each in paper_sweeps(8)] == ["alpha 4, beta 0.4", "M 4, beta 0.4", "M 4, alpha 4"]
    assert len(unique_points(paper_sweeps(8))) == 5 + 6 + 6 - 2  # the paper's own point is in all three
    assert prompt_frame_counts(16) == (0, 2, 4, 8, 12)


def test_sweeps_of_other_values():
    by_count, by_beta = paper_sweeps(8, ReuseSettings(order="forward"), {"alpha": None, "beta": [0.1, 0.9]})
    assert (by_count.symbol, by_count.values) == ("M", [0, 1, 2, 4, 6])
    assert (by_beta.symbol, by_beta.values) == ("beta", [0.1, 0.9])
    assert {point.order for point in by_count.points + by_beta.points} == {"forward"}
    (alone,) = paper_sweeps(1, values={"prompt_frames": None, "beta": None})
    assert alone.symbol == "alpha"


@pytest.mark.parametrize("values", [(1.0,), (1.0, 1.0), (2.0, 1.0)])
def test_values_must_rise(values):
    with pytest.raises(ValueError, match=r"alpha takes \[.*\], expected two or more values that rise"):
        sweep("alpha", values, ReuseSettings())


def test_videos_of_all_points_share_their_first_clip(small):
    points = [ReuseSettings(prompt_frames=0), ReuseSettings(prompt_frames=6), ReuseSettings(order="forward")]
    prompt = "a red circle moving right"
    made = ablation_videos(small, [prompt] * 2, points, 2, SAMPLE)
    assert [each.name for each in made[:2]] == ["0000 M=0 alpha=4 beta=0.4", "0000 M=6 alpha=4 beta=0.4"]
    assert [each.name[:4] for each in made] == ["0000"] * 3 + ["0001"] * 3
    shown = [each.load() for each in made[3:]]
    for point, each in zip(points, shown, strict=True):
        expected = small.frames(small.stream(prompt, 2, point, steps=3, seed=6))
        np.testing.assert_array_equal(each.video, expected)
        (seam,) = each.boundaries.seams
        across = expected[seam - 4 : seam + 4] if len(expected) >= seam + 4 else expected[-8:]
        np.testing.assert_array_equal(each.network_video, across)
        assert {"faithful_look", "faithful_motion"} == set(each.extra)
    (wide, *_) = ablation_videos(small, [prompt], points, 2, SAMPLE, network_frames=16)
    assert len(wide.load().network_video) == 16


def test_a_small_ablation_is_measured(small, tmp_path):
    points = [ReuseSettings(prompt_frames=0, alpha=0.0), ReuseSettings()]
    prompts = [describe(scene) for scene in evaluation_scenes(2, 1)]
    evaluate(ablation_videos(small, prompts, points, 2, {"steps": 2, "seed": 0}), tmp_path, Networks())
    found = group_by_point(read_records(tmp_path), 16)
    assert set(found) == {point_name(point) for point in points}
    without, papers = (found[point_name(point)].figures for point in points)
    for number in range(2):  # a frame that is nearly doubled, and a jump
        assert papers[number]["seam_ratio"] < 0.7 < without[number]["seam_ratio"]


def test_videos_without_a_seam_are_refused(small):
    with pytest.raises(ValueError, match="clips is 1, expected 2 or more: a video of one clip has no seam"):
        ablation_videos(small, ["a red circle"], [ReuseSettings()], 1, SAMPLE)
