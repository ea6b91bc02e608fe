"""Networks that give features of videos, loaded from files and folders that the user names; nothing is downloaded.

Videos come as uint8 [B, F, H, W, 3]; each network resizes them itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vidrd_core.io.os_errors import first_line
from vidrd_core.io.safetensors import FormatError
from vidrd_core.metrics.fvd import VideoBatch
from vidrd_core.metrics.seams import Array
from vidrd_core.models.formats.weight_files import read_json

I3D_MIN_FRAMES = 10  # fewer leave nothing after its pooling
C3D_FRAMES = 16
IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}


@dataclass(frozen=True)
class FeatureExtractor:
    """A function from videos to features, with the name that results are labeled with.

    Args:
        name: Kind and file, as in "i3d:i3d_torchscript.pt".
        features: Videos uint8 [B, F, H, W, 3] to features [B, D].
    """

    name: str
    features: Callable[[VideoBatch], Array]

    def __call__(self, videos: VideoBatch) -> Array:
        """Features [B, D], in float64, of videos uint8 [B, F, H, W, 3]. Raises ValueError for another shape."""
        with torch.inference_mode():
            found = np.asarray(self.features(videos), np.float64)
        if found.ndim != 2 or len(found) != len(videos):
            raise ValueError(f"{self.name} gave {list(found.shape)} for {len(videos)} videos, expected [videos, D]")
        return found


def load_feature_extractor(spec: str, device: str = "cpu") -> FeatureExtractor:
    """Load the feature extractor that KIND:WHERE names.

    The kinds are:

    - `i3d:FILE`: I3D in TorchScript, as StyleGAN-V distributes it: its 400 logits, for 10 frames or more.
    - `videomae:FOLDER`: the mean of the tokens of transformers' VideoMAE, for as many frames as it was trained with.
    - `script:FILE`: any module in TorchScript that takes [B, 3, F, H, W] from 0 to 1.
    - `python:MODULE:NAME`: a torch module that takes the same, returned by a Python function without arguments; its
      Python module is installed, or in the working directory.

    Args:
        spec: KIND:WHERE.
        device: Where the network runs.

    Returns:
        Videos uint8 [B, F, H, W, 3] to features [B, D]; its name is KIND and the name of the file or folder.

    Raises:
        ValueError: The kind is unknown, or the Python function does not exist.
        FileNotFoundError: The file or folder does not exist.
        FormatError: It cannot be loaded.
    """
    kind, _, where = spec.partition(":")
    if kind not in LOADERS or not where:
        raise ValueError(
            f"the network is {spec!r}, expected i3d:FILE, videomae:FOLDER, script:FILE or python:MODULE:NAME"
        )
    return FeatureExtractor(f"{kind}:{where if kind == 'python' else Path(where).name}", LOADERS[kind](where, device))


def _load_i3d(where: str, device: str) -> Callable[[VideoBatch], Array]:
    """I3D's logits, which resizes and scales videos itself."""
    module = load_torchscript(Path(where), device)

    def features(videos: VideoBatch) -> Array:
        if videos.shape[1] < I3D_MIN_FRAMES:
            raise ValueError(
                f"videos have {videos.shape[1]} frames, I3D takes {I3D_MIN_FRAMES} or more: give longer ones"
            )
        return to_numpy(module(to_float_video(videos, device), rescale=True, resize=True, return_features=True))

    return features


def _load_script(where: str, device: str) -> Callable[[VideoBatch], Array]:
    """A TorchScript module's output."""
    return _from_module(load_torchscript(Path(where), device), device)


def _load_python(where: str, device: str) -> Callable[[VideoBatch], Array]:
    """The output of the module that a Python function makes."""
    module, _, name = where.rpartition(":")
    if (here := os.getcwd()) not in sys.path:  # `python -m` adds it, an installed command does not
        sys.path.insert(0, here)
    try:
        made = getattr(import_module(module), name)()
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"there is no {name!r} in the module {module!r}: {error}") from error
    return _from_module(made.to(device).eval() if isinstance(made, nn.Module) else made, device)


def _from_module(module: Callable[[Tensor], Tensor], device: str) -> Callable[[VideoBatch], Array]:
    """Features of a module that takes videos [B, 3, F, H, W] from 0 to 1."""
    return lambda videos: to_numpy(module(to_float_video(videos, device) / 255))


def _load_videomae(where: str, device: str) -> Callable[[VideoBatch], Array]:
    """The mean of a VideoMAE's tokens."""
    from transformers import AutoConfig, VideoMAEModel

    with load_errors(where):
        config = AutoConfig.from_pretrained(where, local_files_only=True, trust_remote_code=False)
        if config.model_type != "videomae":
            raise FormatError(f"{where} is a {config.model_type} of transformers, expected a videomae")
        model: Any = VideoMAEModel.from_pretrained(where, local_files_only=True)
        model = model.to(device).eval()
    mean, std = normalization(Path(where), device)

    def features(videos: VideoBatch) -> Array:
        if videos.shape[1] != config.num_frames:
            raise ValueError(
                f"videos have {videos.shape[1]} frames, this VideoMAE takes {config.num_frames}: cut them to as many"
            )
        frames = resize_and_crop(to_float_video(videos, device) / 255, config.image_size)
        return to_numpy(model(((frames - mean) / std).transpose(1, 2)).last_hidden_state.mean(1))

    return features


LOADERS: dict[str, Callable[[str, str], Callable[[VideoBatch], Array]]] = {
    "i3d": _load_i3d,
    "videomae": _load_videomae,
    "script": _load_script,
    "python": _load_python,
}


def load_classifier(path: Path, device: str = "cpu") -> FeatureExtractor:
    """Load the C3D of UCF-101 in TorchScript, as StyleGAN-V distributes it, for the Inception Score.

    Args:
        path: The TorchScript file. It takes 16 frames, 0 to 255; logits go through a softmax.
        device: Where the network runs.

    Returns:
        Videos uint8 [B, 16, H, W, 3] to class probabilities [B, 101].

    Raises:
        FileNotFoundError: There is no such file.
        FormatError: It is no TorchScript module.
    """
    module = load_torchscript(path, device)

    def probabilities(videos: VideoBatch) -> Array:
        if videos.shape[1] != C3D_FRAMES:
            raise ValueError(f"videos have {videos.shape[1]} frames, C3D takes {C3D_FRAMES}: cut them to as many")
        found = module(to_float_video(videos, device)).double()
        normalized = (found >= 0).all() and torch.allclose(found.sum(1), torch.ones_like(found[:, 0]), atol=1e-3)
        return to_numpy(found if normalized else found.softmax(1))

    return FeatureExtractor(f"c3d:{path.name}", probabilities)


def load_torchscript(path: Path, device: str) -> Any:
    """Load a TorchScript module.

    Args:
        path: The file.
        device: Where the module runs.

    Returns:
        A `torch.jit.ScriptModule` in evaluation mode.

    Raises:
        FileNotFoundError: There is no such file.
        FormatError: It is no TorchScript module.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return torch.jit.load(path, map_location=device).eval()
    except RuntimeError as error:
        raise FormatError(f"{path} is no torchscript module: {first_line(error)}") from error


@contextmanager
def load_errors(where: str | Path) -> Iterator[None]:
    """Turn the errors that transformers raises in the block into a FormatError that names the folder.

    Raises FileNotFoundError if there is no such folder.
    """
    if not Path(where).is_dir():
        raise FileNotFoundError(f"there is no folder {where}")
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        reason = error if isinstance(error, FormatError) else f"{where} cannot be loaded by transformers: {error}"
        raise FormatError(str(reason)) from error


def to_float_video(videos: VideoBatch, device: str) -> Tensor:
    """Convert videos to a tensor in the layout of networks.

    Args:
        videos: uint8 [B, F, H, W, 3].
        device: Where the result is.

    Returns:
        float32 [B, 3, F, H, W], 0 to 255.

    Raises:
        ValueError: The array has another shape or type.
    """
    if videos.ndim != 5 or videos.shape[-1] != 3 or videos.dtype != np.uint8:
        raise ValueError(f"expected videos uint8 [B, F, H, W, 3], got {videos.dtype} {list(videos.shape)}")
    return rearrange(torch.from_numpy(videos).to(device), "b f h w c -> b c f h w").float()


def resize_and_crop(videos: Tensor, size: int) -> Tensor:
    """Resize the shorter side of videos (bicubic, antialiased) and crop the center.

    Args:
        videos: [B, 3, F, H, W], 0 to 1.
        size: Pixels per side of the result.

    Returns:
        [B, 3, F, size, size], 0 to 1.
    """
    frames = rearrange(videos, "b c f h w -> (b f) c h w")
    height, width = frames.shape[-2:]
    scale = size / min(height, width)
    shape = [max(size, round(side * scale)) for side in (height, width)]
    frames = F.interpolate(frames, shape, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    top, left = ((side - size) // 2 for side in shape)
    frames = frames[..., top : top + size, left : left + size]
    return rearrange(frames, "(b f) c h w -> b c f h w", b=len(videos))


def normalization(folder: Path, device: str) -> tuple[Tensor, Tensor]:
    """Read the normalization of colors that a transformers model expects; by default it is ImageNet's.

    Args:
        folder: The folder of the model, where `preprocessor_config.json` may be.
        device: Where the result is.

    Returns:
        Mean and standard deviation, [3, 1, 1, 1] each.
    """
    file = folder / "preprocessor_config.json"
    config = read_json(file)
    for name in IMAGENET:
        found = config.setdefault(name, IMAGENET[name])
        if not isinstance(found, list | tuple) or len(found) != 3 or not all(type(v) in (int, float) for v in found):
            raise FormatError(f"{file} has {name} {found!r:.100}, expected three numbers")
    mean, std = (torch.tensor(config[name], device=device) for name in IMAGENET)
    return mean.view(3, 1, 1, 1), std.view(3, 1, 1, 1)


def to_numpy(features: Tensor) -> Array:
    """Features as a float64 array."""
    return np.asarray(features.detach().double().cpu().numpy())
