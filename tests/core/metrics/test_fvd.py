"""FVD of features where the answer is known, compared with other programs' formulas, and its files."""

import numpy as np
import pytest
import torch

from vidrd_core.io import safetensors
from vidrd_core.io.safetensors import FormatError
from vidrd_core.metrics.frechet import Moments
from vidrd_core.metrics.fvd import (
    FVD,
    KIND,
    FeatureSource,
    FeatureStatistics,
    feature_statistics,
    frechet_video_distance,
)

from .test_frechet import with_moments

RNG = np.random.default_rng(5)


def videos(count=12, frames=4, seed=0, level=0):
    made = np.random.default_rng(seed).integers(0, 200, (count, frames, 6, 6, 3))
    return (made + level).astype(np.uint8)


def colors(batch):
    """Each video's mean color in its first and last frame."""
    return batch[:, [0, -1]].mean((2, 3)).reshape(len(batch), -1)


def batched(all_videos, size=5):
    return (all_videos[start : start + size] for start in range(0, len(all_videos), size))


def of(features, **about):
    moments = Moments()
    moments.add(features)
    return FeatureStatistics(moments.mean, moments.covariance, FeatureSource(**about))


def test_statistics_of_batches_and_their_source():
    found = feature_statistics(batched(videos()), colors, "colors", 8.0)
    features = colors(videos())
    np.testing.assert_allclose(found.mean, features.mean(0))
    np.testing.assert_allclose(found.covariance, np.cov(features.T))
    assert found.about == FeatureSource("colors", 12, 4, 8.0)


def test_brighter_videos_are_as_far_apart_as_their_means():
    a, b = (feature_statistics(batched(videos(level=level)), colors, "colors", 8.0) for level in (0, 20))
    found = frechet_video_distance(a, b)
    assert isinstance(found, FVD)
    assert found.value == pytest.approx(6 * 20**2)
    assert (found.of, found.reference) == (a.about, b.about)
    assert frechet_video_distance(a, a).value == pytest.approx(0, abs=1e-8)


def test_gaussians_of_known_distance():
    a = of(with_moments(np.zeros(2), np.diag([1.0, 4.0])))
    b = of(with_moments(np.ones(2), np.diag([9.0, 4.0])))
    assert frechet_video_distance(a, b).value == pytest.approx(2 + 4)


def sets(dim=16, count=300):
    mixing = RNG.standard_normal((dim, dim))
    a, b = RNG.standard_normal((2, count, dim))
    return a, b @ mixing / 2 + 0.3


def test_it_equals_scipys_formula():
    linalg = pytest.importorskip("scipy.linalg")
    a, b = sets()
    root = linalg.sqrtm(np.cov(a.T) @ np.cov(b.T))
    means = np.square(a.mean(0) - b.mean(0)).sum()
    expected = means + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root.real)
    assert frechet_video_distance(of(a), of(b)).value == pytest.approx(expected, rel=1e-9)


def test_it_equals_torchmetrics():
    image = pytest.importorskip("torchmetrics.image.fid")
    torch = pytest.importorskip("torch")

    class Flat(torch.nn.Module):
        num_features = 16

        def forward(self, x):
            return x.flatten(1)

    theirs = image.FrechetInceptionDistance(feature=Flat(), input_img_size=(1, 4, 4), normalize=True)
    theirs.set_dtype(torch.float64)
    a, b = sets()
    for features, real in ((a, True), (b, False)):
        theirs.orig_dtype = torch.float64
        theirs.update(torch.from_numpy(features).reshape(-1, 1, 4, 4), real=real)
    assert frechet_video_distance(of(a), of(b)).value == pytest.approx(float(theirs.compute()), rel=1e-6)


def test_it_equals_cd_fvds_formula_except_for_the_covariance():
    """Theirs divides by n where ours, scipy's and torchmetrics' covariance divides by n - 1."""
    linalg = pytest.importorskip("scipy.linalg")
    a, b = sets(count=100)
    raw = [(x.mean(0), x.T @ x / len(x) - np.outer(x.mean(0), x.mean(0))) for x in (a, b)]
    (mean_a, cov_a), (mean_b, cov_b) = raw
    root = linalg.sqrtm(cov_a @ cov_b)
    theirs = np.square(mean_a - mean_b).sum() + np.trace(cov_a + cov_b - 2 * root).real
    same = frechet_video_distance(*(FeatureStatistics(mean, covariance) for mean, covariance in raw)).value
    assert same == pytest.approx(theirs, rel=1e-9)
    means = np.square(mean_a - mean_b).sum()
    assert frechet_video_distance(of(a), of(b)).value - means == pytest.approx((theirs - means) * 100 / 99, rel=1e-9)


def test_files_hold_everything(tmp_path):
    found = feature_statistics(batched(videos()), colors, "colors", 8.0)
    found.save(tmp_path / "real.safetensors")
    again = FeatureStatistics.load(tmp_path / "real.safetensors")
    np.testing.assert_array_equal(again.mean, found.mean)
    np.testing.assert_array_equal(again.covariance, found.covariance)
    assert again.about == found.about
    assert again.mean.dtype == np.float64


def test_statistics_of_other_programs(tmp_path):
    found = of(sets()[0])
    np.savez(tmp_path / "fid.npz", mu=found.mean, sigma=found.covariance)
    again = FeatureStatistics.load(tmp_path / "fid.npz")
    assert frechet_video_distance(again, found).value == pytest.approx(0, abs=1e-9)
    assert again.about == FeatureSource()


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", mu=np.zeros(3))
    with pytest.raises(FormatError, match=r"a.npz holds no mu \[D\] and sigma \[D, D\]"):
        FeatureStatistics.load(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"PK no zip")
    with pytest.raises(FormatError, match=r"b\.npz is damaged, or no \.npz"):
        FeatureStatistics.load(tmp_path / "b.npz")
    with pytest.raises(FileNotFoundError):
        FeatureStatistics.load(tmp_path / "c.npz")
    (tmp_path / "d.safetensors").write_text("hello")
    with pytest.raises(FormatError, match=r"d\.safetensors"):
        FeatureStatistics.load(tmp_path / "d.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "other"}, "the videos' network is colors, the reference's other"),
        ({"frames": 16}, "the videos' frames is 4, the reference's 16"),
        ({"fps": 25.0}, "the videos' fps is 8.0, the reference's 25.0"),
    ],
)
def test_statistics_that_are_not_comparable_are_refused(change, message):
    about = {"network": "colors", "clips": 12, "frames": 4, "fps": 8.0}
    with pytest.raises(ValueError, match=message):
        frechet_video_distance(of(colors(videos()), **about), of(colors(videos()), **{**about, **change}))


def test_videos_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="videos have 4 and 5 frames, expected as many: cut them alike"):
        feature_statistics([videos(), videos(frames=5)], colors, "colors", None)
    with pytest.raises(ValueError, match="of 1 videos, expected two or more"):
        feature_statistics([videos(1)], colors, "colors", None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": torch.tensor([1.0, float("nan")])}, "not finite"),
        ({"covariance": torch.eye(3)}, "holds no mu"),
        ({"mean": torch.zeros(0)}, "holds no mu"),
        ({"mean": None}, "is damaged: 'mean'"),
    ],
)
def test_damaged_statistics_are_refused(tmp_path, change, message):
    tensors = {"mean": torch.zeros(2), "covariance": torch.eye(2), **change}
    path = tmp_path / "s.safetensors"
    safetensors.write(path, {k: t for k, t in tensors.items() if t is not None}, KIND, about={"clips": 3})
    with pytest.raises(FormatError, match=message):
        FeatureStatistics.load(path)
    safetensors.write(path, {"mean": torch.zeros(2), "covariance": torch.eye(2)}, KIND, about={"clips": "many"})
    with pytest.raises(FormatError, match="clips is 'many'"):
        FeatureStatistics.load(path)
