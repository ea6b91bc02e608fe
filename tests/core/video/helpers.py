"""Shared helpers of the video tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vidrd_core.video import open_video

KINDS = ["v.mp4", "v.webm", "v.gif", "v.webp", "v.apng", "v"]


def clip(frames: int = 12, height: int = 64, width: int = 64) -> np.ndarray:
    """A red disc and a green square that move over a gradient, uint8 [F, H, W, 3]."""
    y, x = np.mgrid[:height, :width]
    shown = []
    for t in range(frames):
        picture = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 60 + t % 64)], -1)
        centre = width * (0.4 + 0.25 * np.sin(t / 5))
        picture[(x - centre) ** 2 + (y - height / 2) ** 2 < (height / 5) ** 2] = [230, 30, 40]
        picture[(abs(x - width * 0.7) < 7) & (abs(y - centre) < 7)] = [30, 220, 60]
        shown.append(picture)
    return np.stack(shown).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB."""
    return float(10 * np.log10(255**2 / (np.mean((a.astype(float) - b) ** 2) + 1e-9)))


def write(path: Path, frames: np.ndarray, **settings: object) -> None:
    """Write a whole video."""
    with open_video(path, **settings) as writer:  # type: ignore[arg-type]
        writer.write(frames)


def write_then_raise(error: type[BaseException], path: Path, **settings: object) -> None:
    """Write five frames, then fail."""
    with open_video(path, **settings) as writer:  # type: ignore[arg-type]
        writer.write(clip(5))
        raise error
