"""What writing, reading and drawing frames share: what frames must be, and errors that say how to mend them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import av
import numpy as np
import torch

from vidrd_core.io.os_errors import cannot_write


def checked(frames: np.ndarray | torch.Tensor) -> np.ndarray:
    """The frames as an array, if they are uint8 [F, H, W, 3] and there are any."""
    shape = list(np.shape(frames))
    if len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise ValueError(f"frames must be [F, H, W, 3] with at least one frame, got {shape}")
    dtype = getattr(frames, "dtype", type(frames).__name__)
    if str(dtype) not in ("uint8", "torch.uint8"):
        raise ValueError(f"frames must be uint8 from 0 to 255, got {dtype}")
    return frames.detach().cpu().numpy() if isinstance(frames, torch.Tensor) else frames


def enlarged(frame: np.ndarray, scale: int) -> np.ndarray:
    return np.ascontiguousarray(frame.repeat(scale, 0).repeat(scale, 1))


@contextlib.contextmanager
def reasons_given(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an OSError of the block into one of the same kind that says what, where and how to mend it."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error
    except av.error.FFmpegError as error:  # those that are no OSErrors: the encoder's
        raise OSError(None, f"cannot write {os.fspath(path)}: its encoder failed ({error.strerror})") from error
