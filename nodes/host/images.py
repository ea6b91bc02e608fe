"""Between the host's IMAGE, float [F, H, W, 3] from 0 to 1, and bytes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


def frames_in(images: Tensor) -> NDArray[np.uint8]:
    """An IMAGE as uint8 [F, H, W, 3]; what is transparent is shown."""
    return (images[..., :3].float().clamp(0, 1) * 255).round().byte().cpu().numpy()


def as_image(picture: Image.Image) -> Tensor:
    """A picture as an IMAGE of one frame."""
    return torch.from_numpy(np.asarray(picture).copy()).float()[None] / 255
