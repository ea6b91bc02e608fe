"""Pseudo-videos: a still image becomes a clip by a random zoom and pan over it (VidRD, arXiv 2309.03549, section 5).

The view moves from one window of the still to another. Its size changes by the same factor from frame to frame and
its place changes with its size, so that the motion on the screen is even from the first frame to the last. Each edge
stays between its start and its end, and so the view stays inside the still.
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
LEAST_SHARE = 0.5  # of the largest zoom and pan, so that each clip moves visibly

Pixels = TypeVar("Pixels", NDArray[np.uint8], NDArray[np.float32])


@dataclass(frozen=True)
class CameraSettings:
    """How the camera may move over a still.

    Each clip zooms and pans by a random share, half or more, of `zoom` (as an exponent) and `pan`.

    Args:
        frames: Frames of the clip, 1 to 4096.
        width: Width in pixels, up to 16384; None: the still's, or from `height` by the aspect ratio.
        height: Height in pixels, likewise.
        zoom: Largest zoom factor between the two ends, 1 (none) to 8.
        pan: Largest distance that the middle moves, in widths of the wider view, 0 to 4.
        direction: Whether the camera zooms in, out, or either at random.
        easing: How the camera moves; smooth: it starts and ends at rest.

    Raises:
        ValueError: A setting is out of its range.
    """

    frames: int = 8
    width: int | None = None
    height: int | None = None
    zoom: float = 1.3
    pan: float = 0.15
    direction: Literal["in", "out", "random"] = "random"
    easing: Literal["linear", "smooth"] = "linear"

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
        """The clip's width and height for a still's, in pixels. Raises ValueError if a side would be too large."""
        across = self.width or (max(1, round(self.height * width / height)) if self.height else width)
        down = self.height or (max(1, round(self.width * height / width)) if self.width else height)
        if max(across, down) > LARGEST["width"]:
            raise ValueError(
                f"the clip would be {across} x {down} pixels, expected at most {LARGEST['width']} a side: "
                f"give a width and a height"
            )
        return across, down

    def progress(self) -> NDArray[np.float64]:
        """Share of the path covered at each frame, [F], from 0 to 1."""
        time = np.linspace(0, 1, self.frames, dtype=np.float64)
        return time if self.easing == "linear" else time * time * (3 - 2 * time)


def camera_path(settings: CameraSettings, width: int, height: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random camera path over a still.

    The windows have the clip's aspect ratio and together cover as much of the still as possible, about its middle.

    Args:
        settings: Zoom, pan and the clip's shape.
        width: The still's width in pixels.
        height: The still's height.
        rng: Gives four numbers, whatever the settings, so a seed means the same path at any size.

    Returns:
        Windows [F, 4]: left, top, right, bottom, as shares of the still's sides.
    """
    share, distance = rng.uniform(LEAST_SHARE, 1, 2)
    angle, toss = rng.uniform(0, 2 * math.pi), rng.uniform()
    closer = settings.zoom**share
    inwards = settings.direction == "in" or (settings.direction == "random" and toss < 0.5)

    # Both ends as [end, left-top or right-bottom, x or y], the wide one first; at any scale, about 0.
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
    return windows.reshape(-1, 4).clip(0, 1)  # against rounding errors


def render(still: Pixels, windows: NDArray[np.float64], width: int, height: int) -> Pixels:
    """Render a still through windows.

    Lanczos resampling, at subpixel positions, with a kernel that widens where the still has more pixels: equally
    sharp everywhere, without aliasing.

    Args:
        still: uint8, or float32 in 0 to 1, [H, W, 3].
        windows: [F, 4], as from `camera_path`.
        width: Width of the clip in pixels.
        height: Height of the clip.

    Returns:
        [F, height, width, 3] of the still's dtype.

    Raises:
        ValueError: The still has another shape or dtype.
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
    """Make a clip of a still by a random zoom and pan.

    Args:
        still: uint8, or float32 in 0 to 1, [H, W, 3].
        settings: Zoom, pan and the clip's shape.
        rng: Decides the camera path.

    Returns:
        [F, h, w, 3] of the still's dtype.

    Raises:
        ValueError: The still has another shape or dtype, or the clip would be too large.

    Source: VidRD, section 5.
    """
    check_still(still)
    height, width = still.shape[:2]
    return render(still, camera_path(settings, width, height, rng), *settings.size(width, height))


def check_still(still: NDArray) -> None:
    """Raise ValueError unless it is uint8 or float32 [H, W, 3]."""
    if still.ndim != 3 or still.shape[2] != 3 or 0 in still.shape:
        raise ValueError(f"a still must be [H, W, 3] with at least one pixel, got {list(still.shape)}")
    if still.dtype not in (np.uint8, np.float32):
        raise ValueError(f"a still must be uint8 from 0 to 255 or float32 from 0 to 1, got {still.dtype}")
