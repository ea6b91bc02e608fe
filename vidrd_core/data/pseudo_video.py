"""Pseudo-videos (arXiv 2309.03549, 5): a still becomes a clip by a random zoom and pan of a camera over it.

The view goes from one window of the still to another. Its size changes by the same factor from frame to frame and its
place changes with its size, so what is seen on the screen moves alike from the first frame to the last. As every
edge stays between where it starts and where it ends, so does the view stay on the still.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidrd_core.reuse import is_number, is_whole

EASINGS = ("linear", "smooth")
DIRECTIONS = ("in", "out", "random")
LARGEST = {"frames": 4096, "width": 16384, "height": 16384}
LARGEST_ZOOM, LARGEST_PAN = 8, 4
LEAST_SHARE = 0.5  # of the largest zoom and pan, so that a clip that should move does

Pixels = TypeVar("Pixels", NDArray[np.uint8], NDArray[np.float32])


@dataclass(frozen=True)
class CameraSettings:
    """How a camera may move over a still. Raises ValueError for what cannot be.

    A clip zooms and pans by half of `zoom` (in powers) and `pan`, or more. `pan` is in views as wide as the wider
    end's: at 0.5 the middle moves by half of what is seen. A size of None is the still's, or follows from the other.
    """

    frames: int = 8
    width: int | None = None  # pixels
    height: int | None = None  # pixels
    zoom: float = 1.3  # the closer end is at most so many times as close; 1 is none
    pan: float = 0.15
    direction: Literal["in", "out", "random"] = "random"
    easing: Literal["linear", "smooth"] = "linear"  # smooth starts and ends at rest

    def __post_init__(self) -> None:
        for name, largest in LARGEST.items():
            value = getattr(self, name)
            if not (value is None and name != "frames") and not (is_whole(value) and 1 <= value <= largest):
                raise ValueError(f"{name} is {value!r}, expected a whole number from 1 to {largest}")
        for name, least, most in (("zoom", 1, LARGEST_ZOOM), ("pan", 0, LARGEST_PAN)):
            value = getattr(self, name)
            if not (is_number(value) and least <= value <= most):
                raise ValueError(f"{name} is {value!r}, expected a number from {least} to {most}")
        for name, known in (("direction", DIRECTIONS), ("easing", EASINGS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The clip's width and height for a still's. Raises ValueError if the side that follows is too large."""
        across = self.width or (max(1, round(self.height * width / height)) if self.height else width)
        down = self.height or (max(1, round(self.width * height / width)) if self.width else height)
        if max(across, down) > LARGEST["width"]:
            raise ValueError(
                f"the clip would be {across} x {down} pixels, expected at most {LARGEST['width']} a side: "
                f"give a width and a height"
            )
        return across, down

    def progress(self) -> NDArray[np.float64]:
        """Which part of the way is behind at each frame, [F] from 0 to 1."""
        time = np.linspace(0, 1, self.frames, dtype=np.float64)
        return time if self.easing == "linear" else time * time * (3 - 2 * time)


def camera_path(settings: CameraSettings, width: int, height: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random way over a still of that size: windows [F, 4] as left, top, right and bottom, in shares of the still.

    The windows have the clip's aspect ratio, and together reach over as much of the still as they can, about its
    middle. `rng` is always asked for the same four numbers, so a seed means the same way at any size.
    """
    share, distance = rng.uniform(LEAST_SHARE, 1, 2)
    angle, toss = rng.uniform(0, 2 * math.pi), rng.uniform()
    closer = settings.zoom**share
    inwards = settings.direction == "in" or (settings.direction == "random" and toss < 0.5)

    # Both ends as [end, left-top or right-bottom, x or y], the wide one first; of any scale, about 0.
    wide = np.array(settings.size(width, height)) / (width, height)
    centre = settings.pan * distance * wide * (math.cos(angle), math.sin(angle))
    corner = np.array([[-0.5], [0.5]])
    ends = np.stack([corner * wide, centre + corner * wide / closer])
    low, high = ends.min((0, 1)), ends.max((0, 1))
    ends = 0.5 + (ends - (low + high) / 2) / (high - low).max()

    first, last = ends if inwards else ends[::-1]
    grown = math.log(closer) * (-1 if inwards else 1)  # of the window, as a logarithm
    progress = settings.progress()
    passed = np.expm1(grown * progress) / np.expm1(grown) if grown else progress
    windows = first + (last - first) * passed[:, None, None]
    return windows.reshape(-1, 4).clip(0, 1)  # for the last digit alone


def render(still: Pixels, windows: NDArray[np.float64], width: int, height: int) -> Pixels:
    """What is seen through windows [F, 4], in shares of the still [H, W, 3]: [F, height, width, 3], uint8 or float32.

    Lanczos, as wide as the pixels that a new one stands for: at any fraction of a pixel all but equally sharp, and
    free of aliases where the still has more pixels. Floats are kept in 0 .. 1. Raises ValueError for another still.
    """
    check_still(still)
    planes = [still] if still.dtype == np.uint8 else np.moveaxis(still, 2, 0)  # Pillow has no colours in floats
    pictures = [Image.fromarray(np.ascontiguousarray(plane)) for plane in planes]
    clip = np.empty((len(windows), height, width, 3), still.dtype)
    for frame, window in zip(clip, windows * (still.shape[1::-1] * 2), strict=True):
        seen = [picture.resize((width, height), Image.Resampling.LANCZOS, tuple(window)) for picture in pictures]
        frame[:] = np.dstack([np.asarray(each) for each in seen])
    return clip if still.dtype == np.uint8 else clip.clip(0, 1, out=clip)


def pseudo_video(still: Pixels, settings: CameraSettings, rng: np.random.Generator) -> Pixels:
    """A clip [F, h, w, 3] of a still [H, W, 3], both uint8 or both float32 in 0 .. 1."""
    check_still(still)
    height, width = still.shape[:2]
    return render(still, camera_path(settings, width, height, rng), *settings.size(width, height))


def check_still(still: NDArray) -> None:
    """Raise ValueError unless it is uint8 or float32 [H, W, 3]."""
    if still.ndim != 3 or still.shape[2] != 3 or 0 in still.shape:
        raise ValueError(f"a still must be [H, W, 3] with at least one pixel, got {list(still.shape)}")
    if still.dtype not in (np.uint8, np.float32):
        raise ValueError(f"a still must be uint8 from 0 to 255 or float32 from 0 to 1, got {still.dtype}")
