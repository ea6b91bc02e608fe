"""The Inception Score where the answer is known."""

import numpy as np
import pytest

from vidrd_core.metrics.inception import inception_score


def certain(classes, each):
    """Certain predictions, equally many of each class, sorted by class."""
    return np.repeat(np.eye(classes), each, 0)


def test_certain_and_balanced_predictions_score_the_number_of_classes():
    assert inception_score(certain(5, 40), splits=1) == (pytest.approx(5), 0)


def test_a_single_class_or_uniform_predictions_score_1():
    assert inception_score(np.eye(5)[np.zeros(20, int)])[0] == pytest.approx(1)
    assert inception_score(np.full((20, 5), 0.2))[0] == pytest.approx(1)


def test_known_probabilities():
    p = np.array([[0.9, 0.1], [0.1, 0.9]])
    expected = np.exp(0.9 * np.log(1.8) + 0.1 * np.log(0.2))
    assert inception_score(p, splits=1)[0] == pytest.approx(expected)


def test_videos_sorted_by_class_are_shuffled():
    mean, spread = inception_score(certain(10, 100), splits=10)
    assert mean == pytest.approx(10, abs=0.7)
    assert 0 < spread < 0.5
    assert inception_score(certain(10, 100), splits=10) == (mean, spread)
    assert inception_score(certain(10, 100), splits=10, seed=1) != (mean, spread)


def test_it_equals_torchmetrics():
    torchmetrics = pytest.importorskip("torchmetrics.image.inception")
    torch = pytest.importorskip("torch")
    logits = torch.randn(200, 7, generator=torch.Generator().manual_seed(0)) * 3
    theirs = torchmetrics.InceptionScore(feature=torch.nn.Flatten(), splits=1)
    theirs.update(logits[:, :, None, None])
    ours = inception_score(logits.double().softmax(1).numpy(), splits=1)[0]
    assert ours == pytest.approx(float(theirs.compute()[0]), rel=1e-5)


@pytest.mark.parametrize(
    ("probabilities", "splits", "message"),
    [
        (np.ones((3, 2)), 1, r"probabilities are \[3, 2\], expected .* take a softmax"),
        (np.ones(3), 1, r"probabilities are \[3\]"),
        (np.full((3, 2), np.nan), 1, "probabilities are"),
        (np.full((3, 2), 0.5), 4, "splits is 4, expected 1 to the number of videos, 3"),
    ],
)
def test_invalid_probabilities_are_refused(probabilities, splits, message):
    with pytest.raises(ValueError, match=message):
        inception_score(probabilities, splits)
