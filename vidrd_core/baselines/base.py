"""What a way to a long video is, what it makes, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from vidrd_core.metrics.seams import Video
from vidrd_core.pipeline import VidRD
from vidrd_core.reuse import ReuseSettings
from vidrd_core.settings import SampleSettings
from vidrd_core.video.tensors import to_frames

Method = Callable[[VidRD, str, int, SampleSettings], "Made"]
"""`method(model, text, clips, sample) -> Made`; `sample` is a complete one."""


@dataclass(frozen=True, eq=False)
class Made:
    """A long video uint8 [F, H, W, 3]; `reuse` says how its clips lie: how many frames of each repeat older ones."""

    video: Video
    reuse: ReuseSettings


@dataclass(frozen=True)
class Candidate:
    """A method at one setting."""

    method: str
    setting: str
    make: Method
    model: str = ""  # one of its own, if not that of all


@contextmanager
def frames_denoised(model: VidRD) -> Iterator[list[int]]:
    """Counts, in a list of one number, the frames that pass through the UNet, cond and uncond both.

    Gradients that go back through it count as another pass.
    """
    count = [0]

    def counted(_: object, given: tuple[Tensor, ...], output: Tensor) -> None:
        passed = output.shape[0] * output.shape[2]
        count[0] += passed

        def again(_: Tensor) -> None:
            count[0] += passed

        if output.requires_grad:
            output.register_hook(again)

    hook = model.unet.register_forward_hook(counted)
    try:
        yield count
    finally:
        hook.remove()


@torch.no_grad()
def decoded(model: VidRD, latents: Iterable[Tensor]) -> Video:
    """Pieces of a video's latents [1, C, F, h, w] to frames, decoded one after the other without a seam."""
    pieces = iter(latents)
    first = next(pieces)
    height, width = first.shape[-2:]
    together = model.vae.frames_at_once(height, width, None)
    parts = model.vae.decode_stream(chain([first], pieces), first[:, :, :0], None, together)
    return np.concatenate([to_frames(part[0]) for part in parts])
