"""The base class of all ways to generate a long video from a model of short clips, and what they return and cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
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
from vidrd_core.video.tensors import decoded_frames


@dataclass(frozen=True, eq=False)
class LongVideo:
    """A long video that a method generated.

    Args:
        video: uint8 [F, H, W, 3].
        reuse: How its clips overlap, in the terms of Reuse and Diffuse: how many frames of each repeat older ones.
    """

    video: Video
    reuse: ReuseSettings


class LongVideoMethod(ABC):
    """A way to generate a long video from a model of short clips; its attributes are its settings."""

    @abstractmethod
    def generate(self, model: VidRD, text: str, clips: int, sample: SampleSettings) -> LongVideo:
        """Generate a long video.

        Args:
            model: The model, of clips of N frames.
            text: The prompt.
            clips: Number of clips, 1 or more.
            sample: Complete settings, as `VidRD.complete` returns them.

        Returns:
            The frames uint8 [F, H, W, 3], and how the clips overlap in them.
        """


@dataclass(frozen=True)
class Candidate:
    """A method at one setting.

    Args:
        name: Name of the method.
        setting: Its setting, in words.
        method: The method.
        model: Name of a model of its own; "" for the common one.
    """

    name: str
    setting: str
    method: LongVideoMethod
    model: str = ""


@contextmanager
def count_denoised_frames(model: VidRD) -> Iterator[list[int]]:
    """Count the frames that pass through the UNet inside a `with` block, conditional and unconditional ones.

    A backward pass counts as another pass.

    Args:
        model: The model.

    Yields:
        A list of one number, the count so far.
    """
    count = [0]

    def count_pass(_: object, given: tuple[Tensor, ...], output: Tensor) -> None:
        passed = output.shape[0] * output.shape[2]
        count[0] += passed

        def count_backward(_: Tensor) -> None:
            count[0] += passed

        if output.requires_grad:
            output.register_hook(count_backward)

    hook = model.unet.register_forward_hook(count_pass)
    try:
        yield count
    finally:
        hook.remove()


@torch.no_grad()
def decode_latents(model: VidRD, latents: Iterable[Tensor]) -> Video:
    """Decode consecutive pieces of a video's latents without seams.

    Args:
        model: The model.
        latents: Pieces [1, C, F, h, w] in their order.

    Returns:
        uint8 [F, H, W, 3].
    """
    pieces = iter(latents)
    first = next(pieces)
    height, width = first.shape[-2:]
    together = model.vae.frames_at_once(height, width, None)
    parts = model.vae.decode_stream(chain([first], pieces), first[:, :, :0], None, together)
    return np.concatenate([decoded_frames(part[0]) for part in parts])
