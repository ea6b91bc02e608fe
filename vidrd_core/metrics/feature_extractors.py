"""Networks that measures take features of, from files and folders that the user names; none is fetched.

Videos come as uint8 [B, F, H, W, 3], and each network sizes them itself.
"""

from __future__ import annotations

import json
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

from vidrd_core.io.safetensors import FormatError
from vidrd_core.metrics.fvd import Clips
from vidrd_core.metrics.seams import Array

I3D_LEAST = 10  # frames: with fewer nothing is left after its pooling
C3D_FRAMES = 16
IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}


@dataclass(frozen=True)
class Network:
    """What gives features [B, D] of videos, and the name that results bear."""

    name: str
    features: Callable[[Clips], Array]

    def __call__(self, videos: Clips) -> Array:
        with torch.inference_mode():
            found = np.asarray(self.features(videos), np.float64)
        if found.ndim != 2 or len(found) != len(videos):
            raise ValueError(f"{self.name} gave {list(found.shape)} for {len(videos)} videos, expected [videos, D]")
        return found


def network(named: str, device: str = "cpu") -> Network:
    """A network by what a user says: KIND:WHERE.

    i3d:FILE         I3D in torchscript as StyleGAN-V and others have it; its 400 logits, of 10 frames or more
    videomae:FOLDER  a VideoMAE of transformers; the mean of its tokens, of as many frames as it was trained with
    script:FILE      any module in torchscript, given [B, 3, F, H, W] from 0 to 1
    python:MODULE:NAME  what a function without arguments gives: a torch module like the last, in Python; the module
                        is installed, or in the folder that one is in

    Raises ValueError for another kind, FileNotFoundError, FormatError for what cannot be loaded.
    """
    kind, _, where = named.partition(":")
    if kind not in KINDS or not where:
        raise ValueError(
            f"the network is {named!r}, expected i3d:FILE, videomae:FOLDER, script:FILE or python:MODULE:NAME"
        )
    return Network(_name(kind, where), KINDS[kind](where, device))


def _name(kind: str, where: str) -> str:
    return f"{kind}:{where if kind == 'python' else Path(where).name}"


def _i3d(where: str, device: str) -> Callable[[Clips], Array]:
    module = script(Path(where), device)

    def features(videos: Clips) -> Array:
        if videos.shape[1] < I3D_LEAST:
            raise ValueError(f"videos have {videos.shape[1]} frames, I3D takes {I3D_LEAST} or more: give longer ones")
        return numbers(module(levels(videos, device), rescale=True, resize=True, return_features=True))

    return features


def _script(where: str, device: str) -> Callable[[Clips], Array]:
    return _any(script(Path(where), device), device)


def _python(where: str, device: str) -> Callable[[Clips], Array]:
    module, _, name = where.rpartition(":")
    if (here := os.getcwd()) not in sys.path:  # as `python -m` has it, and an installed command has not
        sys.path.insert(0, here)
    try:
        made = getattr(import_module(module), name)()
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"there is no {name!r} in the module {module!r}: {error}") from error
    return _any(made.to(device).eval() if isinstance(made, nn.Module) else made, device)


def _any(module: Callable[[Tensor], Tensor], device: str) -> Callable[[Clips], Array]:
    return lambda videos: numbers(module(levels(videos, device) / 255))


def _videomae(where: str, device: str) -> Callable[[Clips], Array]:
    from transformers import AutoConfig, VideoMAEModel

    with from_folder(where):
        config = AutoConfig.from_pretrained(where)
        if config.model_type != "videomae":
            raise FormatError(f"{where} is a {config.model_type} of transformers, expected a videomae")
        model: Any = VideoMAEModel.from_pretrained(where)
        model = model.to(device).eval()
    mean, std = normal(Path(where), device)

    def features(videos: Clips) -> Array:
        if videos.shape[1] != config.num_frames:
            raise ValueError(
                f"videos have {videos.shape[1]} frames, this VideoMAE takes {config.num_frames}: cut them to as many"
            )
        frames = sized(levels(videos, device) / 255, config.image_size)
        return numbers(model(((frames - mean) / std).transpose(1, 2)).last_hidden_state.mean(1))

    return features


def classifier(path: Path, device: str = "cpu") -> Network:
    """C3D of UCF-101 in torchscript, as StyleGAN-V has it: videos to probabilities [B, 101], for the Inception Score.

    It takes 16 frames, levels 0 to 255. What comes out as logits goes through a softmax.
    """
    module = script(path, device)

    def probabilities(videos: Clips) -> Array:
        if videos.shape[1] != C3D_FRAMES:
            raise ValueError(f"videos have {videos.shape[1]} frames, C3D takes {C3D_FRAMES}: cut them to as many")
        found = module(levels(videos, device)).double()
        are = (found >= 0).all() and torch.allclose(found.sum(1), torch.ones_like(found[:, 0]), atol=1e-3)
        return numbers(found if are else found.softmax(1))

    return Network(f"c3d:{path.name}", probabilities)


def script(path: Path, device: str) -> Any:
    """A torchscript module. Raises FileNotFoundError, FormatError."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return torch.jit.load(path, map_location=device).eval()
    except RuntimeError as error:
        raise FormatError(f"{path} is no torchscript module: {str(error).splitlines()[0]}") from error


@contextmanager
def from_folder(where: str | Path) -> Iterator[None]:
    """What transformers raises as one error that says what the folder should be."""
    if not Path(where).is_dir():
        raise FileNotFoundError(f"there is no folder {where}")
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        reason = error if isinstance(error, FormatError) else f"{where} cannot be loaded by transformers: {error}"
        raise FormatError(str(reason)) from error


def levels(videos: Clips, device: str) -> Tensor:
    """Videos as [B, 3, F, H, W], 0 to 255."""
    if videos.ndim != 5 or videos.shape[-1] != 3 or videos.dtype != np.uint8:
        raise ValueError(f"expected videos uint8 [B, F, H, W, 3], got {videos.dtype} {list(videos.shape)}")
    return rearrange(torch.from_numpy(videos).to(device), "b f h w c -> b c f h w").float()


def sized(videos: Tensor, size: int) -> Tensor:
    """Videos [B, 3, F, H, W] with frames of size x size: the shorter side made so, the middle cut out."""
    frames = rearrange(videos, "b c f h w -> (b f) c h w")
    height, width = frames.shape[-2:]
    scale = size / min(height, width)
    shape = [max(size, round(side * scale)) for side in (height, width)]
    frames = F.interpolate(frames, shape, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    top, left = ((side - size) // 2 for side in shape)
    frames = frames[..., top : top + size, left : left + size]
    return rearrange(frames, "(b f) c h w -> b c f h w", b=len(videos))


def normal(folder: Path, device: str) -> tuple[Tensor, Tensor]:
    """Mean and deviation of colors, [3, 1, 1, 1], that a transformers folder's networks expect."""
    file = folder / "preprocessor_config.json"
    said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    mean, std = (torch.tensor(said.get(name, IMAGENET[name]), device=device) for name in IMAGENET)
    return mean.view(3, 1, 1, 1), std.view(3, 1, 1, 1)


def numbers(features: Tensor) -> Array:
    """Features as float64 of NumPy."""
    return np.asarray(features.detach().double().cpu().numpy())


KINDS: dict[str, Callable[[str, str], Callable[[Clips], Array]]] = {
    "i3d": _i3d,
    "videomae": _videomae,
    "script": _script,
    "python": _python,
}
