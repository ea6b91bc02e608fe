"""Latent previews: a few small convolutions in place of the decoder, to show clips while they are denoised."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

Layers = list[tuple[Tensor, Tensor]]


def load_preview(path: Path) -> Layers:
    """Read the convolutions of a model's preview.json.

    Args:
        path: The file, beside the model's weights.

    Returns:
        Weight [out, in, k, k] and bias [out] of each convolution.

    Raises:
        OSError: The file cannot be read.
    """
    convolutions = json.loads(path.read_text(encoding="utf-8"))["convolutions"]
    return [(torch.tensor(each["weight"]), torch.tensor(each["bias"])) for each in convolutions]


def preview_frames(latents: Tensor, layers: Layers) -> Tensor:
    """Approximate frames of latents.

    Args:
        latents: Normalised latents [F, C, h, w].
        layers: The convolutions of `load_preview`; the last one has 3 * s**2 output channels.

    Returns:
        Frames [F, 3, s*h, s*w], about -1 .. 1.
    """
    for number, (weight, bias) in enumerate(layers):
        latents = F.conv2d(F.gelu(latents) if number else latents, weight, bias, padding=weight.shape[-1] // 2)
    return F.pixel_shuffle(latents, math.isqrt(latents.shape[1] // 3))
