"""The Frechet Video Distance (Unterthiner et al., 2018): what videos are like to a network, as Gaussians.

Features are taken in a few videos at a time; what is kept of them are moments, which a file can hold.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidrd_core.io import safetensors
from vidrd_core.io.safetensors import FormatError
from vidrd_core.metrics.frechet import Array, Moments, frechet_distance

Clips = NDArray[np.uint8]
VideoFeatures = Callable[[Clips], NDArray[np.floating]]
"""Videos uint8 [B, F, H, W, 3] to features [B, D]."""

KIND = "video statistics"


@dataclass(frozen=True)
class About:
    """What statistics are of; None where a file does not tell.

    network  by what features
    clips    how many
    frames   of each
    fps      of each
    """

    network: str | None = None
    clips: int | None = None
    frames: int | None = None
    fps: float | None = None


@dataclass(frozen=True)
class Statistics:
    """Mean [D] and covariance [D, D] of features, and what they are of."""

    mean: Array
    covariance: Array
    about: About = About()

    def save(self, path: Path) -> None:
        """Write them to a safetensors file, which appears whole or not at all. Raises OSError."""
        tensors = {name: torch.from_numpy(getattr(self, name).copy()) for name in ("mean", "covariance")}
        safetensors.write(Path(path), tensors, KIND, about=asdict(self.about))

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """Read what `save` wrote, or an .npz with mu and sigma, as FID programs have them.

        Raises FileNotFoundError, or FormatError for another file.
        """
        path = Path(path)
        if path.suffix == ".npz":
            return cls(*_npz(path))
        tensors, details = safetensors.read(path, KIND)
        return cls(tensors["mean"].numpy(), tensors["covariance"].numpy(), About(**details["about"]))


@dataclass(frozen=True)
class FVD:
    """A Frechet Video Distance, and what it is of."""

    value: float
    of: About
    reference: About


def statistics(batches: Iterable[Clips], features: VideoFeatures, network: str, fps: float | None) -> Statistics:
    """Those of videos that come in batches uint8 [B, F, H, W, 3], all of one F.

    Raises ValueError for videos of other lengths, or fewer than two.
    """
    moments, about = Moments(), About(network, 0, None, fps)
    for batch in batches:
        frames = batch.shape[1]
        if about.frames not in (None, frames):
            raise ValueError(f"videos have {about.frames} and {frames} frames, expected as many: cut them alike")
        moments.add(features(batch))
        about = replace(about, frames=frames, clips=moments.count)
    return Statistics(moments.mean, moments.covariance, about)


def fvd(of: Statistics, reference: Statistics) -> FVD:
    """The Frechet distance of two statistics.

    Raises ValueError where they are known to be of other networks, frames or rates, which makes it say nothing.
    """
    for name in ("network", "frames", "fps"):
        ours, theirs = (getattr(each.about, name) for each in (of, reference))
        if None not in (ours, theirs) and ours != theirs:
            raise ValueError(
                f"the videos' {name} is {ours}, the reference's {theirs}: distances are of the same alone; take "
                f"statistics of both alike"
            )
    return FVD(frechet_distance(of, reference), of.about, reference.about)


def _npz(path: Path) -> tuple[Array, Array]:
    try:
        with np.load(path, allow_pickle=False) as file:
            found: dict[str, Any] = {name: file[name] for name in ("mu", "sigma") if name in file}
    except (ValueError, zipfile.BadZipFile) as error:
        raise FormatError(f"{path} is damaged, or no .npz: {error}") from error
    mean, covariance = (np.asarray(found.get(name, ()), np.float64) for name in ("mu", "sigma"))
    if mean.ndim != 1 or not mean.size or covariance.shape != (len(mean), len(mean)):
        raise FormatError(f"{path} holds no mu [D] and sigma [D, D], expected a Gaussian's, as FID programs write it")
    return mean, covariance
