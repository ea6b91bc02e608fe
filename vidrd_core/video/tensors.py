"""Between frames, as files and people have them, and videos, as networks do; the weights of luma."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor


def to_video(frames: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """uint8 [..., F, H, W, 3] -> float [..., 3, F, H, W] in -1 .. 1."""
    return rearrange(torch.tensor(frames, device=device).float() / 127.5 - 1, "... f h w c -> ... c f h w")


def to_frames(video: Tensor) -> NDArray[np.uint8]:
    """float [..., 3, F, H, W] in -1 .. 1 -> uint8 [..., F, H, W, 3]."""
    pixels = ((video.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return rearrange(pixels, "... c f h w -> ... f h w c").cpu().numpy()
