"""Identity of drawn videos where the right answer is known."""

import numpy as np
import pytest

from vidrd_core.metrics.identity import identity_distances, subject_identity
from vidrd_core.metrics.registry import measure_video
from vidrd_core.metrics.seams import ClipBoundaries
from vidrd_core.procedural import Scene, Sprite, render

SEAMS = (8, 16, 24)
MOVES = {"motion": "right", "x": 0.25, "y": 0.5, "reach": 0.5}


def drawn(color="red", shape="circle", background="navy", frames=32, **motion):
    sprite = Sprite(shape, color, "medium", **{**MOVES, **motion})
    return render(Scene(background, (sprite,)), frames)


def drifting(first, last, share):
    """A video that cross-fades from one to the other, by a share of the way at its last frame."""
    weights = share * np.linspace(0, 1, len(first))[:, None, None, None]
    return np.rint((1 - weights) * first + weights * last).astype(np.uint8)


@pytest.mark.parametrize("motion", [{}, {"motion": "bounce", "y": 0.7}, {"motion": "circle", "x": 0.5, "reach": 0.2}])
def test_a_subject_that_keeps_its_appearance_and_moves_is_near_0(motion):
    found = subject_identity(drawn(**motion), SEAMS)
    assert 0 <= found.mean < 0.01
    assert 0 <= found.drift < 0.01


@pytest.mark.parametrize("change", [{"color": "green"}, {"color": "blue", "shape": "star"}, {"shape": "cross"}])
def test_slow_drift_grows_with_time_and_with_its_extent(change):
    first, last = drawn(), drawn(**change)
    rows = [identity_distances(drifting(first, last, share), SEAMS) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    for distances in rows[1:]:
        assert (np.diff(distances) > 0).all()
    drifts = [distances[-1] for distances in rows]
    assert (np.diff(drifts) > 0).all()
    assert drifts[0] < 0.01 < 0.1 < drifts[-1]


def test_a_change_at_a_cut_is_a_jump():
    video = np.concatenate([drawn(frames=16), drawn("green", "star", frames=16)])
    same, *changed = identity_distances(video, SEAMS)
    assert same < 0.01
    assert min(changed) > 0.7
    assert np.ptp(changed) < 0.01
    found = subject_identity(video, SEAMS)
    assert found.drift == changed[-1]
    assert found.mean == pytest.approx(np.mean([same, *changed]))


def test_a_background_that_changes_is_not_the_subject():
    """Only the color of the subject relative to it counts, which stays for a still gray level."""
    video = np.full((16, 64, 64, 3), 40, np.uint8)
    video[8:] = 90
    for index, frame in enumerate(video):
        frame[20:40, index + 10 : index + 30] += np.uint8(100)
    assert subject_identity(video, (8,)).drift == pytest.approx(0, abs=1e-6)


def test_known_features():
    """Clips that point to 0, 60 and 180 degrees."""
    angles = np.radians([0, 0, 30, 90, 180, 180])
    found = identity_distances(drawn(frames=6), (2, 4), lambda video: np.stack([np.cos(angles), np.sin(angles)], 1))
    np.testing.assert_allclose(found, [0.5, 2])


def test_a_video_without_seams_is_divided_into_eighths():
    video = drifting(drawn(), drawn("green"), 1.0)
    np.testing.assert_allclose(identity_distances(video, ()), identity_distances(video, range(4, 32, 4)))
    assert len(identity_distances(video[:5], ())) == 4


def test_what_has_no_features_or_no_second_clip():
    blank = np.full((16, 32, 32, 3), 90, np.uint8)
    assert subject_identity(blank, (8,)).drift == 0
    assert subject_identity(np.concatenate([blank, drawn(frames=8)[:, :32, :32]]), (16,)).drift == pytest.approx(0.5)
    assert np.isnan(subject_identity(blank[:1], ()).mean)
    with pytest.raises(ValueError, match="expected rising frame numbers from 1 to 15"):
        identity_distances(blank, (16,))


def test_records_have_it():
    found = measure_video(drifting(drawn(), drawn("green"), 1.0), ClipBoundaries(SEAMS))["identity"]
    assert found["drift"] > found["mean"] > 0.01
    assert measure_video(drawn(frames=1))["identity"] == {"mean": None, "drift": None}
