"""Latent previews: a few small convolutions in place of the decoder, to show clips while they are denoised."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vidrd_core.io.configs import parse_json
from vidrd_core.io.safetensors import FormatError, is_finite

Layers = list[tuple[Tensor, Tensor]]


def load_preview(path: Path) -> Layers:
    """Read the convolutions of a model's preview.json.

    Args:
        path: The file, beside the model's weights.

    Returns:
        Weight [out, in, k, k] and bias [out] of each convolution.

    Raises:
        OSError: The file cannot be read.
        FormatError: It holds something else.
    """
    try:
        found = parse_json(path.read_text(encoding="utf-8"))["convolutions"]
        layers = [[torch.tensor(each[name], dtype=torch.float32) for name in ("weight", "bias")] for each in found]
        fits = [w.ndim == 4 and b.shape == w.shape[:1] and is_finite(w) and is_finite(b) for w, b in layers]
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
        raise FormatError(f"{path} holds no convolutions of a preview: {error}") from error
    channels = [(w.shape[1], w.shape[0]) for w, _ in layers if w.ndim == 4]
    if not layers or not all(fits) or any(out != after for (_, out), (after, _) in pairwise(channels)):
        raise FormatError(f"{path} holds no convolutions of a preview: their shapes or numbers are not possible")
    return [(w, b) for w, b in layers]


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
