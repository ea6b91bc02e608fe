"""Conversions and checks of frames, uint8 [F, H, W, 3] as files hold them, and videos, float tensors for networks."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from vidrd_core.sampling import DivergenceError


def to_video(frames: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """Convert frames to a video for a network.

    Args:
        frames: uint8 [..., F, H, W, 3], RGB.
        device: The device of the result.

    Returns:
        float32 [..., 3, F, H, W] from -1 to 1.
    """
    return rearrange(torch.tensor(frames, device=device).float() / 127.5 - 1, "... f h w c -> ... c f h w")


def to_frames(video: Tensor) -> NDArray[np.uint8]:
    """Convert a network's video to frames.

    Args:
        video: Floating-point [..., 3, F, H, W] from -1 to 1; values beyond are clamped.

    Returns:
        uint8 [..., F, H, W, 3], RGB.
    """
    pixels = ((video.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return rearrange(pixels, "... c f h w -> ... f h w c").cpu().numpy()


def decoded_frames(video: Tensor) -> NDArray[np.uint8]:
    """Convert what a VAE decoded to frames, as `to_frames`. Raises DivergenceError for NaN or infinity."""
    if not video.isfinite().all():
        raise DivergenceError(
            "the VAE's decoder gave no finite numbers, for latents that are finite: its weights are damaged or made "
            "for other latents; give another VAE"
        )
    return to_frames(video)


def check_frames(frames: np.ndarray | torch.Tensor) -> np.ndarray:
    """Check frames and convert them to an array.

    Args:
        frames: uint8 [F, H, W, 3], F, H and W at least 1.

    Returns:
        The frames as an array.

    Raises:
        ValueError: The frames have another shape or dtype.
    """
    shape = list(np.shape(frames))
    if len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise ValueError(f"frames must be [F, H, W, 3] with at least one frame, got {shape}")
    dtype = getattr(frames, "dtype", type(frames).__name__)
    if str(dtype) not in ("uint8", "torch.uint8"):
        raise ValueError(f"frames must be uint8 from 0 to 255, got {dtype}")
    return frames.detach().cpu().numpy() if isinstance(frames, torch.Tensor) else frames


def enlarge(frame: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge a frame [H, W, 3] by a whole number, nearest neighbour."""
    return np.ascontiguousarray(frame.repeat(scale, 0).repeat(scale, 1))
