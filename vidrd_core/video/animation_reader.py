"""Read animated WebP, APNG and AVIF, which Pillow decodes.

FFmpeg 8.1 rejects the first, rounds the times of the second, and leaves out the transparency of the third.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vidrd_core.io.hdr import hdr_of
from vidrd_core.io.pictures import PictureError, check_size, scale_transparency
from vidrd_core.video.animations import ANIMATIONS, exif_texts
from vidrd_core.video.gif_delays import SIGNATURES

PNG, WEBP, AVIF, GIF = "PNG", "WEBP", "AVIF", "GIF"  # as Pillow calls them
SHORTEST, USUAL = 10, 100  # ms: a frame that should stand so long or less stands for the other, as in browsers
_MILLISECOND = 0.001  # to which WebP rounds times, in seconds
_PILLOW_ERRORS = (OSError, SyntaxError, EOFError, ValueError)  # of damaged files


@dataclass(frozen=True)
class AnimationInfo:
    """The properties of an animated picture.

    Args:
        frames: How many there are.
        size: Width and height in pixels.
        fps: Frames per second; 0 for a still.
        seconds: How long all frames stand together.
        texts: The metadata by name.
        kind: Its format: "webp", "apng" or "avif".
    """

    frames: int
    size: tuple[int, int]
    fps: float
    seconds: float
    texts: dict[str, str]
    kind: str


def animation_format(path: str | os.PathLike[str]) -> str:
    """The format of a picture that may be animated, by its first bytes: its suffix may be another's.

    Args:
        path: A file of any kind.

    Returns:
        "PNG", "WEBP", "AVIF" or "GIF"; "" for another file.

    Raises:
        OSError: It cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(64)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if head.startswith(SIGNATURES):
        return GIF
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WEBP
    brands = head[8 : int.from_bytes(head[:4], "big")] if head[4:8] == b"ftyp" else b""
    return AVIF if b"avif" in brands or b"avis" in brands else ""


def is_animation(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an animated picture that this module reads.

    Args:
        path: The file.

    Returns:
        True for WebP, also with one frame; for PNG with several, or one and the suffix .apng; for AVIF with several
        that are not HDR; and for a file of another kind that is named .webp or .apng, to be told so.

    Raises:
        OSError: It cannot be read.
    """
    suffix, kind = Path(path).suffix.lower(), animation_format(path)
    if kind in (GIF, WEBP):
        return kind == WEBP
    if kind == AVIF:
        return frame_count(path) > 1 and not hdr_of(path)
    return suffix in ANIMATIONS or (kind == PNG and frame_count(path) > 1)


def frame_count(path: str | os.PathLike[str]) -> int:
    """How many frames a picture has.

    Args:
        path: The file.

    Returns:
        1 or more; 1 for a file that is not PNG, WebP, AVIF or GIF, or cannot be read.
    """
    try:
        kind = animation_format(path)
        Image.init()
        if kind not in Image.OPEN:  # AVIF, before Pillow 11.3
            return 1
        with Image.open(path, formats=[kind]) as image:
            return int(getattr(image, "n_frames", 1))
    except (*_PILLOW_ERRORS, Image.DecompressionBombError):
        return 1


def read_animation(path: str | os.PathLike[str], last: int | None = None) -> tuple[list[np.ndarray], float]:
    """Read the frames of an animated picture.

    Args:
        path: The file, of which `is_animation` is true.
        last: How many of the last frames to keep; by default all.

    Returns:
        The frames, each uint8 [H, W, 3], and the frame rate in frames per second, 0 for a still.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or no such picture.
    """
    frames: deque[np.ndarray] = deque(maxlen=last)
    with open(path, "rb") as file:
        info = _read(path, file, frames)
    return list(frames), info.fps


def probe_animation(path: str | os.PathLike[str]) -> AnimationInfo:
    """Read the properties of an animated picture, in constant memory.

    Args:
        path: The file, of which `is_animation` is true.

    Returns:
        Its frames, size, rate and texts.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or no such picture.
    """
    with open(path, "rb") as file:
        return _read(path, file, deque(maxlen=1))


def _read(path: str | os.PathLike[str], file: Any, frames: deque[np.ndarray]) -> AnimationInfo:
    """Decode all frames into `frames`, which may keep only the last."""
    kind = animation_format(path) or (WEBP if Path(path).suffix.lower() == ".webp" else PNG)
    durations: list[float] = []  # milliseconds
    if kind == PNG and (hdr := hdr_of(path)):
        raise ValueError(f"{path} is HDR ({hdr}), which only films are read of: write it as an MP4 or WebM")
    try:
        with Image.open(file, formats=[kind]) as image:
            check_size(image)
            scale_transparency(image)
            for picture in _pictures(image):
                frames.append(_on_white(picture))
                durations.append(picture.info.get("duration", 0))
            if len(durations) > 1:
                durations = [USUAL if each <= SHORTEST else each for each in durations]
            texts = dict(image.text) if kind == PNG else exif_texts(image.getexif())  # type: ignore[attr-defined]
            name = "apng" if kind == PNG else kind.lower()
            return AnimationInfo(len(durations), image.size, _rate(durations), sum(durations) / 1000, texts, name)
    except (PictureError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} {error}") from error
    except _PILLOW_ERRORS as error:
        state = f"damaged after {len(durations)} frames" if durations else "damaged, or no animated WebP, PNG or AVIF"
        raise ValueError(f"{path} is {state} ({error})") from error


def _pictures(image: Image.Image) -> Iterator[Image.Image]:
    """The image at each frame of its animation in turn."""
    first = 1 if image.info.get("default_image") else 0  # a PNG's still for programs that know no animation
    for number in range(first, getattr(image, "n_frames", 1)):
        image.seek(number)
        image.load()
        yield image


def _on_white(picture: Image.Image) -> np.ndarray:
    """A picture's pixels, uint8 [H, W, 3], on white where it is transparent, as `io.pictures` has them."""
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        clear = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    return np.asarray(picture.convert("RGB"))


def _rate(durations: list[float]) -> float:
    """Frames per second: a whole number or that of NTSC where rounding of the times explains the difference."""
    shown = durations[:-1] or durations  # the last frame may stand longer
    seconds = sum(shown) / 1000
    if not seconds:
        return 0.0
    whole = max(1, round(len(shown) / seconds))
    ntsc = Fraction(1000 * max(1, round(1.001 * len(shown) / seconds)), 1001)
    candidates = Fraction(whole), ntsc
    best = min(candidates, key=lambda rate: abs(len(shown) / rate - seconds))
    return float(best) if abs(len(shown) / best - seconds) <= _MILLISECOND else len(shown) / seconds
