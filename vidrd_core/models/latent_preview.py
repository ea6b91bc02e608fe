"""A quick look at latents: a few small convolutions in place of the decoder, for clips in the making."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

Layers = list[tuple[Tensor, Tensor]]


def load_preview(path: Path) -> Layers:
    """The convolutions of a preview.json: weight [out, in, k, k] and bias [out] of each."""
    told = json.loads(path.read_text(encoding="utf-8"))["convolutions"]
    return [(torch.tensor(each["weight"]), torch.tensor(each["bias"])) for each in told]


def look(latents: Tensor, layers: Layers) -> Tensor:
    """Latents [F, C, h, w] in model space -> [F, 3, H, W], about -1 .. 1, of as many pixels as layers give."""
    for number, (weight, bias) in enumerate(layers):
        latents = F.conv2d(F.gelu(latents) if number else latents, weight, bias, padding=weight.shape[-1] // 2)
    return F.pixel_shuffle(latents, math.isqrt(latents.shape[1] // 3))
