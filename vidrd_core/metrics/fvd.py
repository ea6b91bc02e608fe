"""The Frechet Video Distance (FVD), and files of feature statistics.

Features are accumulated a few videos at a time; what is kept are their moments, which fit a small file.

Source:
    Unterthiner et al., "Towards Accurate Generative Models of Video", 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidrd_core.io import safetensors
from vidrd_core.io.configs import from_dict
from vidrd_core.io.safetensors import FormatError
from vidrd_core.metrics.frechet import Array, Moments, frechet_distance

VideoBatch = NDArray[np.uint8]
"""Videos uint8 [B, F, H, W, 3]."""
VideoFeatures = Callable[[VideoBatch], NDArray[np.floating]]
"""Videos uint8 [B, F, H, W, 3] to features [B, D]."""

KIND = "video statistics"


@dataclass(frozen=True)
class FeatureSource:
    """What feature statistics were computed from; None where a file does not say.

    Args:
        network: Name of the feature extractor.
        clips: Number of videos.
        frames: Frames of each video.
        fps: Frame rate of the videos.
    """

    network: str | None = None
    clips: int | None = None
    frames: int | None = None
    fps: float | None = None


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean and covariance of the features of a set of videos.

    Args:
        mean: [D].
        covariance: [D, D].
        about: What they were computed from.
    """

    mean: Array
    covariance: Array
    about: FeatureSource = FeatureSource()

    def save(self, path: Path) -> None:
        """Write a safetensors file, which appears complete or not at all. Raises OSError."""
        tensors = {name: torch.from_numpy(getattr(self, name).copy()) for name in ("mean", "covariance")}
        safetensors.write(Path(path), tensors, KIND, about=asdict(self.about))

    @classmethod
    def load(cls, path: Path) -> FeatureStatistics:
        """Read what `save` wrote, or an .npz with `mu` and `sigma` as FID programs write it.

        Args:
            path: The file; its suffix decides between the two formats.

        Returns:
            The statistics; `about` is empty for an .npz file.

        Raises:
            FileNotFoundError: There is no such file.
            FormatError: It is another kind of file.
        """
        path = Path(path)
        if path.suffix == ".npz":
            return cls(*_read_npz(path))
        tensors, details = safetensors.read(path, KIND)
        try:
            found = {name: tensors[name].double().numpy() for name in ("mean", "covariance")}
            about = from_dict(FeatureSource, details["about"])
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise FormatError(f"{path} is damaged: {error}") from error
        return cls(*_checked(path, found["mean"], found["covariance"]), about)


@dataclass(frozen=True)
class FVD:
    """A Frechet Video Distance and what it was computed from.

    Args:
        value: The distance.
        of: Source of the measured features.
        reference: Source of the reference features.
    """

    value: float
    of: FeatureSource
    reference: FeatureSource


def feature_statistics(
    batches: Iterable[VideoBatch], features: VideoFeatures, network: str, fps: float | None
) -> FeatureStatistics:
    """Compute the mean and covariance of the features of videos.

    Args:
        batches: Videos uint8 [B, F, H, W, 3], all of the same F.
        features: The feature extractor.
        network: Its name, which is kept with the result.
        fps: Frame rate of the videos, if known.

    Returns:
        The statistics in float64, with `network`, `fps` and the numbers of videos and frames as their source.

    Raises:
        ValueError: Videos differ in length, or there are fewer than two.
    """
    moments, about = Moments(), FeatureSource(network, 0, None, fps)
    for batch in batches:
        frames = batch.shape[1]
        if about.frames not in (None, frames):
            raise ValueError(f"videos have {about.frames} and {frames} frames, expected as many: cut them alike")
        moments.add(features(batch))
        about = replace(about, frames=frames, clips=moments.count)
    return FeatureStatistics(moments.mean, moments.covariance, about)


def frechet_video_distance(of: FeatureStatistics, reference: FeatureStatistics) -> FVD:
    """Compute the Frechet Video Distance of two sets of videos.

    Args:
        of: Statistics of the measured videos.
        reference: Statistics of the reference videos.

    Returns:
        The distance, 0 or more, in the squared unit of the features, with the sources of both sets.

    Raises:
        ValueError: They are known to differ in network, frame count or frame rate, so that no distance is meaningful.
    """
    for name in ("network", "frames", "fps"):
        ours, theirs = (getattr(each.about, name) for each in (of, reference))
        if None not in (ours, theirs) and ours != theirs:
            raise ValueError(
                f"the videos' {name} is {ours}, the reference's {theirs}: a distance needs the same for both; "
                f"compute the statistics of both alike"
            )
    return FVD(frechet_distance(of, reference), of.about, reference.about)


def _read_npz(path: Path) -> tuple[Array, Array]:
    """Mean and covariance of an .npz file. Raises FormatError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found: dict[str, Any] = {name: file[name] for name in ("mu", "sigma") if name in file}
        mean, covariance = (np.asarray(found.get(name, ()), np.float64) for name in ("mu", "sigma"))
    except MemoryError:
        raise
    except Exception as error:  # of a damaged file NumPy and zipfile raise nearly anything
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise FormatError(f"{path} is damaged, or no .npz: {error}") from error
    return _checked(path, mean, covariance)


def _checked(path: Path, mean: Array, covariance: Array) -> tuple[Array, Array]:
    """The mean and covariance of a file. Raises FormatError for others than a Gaussian has."""
    if mean.ndim != 1 or not mean.size or covariance.shape != (len(mean), len(mean)):
        raise FormatError(f"{path} holds no mu [D] and sigma [D, D], expected those of a Gaussian, as for FID")
    if not np.isfinite(mean).all() or not np.isfinite(covariance).all():
        raise FormatError(f"{path} holds numbers that are not finite (NaN or infinity)")
    return mean, covariance
