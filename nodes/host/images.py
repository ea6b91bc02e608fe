"""Conversions between ComfyUI's IMAGE, float [F, H, W, 3] from 0 to 1, and 8-bit pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

THUMBNAIL_SIDE = 96  # pixels, at most


def image_to_frames(images: Tensor) -> NDArray[np.uint8]:
    """An IMAGE, 3 or 4 channels, as uint8 [F, H, W, 3]; alpha is dropped."""
    return (images[..., :3].float().clamp(0, 1) * 255).round().byte().cpu().numpy()


def picture_to_image(picture: Image.Image) -> Tensor:
    """An RGB picture as an IMAGE of one frame [1, H, W, 3]."""
    return torch.from_numpy(np.asarray(picture).copy()).float()[None] / 255


def save_thumbnail(frame: Tensor, path: Path) -> Path:
    """Write a frame, uint8 [H, W, 3], as a small JPEG; returns its path. Raises OSError."""
    picture = Image.fromarray(frame.cpu().numpy())
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    picture.save(path, "JPEG", quality=85)
    return path
